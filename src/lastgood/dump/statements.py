"""The classification of a dump's statement: its kind and objects, and whether a restore may run it.

The rules in ``rulings`` are an allow-list of statements that pg_dump 10 to 18 writes. All others are refused, because a
dump's text is untrusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from lastgood.dump.lexer.tokens import CopyStart, MetaCommand, Statement
from lastgood.dump.names import Relation
from lastgood.dump.rows.copy_form import CopyForm

NEXT = b"\n;\n"
"""Separates the texts of statements in a message: a text may end with a comment."""


class Kind(StrEnum):
    """The kind of a statement, in PostgreSQL's terms. Kinds of objects have their catalogue name."""

    SCHEMA = "schema"
    EXTENSION = "extension"
    TYPE = "type"
    DOMAIN = "domain"
    TABLE = "table"
    FOREIGN_TABLE = "foreign table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    SEQUENCE = "sequence"
    FUNCTION = "function"
    PROCEDURE = "procedure"
    AGGREGATE = "aggregate"
    OPERATOR = "operator"
    OPERATOR_CLASS = "operator class"
    OPERATOR_FAMILY = "operator family"
    CAST = "cast"
    CONVERSION = "conversion"
    COLLATION = "collation"
    TEXT_SEARCH_PARSER = "text search parser"
    TEXT_SEARCH_DICTIONARY = "text search dictionary"
    TEXT_SEARCH_TEMPLATE = "text search template"
    TEXT_SEARCH_CONFIGURATION = "text search configuration"
    ACCESS_METHOD = "access method"
    LANGUAGE = "language"
    TRANSFORM = "transform"
    FOREIGN_DATA_WRAPPER = "foreign-data wrapper"
    SERVER = "server"
    USER_MAPPING = "user mapping"
    INDEX = "index"
    PRIMARY_KEY = "primary key"
    UNIQUE = "unique constraint"
    CHECK = "check constraint"
    EXCLUSION = "exclusion constraint"
    NOT_NULL = "not null constraint"
    FOREIGN_KEY = "foreign key"
    DOMAIN_CONSTRAINT = "domain constraint"
    TRIGGER = "trigger"
    EVENT_TRIGGER = "event trigger"
    RULE = "rule"
    POLICY = "policy"
    PUBLICATION = "publication"
    SUBSCRIPTION = "subscription"
    STATISTICS = "statistics object"
    DEFAULT = "column default"
    IDENTITY = "identity"
    INHERITANCE = "inheritance"
    PARTITION = "partition"
    TABLE_PROPERTY = "table property"
    ROW_SECURITY = "row security"
    EVENT_TRIGGER_STATE = "event trigger state"
    COMMENT = "comment"
    SECURITY_LABEL = "security label"
    OWNER = "owner"
    GRANT = "grant"
    DEFAULT_PRIVILEGES = "default privileges"
    SETTING = "setting"
    SESSION_AUTHORIZATION = "session authorization"
    SEQUENCE_POSITION = "sequence position"
    LARGE_OBJECT = "large object"
    STATISTICS_CALL = "statistics call"
    REFRESH = "refresh"
    UPKEEP = "upkeep"
    TRANSACTION = "transaction"
    COPY = "copy"
    INSERT = "insert"
    DROP = "drop"
    DATABASE = "database"
    ROLE = "role"
    TABLESPACE = "tablespace"
    PARAMETER = "parameter"
    PSQL = "psql command"
    CHANGE = "change of rows"
    DEFINITION = "definition"
    EXTENSION_CALL = "call of an extension"
    QUERY = "query"
    CODE = "code"
    UNKNOWN = "unknown"


# Kinds that pg_dump writes after all rows.
POST_DATA = frozenset(
    {
        Kind.INDEX,
        Kind.PRIMARY_KEY,
        Kind.UNIQUE,
        Kind.FOREIGN_KEY,
        Kind.EXCLUSION,
        Kind.TRIGGER,
        Kind.EVENT_TRIGGER,
        Kind.RULE,
        Kind.POLICY,
        Kind.PUBLICATION,
        Kind.REFRESH,
    }
)


