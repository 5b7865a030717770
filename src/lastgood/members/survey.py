"""Find the parts of a database's extensions that no dump holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psycopg
from psycopg import sql
from xxhash import xxh3_128_hexdigest

from lastgood.members import Departure, HeldRows, Survey, Unknown, within
from lastgood.members.later import written_later
from lastgood.members.parts import Part, parts
from lastgood.members.reference import Reference, installed, reference
from lastgood.members.tables import MemberTable, count, each_hash, member_tables
from lastgood.postgres.errors import not_its_own, words
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.table_code import not_to_query

# A table that a deployment has locked must not block a plan.
LOCK_TIMEOUT = "2s"


def survey(connection: Connection, target: Target) -> Survey:
    """Survey the database of ``connection``, in its snapshot if it has one. ``target``: the same database, for
    connections to its server. For an unknown extension, everything that was written after its creation and all rows of
    its tables count as changed. Raises psycopg.Error when the connection is lost.
    """
    wanted = installed(connection)
    if not wanted:
        return Survey()
    known = reference(target, connection.info.dbname, wanted)
    try:
        with connection.transaction():
            return _survey(connection, known)
    except psycopg.Error as error:
        if not_its_own(error):
            raise
        why = words(error)
        return Survey(unknown=tuple(Unknown(extension=each.name, why=why) for each in wanted))


def of_extensions(survey: Survey, extensions: Iterable[str]) -> Survey:
    """The part of a survey about some extensions."""
    names = frozenset(extensions)
    return Survey(
        departures=tuple(each for each in survey.departures if each.extension in names),
        rows=tuple(each for each in survey.rows if each.extension in names),
        unknown=tuple(each for each in survey.unknown if each.extension in names),
    )


def _survey(connection: Connection, known: Reference) -> Survey:
    connection.execute("SET LOCAL row_security = off")
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
    later = written_later(connection) if known.unknown else frozenset()
    departures = list(_departures(parts(connection), known, later))
    # The parts of a removed member are removed with it.
    gone = [each.identity for each in departures if each.kind == "member" and each.change == "removed"]
    departures = [each for each in departures if each.change != "removed" or not within(each, gone)]
    unknown = [Unknown(extension=name, why=why) for name, why in known.unknown.items()]
    rows = []
    without = not_to_query(connection)
    for table in member_tables(connection):
        if (table.relation.schema, table.relation.name) in without:
            why = f"rows of {table.relation}: its definition calls functions, which would run with your rights"
            unknown.append(Unknown(extension=table.extension, why=why))
            continue
        try:
            with connection.transaction():
                held = _held(connection, table, known)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
            why = f"rows of {table.relation}: {words(error)}"
            unknown.append(Unknown(extension=table.extension, why=why))
        else:
            rows += [held] if held.rows or held.missing else []
    return Survey(departures=tuple(departures), rows=tuple(rows), unknown=tuple(unknown))


def digest(part: Part) -> str:
    """The digest for comparing two states of a part."""
    return xxh3_128_hexdigest(part.definition.encode())


def _departures(
    here: dict[tuple[str, str], Part], known: Reference, later: frozenset[tuple[str, str]]
) -> Iterator[Departure]:
    for key, part in here.items():
        before = known.parts.get(key)
        if part.extension in known.unknown:
            departs = key in later
        else:
            departs = before is None or before.definition != part.definition
        if departs:
            yield Departure(
                extension=part.extension,
                kind=part.kind,
                identity=part.identity,
                change="changed" if before is not None or part.kind == "function" else "added",
                digest=digest(part),
                commands=part.commands,
                removal=part.removal,
            )
    for key, part in known.parts.items():
        if key not in here:
            yield Departure(
                extension=part.extension,
                kind=part.kind,
                identity=part.identity,
                change="removed",
                digest=digest(part),
                removal=part.removal,
            )


def _held(connection: Connection, table: MemberTable, known: Reference) -> HeldRows:
    ours = known.rows.get(table.relation, frozenset())
    rows = outside = 0
    missing = 0
    if ours:
        left = set(ours)
        for each in each_hash(connection, table):
            outside += 1
            rows += each not in ours
            left.discard(each)
        missing = len(left)
    elif table.condition is None or table.extension not in known.unknown:
        rows = outside = count(connection, table)
    return HeldRows(
        extension=table.extension,
        schema_name=table.relation.schema,
        name=table.relation.name,
        rows=rows,
        missing=missing,
        outside=outside,
    )
