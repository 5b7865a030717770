"""A dump of a database in which there is nothing: it lacks neither tables nor rows alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.support.real_dumps import run
from tests.support.same_database import dump

EMPTY = "the database is empty: no tables and no rows"
ANOTHER = "Choose another restore point: lastgood points"
REFUSAL = "the restore point has no tables and no rows: it cannot replace a whole database"


def of_the_cluster(server: EmbeddedServer, name: str, path: Path) -> Path:
    """pg_dumpall of the database alone."""
    with server.target("postgres").connect() as connection:
        others = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")]
    options = [f"--exclude-database={each}" for each in others if each not in (name, "template1", "postgres")]
    run(server, "pg_dumpall", "-d", server.url(name), "-f", path, *options)
    return path


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("program", ["pg_dump", "pg_dumpall"])
def test_every_command_calls_it_empty(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    lastgood: Lastgood,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    name = new_database("empty")
    path = store / "empty.sql"
    if program == "pg_dump":
        dump(server, name, path)
    else:
        of_the_cluster(server, name, path)
    base = ("--db", server.url(name), "--store", str(store))

    verified = lastgood(*base, "points", "verify", path.name)
    assert (verified.status, verified.out) == (
        4,
        f"partial: empty.sql\n  {EMPTY}\n  {ANOTHER}\n0 of 1 restore point valid.\n",
    )
    facts = lastgood(*base, "facts", path.name, "--json")
    assert facts.status == 0
    assert [event["text"] for event in facts.events if event["event"] == "note"][-1] == f"partial: {EMPTY}"
    plan = lastgood(*base, "rollback", path.name, "--dry-run", "--json")
    assert plan.status == 3
    refusals = [each["text"] for each in plan.document["findings"] if each["level"] == "refusal"]
    assert refusals == [REFUSAL]
    # Beside the live database it may stand: it is what the file holds.
    restored = lastgood(*base, "restore", path.name, "--into", f"{name}_copy", "--json")
    assert (restored.status, restored.document["tables"]) == (0, [])
    with server.target(f"{name}_copy").connect() as connection:
        query = sql.SQL("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert connection.execute(query).fetchone() == (0,)
