"""Three schemas of one database as the sides of a salvage: what a rollback makes of databases, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from psycopg import sql

from lastgood.context import BACKGROUND
from lastgood.difference import DatabaseSide
from lastgood.points import RestorePoint
from lastgood.postgres.server import Connection, Target
from lastgood.salvage import audit, candidates, choosing, tables
from lastgood.salvage.apply import Destination, apply, preview
from lastgood.salvage.plan import Chosen
from lastgood.salvage.sides import Base, Sides, Theirs
from lastgood.salvage.transaction import TableSummary, Wanted, opened

LIVE, BASE, THEIRS = "live", "base_of_live", "theirs_of_live"
SCHEMAS = (LIVE, BASE, THEIRS)


def everywhere(target: Target, statements: str) -> None:
    """Run statements in each of the three schemas, which are created again."""
    with target.connect() as connection:
        create_everywhere(connection, statements)


def create_everywhere(connection: Connection, statements: str) -> None:
    """As ``everywhere``, in one transaction."""
    with connection.transaction():
        for schema in SCHEMAS:
            name = sql.Identifier(schema)
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
            connection.execute(sql.SQL("SET search_path = {}, public").format(name))
            connection.execute(statements.encode())


def inside(target: Target, schema: str, statements: str) -> None:
    """Run statements in one of the schemas."""
    with target.connect() as connection:
        connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(schema)))
        connection.execute(statements.encode())


def sides_of(target: Target) -> Sides:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return Sides(
        base=Base(path="base", made_at=made),
        point=RestorePoint(Path("base"), made, "name", 0),
        base_side=DatabaseSide(target, "base", schemas={BASE: LIVE}),
        theirs=Theirs(kind="kept schemas", name=THEIRS, since=made),
        their_side=DatabaseSide(target, "theirs", schemas={THEIRS: LIVE}),
        target=target,
        schemas={LIVE: THEIRS},
    )


@contextmanager
def found(target: Target, chosen: Chosen) -> Iterator[tuple[candidates.Found, dict[tables.Name, tables.Table], Wanted]]:
    with target.connect() as connection:
        every = tables.read(connection)
        known = {name: each for name, each in every.items() if name[0] == LIVE}
        roots = tables.roots(connection)
    wished, by = choosing.chosen_tables(chosen, known), audit.find(every, None, chosen)
    needed = choosing.with_ancestors(wished, known)
    with candidates.found(
        sides_of(target), known, roots, lambda name: name in needed, lambda *_: (), BACKGROUND
    ) as differing:
        wrote = by.condition(differing.changed, sides_of(target)) if by is not None else None
        wanted = Wanted(
            chosen.policies,
            {
                (each.table.schema, each.table.name): choosing.exclusions(
                    chosen, each, wished, choosing.conditions(chosen, known), {}, wrote
                )
                for each in differing.changed
            },
            chosen.with_parents,
            merge_json=choosing.json_columns(chosen.merge_json, known),
        )
        yield differing, known, wanted


def salvaged(target: Target, state: Path, run: str, chosen: Chosen) -> tuple[TableSummary, ...]:
    """Preview and apply. Returns the summaries, which are those of both."""
    with found(target, chosen) as (differing, known, wanted):
        with opened(target, "preview", preview=True) as connection:
            shown = preview(connection, differing.changed, known, wanted)
        return apply(Destination(target, 1, state, run), differing.changed, known, wanted, shown)