class Verdict(StrEnum):
    """The verdict on a command. RUN: run it. SKIP: leave it out and report that. FOREIGN: pg_dump never writes it, so
    the dump is no restore point; it is harmless, and runs when a file of another program is loaded for inspection.
    REFUSE: never run it."""

    RUN = "run"
    SKIP = "skip"
    FOREIGN = "foreign"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Created:
    """An object that a statement creates. ``identity`` is the name from ``pg_identify_object``, or as close to it as a
    dump allows."""

    kind: Kind
    identity: str


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column as CREATE TABLE declares it; ``type`` as ``format_type`` writes it, without its modifier."""

    name: str
    type: str
    generated: bool = False


@dataclass(frozen=True, slots=True)
class SequenceDefinition:
    """A sequence as CREATE SEQUENCE or an identity column declares it; ``start`` is its first value."""

    sequence: Relation
    start: int


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A table as CREATE TABLE declares it: its own columns, its parents, and its type.

    A composite type is described in the same way, so that a table ``OF`` it gets its columns. ``sequences``: those of
    its serial and identity columns, with the names that the server chooses.
    """

    relation: Relation
    columns: tuple[ColumnDefinition, ...]
    inherits: tuple[Relation, ...] = ()
    of_type: Relation | None = None
    partitioned: bool = False
    carries_rows: bool = True
    foreign: bool = False
    access_method: str | None = None
    sequences: tuple[SequenceDefinition, ...] = ()


@dataclass(frozen=True, slots=True)
class EnumType:
    """A CREATE TYPE … AS ENUM."""

    name: Relation


@dataclass(frozen=True, slots=True)
class SequencePosition:
    """A ``setval`` call."""

    sequence: Relation
    last_value: int
    is_called: bool


@dataclass(frozen=True, slots=True)
class ForeignKeyDefinition:
    """A foreign key that ALTER TABLE adds: columns of ``table`` that reference ``references``."""

    table: Relation
    columns: tuple[str, ...]
    references: Relation


@dataclass(frozen=True, slots=True)
class Setting:
    """A session setting; ``value`` is None for RESET and SET … TO DEFAULT. ``local``: until the transaction ends."""

    name: str
    value: str | None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """A CREATE EXTENSION; or a CREATE LANGUAGE without a handler (``as_language``), which servers treat as one."""

    name: str
    schema: str | None
    version: str | None
    as_language: bool = False


@dataclass(frozen=True, slots=True)
class LargeObjectCall:
    """``lo_create``, ``lo_open``, ``lowrite`` or ``lo_close``, with its OID or bytes, if any."""

    function: str
    oid: int | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """A ``COPY … FROM stdin``: ``columns`` is None without a column list, ``form`` is None without options."""

    relation: Relation
    columns: tuple[str, ...] | None
    form: CopyForm | None = None


@dataclass(frozen=True, slots=True)
class InsertTarget:
    """An ``INSERT … VALUES``: ``columns`` is the length of its list, None without one; ``rows`` has the number of
    values of each row and the byte of the statement at which they begin.
    """

    relation: Relation
    columns: int | None
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PsqlCommand:
    r"""``\connect`` (``argument``: the database), ``\encoding`` (the encoding), ``\restrict``, ``\unrestrict``."""

    name: str
    argument: str


Detail = (
    TableDefinition
    | EnumType
    | SequencePosition
    | SequenceDefinition
    | ForeignKeyDefinition
    | Setting
    | Extension
    | LargeObjectCall
    | CopyTarget
    | InsertTarget
    | PsqlCommand
    | Relation
)


@dataclass(frozen=True, slots=True)
class Command:
    """A classified statement.

    ``relations``: the relations that it names, its main object first; those that it locks are included.
    ``optional_sqlstates``: server errors that a restore records and ignores. ``reason`` belongs to SKIP and REFUSE, and
    completes "line 7 " (``names a role, …``); it never quotes values. ``roles``: the roles that it needs.
    ``revoked_from``: roles without which a REVOKE has no effect. ``dummy``: a view with only NULL columns, which
    pg_dump writes to break a dependency cycle. ``not_sql_at``: the character at which the syntax error is. ``reads``:
    relations that a view reads; ``writes``: relations that a rule, or a function with its body in the command, changes.
    ``code``: the kinds of created objects that can run as code.
    """

    statement: Statement | CopyStart | MetaCommand
    kind: Kind
    verdict: Verdict = Verdict.RUN
    reason: str = ""
    relations: tuple[Relation, ...] = ()
    creates: tuple[Created, ...] = ()
    roles: tuple[str, ...] = ()
    revoked_from: tuple[str, ...] = ()
    optional_sqlstates: frozenset[str] = frozenset()
    detail: Detail | None = None
    dummy: bool = False
    not_sql_at: int | None = None
    reads: frozenset[Relation] = frozenset()
    writes: frozenset[Relation] = frozenset()
    code: tuple[str, ...] = ()


