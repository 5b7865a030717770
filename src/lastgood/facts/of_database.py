"""The facts of a database, read in one snapshot under pg_dump's settings."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import IsolationLevel, errors, pq, sql

from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import Relation
from lastgood.dump.summary import BUILT_IN_EXTENSIONS
from lastgood.errors import Failed, Interrupted, LastgoodError
from lastgood.events import Progress
from lastgood.facts import (
    DigestRules,
    ExtensionFacts,
    Facts,
    LanguageFacts,
    LargeObjectFacts,
    MigrationFacts,
    SequenceFacts,
    TableFacts,
    migrations,
    moments,
    time_zone,
)
from lastgood.facts.digest import RowsDigest
from lastgood.facts.large_objects import read_large_objects
from lastgood.facts.objects import DEFINITIONS, KINDS, read_objects
from lastgood.facts.relations import FactsRelation, Source, as_dumped, as_in, lock
from lastgood.facts.row_stream import copy_blocks, digest_rows
from lastgood.facts.rows_text import rows_of
from lastgood.postgres.kept import read_only
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.server import Connection, Target, only_row, read_tables_only

# The settings that pg_dump pins (setup_connection). The time zone and the encoding come from the rules.
PINNED: tuple[tuple[LiteralString, str], ...] = (
    ("search_path", ""),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmloption", "content"),
    ("quote_all_identifiers", "off"),
    ("synchronize_seqscans", "off"),
    # Rows hidden by row-level security cause an error instead of a smaller count.
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
)


def pinned(rules: DigestRules) -> tuple[tuple[LiteralString, str], ...]:
    """The settings under which a server writes rows by ``rules``, apart from the encoding."""
    return (*PINNED, ("bytea_output", rules.bytea_output), ("TimeZone", rules.time_zone or "UTC"))


def facts_of_database(
    connection: Connection,
    *,
    like: Facts | None = None,
    beyond_like: bool = False,
    digests: bool = True,
    newest: bool = True,
    objects: bool = True,
    large_objects: bool = True,
    known: Mapping[Relation, TableFacts] | None = None,
    encoding: str = "UTF8",
    context: Context = BACKGROUND,
    stage: str = "facts",
) -> Facts:
    """The facts of the database of ``connection``, in the caller's transaction, which must be REPEATABLE READ (or
    SERIALIZABLE). Settings change only for that transaction.

    Without ``like``: the tables that pg_dump would write, in UTC and ``encoding``. With it: the same tables, columns,
    time zone and encoding, so that ``compare`` can compare contents. A dump's unknown time zone is recognized from its
    ``zone_samples``, which the result then has too. ``beyond_like`` adds the tables and sequences that ``like`` does
    not have. ``digests=False`` counts rows and reads newest time stamps only; ``newest=False`` reads only digests, in
    two thirds of the time. ``objects=False`` omits the schema objects, ``large_objects=False`` the large objects.
    Tables in ``known`` are not read: their facts are used.

    Emits Progress of ``stage`` in rows. Raises Failed when the role may not read everything, Interrupted, and
    psycopg.Error for any other error of the server.
    """
    _require_snapshot(connection)
    zone = like.rules.time_zone if like is not None else None
    samples: tuple[str, ...] = ()
    if zone is None and like is not None:
        zone = time_zone.recognise(connection, like.zone_samples)
        samples = like.zone_samples if zone is not None else ()
    rules = DigestRules(
        definitions=DEFINITIONS,
        client_encoding=like.rules.client_encoding if like is not None else encoding,
        time_zone=zone or "UTC",
        server_major=connection.info.server_version // 10000,
        bytea_output=like.rules.bytea_output if like is not None else "hex",
    )
    for name, value in (*pinned(rules), ("client_encoding", "UTF8")):
        connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    read_tables_only(connection, local=True)
    try:
        with _stoppable(connection, context.cancelled):
            found = _Reading(connection, rules, like, digests, newest, known or {}, context, stage).facts(
                beyond_like=beyond_like, objects=objects, large_objects=large_objects
            )
        return found.model_copy(update={"zone_samples": samples})
    except errors.QueryCanceled as error:
        if context.cancelled():
            raise Interrupted("cannot continue reading the database: interrupted") from error
        raise
    except errors.InsufficientPrivilege as error:
        why = error.diag.message_primary or "a permission is missing"
        raise Failed(
            f'cannot read all of database "{connection.info.dbname}" as role "{connection.info.user}": {why}',
            hint="Connect as a superuser, or as the owner of all tables with the attribute BYPASSRLS.",
        ) from error


def facts_at(
    target: Target,
    *,
    like: Facts | None = None,
    digests: bool = True,
    context: Context = BACKGROUND,
    stage: str = "facts",
) -> Facts:
    """The facts of the database of ``target``, in a session and a snapshot of its own. With ``like``, tables and
    sequences that ``like`` does not have are included."""
    with read_only(target).connect(application_name="lastgood facts") as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            return facts_of_database(
                connection,
                like=like,
                beyond_like=like is not None,
                digests=digests,
                context=context,
                stage=stage,
            )


@contextlib.contextmanager
def _stoppable(connection: Connection, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Cancel the query of ``connection`` when ``cancelled`` turns true: it may wait for a lock for hours."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            if cancelled():
                # Repeatedly: between two queries a cancel request has no effect.
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)

    watcher = threading.Thread(target=watch, name="lastgood-cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _require_snapshot(connection: Connection) -> None:
    row = connection.execute("SELECT current_setting('transaction_isolation')").fetchone()
    inside = connection.info.transaction_status == pq.TransactionStatus.INTRANS
    if not inside or row is None or row[0] not in ("repeatable read", "serializable"):
        raise LastgoodError("cannot read the facts of a database: no REPEATABLE READ transaction is open")


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading of one database in an open snapshot; see ``facts_of_database``."""

    connection: Connection
    rules: DigestRules
    like: Facts | None
    digests: bool
    newest: bool
    known: Mapping[Relation, TableFacts]
    context: Context
    stage: str

    def facts(self, *, beyond_like: bool, objects: bool, large_objects: bool) -> Facts:
        connection, like = self.connection, self.like
        sources = as_dumped(connection) if like is None else as_in(connection, like, beyond=beyond_like)
        lock(connection, sources)
        database, version = only_row(connection, "SELECT current_database(), current_setting('server_version')")
        found_objects = read_objects(connection) if objects else ()
        counts = Counter(dict.fromkeys(KINDS, 0) if objects else {})
        counts.update(one.kind for one in found_objects)
        return Facts(
            origin="database",
            database=database,
            server_version=version,
            rules=self.rules,
            extensions=_extensions(connection),
            languages=_languages(connection),
            sequences=_sequences(connection, like if not beyond_like else None),
            large_objects=read_large_objects(connection) if large_objects else LargeObjectFacts(),
            migration=_migration(connection, sources),
            object_counts=dict(sorted(counts.items())),
            objects=found_objects,
            tables=tuple(sorted(self._tables(sources), key=lambda table: (table.schema_name, table.name))),
        )

    def _tables(self, sources: Sequence[Source]) -> list[TableFacts]:
        copies = {
            part.oid: self._wanted(part).copy().as_string(self.connection)
            for source in sources
            for part in source.parts
        }
        encoding = sql.Literal(self.rules.client_encoding)
        self.connection.execute(sql.SQL("SET LOCAL client_encoding = {}").format(encoding))
        # Under SQL_ASCII bytes pass unchanged, including those of names in the command.
        codec = "utf-8" if self.rules.client_encoding == "SQL_ASCII" else self.connection.info.encoding
        commands = {oid: text.encode(codec) for oid, text in copies.items()}
        tables: list[TableFacts] = []
        before = 0
        for number, source in enumerate(sources, 1):
            detail = f"{source.schema_name}.{source.name} ({number} of {len(sources)})"
            already = self.known.get(Relation(source.schema_name, source.name))
            if already is not None:
                table = already.model_copy(update={"columns": source.columns, "zoned": source.zoned})
            else:
                table = self._table(source, commands, partial(self._progress, before, detail))
            tables.append(table)
            before += table.rows
        self.connection.execute("SET LOCAL client_encoding = 'UTF8'")
        return tables

    def _progress(self, before: int, detail: str, rows: int) -> None:
        expected = self.like.rows if self.like is not None else None
        done = before + rows
        self.context.emit(Progress(self.stage, done, expected, "rows", rows=done, detail=detail))

    def _wanted(self, part: FactsRelation) -> FactsRelation:
        return part if self.digests else part.for_counting()

    def _table(self, source: Source, commands: Mapping[int, bytes], progress: Callable[[int], None]) -> TableFacts:
        """The facts of a table, with the greatest finite value of each date or time stamp column."""
        digest = RowsDigest()
        stamps: dict[str, list[str]] = defaultdict(list)
        whole: tuple[str, ...] = ()
        for part in source.parts:
            copy, before = commands[part.oid], digest.rows
            if self.newest:
                text = self._wanted(part).text()
                for block in copy_blocks(self.connection, copy, cancelled=self.context.cancelled):
                    text.add(block)
                    progress(before + text.digest.rows)
                found, whole = text.digest, text.digest_of_text
                for name, value in text.newest.items():
                    stamps[name].append(value.decode("ascii"))
            else:
                so_far = partial(_after, before, progress)
                found = digest_rows(self.connection, copy, cancelled=self.context.cancelled, progress=so_far)
            digest.rows += found.rows
            digest.total += found.total
        return TableFacts(
            schema_name=source.schema_name,
            name=source.name,
            columns=source.columns,
            rows=digest.rows,
            digest=digest.hexdigest() if self.digests else None,
            why_no_digest="" if self.digests else "only the rows were counted",
            text=whole if self.digests and len(source.parts) == 1 else (),
            newest={name: moments.latest(values) for name, values in sorted(stamps.items())},
            zoned=source.zoned,
        )


