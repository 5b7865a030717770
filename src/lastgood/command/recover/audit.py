"""Records of changes inside the database: the application's audit table, and the server's counters.

They show how much was lost from which tables. The rows themselves are there only if the application stores them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from lastgood.command.recover.evidence import AuditCounts, Change, Counter
from lastgood.command.recover.live import Inspection
from lastgood.command.recover.server import limit
from lastgood.config.tables import Audit as Configured
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection

SHOWN = 40
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class KnownAudit:
    """An audit table known by name: its product, and the names of its columns."""

    product: str
    schema: str
    table: str
    time: str
    tables: str
    operation: str


KNOWN = (
    KnownAudit("supa_audit", "audit", "record_version", "ts", "table_name", "op"),
    KnownAudit(
        "the PostgreSQL wiki's audit trigger", "audit", "logged_actions", "action_tstamp_tx", "table_name", "action"
    ),
    KnownAudit("an older audit trigger", "audit", "logged_actions", "action_tstamp", "table_name", "action"),
    KnownAudit("django-auditlog", "", "auditlog_logentry", "timestamp", "content_type_id", "action"),
    KnownAudit("PaperTrail", "", "versions", "created_at", "item_type", "event"),
)  # fmt: skip
# Common names of audit tables and their columns; the likelier first.
NAMES = ("audit_log", "audit_logs", "audit_trail", "audit_events", "audit", "change_log", "changelog", "history_log")
TIMES = (
    "occurred_at",
    "changed_at",
    "happened_at",
    "logged_at",
    "created_at",
    "event_time",
    "timestamp",
    "ts",
    "at",
    "time",
)
TABLES = ("table_name", "relation", "entity_type", "entity", "object_type", "resource_type", "record_type", "item_type")
OPERATIONS = ("operation", "op", "action", "event", "event_type", "tg_op", "verb", "change_type")

_COLUMNS = """
SELECT n.nspname, c.relname,
       array_agg(a.attname::text),
       coalesce(array_agg(a.attname::text)
         FILTER (WHERE a.atttypid = ANY ('{timestamptz,timestamp}'::regtype[])), '{}')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (lower(c.relname) = ANY (%s) OR format('%%s.%%s', n.nspname, c.relname) = ANY (%s))
GROUP BY 1, 2 ORDER BY 1, 2
"""
# Casts of the server's own types are the server's.
_OWN_TYPE = """
SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND a.atttypid >= 16384
"""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are counted. If ``table`` is empty, all rows count as one table."""

    schema: str
    name: str
    time: str
    table: str
    operation: str
    recognised: str


def recognise(
    rows: Iterable[tuple[str, str, Sequence[str], Sequence[str]]], configured: Configured | None
) -> Columns | None:
    """Return the audit table among (schema, name, columns, time columns): the configured one, else the best known."""
    guessed: list[tuple[int, Columns]] = []
    for schema, name, columns, times in rows:
        if configured is not None:
            if configured.table in (f"{schema}.{name}", name):
                time = configured.time_column or _first(TIMES, times) or next(iter(times), "")
                table = configured.table_column or _first(TABLES, columns)
                operation = configured.operation_column or _first(OPERATIONS, columns)
                return Columns(schema, name, time, table, operation, "named in [recover.audit]") if time else None
            continue
        for rank, known in enumerate(KNOWN):
            fits = {known.time, known.tables, known.operation} <= set(columns)
            if known.table == name and known.schema in ("", schema) and fits:
                found = Columns(schema, name, known.time, known.tables, known.operation, f"made by {known.product}")
                guessed.append((rank, found))
        time, operation = _first(TIMES, times), _first(OPERATIONS, columns)
        if name.lower() in NAMES and time and operation:
            rank = len(KNOWN) + NAMES.index(name.lower())
            found = Columns(
                schema, name, time, _first(TABLES, columns), operation, "recognised by its name and columns"
            )
            guessed.append((rank, found))
    return min(guessed, key=lambda each: (each[0], each[1].schema, each[1].name))[1] if guessed else None


