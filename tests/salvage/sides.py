"""Three schemas of one database as the sides of a salvage: what a rollback makes of databases, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from psycopg import sql

from lastgood.config.tables import Audit
from lastgood.difference import DatabaseSide
from lastgood.points import RestorePoint
from lastgood.postgres.server import Connection, Target
from lastgood.salvage.apply import Destination, apply
from lastgood.salvage.plan import Chosen
from lastgood.salvage.salvage import ReadySalvage, SalvageRequest, between
from lastgood.salvage.sides import Base, Sides, Theirs
from lastgood.salvage.transaction import TableSummary

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


def sides_of(target: Target, live: str = LIVE, theirs: str = THEIRS, name: str = THEIRS) -> Sides:
    """Any of the schemas can be the live one, and another one, known by a ``name``, the one that was kept."""
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return Sides(
        base=Base(path="base", made_at=made),
        point=RestorePoint(Path("base"), made, "name", 0),
        base_side=DatabaseSide(target, "base", schemas={BASE: live}),
        theirs=Theirs(kind="kept schemas", name=name, since=made),
        their_side=DatabaseSide(target, "theirs", schemas={theirs: live}),
        target=target,
        schemas={live: theirs},
    )


@contextmanager
def planned(
    target: Target,
    state: Path,
    chosen: Chosen,
    live: str = LIVE,
    theirs: str = THEIRS,
    name: str = THEIRS,
    audited: Audit | None = None,
) -> Iterator[ReadySalvage]:
    """Plan a salvage between the schemas. The names in ``chosen`` need their schemas."""
    request = SalvageRequest(target, state, state, chosen=chosen, audit=audited)
    with between(request, sides_of(target, live, theirs, name), None, 1) as ready:
        yield ready


def salvaged(target: Target, state: Path, run: str, chosen: Chosen) -> tuple[TableSummary, ...]:
    """Preview and apply. Returns the summaries, which are those of both."""
    with planned(target, state, chosen) as ready:
        return apply(
            Destination(target, 1, state, run), ready.found.changed, ready.tables, ready.wanted, ready.plan.tables
        )
