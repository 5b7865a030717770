"""The properties of a dump without its rows: its origin, contents and requirements."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from lastgood.dump.names import Relation
from lastgood.dump.script import Script, ScriptStep
from lastgood.dump.statements import (
    POST_DATA,
    ColumnDefinition,
    Command,
    Created,
    EnumType,
    Extension,
    ForeignKeyDefinition,
    Kind,
    LargeObjectCall,
    Setting,
    TableDefinition,
)

# Every database has these from the server: a dump that names them creates nothing.
BUILT_IN_EXTENSIONS = frozenset({"plpgsql"})
_AFFECTED = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement that a restore leaves out, and why; ``reason`` completes "line 7 "."""

    line: int
    kind: Kind
    reason: str


@dataclass(slots=True)
class DumpSummary:
    """The result of reading a dump to its end.

    ``server_version`` is that of the dumped server, ``pg_dump_version`` that of the program. ``database`` is the dumped
    database's name if the dump has it; ``databases``: all databases of a cluster dump. ``encoding`` is PostgreSQL's
    name of the dump's encoding. ``marked``: it carries pg_dump's own header and footer. ``roles``, ``tablespaces``,
    ``access_methods`` and ``extensions`` are required on the target server; ``named_roles`` has the kinds of commands
    that need each role, ``revoked_from`` the roles that occur only in REVOKE. ``with_heading``: tables under a heading
    of pg_dump. ``plain_types``: enums, whose text depends on no setting. ``created``: every created object, once, in
    the dump's order. ``script`` is what a restore runs. ``code``: the number of objects of each kind that can run as
    code during a restore. ``cautions``: signs that the file was truncated or changed, in sentences without a full stop.
    ``rows_without_table``: tables whose rows were left out because none of a set of files creates the table.
    ``rows_for_extensions``: tables and sequences that no file creates, but possibly one of the extensions: whether they
    exist is known after the extensions were created."""

    server_version: str | None = None
    pg_dump_version: str | None = None
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
    foreign_keys: list[ForeignKeyDefinition] = field(default_factory=list)
    rows_without_table: dict[Relation, None] = field(default_factory=dict)
    rows_for_extensions: dict[Relation, None] = field(default_factory=dict)
    script: Script = field(default_factory=Script, repr=False)
    _authorization: str | None = field(default=None, repr=False)

    @property
    def server_major(self) -> int | None:
        """The dumped server's major version."""
        return _major(self.server_version)

    @property
    def roles(self) -> frozenset[str]:
        """All roles that commands need."""
        return frozenset(self.named_roles)

    @property
    def names_can_break_out(self) -> bool:
        """Whether its version of pg_dump lets a line end in a name break out of a comment (CVE-2025-8715)."""
        match = re.match(r"(\d+)\.(\d+)", self.pg_dump_version or "")
        return match is not None and int(match[1]) >= 11 and int(match[2]) < _AFFECTED.get(int(match[1]), 0)

    @property
    def remarks(self) -> list[str]:
        """Skipped commands that pg_dump does not write, in sentences without a full stop."""
        upkeep = [each for each in self.skipped if each.kind is Kind.UPKEEP]
        if not upkeep:
            return []
        more = f", and {len(upkeep) - 1} more such commands follow" if len(upkeep) > 1 else ""
        return [f"line {upkeep[0].line} {upkeep[0].reason} and was skipped{more}"]

    @property
    def tables_without_section(self) -> tuple[Relation, ...]:
        """Tables that get no rows; without partitioned and foreign tables, which have no rows of their own."""
        return tuple(
            relation
            for relation, definition in self.tables.items()
            if definition.carries_rows and relation not in self.with_data_section
        )

    @property
    def tables_without_data(self) -> tuple[Relation, ...]:
        """The tables whose rows were not dumped: pg_dump writes a section, or its heading, for each table whose rows it
        dumps; other programs do not. In a file without any data, all tables."""
        expected = self.with_heading if self.has_data else self.tables
        return tuple(relation for relation in self.tables_without_section if relation in expected)

    @property
    def makes_extensions(self) -> bool:
        """Whether it creates extensions, which may have tables that the dump itself does not create."""
        return bool(self.extensions.keys() - BUILT_IN_EXTENSIONS)

    @property
    def keys_before_rows(self) -> bool:
        """Whether the server may not check every foreign key: created before its rows, or disabled."""
        key_seen = False
        for item in self.script.items:
            if isinstance(item, ScriptStep):
                key_seen = key_seen or any(created.kind is Kind.FOREIGN_KEY for created in item.command.creates)
            elif key_seen:
                return True
        return self.replica_role

    def columns_of(self, relation: Relation) -> tuple[ColumnDefinition, ...] | None:
        """A table's columns in the server's order, inherited ones first; None if the dump does not create it."""
        definition = self.tables.get(relation)
        if definition is None:
            return None
        columns: dict[str, ColumnDefinition] = {}
        for parent in (*definition.inherits, *([definition.of_type] if definition.of_type else [])):
            inherited = self.columns_of(parent)
            if inherited is None:
                return None
            columns.update((column.name, column) for column in inherited if column.name not in columns)
        for column in definition.columns:
            columns[column.name] = column
        return tuple(columns.values())

    def note_roles(self, command: Command) -> None:
        """Record the roles that a command needs; also for a file of roles."""
        for role in command.roles:
            self.named_roles.setdefault(role, set()).add(command.kind)
        self.revoked_from.update(command.revoked_from)

    def declared_columns(self, relation: Relation) -> tuple[str, ...]:
        """The names of a table's columns that the dump declares: without those from a parent or type that belongs to an
        extension."""
        definition = self.tables.get(relation)
        if definition is None or (definition.of_type is not None and definition.of_type not in self.tables):
            return ()
        names = [name for parent in definition.inherits for name in self.declared_columns(parent)]
        of_type = self.declared_columns(definition.of_type) if definition.of_type is not None else ()
        return tuple(dict.fromkeys([*names, *of_type, *(column.name for column in definition.columns)]))

    def note_command(self, command: Command) -> None:
        """Record a command that will run."""
        self.note_roles(command)
        self.code.update(command.code)
        self.created.update(dict.fromkeys(command.creates))
        self.has_schema = self.has_schema or bool(command.creates)
        self.has_post_data = self.has_post_data or command.kind in POST_DATA
        # With --use-set-session-authorization objects are created by their owners.
        self.has_owners = self.has_owners or command.kind is Kind.OWNER or bool(self._authorization and command.creates)
        self.has_acls = self.has_acls or command.kind in (Kind.GRANT, Kind.DEFAULT_PRIVILEGES)
        match command.detail:
            case TableDefinition() as definition:
                self.tables[definition.relation] = definition
                if definition.access_method:
                    self.access_methods.add(definition.access_method)
            case ForeignKeyDefinition() as key:
                self.foreign_keys.append(key)
            case EnumType(name=name):
                self.plain_types.add(str(name))
            case Extension() as extension:
                self.extensions[extension.name] = extension
            case LargeObjectCall(function="lo_create"):
                self.large_objects += 1
                self.has_data = True
            case Setting(name="session_authorization", value=value):
                self._authorization = value
            case Setting(name="default_tablespace", value=value) if value:
                self.tablespaces.add(value)
            case Setting(name="default_table_access_method", value=value) if value:
                self.access_methods.add(value)
            case Setting(name="session_replication_role", value="replica"):
                self.replica_role = True
        if command.kind is Kind.SEQUENCE_POSITION:
            self.has_data = True


def _major(version: str | None) -> int | None:
    match = re.match(r"\d+", version or "")
    return int(match[0]) if match else None