def _first(wanted: Sequence[str], columns: Sequence[str]) -> str:
    by_name = {name.lower(): name for name in columns}
    return next((by_name[name] for name in wanted if name in by_name), "")


def count_changes(
    inspection: Inspection, configured: Configured | None, since: datetime | None, seconds: float
) -> AuditCounts | None:
    """Count the changes after ``since`` in the audit table. None if no audit table is recognised."""
    connection = inspection.connection
    found: Columns | None = None
    with inspection.at("the audit table"):
        named = [configured.table] if configured is not None else []
        names = [*NAMES, *(known.table for known in KNOWN), *(name.rpartition(".")[2].lower() for name in named)]
        ours = schemas_of_runs(connection)
        rows = [row for row in connection.execute(_COLUMNS, [names, named]).fetchall() if row[0] not in ours]
        found = recognise(rows, configured)
    if found is None:
        return None
    shown = f"{found.schema}.{found.name}"
    before = len(inspection.unseen)
    changes: list[Change] = []
    with inspection.at(f"the audit table {shown}"):
        own_type = connection.execute(_OWN_TYPE, [found.schema, found.name, found.time]).fetchone() is not None
        if own_type or (found.schema, found.name) in not_to_query(connection):
            inspection.unseen.append(
                f"the audit table {shown}: its definition calls functions, which would run with the rights of role "
                f'"{connection.info.user}"'
            )
        else:
            limit(connection, seconds)
            changes += _changes(connection, found, since)
    why_not = "".join(inspection.unseen[before:]).partition(": ")[2]
    return AuditCounts(shown, found.recognised, since, tuple(changes), why_not)


def _changes(connection: Connection, found: Columns, since: datetime | None) -> Iterable[Change]:
    time = sql.Identifier(found.time)
    where = sql.SQL(" WHERE {} > {}").format(time, sql.Literal(since)) if since is not None else sql.SQL("")
    # A column without time zone is read as UTC, the time zone of the session.
    query = sql.SQL(
        "SELECT {}, {}, count(*), min({})::timestamptz, max({})::timestamptz FROM {}{}"
        " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {}"
    ).format(
        _text(found.table), _text(found.operation), time, time, sql.Identifier(found.schema, found.name), where,
        sql.Literal(SHOWN),
    )  # fmt: skip
    for table, operation, count, first, last in connection.execute(query):
        yield Change(table or "", (operation or "").upper(), count, first, last)


def _text(column: str) -> sql.Composable:
    # Not a cast: one of the owner of the column's type would run with the rights of this session.
    return sql.SQL("left(format('%s', {}), 200)").format(sql.Identifier(column)) if column else sql.SQL("''")


_COUNTERS = """
SELECT format('%I.%I', s.schemaname, s.relname), s.n_tup_del, s.n_dead_tup,
       (SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = current_database())
FROM pg_catalog.pg_stat_user_tables s
WHERE s.n_tup_del > 0 AND s.schemaname !~ '^pg_'
ORDER BY s.n_tup_del DESC, 1 LIMIT 20
"""


def counters(inspection: Inspection) -> tuple[Counter, ...]:
    """Return the tables with deleted rows since the statistics were reset, most rows first. TRUNCATE and DROP are not
    counted by the server."""
    found: list[Counter] = []
    with inspection.at("the server's counters"):
        found += [Counter(*row) for row in inspection.connection.execute(_COUNTERS)]
    return tuple(found)


def last_commit(inspection: Inspection) -> datetime | None:
    """Return the time of the last commit in this cluster; None unless track_commit_timestamp is on."""
    row: Any = None
    with inspection.at("the last commit"):
        row = inspection.connection.execute(
            "SELECT timestamp FROM pg_catalog.pg_last_committed_xact()"
            " WHERE current_setting('track_commit_timestamp') = 'on'"
        ).fetchone()
    return row[0] if row is not None else None
