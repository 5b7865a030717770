"""What a dump is, apart from its rows: where it comes from, what it holds, and what it needs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from lastgood.dump.names import Relation
from lastgood.dump.script import Script, Step
from lastgood.dump.statements import (
    POST_DATA,
    Column,
    Command,
    Created,
    EnumType,
    Extension,
    ForeignKey,
    Kind,
    LargeObjectCall,
    Setting,
    TableDefinition,
)

# Every database has these, made by the server: a dump that names them makes nothing.
BUILT_IN_EXTENSIONS = frozenset({"plpgsql"})
_AFFECTED = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement that a restore leaves out, and why; ``reason`` reads after "line 7 "."""

    line: int
    kind: Kind
    reason: str


@dataclass(slots=True)
class DumpSummary:
    """What was learnt by reading a dump to its end.

    ``server_version`` is that of the dumped server, ``pg_dump_version`` that of the program; ``started_on`` the text of
    its comment (``pg_dump -v`` only). ``database`` is the dumped database's name where the dump has it; ``databases``
    all that a cluster dump holds. ``encoding`` is PostgreSQL's name of the dump's encoding. ``marked``: it carries
    pg_dump's own header and footer. ``roles``, ``tablespaces``, ``access_methods`` and ``extensions`` are what the
    target server must have; ``named_roles`` has the kinds of commands that need each role, ``revoked_from`` the roles
    from which something is only revoked. ``with_heading``: tables under a heading of pg_dump's. ``plain_types``: enums,
    whose text depends on nothing. ``created`` is every object that is made, once, in the dump's order. ``script`` is
    what a restore runs. ``code``: what can run as code while it is restored, how many of each kind. ``cautions``: signs
    that the file was cut or changed, in sentences without a full stop. ``rows_without_table``: tables of which a set of
    files has rows that were left out since none of the files makes the table. ``rows_for_extensions``: tables and
    sequences that no file makes, but perhaps one of the extensions that the files make: whether they are there is known
    when these are.
    """

    server_version: str | None = None
    pg_dump_version: str | None = None
    started_on: str | None = None
    database: str | None = None
    databases: list[str] = field(default_factory=list)
    encoding: str = "UTF8"
    marked: bool = False
    cluster: bool = False
    clean: bool = False
    create: bool = False
    inserts: bool = False
    has_schema: bool = False
    has_data: bool = False
    has_post_data: bool = False
    has_owners: bool = False
    has_acls: bool = False
    row_security: bool = False
    replica_role: bool = False
    named_roles: dict[str, set[Kind]] = field(default_factory=dict)
    revoked_from: set[str] = field(default_factory=set)
    extensions: dict[str, Extension] = field(default_factory=dict)
    tablespaces: set[str] = field(default_factory=set)
    access_methods: set[str] = field(default_factory=set)
    code: Counter[str] = field(default_factory=Counter)
    large_objects: int = 0
    statements: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    tables: dict[Relation, TableDefinition] = field(default_factory=dict)
    plain_types: set[str] = field(default_factory=set)
    created: dict[Created, None] = field(default_factory=dict)
    with_data_section: set[Relation] = field(default_factory=set)
    with_heading: set[Relation] = field(default_factory=set)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    rows_without_table: dict[Relation, None] = field(default_factory=dict)
    rows_for_extensions: dict[Relation, None] = field(default_factory=dict)
    script: Script = field(default_factory=Script, repr=False)
    _made_as: str | None = field(default=None, repr=False)

    @property
    def server_major(self) -> int | None:
        """The dumped server's major version."""
        return _major(self.server_version)

    @property
    def roles(self) -> frozenset[str]:
        """Every role that some command needs."""
        return frozenset(self.named_roles)

    @property
    def names_can_break_out(self) -> bool:
        """Whether its pg_dump is one that lets a line end in a name break out of a comment (CVE-2025-8715)."""
        found = re.match(r"(\d+)\.(\d+)", self.pg_dump_version or "")
        return found is not None and int(found[1]) >= 11 and int(found[2]) < _AFFECTED.get(int(found[1]), 0)

    @property
    def remarks(self) -> list[str]:
        """What was passed over and is not pg_dump's, in sentences without a full stop."""
        upkeep = [each for each in self.skipped if each.kind is Kind.UPKEEP]
        if not upkeep:
            return []
        more = f", and {len(upkeep) - 1} more such commands follow" if len(upkeep) > 1 else ""
        return [f"line {upkeep[0].line} {upkeep[0].reason} and was passed over{more}"]

    @property
    def tables_without_section(self) -> tuple[Relation, ...]:
        """Tables that get no rows; partitioned tables and foreign tables carry none, and so are not among them."""
        return tuple(
            relation
            for relation, definition in self.tables.items()
            if definition.carries_rows and relation not in self.with_data_section
        )

    @property
    def tables_without_data(self) -> tuple[Relation, ...]:
        """Those of them that the dump does not mark as empty: pg_dump writes a section, or the heading of one, for each
        table whose rows it dumps, other programs do not. None for a file without any data."""
        told = self.with_heading if self.has_data else self.tables
        return tuple(relation for relation in self.tables_without_section if relation in told)

    @property
    def makes_extensions(self) -> bool:
        """Whether it makes extensions, which may bring tables along that the dump does not make itself."""
        return bool(self.extensions.keys() - BUILT_IN_EXTENSIONS)

    @property
    def keys_before_rows(self) -> bool:
        """Whether the server may not have looked at every foreign key: made before its rows were, or passed over."""
        seen = False
        for item in self.script.items:
            if isinstance(item, Step):
                seen = seen or any(created.kind is Kind.FOREIGN_KEY for created in item.command.creates)
            elif seen:
                return True
        return self.replica_role

    def columns_of(self, relation: Relation) -> tuple[Column, ...] | None:
        """A table's columns in the server's order, inherited ones first; None when the dump does not make it."""
        definition = self.tables.get(relation)
        if definition is None:
            return None
        found: dict[str, Column] = {}
        for parent in (*definition.inherits, *([definition.of_type] if definition.of_type else [])):
            inherited = self.columns_of(parent)
            if inherited is None:
                return None
            found.update((column.name, column) for column in inherited if column.name not in found)
        for column in definition.columns:
            found[column.name] = column
        return tuple(found.values())

    def note_roles(self, command: Command) -> None:
        """Record the roles that a command needs; also for a file of roles."""
        for role in command.roles:
            self.named_roles.setdefault(role, set()).add(command.kind)
        self.revoked_from.update(command.revoked_from)

    def declared_columns(self, relation: Relation) -> tuple[str, ...]:
        """The names of a table's columns as far as the dump declares them: without those that it inherits from a table
        of an extension, or has of such a type."""
        definition = self.tables.get(relation)
        if definition is None or (definition.of_type is not None and definition.of_type not in self.tables):
            return ()
        found = [name for parent in definition.inherits for name in self.declared_columns(parent)]
        of_type = self.declared_columns(definition.of_type) if definition.of_type is not None else ()
        return tuple(dict.fromkeys([*found, *of_type, *(column.name for column in definition.columns)]))

    def note_command(self, command: Command) -> None:
        """Learns from a command that will run."""
        self.note_roles(command)
        self.code.update(command.code)
        self.created.update(dict.fromkeys(command.creates))
        self.has_schema = self.has_schema or bool(command.creates)
        self.has_post_data = self.has_post_data or command.kind in POST_DATA
        # With --use-set-session-authorization objects are made by their owners.
        self.has_owners = self.has_owners or command.kind is Kind.OWNER or bool(self._made_as and command.creates)
        self.has_acls = self.has_acls or command.kind in (Kind.GRANT, Kind.DEFAULT_PRIVILEGES)
        match command.detail:
            case TableDefinition() as definition:
                self.tables[definition.relation] = definition
                if definition.access_method:
                    self.access_methods.add(definition.access_method)
            case ForeignKey() as key:
                self.foreign_keys.append(key)
            case EnumType(name=name):
                self.plain_types.add(str(name))
            case Extension() as extension:
                self.extensions[extension.name] = extension
            case LargeObjectCall(function="lo_create"):
                self.large_objects += 1
                self.has_data = True
            case Setting(name="session_authorization", value=value):
                self._made_as = value
            case Setting(name="default_tablespace", value=value) if value:
                self.tablespaces.add(value)
            case Setting(name="default_table_access_method", value=value) if value:
                self.access_methods.add(value)
            case Setting(name="session_replication_role", value="replica"):
                self.replica_role = True
        if command.kind is Kind.SEQUENCE_POSITION:
            self.has_data = True


def _major(version: str | None) -> int | None:
    found = re.match(r"\d+", version or "")
    return int(found[0]) if found else None
