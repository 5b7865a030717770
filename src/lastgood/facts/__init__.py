"""Facts: the exact content of a restore point or a database, and the differences between two sets of facts.

Facts are read from a dump without restoring it (``of_dump``) and from a database (``of_database``), under the same
rules, so that equal facts mean equal content. They are data: frozen, and stored as JSON in manifests and journals.
"""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from lastgood.models import Frozen
from lastgood.text import units


class DigestRules(Frozen):
    """The settings under which the text of rows was written. Digests are comparable only when these are equal.

    ``time_zone`` is None where a foreign dump does not record it; ``server_major`` wrote the text. ``definitions`` is
    the version of the rules for digests of definitions. ``bytea_output``: pg_dump does not set it, so that a foreign
    dump has the values of the database's setting.
    """

    version: int = 1
    definitions: int = 1
    client_encoding: str = "UTF8"
    time_zone: str | None = "UTC"
    server_major: int | None = None
    bytea_output: Literal["hex", "escape"] = "hex"


class CountedTable(Protocol):
    """A table's rows and content, from any document: facts, a comparison, a report."""

    @property
    def schema_name(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def digest(self) -> str | None: ...


class TableFacts(Frozen):
    """One relation that carries rows of its own: an ordinary table, a leaf partition, or a partition root through
    which a dump loads its leaves.

    ``digest``: 32 hex digits, the sum modulo 2^128 of the XXH3-128 of each line of the COPY text output of ``columns``
    (line end not included); None if the dump's rows can't be converted to that form (``why_no_digest``). ``text``: the
    XXH3-128 of the first 64 KiB of that output with line ends, of each doubling of that size, and of all of it; it
    proves equality sooner where the order of the rows is the same, and is empty where it was not recorded. ``newest``:
    column name → greatest time stamp as COPY text, for columns of a time stamp or date type. ``zoned``: the text of the
    rows depends on the time zone (a column is or contains a timestamptz); True also where that is unknown.
    """

    schema_name: str
    name: str
    columns: tuple[str, ...]
    rows: int
    digest: str | None
    why_no_digest: str = ""
    text: tuple[str, ...] = ()
    newest: dict[str, str] = Field(default_factory=dict)
    zoned: bool = True


class SequenceFacts(Frozen):
    """A sequence's position, in the form of ``setval``."""

    schema_name: str
    name: str
    last_value: int
    is_called: bool


class LargeObjectFacts(Frozen):
    """All large objects together: their number, and a digest over (OID, content)."""

    count: int = 0
    digest: str = "0" * 32


class ExtensionFacts(Frozen):
    """An extension; ``version`` is None where a dump does not record it. ``as_language``: a dump names it as a language
    without a handler, which servers since 13 treat as an extension.
    """

    name: str
    version: str | None = None
    as_language: bool = False


class LanguageFacts(Frozen):
    """A language that belongs to no extension and whose functions are built in, so that pg_dump writes only its name.
    Functions are (schema, name).
    """

    name: str
    trusted: bool
    handler: tuple[str, str]
    inline: tuple[str, str] | None = None
    validator: tuple[str, str] | None = None


class MigrationFacts(Frozen):
    """The content of the migration tool's own table: its qualified name, the newest version, the number of applied
    migrations."""

    tool: str
    table: str
    version: str | None
    applied: int


class ObjectFacts(Frozen):
    """A schema object. ``kind`` uses PostgreSQL's words in lower case (``table``, ``materialized view``, ``index``,
    ``foreign key``, ``check constraint``, ``policy`` …); ``identity`` is the name from ``pg_identify_object``, or as
    close to it as a dump allows; ``digest`` (32 hex digits) covers its definition, None from a dump.
    """

    kind: str
    identity: str
    digest: str | None = None


class Facts(Frozen):
    """All known facts of a restore point's or a database's content.

    ``origin`` is ``dump`` or ``database``; ``database`` the name of the source database, if known. ``server_version``
    is the dumped server's. ``object_counts`` has a number for each kind that was counted. ``zone_samples``: time stamps
    as a dump writes them, at least one for each offset of each table, from which the dump's time zone is recognized.
    ``not_recorded``: names of tables and sequences that a dump creates without their content; the numbers here are
    those of a database restored from it.
    """

    origin: str
    database: str | None = None
    server_version: str | None = None
    rules: DigestRules = DigestRules()
    tables: tuple[TableFacts, ...] = ()
    sequences: tuple[SequenceFacts, ...] = ()
    large_objects: LargeObjectFacts = LargeObjectFacts()
    extensions: tuple[ExtensionFacts, ...] = ()
    languages: tuple[LanguageFacts, ...] = ()
    migration: MigrationFacts | None = None
    object_counts: dict[str, int] = Field(default_factory=dict)
    objects: tuple[ObjectFacts, ...] = ()
    zone_samples: tuple[str, ...] = ()
    not_recorded: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """All rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def summary(self) -> str:
        """``1,200 rows in 1 table``."""
        return f"{units.counted(self.rows, 'row')} in {units.counted(len(self.tables), 'table')}"


class FactsDifference(Frozen):
    """One difference between two sets of facts: ``what`` names the object, ``expected`` and ``found`` are short
    texts."""

    kind: str
    what: str
    expected: str
    found: str

    @property
    def of(self) -> str:
        """``rows of public.t``, ``definition of column public.t.a``, ``number of operators``: for a message."""
        return self.what if self.kind in ("object", "large objects") else f"{self.kind} of {self.what}"
