"""Find the parts of a database's extensions that no dump holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import LiteralString

import psycopg
from psycopg import sql
from xxhash import xxh3_128_hexdigest

from lastgood.members import Deviation, MemberSurvey, UndumpedRows, UnknownOriginal, within
from lastgood.members.parts import MEMBERS, Part, parts
from lastgood.members.reference import Reference, installed, reference
from lastgood.members.tables import MemberTable, count, each_hash, member_tables
from lastgood.postgres.errors import message_of, not_caused_by_statement
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection, Target, read_tables_only

# A table that a deployment has locked must not block a plan.
LOCK_TIMEOUT = "2s"


def survey(connection: Connection, target: Target) -> MemberSurvey:
    """Survey the database of ``connection``, in its snapshot if it has one. ``target``: the same database, for
    connections to its server. For an extension whose original state is unknown, everything that was written after its
    creation and all rows of its tables count as changed. Raises psycopg.Error when the connection is lost.
    """
    wanted = installed(connection)
    if not wanted:
        return MemberSurvey()
    original = reference(target, connection.info.dbname, wanted)
    try:
        with connection.transaction():
            return _survey(connection, original)
    except psycopg.Error as error:
        if not_caused_by_statement(error):
            raise
        why = message_of(error)
        return MemberSurvey(unknown=tuple(UnknownOriginal(extension=each.name, why=why) for each in wanted))


def limited_to(survey: MemberSurvey, extensions: Iterable[str]) -> MemberSurvey:
    """The part of a survey that is about ``extensions``."""
    names = frozenset(extensions)
    return MemberSurvey(
        departures=tuple(each for each in survey.departures if each.extension in names),
        rows=tuple(each for each in survey.rows if each.extension in names),
        unknown=tuple(each for each in survey.unknown if each.extension in names),
    )


def _survey(connection: Connection, original: Reference) -> MemberSurvey:
    connection.execute("SET LOCAL row_security = off")
    read_tables_only(connection, local=True)
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
    written_since = written_later(connection) if original.unknown else frozenset()
    departures = list(_deviations(parts(connection), original, written_since))
    # The parts of a removed member are removed with it.
    removed_members = [each.identity for each in departures if each.kind == "member" and each.change == "removed"]
    departures = [each for each in departures if each.change != "removed" or not within(each, removed_members)]
    unknown = [UnknownOriginal(extension=name, why=why) for name, why in original.unknown.items()]
    rows = []
    without = not_to_query(connection)
    for table in member_tables(connection):
        if (table.relation.schema, table.relation.name) in without:
            why = f"rows of {table.relation}: its definition calls functions, which would run with your rights"
            unknown.append(UnknownOriginal(extension=table.extension, why=why))
            continue
        try:
            with connection.transaction():
                table_rows = _undumped_rows(connection, table, original)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
            why = f"rows of {table.relation}: {message_of(error)}"
            unknown.append(UnknownOriginal(extension=table.extension, why=why))
        else:
            rows += [table_rows] if table_rows.rows or table_rows.missing else []
    return MemberSurvey(departures=tuple(departures), rows=tuple(rows), unknown=tuple(unknown))


def digest(part: Part) -> str:
    """The digest for comparing two states of a part."""
    return xxh3_128_hexdigest(part.definition.encode())


def _deviations(
    current: dict[tuple[str, str], Part], original: Reference, written_since: frozenset[tuple[str, str]]
) -> Iterator[Deviation]:
    for key, part in current.items():
        before = original.parts.get(key)
        if part.extension in original.unknown:
            departs = key in written_since
        else:
            departs = before is None or before.definition != part.definition
        if departs:
            yield Deviation(
                extension=part.extension,
                kind=part.kind,
                identity=part.identity,
                change="changed" if before is not None or part.kind == "function" else "added",
                digest=digest(part),
                commands=part.commands,
                removal=part.removal,
            )
    for key, part in original.parts.items():
        if key not in current:
            yield Deviation(
                extension=part.extension,
                kind=part.kind,
                identity=part.identity,
                change="removed",
                digest=digest(part),
                removal=part.removal,
            )


def _undumped_rows(connection: Connection, table: MemberTable, original: Reference) -> UndumpedRows:
    script_rows = original.rows.get(table.relation, frozenset())
    rows = outside = 0
    missing = 0
    if script_rows:
        absent = set(script_rows)
        for each in each_hash(connection, table):
            outside += 1
            rows += each not in script_rows
            absent.discard(each)
        missing = len(absent)
    elif table.condition is None or table.extension not in original.unknown:
        rows = outside = count(connection, table)
    return UndumpedRows(
        extension=table.extension,
        schema_name=table.relation.schema,
        name=table.relation.name,
        rows=rows,
        missing=missing,
        outside=outside,
    )


# By the transaction that wrote the catalogue row: it is none of those that created the extension's members. Not a proof
# (an upgraded cluster has new transactions for all), but ``carry`` leaves parts that are in place unchanged.
_LATER: LiteralString = """
  , own AS (
    SELECT DISTINCT e.extname, d.xmin::text AS by
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'),
  written AS (
    SELECT f.extname, 'function' AS kind, f.identity, p.xmin::text AS by
    FROM func f JOIN pg_catalog.pg_proc p ON p.oid = f.oid
    UNION ALL
    SELECT r.extname, 'index', format('%I.%I', c.relnamespace::regnamespace::text, c.relname), i.xmin::text
    FROM pg_catalog.pg_index i JOIN relation r ON r.oid = i.indrelid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT r.extname, CASE c.contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END,
           format('%I on %s', c.conname, r.identity), c.xmin::text
    FROM pg_catalog.pg_constraint c JOIN relation r ON r.oid = c.conrelid
    UNION ALL
    SELECT r.extname, 'trigger', format('%I on %s', t.tgname, r.identity), t.xmin::text
    FROM pg_catalog.pg_trigger t JOIN relation r ON r.oid = t.tgrelid
    UNION ALL
    SELECT r.extname, 'rule', format('%I on %s', w.rulename, r.identity), w.xmin::text
    FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid = w.ev_class
    UNION ALL
    SELECT r.extname, 'policy', format('%I on %s', p.polname, r.identity), p.xmin::text
    FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL
    SELECT r.extname, 'column', format('%s.%I', r.identity, a.attname), a.xmin::text
    FROM pg_catalog.pg_attribute a JOIN relation r ON r.oid = a.attrelid WHERE a.attnum > 0)
SELECT kind, identity FROM written w
WHERE NOT EXISTS (SELECT FROM own WHERE own.extname = w.extname AND own.by = w.by)
"""


def written_later(connection: Connection) -> frozenset[tuple[str, str]]:
    """Kind and identity of the parts that were written after their extension was created, as far as the catalogue
    shows. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        return frozenset(connection.execute(sql.SQL(MEMBERS) + sql.SQL(_LATER)).fetchall())
