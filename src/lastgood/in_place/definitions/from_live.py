"""Definitions of the live database that complete a dump of some schemas: those to which its own refer, and the ties
that no such dump has."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql

from lastgood.dump.names import Relation, quoted
from lastgood.dump.rulings.tree import qualified
from lastgood.dump.statements import Kind
from lastgood.dump.summary import DumpSummary
from lastgood.in_place.definitions.sorting import Placed, is_tie
from lastgood.in_place.ties import Ties
from lastgood.postgres.server import Connection


def schemas_lent(
    live: Connection, summary: DumpSummary, every: Iterable[Placed], schemas: Collection[str]
) -> list[str]:
    """The schemas of the live database that definitions of the restore point name and the restore point lacks: a dump
    of some schemas references the platform's. ``every``: the commands of ``summary``."""
    made = {each.identity for each in summary.created if each.kind is Kind.SCHEMA}
    named = {
        name.schema
        for each in every
        if each.schema in schemas and not is_tie(each, schemas)
        for name in qualified(each.text)
    }
    wanted = [name for name in named - set(schemas) if quoted(name) not in made]
    found = live.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s) AND nspname !~ '^pg_'"
        " AND nspname <> 'information_schema' ORDER BY 1",
        [wanted],
    )
    return [name for (name,) in found]


def is_partial(live: Connection, summary: DumpSummary, schemas: Collection[str]) -> bool:
    """Whether a restore point is a dump of some schemas: it has none of those that stay. Such a dump has no object of
    the whole database, an extension or a publication for example."""
    if summary.extensions:
        return False
    made = {each.identity for each in summary.created if each.kind is Kind.SCHEMA}
    staying = live.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname <> ALL (%s) AND nspname !~ '^(pg|lastgood)_'"
        " AND nspname <> 'information_schema'",
        [list(schemas)],
    ).fetchall()
    return bool(staying) and made.isdisjoint(quoted(name) for (name,) in staying)


def completed(wished: Ties, present: Ties, summary: DumpSummary) -> Ties:
    """The ties of a dump of some schemas, with those of the live database that no such dump has: on the tables of other
    schemas, publications, event triggers and default privileges of the whole database. Publications keep the tables
    that the dump creates."""
    made = {each.identity for each in summary.created if each.kind is Kind.SCHEMA}
    given = {each.key for each in wished.default_privileges}
    publications = [
        each.model_copy(
            update={
                "members": tuple(one for one in each.members if Relation(one.schema_name, one.table) in summary.tables)
            }
        )
        for each in present.publications
    ]
    return wished.model_copy(
        update={
            "triggers": (*wished.triggers, *(one for one in present.triggers if quoted(one.schema_name) not in made)),
            "policies": (*wished.policies, *(one for one in present.policies if quoted(one.schema_name) not in made)),
            "publications": wished.publications or tuple(publications),
            "event_triggers": wished.event_triggers or present.event_triggers,
            "default_privileges": (
                *wished.default_privileges,
                *(each for each in present.default_privileges if not each.schema_name and each.key not in given),
            ),
        }
    )


def extensions(live: Connection, schemas: Iterable[str]) -> list[sql.Composed]:
    """The commands that create the extensions of these schemas, in the order of the live database."""
    found = live.execute(
        "SELECT e.extname, n.nspname FROM pg_catalog.pg_extension e"
        " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname = ANY (%s) ORDER BY e.oid",
        [list(schemas)],
    )
    commands = []
    for name, schema in found:
        commands.append(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        commands.append(
            sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}").format(sql.Identifier(name), sql.Identifier(schema))
        )
    return commands