_KEY = re.compile(r"[A-Za-z0-9]{1,63}\Z")
_CONNECT = re.compile(
    r"""(?:-reuse-previous=on\s+"dbname='((?:[^'\\]|\\.)*)'"|"((?:[^"]|"")+)"|'((?:[^']|'')+)'|([^\s"'`\\]+))\s*\Z"""
)
# Database ("-": the same), role, host, port.
_AS_ROLE = re.compile(r'(-|"[^"]+"|[\w.-]+)(?:\s+[\w.-]+){1,3}\Z')
# Commands that print or set variables of psql; a backquote in one would start a program.
_PRINTING = "a echo elif else endif errverbose if pset qecho set t timing unset warn x"
_HARMLESS = frozenset(_PRINTING.split())
_ENCODING = re.compile(r"[A-Za-z0-9_-]{1,30}\Z")


def understand_psql(token: MetaCommand) -> Command:
    r"""Classify a psql command of a dump. Commands such as ``\restrict`` have no effect here; all others are refused.

    ``token.text`` is the rest of the line from the backslash.
    """
    name, _, rest = token.text.decode("utf-8", "replace").rstrip("\r").partition(" ")
    argument = rest.strip()
    if name in (r"\connect", r"\c", r"\encoding"):
        argument = argument.rstrip("; \t")  # psql ignores these
    if name in (r"\restrict", r"\unrestrict"):
        if _KEY.match(argument):
            return _psql(token, name, argument)
        return _refused_psql(token, f'has a "{name}" with an invalid key, which is an attack on psql')
    if name in (r"\connect", r"\c"):
        match = _CONNECT.match(argument)
        if match:
            in_conninfo, in_double, in_single, plain = match.groups()
            if in_conninfo is not None:
                # libpq's rules inside psql's double quotes: a backslash protects the next character.
                database = re.sub(r"\\(.)", r"\1", in_conninfo.replace('""', '"'))
            elif in_double is not None:
                database = in_double.replace('""', '"')
            else:
                database = in_single.replace("''", "'") if in_single is not None else plain
            return _psql(token, r"\connect", database)
        if (as_role := _AS_ROLE.match(argument)) is not None:
            database = "" if as_role[1] == "-" else as_role[1].strip('"')
            reason = r'has a "\connect" as another role, which pg_dump never writes'
            return Command(token, Kind.PSQL, Verdict.FOREIGN, reason, detail=PsqlCommand(r"\connect", database))
        return _refused_psql(token, r'has a "\connect" that cannot be parsed'.replace("\\'", "'"))
    if name == r"\encoding" and _ENCODING.match(argument):
        return _psql(token, name, argument)
    if name[1:] in _HARMLESS and not re.search(r"[`|\\]", argument):
        reason = f'has the psql command "{name}", which pg_dump never writes'
        return Command(token, Kind.PSQL, Verdict.FOREIGN, reason, detail=PsqlCommand(name, argument))
    shown = re.match(r"\\[A-Za-z]*\S?", name)
    return _refused_psql(
        token, f'has the psql command "{shown[0] if shown else name[:1]}", which would run on the operator\'s machine'
    )


def _psql(token: MetaCommand, name: str, argument: str) -> Command:
    reason = "is a psql command without effect here"
    return Command(token, Kind.PSQL, Verdict.SKIP, reason, detail=PsqlCommand(name, argument))


def _refused_psql(token: MetaCommand, reason: str) -> Command:
    return Command(token, Kind.PSQL, Verdict.REFUSE, reason)
