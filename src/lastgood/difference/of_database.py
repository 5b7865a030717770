"""A database as a side: one exported snapshot for all of its sessions, under pg_dump's settings."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import IsolationLevel, sql

from lastgood.context import Context
from lastgood.difference.sides import Block, OpenSide, Reading, ReadingPart, SideColumn, SideTable
from lastgood.dump.names import Relation, quoted
from lastgood.errors import NOT_REACHED
from lastgood.facts import DigestRules, Facts, TableFacts, time_zone
from lastgood.facts.digest import RowsDigest
from lastgood.facts.of_database import pinned
from lastgood.facts.relations import FactsRelation as Stored
from lastgood.facts.relations import Source, as_dumped, of_schemas
from lastgood.facts.row_stream import copy_blocks, copy_pieces, digest_rows
from lastgood.facts.text_digest import TextDigest
from lastgood.postgres import errors as server_errors
from lastgood.postgres.kept import read_only
from lastgood.postgres.server import Connection, Target, only_row, read_tables_only

# A table that another session has locked (an open migration) must not block the comparison.
LOCK_TIMEOUT = "2s"
LOCKED = "another session has locked it"
# A row of COPY text whose fields are all NULL or empty.
_WITHOUT_VALUE = re.compile(rb"^(?:\\N)?(?:\t(?:\\N)?)*\n", re.MULTILINE)

# Not pg_relation_size, which waits for locks.
_COLUMNS = """
SELECT c.oid,
       (SELECT array_agg(ARRAY[a.attname::text, pg_catalog.format_type(a.atttypid, NULL)] ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       c.relpages::int8 * 8192,
       (SELECT ARRAY[n.nspname::text, r.relname::text]
        FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
        WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid))
FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s)
"""
# Unique over all rows and without NULL, so that they identify a row; the primary key first, then the narrowest.
_KEYS = """
SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attnum > 0
WHERE i.indrelid = ANY (%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts
GROUP BY i.indrelid, i.indexrelid, i.indisprimary, i.indnkeyatts
HAVING bool_and(a.attnotnull AND a.attgenerated = '')
ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid
"""


@dataclass(slots=True)
class Memory:
    """The results of reading a database in one snapshot, for the next comparison: digests of the rows and of the whole
    text, by table, columns and settings; and why tables cannot be read."""

    texts: dict[tuple[object, ...], tuple[str, ...]] = field(default_factory=dict)
    digests: dict[tuple[object, ...], TableFacts] = field(default_factory=dict)
    unreadable: dict[Relation, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatabaseSide:
    """A database: live, kept, shadow, or of another server. ``schemas``: only these of its schemas, each with the name
    under which it is compared (kept schemas of an in-place rollback → live names); None: all that pg_dump writes.
    ``snapshot``: one that another session exported and holds; without it, one of its own. ``memory``: what earlier
    comparisons of the same snapshot have read."""

    target: Target
    label: str
    schemas: Mapping[str, str] | None = None
    snapshot: str = ""
    memory: Memory | None = None

    @property
    def fixed(self) -> bool:
        """See ``Side``."""
        return False

    @contextmanager
    def opened(self, like: OpenSide | None, context: Context) -> Iterator[OpenSide]:
        """See ``Side``. Needs a server that exports snapshots: a primary, or a standby. Raises Failed."""
        with ExitStack() as stack:
            try:
                first = stack.enter_context(_session(self.target, self.snapshot))
                yield _opened(self, first, stack, like)
            except psycopg.Error as error:
                when: server_errors.Context = "connect" if error.sqlstate is None else "any"
                raise server_errors.failed(error, f"compare {self.label}", context=when, state=NOT_REACHED) from error


@contextmanager
def _session(target: Target, snapshot: str = "") -> Iterator[Connection]:
    with read_only(target).connect(application_name="lastgood difference") as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():  # a rollback would count as an error in the watch
            if snapshot:
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            read_tables_only(connection, local=True)
            yield connection


def _pin(connection: Connection, rules: DigestRules) -> None:
    for name, value in (*pinned(rules), ("client_encoding", "UTF8"), ("lock_timeout", LOCK_TIMEOUT)):
        connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))


def _opened(side: DatabaseSide, first: Connection, stack: ExitStack, like: OpenSide | None) -> _OpenDatabase:
    row = only_row(first, "SELECT pg_catalog.pg_export_snapshot()")
    zone: str | None = like.rules.time_zone if like is not None else "UTC"
    samples: tuple[str, ...] = ()
    if zone is None and like is not None:
        zone = time_zone.recognise(first, like.zone_samples)
        samples = like.zone_samples if zone is not None else ()
    rules = DigestRules(
        client_encoding=like.rules.client_encoding if like is not None else "UTF8",
        time_zone=zone or "UTC",
        server_major=first.info.server_version // 10000,
        bytea_output=like.rules.bytea_output if like is not None else "hex",
    )
    _pin(first, rules)
    memory = side.memory or Memory()
    tables = _tables(first, side.schemas, memory)
    opened = _OpenDatabase(tables, rules, samples, side.target, row[0], stack, memory)
    opened.give(first)
    return opened


def _tables(connection: Connection, schemas: Mapping[str, str] | None, memory: Memory) -> dict[Relation, SideTable]:
    sources = as_dumped(connection) if schemas is None else of_schemas(connection, [*schemas])
    oids = [part.oid for source in sources for part in source.parts]
    described = {oid: others for oid, *others in connection.execute(_COLUMNS, [oids])}
    keys: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for oid, names in connection.execute(_KEYS, [oids]):
        keys[oid].append(tuple(names))
    renamed = schemas or {}
    found = {}
    for source in sources:
        relation = Relation(renamed.get(source.schema_name, source.schema_name), source.name)
        columns, _, root = described[source.parts[0].oid]
        # A table that was locked before is not waited for again; the others need a lock of this session.
        why = memory.unreadable.get(relation) or _locked(connection, source)
        memory.unreadable[relation] = why
        known = tuple(keys[source.parts[0].oid]) if len(source.parts) == 1 else ()
        found[relation] = SideTable(
            relation,
            tuple(SideColumn(name, _renamed_type(kind, renamed)) for name, kind in columns or ()),
            known,
            known,
            sum(described[part.oid][1] or 0 for part in source.parts),
            None,
            source.zoned,
            None if root is None else Relation(renamed.get(root[0], root[0]), root[1]),
            why,
            source.parts,
        )
    return found


def _renamed_type(kind: str, renamed: Mapping[str, str]) -> str:
    """The type's name as the other side writes it: a type of a kept schema is the live one's former self."""
    for schema, live in renamed.items():
        if kind.startswith(f"{quoted(schema)}."):
            return quoted(live) + kind.removeprefix(quoted(schema))
    return kind


def _locked(connection: Connection, source: Source) -> str:
    """Lock a table against DROP and TRUNCATE until the end, as pg_dump does: TRUNCATE affects older snapshots, too.
    Returns why it cannot be read, empty if it can."""
    names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(part.qualified) for part in source.parts)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
    except psycopg.errors.LockNotAvailable:
        return LOCKED
    except psycopg.errors.InsufficientPrivilege as error:
        return server_errors.message_of(error)
    return ""


@dataclass(slots=True)
class _OpenDatabase:
    """See ``OpenSide``."""

    tables: Mapping[Relation, SideTable]
    rules: DigestRules
    zone_samples: tuple[str, ...]
    target: Target
    snapshot: str
    stack: ExitStack
    memory: Memory
    facts: Facts | None = None
    in_order: bool = False
    own_columns: bool = False
    no_rows: str = ""
    _free: list[Connection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def give(self, connection: Connection) -> None:
        """Take a session back that is free."""
        with self._lock:
            self._free.append(connection)

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        with self._lock:
            connection = self._free.pop() if self._free else None
            if connection is None:
                connection = self.stack.enter_context(_session(self.target, self.snapshot))
                _pin(connection, self.rules)
        try:
            # An error must not end the transaction, and with it the snapshot.
            with connection.transaction():
                yield connection
        finally:
            self.give(connection)

    def read(self, wanted: Sequence[Reading], cancelled: Callable[[], bool]) -> Iterator[ReadingPart]:
        for reading in wanted:
            yield ReadingPart(reading, self._blocks(reading, cancelled), last=True)

    def _blocks(self, reading: Reading, cancelled: Callable[[], bool]) -> Generator[Block]:
        with self._borrowed() as connection:
            for copy in _copies(connection, reading):
                with closing(copy_blocks(connection, copy.encode(), cancelled=cancelled)) as blocks:
                    for data in blocks:
                        yield Block(data, reading.columns)

    def count(self, table: SideTable, given: Sequence[str] = ()) -> int:
        total = 0
        with self._borrowed() as connection:
            for part in table.parts:
                assert isinstance(part, Stored)  # this side's own
                # Not count(*): see facts/rows_text.py.
                read = replace(part, columns=part.columns[:1] if not given else tuple(given))
                with closing(copy_blocks(connection, read.copy().as_string(connection).encode())) as blocks:
                    for data in blocks:
                        total += data.count(b"\n") - (len(_WITHOUT_VALUE.findall(data)) if given else 0)
        return total

    def has_text(self, text: Sequence[str], reading: Reading, cancelled: Callable[[], bool]) -> bool:
        key = self._key(reading)
        if key not in self.memory.texts:
            digest = TextDigest()
            with self._recording(reading) as (connection, copies):
                for copy in copies:
                    with closing(copy_pieces(connection, copy, cancelled=cancelled)) as pieces:
                        for piece in pieces:
                            digest.add(piece)
                            if not digest.begins(text):
                                raise psycopg.Rollback  # the end of the COPY is an error
            if not digest.begins(text):
                return False
            self.memory.texts[key] = digest.result()
        return self.memory.texts[key] == text

    def digest(self, reading: Reading, cancelled: Callable[[], bool]) -> TableFacts | None:
        key = self._key(reading)
        if key not in self.memory.digests:
            digest = RowsDigest()
            with self._recording(reading) as (connection, copies):
                for copy in copies:
                    one = digest_rows(connection, copy, cancelled=cancelled)
                    digest.rows += one.rows
                    digest.total += one.total
            self.memory.digests[key] = TableFacts(
                schema_name=reading.table.relation.schema,
                name=reading.table.relation.name,
                columns=reading.columns,
                rows=digest.rows,
                digest=digest.hexdigest(),
                zoned=reading.table.zoned,
            )
        return self.memory.digests[key]

    def _key(self, reading: Reading) -> tuple[object, ...]:
        zone = self.rules.time_zone if reading.table.zoned else None
        return (reading.table.relation, reading.columns, self.rules.client_encoding, self.rules.bytea_output, zone)

    @contextmanager
    def _recording(self, reading: Reading) -> Iterator[tuple[Connection, list[bytes]]]:
        """A session that writes text in the encoding of the other side's records, and the COPY commands for it."""
        encoding = self.rules.client_encoding
        with self._borrowed() as connection:
            if encoding != "UTF8":
                connection.execute(sql.SQL("SET LOCAL client_encoding = {}").format(sql.Literal(encoding)))
            # Under SQL_ASCII bytes pass unchanged, including those of names in the command.
            codec = "utf-8" if encoding == "SQL_ASCII" else connection.info.encoding
            yield connection, [copy.encode(codec) for copy in _copies(connection, reading)]
            if encoding != "UTF8":
                connection.execute("SET LOCAL client_encoding = 'UTF8'")


def _copies(connection: Connection, reading: Reading) -> Iterator[str]:
    for part in reading.table.parts:
        assert isinstance(part, Stored)  # this side's own
        yield replace(part, columns=reading.columns).copy().as_string(connection)