def _after(before: int, progress: Callable[[int], None], rows: int, _: int) -> None:
    progress(before + rows)


def _extensions(connection: Connection) -> tuple[ExtensionFacts, ...]:
    query = "SELECT extname, extversion FROM pg_catalog.pg_extension WHERE extname <> ALL (%s) ORDER BY extname"
    found = connection.execute(query, [list(BUILT_IN_EXTENSIONS)])
    return tuple(ExtensionFacts(name=name, version=version) for name, version in found)


# As in pg_dump (dumpProcLang): the functions of a language are written with it only if all of them are dumped.
_LANGUAGES: LiteralString = """
WITH used AS (
  SELECT p.oid, ARRAY[n.nspname::text, p.proname::text] AS name,
         n.nspname ~ '^pg_' OR n.nspname = 'information_schema'
         OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass
                    AND d.objid = p.oid AND d.deptype = 'e') AS left_out
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace)
SELECT l.lanname, l.lanpltrusted, h.name, i.name, v.name
FROM pg_catalog.pg_language l
JOIN used h ON h.oid = l.lanplcallfoid
LEFT JOIN used i ON i.oid = l.laninline
LEFT JOIN used v ON v.oid = l.lanvalidator
WHERE l.oid >= 16384 AND (h.left_out OR i.left_out OR v.left_out)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_language'::regclass
                  AND d.objid = l.oid AND d.deptype = 'e')
ORDER BY l.lanname
"""


