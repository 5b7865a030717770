"""Inspection of the live database: objects, damage, row counts and newest rows.

Read-only, in small steps with a time limit each. What cannot be read in time is left out and listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from lastgood import points
from lastgood.command.recover.evidence import Candidate, Live, LockedOut, Seen
from lastgood.command.recover.server import SHOWN, STATEMENT_SECONDS, limit, message_of
from lastgood.context import Context
from lastgood.errors import BadPoint, Failed
from lastgood.facts import migrations
from lastgood.facts.objects import SCHEMAS
from lastgood.facts.rows_text import rows_in
from lastgood.loss import (
    Comparing,
    Content,
    Key,
    LiveTable,
    Reader,
    Then,
    TimeLimit,
    counted,
    listing,
    referring,
    snapshot_of,
    turned_off,
)
from lastgood.loss.written import TimeColumn
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.sessions import locked_tables
from lastgood.text.units import listed

COUNTING_SECONDS = 2.0
# The time limit for comparing content without --thorough.
COMPARING_SECONDS = 3.0
THOROUGH_SECONDS = 60.0

# Named as in lastgood.facts.objects, without definitions: those need locks that another session may hold.
_OBJECTS: LiteralString = """
SELECT CASE relkind WHEN 'f' THEN 'foreign table' ELSE 'table' END, identity
FROM relation WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'index', r.identity FROM relation r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
JOIN relation t ON t.oid = i.indrelid
WHERE (i.indisvalid OR t.relkind = 'p') AND i.indisready
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                  WHERE c.conindid = r.oid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT CASE c.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint'
         WHEN 'x' THEN 'exclusion constraint' ELSE 'foreign key' END,
       format('%I on %s', c.conname, r.identity)
FROM pg_catalog.pg_constraint c JOIN relation r ON r.oid = c.conrelid
WHERE c.contype IN ('p', 'u', 'x') OR c.contype = 'f' AND c.conparentid = 0
UNION ALL
SELECT 'trigger', format('%I on %s', t.tgname, r.identity)
FROM pg_catalog.pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT 'policy', format('%I on %I.%I', p.polname, n.nspname, c.relname)
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
JOIN user_schema n ON n.oid = c.relnamespace
UNION ALL
SELECT CASE relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, identity
FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'sequence', r.identity FROM relation r JOIN pg_catalog.pg_sequence q ON q.seqrelid = r.oid
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend p
                  WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = r.oid AND p.deptype = 'i')
"""
_INVALID = """
SELECT i.indexrelid::regclass::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready)
  AND c.relnamespace::regnamespace::text !~ '^pg_' ORDER BY 1
"""
_UNVALIDATED = """
SELECT format('%I on %s', conname, conrelid::regclass) FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND NOT convalidated AND conparentid = 0 ORDER BY 1
"""
# Login roles of applications: those with an explicit grant on this database, settings or default privileges here,
# privileges on a table, or a current session. Owners and superusers need no grants. A role with NOINHERIT (the login
# role of PostgREST) counts with the privileges of the roles that it can SET ROLE to.
_ROLES = """
WITH t AS (
  SELECT c.oid, c.relnamespace, c.relowner, c.relacl FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), d AS (SELECT oid, datacl, datdba FROM pg_catalog.pg_database WHERE datname = current_database()
), known AS (
  SELECT a.grantee AS oid FROM d, LATERAL pg_catalog.aclexplode(d.datacl) a
  UNION SELECT setrole FROM pg_catalog.pg_db_role_setting s JOIN d ON d.oid = s.setdatabase
  UNION SELECT a.grantee FROM pg_catalog.pg_default_acl p, LATERAL pg_catalog.aclexplode(p.defaclacl) a
  UNION SELECT a.grantee FROM t, LATERAL pg_catalog.aclexplode(t.relacl) a WHERE a.grantee <> t.relowner
  UNION SELECT s.usesysid FROM pg_catalog.pg_stat_activity s JOIN d ON d.oid = s.datid WHERE s.pid <> pg_backend_pid()
)
SELECT r.rolname, count(*) FILTER (WHERE EXISTS (
         SELECT FROM pg_catalog.pg_roles m
         WHERE pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')
           AND pg_catalog.has_table_privilege(m.oid, t.oid, 'SELECT')
           AND pg_catalog.has_schema_privilege(m.oid, t.relnamespace, 'USAGE'))), count(*)
FROM known JOIN pg_catalog.pg_roles r ON r.oid = known.oid CROSS JOIN t
WHERE r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolbypassrls AND r.oid <> (SELECT datdba FROM d)
  AND NOT EXISTS (SELECT FROM t WHERE t.relowner = r.oid)
GROUP BY 1 ORDER BY 1
"""
_NO_GRANTS = """
WITH t AS (
  SELECT c.oid, c.relnamespace,
         EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) a WHERE a.grantee <> c.relowner) AS granted
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
)
SELECT t.oid::regclass::text FROM t
WHERE NOT granted AND (SELECT count(*) FILTER (WHERE o.granted) * 2 > count(*) FROM t o
                       WHERE o.relnamespace = t.relnamespace)
