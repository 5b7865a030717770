"""Evidence made up for tests: what a database and its restore points might be found to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lastgood.command.recover.evidence import Candidate, Evidence, Goal, Live, ServerState
from lastgood.facts import Facts, MigrationFacts, ObjectFacts, TableFacts
from lastgood.loss import LiveTable
from lastgood.points import PointVerdict, RestorePoint
from lastgood.postgres.server import Target
from lastgood.status import OurDatabase, UnfinishedRun

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
STORE = Path("/store")
MIGRATION = "20260101"


def facts(migration: str | None = MIGRATION, /, **tables: int) -> Facts:
    """Tables of the schema public with so many rows, each with a primary key."""
    return Facts(
        origin="dump",
        tables=tuple(
            TableFacts(schema_name="public", name=name, columns=("id",), rows=rows, digest=None)
            for name, rows in tables.items()
        ),
        migration=MigrationFacts(tool="t", table="public.schema_migrations", version=migration, applied=1)
        if migration is not None
        else None,
        objects=tuple(
            one
            for name in tables
            for one in (
                ObjectFacts(kind="table", identity=f"public.{name}"),
                ObjectFacts(kind="primary key", identity=f"{name}_pkey on public.{name}"),
            )
        ),
        object_counts={"table": len(tables), "primary key": len(tables)},
    )


def live(migration: str | None = MIGRATION, /, **tables: int) -> Live:
    """The same as the live database shows it."""
    then = facts(migration, **tables)
    objects = {(one.kind, one.identity) for one in then.objects}
    return Live(
        tables={("public", name): LiveTable(rows=rows, exact=True, bytes=8192) for name, rows in tables.items()},
        objects=frozenset(objects),
        migration=migration,
        migrations=1,
        migrations_table="public.schema_migrations",
    )


def without_keys(found: Live) -> Live:
    """The same, as a restore leaves it that was stopped after the rows."""
    return replace(found, objects=frozenset(one for one in found.objects or () if one[0] == "table"))


def candidate(name: str, days: int, content: Facts | None, *, wrong: str = "") -> Candidate:
    """A restore point made so many days ago. ``wrong``: reading it showed this."""
    point = RestorePoint(STORE / name, NOW - timedelta(days=days), "manifest", 1000)
    return Candidate(point, PointVerdict("corrupt", wrong) if wrong else PointVerdict("valid", has_acls=True), content)


def kept(days: int) -> OurDatabase:
    return OurDatabase(
        name="app_old_1",
        oid=1,
        role="kept",
        run="run-1",
        live="app",
        bytes=1,
        made_at=NOW - timedelta(days=days),
        host="h",
        user="u",
        point="p",
        stage="",
        origin="was live until rollback run-1",
        undo_command="lastgood undo run-1",
    )


def unfinished(working: str = "") -> UnfinishedRun:
    return UnfinishedRun(
        run="run-2",
        live="app",
        shadow="app_shadow_2",
        stage="loaded",
        host="h",
        user="u",
        started=NOW - timedelta(hours=3),
        working=working,
        commands=() if working else ("lastgood resume run-2", "lastgood abort run-2"),
    )


WHOLE = {"contacts": 100, "deals": 50}


def evidence(**changes: Any) -> Evidence:
    """A whole database with one restore point of yesterday; ``changes`` are made to that."""
    found = Evidence(
        name="app",
        clock=NOW,
        goal=Goal(),
        server=ServerState(version="18.0", clock=NOW),
        store=STORE,
        target=Target({"host": "db.example.org", "dbname": "app"}),
        live=live(**WHOLE),
        candidates=(candidate("new.sql", 1, facts(**WHOLE)),),
    )
    return replace(found, **changes)
