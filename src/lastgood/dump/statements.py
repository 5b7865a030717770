"""Understanding one statement of a dump: what it is about, and whether a restore may run it.

The rule is an allow-list of what pg_dump 10 to 18 writes; ``rulings`` holds it. Whatever is not on it is refused,
since a dump's text is data from outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from lastgood.dump.copy_form import CopyForm
from lastgood.dump.names import Relation
from lastgood.dump.tokens import CopyStart, MetaCommand, Statement


class Kind(StrEnum):
    """What a statement is about, in PostgreSQL's words. What can be created keeps its catalogue name."""

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


# What pg_dump writes behind all rows.
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
    """RUN: send it. SKIP: leave it out and say so. FOREIGN: no pg_dump writes it, so the dump is no restore point; it
    is harmless, and sent where a file of another program is loaded for a look. REFUSE: never send it."""

    RUN = "run"
    SKIP = "skip"
    FOREIGN = "foreign"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Created:
    """An object that a statement creates. ``identity`` is ``pg_identify_object``'s, or as near as a dump tells."""

    kind: Kind
    identity: str


@dataclass(frozen=True, slots=True)
class Column:
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
    """A table as CREATE TABLE declares it: its own columns, the tables it inherits from, the type it is made of.

    A composite type is described the same way, so that a table made ``OF`` it gets its columns. ``sequences``: those of
    its serial and identity columns, by the names that the server gives them.
    """

    relation: Relation
    columns: tuple[Column, ...]
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
class ForeignKey:
    """A foreign key that ALTER TABLE adds: columns of ``table`` that refer to ``references``."""

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
    """A CREATE EXTENSION; or a CREATE LANGUAGE without a handler (``as_language``), which servers take for one."""

    name: str
    schema: str | None
    version: str | None
    as_language: bool = False


@dataclass(frozen=True, slots=True)
class LargeObjectCall:
    """``lo_create``, ``lo_open``, ``lowrite`` or ``lo_close``, with the OID or the bytes where it has them."""

    function: str
    oid: int | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """A ``COPY … FROM stdin``: ``columns`` is None where the statement has no list, ``form`` without options."""

    relation: Relation
    columns: tuple[str, ...] | None
    form: CopyForm | None = None


@dataclass(frozen=True, slots=True)
class InsertTarget:
    """An ``INSERT … VALUES``: ``columns`` is the length of its list, None without one; ``rows`` are the number of
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
    | ForeignKey
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
    """A statement that was understood.

    ``relations``: those that it names, the one it is about first; what it locks is among them. ``optional_sqlstates``:
    server errors that a restore records and passes over. ``reason`` goes with SKIP and REFUSE and reads after
    "line 7 " (``names a role, …``); it never quotes values. ``roles``: those it needs. ``revoked_from``: a role
    whose absence makes a REVOKE empty. ``dummy``: a view all of whose columns are NULL, which pg_dump writes to break a
    circle. ``not_sql_at``: the character at which it stops to be SQL. ``reads``: what a view shows; ``writes``: what a
    rule, or a function whose body is part of the command, changes. ``code``: the kinds of what it makes that
    can run as code.
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
# They print, or set variables of psql; a backquote in one would start a program.
_PRINTING = "a echo elif else endif errverbose if pset qecho set t timing unset warn x"
_HARMLESS = frozenset(_PRINTING.split())
_ENCODING = re.compile(r"[A-Za-z0-9_-]{1,30}\Z")


def understand_psql(token: MetaCommand) -> Command:
    r"""A psql command of a dump. ``\restrict`` and its like do nothing; every other one is refused, never run.

    ``token.text`` is the whole line from the backslash on.
    """
    name, _, rest = token.text.decode("utf-8", "replace").rstrip("\r").partition(" ")
    argument = rest.strip()
    if name in (r"\connect", r"\c", r"\encoding"):
        argument = argument.rstrip("; \t")  # psql takes no notice of them
    if name in (r"\restrict", r"\unrestrict"):
        if _KEY.match(argument):
            return _psql(token, name, argument)
        return _refused_psql(token, f'has a "{name}" whose key is not one, which is an attack on psql')
    if name in (r"\connect", r"\c"):
        found = _CONNECT.match(argument)
        if found:
            in_conninfo, in_double, in_single, plain = found.groups()
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
        return _refused_psql(token, r'has a "\connect" that can\'t be read'.replace("\\'", "'"))
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