def _languages(connection: Connection) -> tuple[LanguageFacts, ...]:
    return tuple(
        LanguageFacts(name=name, trusted=trusted, handler=handler, inline=inline, validator=validator)
        for name, trusted, handler, inline, validator in connection.execute(_LANGUAGES)
    )


def _sequences(connection: Connection, like: Facts | None) -> tuple[SequenceFacts, ...]:
    names = connection.execute(
        """
        SELECT n.nspname, c.relname
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S' AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                           AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
               OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
        ORDER BY n.nspname, c.relname
        """
    ).fetchall()
    if like is not None:
        wanted = {(one.schema_name, one.name) for one in like.sequences}
        names = [pair for pair in names if (pair[0], pair[1]) in wanted]
    else:
        ours = schemas_of_runs(connection)
        names = [pair for pair in names if pair[0] not in ours]
    found: list[SequenceFacts] = []
    for start in range(0, len(names), 200):
        selects = [
            sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(
                sql.Literal(number), sql.Identifier(schema, name)
            )
            for number, (schema, name) in enumerate(names[start : start + 200], start)
        ]
        # The end of a savepoint releases its locks: the server's lock table is small.
        with connection.transaction(force_rollback=True):
            rows = connection.execute(sql.SQL(" UNION ALL ").join(selects)).fetchall()
        for number, last_value, is_called in rows:
            schema, name = names[number]
            found.append(SequenceFacts(schema_name=schema, name=name, last_value=last_value, is_called=is_called))
    return tuple(sorted(found, key=lambda one: (one.schema_name, one.name)))


def _migration(connection: Connection, sources: Sequence[Source]) -> MigrationFacts | None:
    """The facts of the migration tool's table; of several such tables, the most relevant one."""
    for source in sorted(sources, key=lambda one: migrations.preference(one.schema_name, one.name)):
        tool = migrations.recognise(source.schema_name, source.name, source.columns)
        if tool is None:
            continue
        rows: list[migrations.Row] = []
        for part in source.parts:
            rows += rows_of(connection, replace(part, columns=tool.columns).copy())
        return migrations.facts(tool, source.schema_name, source.name, rows)
    return None


def migration_of(connection: Connection) -> MigrationFacts | None:
    """The newest migration that the database's migration tool recorded. Raises psycopg.Error."""
    return _migration(connection, as_dumped(connection))