ORDER BY 1
"""


@dataclass(slots=True)
class Inspection:
    """A connection with a deadline. ``unseen`` collects what could not be examined, in sentences."""

    connection: Connection
    until: float
    unseen: list[str] = field(default_factory=list)
    each: float = STATEMENT_SECONDS

    @contextmanager
    def at(self, what: str) -> Iterator[None]:
        """Examine one thing. An error of the server is noted in ``unseen``, not raised."""
        with suppress(psycopg.Error):  # what is wrong with the connection is wrong below, too
            limit(self.connection, self.each)
        try:
            yield
        except psycopg.Error as error:
            self.unseen.append(f"{what}: {message_of(error)}")


def inspect(
    inspection: Inspection,
    target: Target,
    candidates: Sequence[Candidate],
    comparing: Comparing,
    context: Context,
    *,
    thorough: bool = False,
) -> Live:
    """Read everything about the live database that the diagnosis needs. ``candidates``: the restore points to compare
    with, each read within the time of ``comparing``. ``thorough``: count each table exactly, for up to a minute
    each."""
    connection = inspection.connection
    found: dict[str, Any] = {}
    with inspection.at("sessions that lock tables"):
        shut = {(each.schema, each.name): each for each in locked_tables(connection)}
        found["shut"] = tuple(
            Seen(
                f'{each.holder} holds a lock on "{each.schema}"."{each.name}" that blocks readers',
                "pg_locks",
            )
            for each in shut.values()
        )
    with inspection.at("the schema"):
        query = sql.SQL("WITH RECURSIVE ") + sql.SQL(SCHEMAS) + sql.SQL(_OBJECTS)
        found["objects"] = frozenset((kind, identity) for kind, identity in connection.execute(query))
    with inspection.at("invalid indexes"):
        found["invalid"] = tuple(str(name) for (name,) in connection.execute(_INVALID))
    with inspection.at("foreign keys"):
        found["unvalidated"] = tuple(str(name) for (name,) in connection.execute(_UNVALIDATED))
    with inspection.at("privileges of roles"):
        found["locked_out"] = tuple(LockedOut(*row) for row in connection.execute(_ROLES))
        found["no_grants"] = tuple(str(name) for (name,) in connection.execute(_NO_GRANTS))
    tables: dict[Key, LiveTable] = {}
    stamps: dict[Key, TimeColumn] = {}
    with inspection.at("the tables"):
        tables, stamps = listing(connection)
    with inspection.at("the migrations"):
        found |= _migration(connection, {key: table.columns for key, table in tables.items()})
    locked = set(shut) if "shut" in found else set()
    forbidden: list[str] = []

    def trouble(key: Key, error: psycopg.Error) -> str:
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            forbidden.append(f"{key[0]}.{key[1]}")
            return ""
        inspection.unseen.append(f"{key[0]}.{key[1]}: {message_of(error)}")
        return message_of(error)

    def seconds() -> float:
        return THOROUGH_SECONDS if thorough else min(inspection.each, inspection.until - monotonic())

    with inspection.at("the rows"):
        then = [Then.of(each.point, each.facts) for each in candidates]
        tables = counted(connection, tables, stamps, then, shut=locked, seconds=seconds, trouble=trouble)
    if forbidden:
        text = f'rows of {len(forbidden)} of {len(tables)} tables: role "{connection.info.user}" cannot read all of '
        inspection.unseen.append(f"{text}them: {listed(forbidden, SHOWN)}")
    contents: tuple[dict[Key, Content], ...] = ()
    with inspection.at("the content of the tables"):
        contents = _contents(inspection, target, tables, candidates, locked, comparing, context)
    return Live(tables=tables, content=contents, rules=comparing.rules, **found)


def _contents(
    inspection: Inspection,
    target: Target,
    tables: dict[Key, LiveTable],
    candidates: Sequence[Candidate],
    shut: Collection[Key],
    comparing: Comparing,
    context: Context,
) -> tuple[dict[Key, Content], ...]:
    """Return for each restore point which tables have its rows, and how many rows differ: first the digests for all of
    them, then the rows, the newest restore point first."""
    if comparing.off:
        return tuple(
            turned_off(tables, each.facts, shut) if each.facts is not None else {} for each in candidates
        )  # fmt: skip
    found: list[dict[Key, Content]] = []
    until = TimeLimit.of(comparing.seconds)
    try:
        with snapshot_of(inspection.connection) as snapshot:
            reader = Reader(target, snapshot, shut, referring(comparing.rules), context)
            found = [
                reader.compare(tables, each.facts, until) if each.facts is not None else {} for each in candidates
            ]  # fmt: skip
            for place, each in enumerate(candidates):
                if each.facts is not None and each.usable and comparing.level == "count":
                    found[place] = _counted(reader, tables, found[place], each, target.dbname, until)
    except Failed as error:
        inspection.unseen.append(f"the content of the tables: {error}")
    return (*found, *({} for _ in candidates[len(found) :]))


def _counted(
    reader: Reader,
    tables: dict[Key, LiveTable],
    content: dict[Key, Content],
    point: Candidate,
    name: str,
    until: TimeLimit,
) -> dict[Key, Content]:
    assert point.facts is not None

    def whole(context: Context) -> points.VerifiedPoint:
        return points.read_whole(point.point, database=name, skim=True, skip_rows=True, context=context)

    try:
        return reader.count(tables, content, point.facts, whole, until)
    except BadPoint:
        return content  # the damage is found, and reported, when it is chosen


def _migration(connection: Connection, columns: dict[Key, Sequence[str]]) -> dict[str, Any]:
    for schema, name in sorted(columns, key=lambda key: migrations.preference(*key)):
        tool = migrations.recognise(schema, name, columns[schema, name])
        if tool is not None:
            found = migrations.facts(tool, schema, name, rows_in(connection, schema, name, tool.columns))
            return {"migration": found.version, "migrations": found.applied, "migrations_table": found.table}
    return {}


def open_inspection(connect: Callable[[], Connection]) -> Inspection:
    """Open a connection for the inspection, in UTC. Raises psycopg.Error."""
    connection = connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET row_security = off")
    return Inspection(connection, monotonic() + COUNTING_SECONDS)
