"""Row 14: roll back to an older state, with several backups since.

``lastgood recover`` shows them all with what each would lose; one chooses by number, by time or by migration.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from psycopg import sql

from demo.evidence import Evidence
from tests.cli.test_terminal import Terminal
from tests.conftest import USUAL, Servers
from tests.mission.emergencies import look_around_in, made, rows
from tests.traps.stage import Stage


@dataclass(frozen=True)
class Week:
    """Five backups with writes between: ten contacts after each, and a migration after the third."""

    stage: Stage
    points: list[dict[str, Any]]
    states: list[Evidence]


MIGRATION = "20260301000000"


@pytest.fixture(scope="module")
def recorded_week(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:
    """Made once for all of these tests: it takes longer than they do."""
    server, live = servers.get(USUAL), f"week_{os.getpid()}"
    name = sql.Identifier(live)
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    yield lived(made(server, live, tmp_path_factory.mktemp("week")))
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def week(recorded_week: Week, monkeypatch: pytest.MonkeyPatch) -> Iterator[Week]:
    """The week as it was lived, whatever the tests before made of it."""
    stage = recorded_week.stage
    folder = stage.backups.parents[2]
    look_around_in(folder, monkeypatch)
    there = set(stage.backups.iterdir())
    yield recorded_week
    with stage.server.target("postgres").connect() as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        kept = [row[0] for row in connection.execute(query, [f"{stage.database}_"])]
        if kept:
            assert stage.lastgood("undo", "--yes").status == 0
        for (name,) in connection.execute(query, [f"{stage.database}_"]).fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    for file in set(stage.backups.iterdir()) - there:
        file.unlink()
    shutil.rmtree(folder / "state", ignore_errors=True)


def lived(stage: Stage) -> Week:
    points, states = [], []
    for day in range(5):
        states.append(stage.now())
        points.append(stage.lastgood("backup", "--label", f"day_{day}").document["point"])
        with stage.target.connect() as connection:
            connection.execute(
                "INSERT INTO public.contacts (tenant, first_name, last_name, created_at)"
                " SELECT 'acme', 'New', i::text, clock_timestamp() FROM generate_series(1, 10) i"
            )
            if day == 2:
                connection.execute(
                    "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES (%s, 'wrong')",
                    [MIGRATION],
                )
    return Week(stage, points, states)


def test_it_shows_what_each_would_lose_and_decides_nothing(week: Week) -> None:
    answer = week.stage.lastgood("recover", "--dry-run")

    assert answer.status == 0, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert diagnosis["emergency"] == "older_state"
    assert diagnosis["title"] == f'no damage found in "{week.stage.database}"'
    first, *others = diagnosis["proposals"]
    assert (first["kind"], first["title"], first["commands"]) == (
        "leave",
        f'leave "{week.stage.database}" as it is, unless you know that data is wrong',
        [],
    )
    assert [each["kind"] for each in others] == ["rollback"]
    timeline = diagnosis["timeline"]
    assert [each["number"] for each in timeline] == [1, 2, 3, 4, 5, 6]
    assert [each["name"] for each in timeline[:5]] == [point["name"] for point in reversed(week.points)]
    assert [each["migration"] for each in timeline[:5]] == [MIGRATION] * 2 + ["20251203120000"] * 3
    lost = [contacts(each) for each in timeline]
    assert [each["live_rows"] - each["point_rows"] for each in lost] == [10, 20, 30, 40, 50, 50]
    assert [each["written_since"] for each in lost[:5]] == [10, 20, 30, 40, 50]
    assert {each["by"] for each in lost} == {"created_at"}

    refused = week.stage.lastgood("recover", "--yes")

    assert refused.status == 3
    assert refused.document["error"] == {
        "code": "refused",
        "message": f'cannot choose automatically: "{week.stage.database}" shows no damage',
        "hint": "Select a state: lastgood recover --latest, --before TIME or --before-migration VERSION.",
        "state": "Nothing was changed.",
        "exit_status": 3,
    }


def contacts(point: dict[str, Any]) -> dict[str, Any]:
    (found,) = [each for each in point["loss"] if (each["schema_name"], each["name"]) == ("public", "contacts")]
    return dict(found)


def test_by_time(week: Week) -> None:
    third = datetime.fromisoformat(week.points[2]["made_at"])

    answer = week.stage.lastgood("recover", "--before", third.isoformat(), "--yes")

    assert answer.status == 0, answer.printed
    assert answer.document["report"]["point"]["path"] == week.points[1]["path"]
    assert week.states[1].differences(week.stage.now()) == []


def test_by_migration(week: Week) -> None:
    answer = week.stage.lastgood("recover", "--before-migration", MIGRATION, "--yes")

    assert answer.status == 0, answer.printed
    assert answer.document["report"]["point"]["path"] == week.points[2]["path"]
    assert week.states[2].differences(week.stage.now()) == []
    first = answer.document["diagnosis"]["proposals"][0]
    assert "It was made before the last migration." in first["detail"]


def test_by_number_at_a_terminal(week: Week) -> None:
    terminal = Terminal("recover", environment={**os.environ, **week.stage.lastgood.environment})
    terminal.read_until("Which one? Type its number, or Enter to change nothing:")
    terminal.type("4")
    terminal.read_until(f" {week.stage.database}:\n> ")
    terminal.type(week.stage.database)
    assert terminal.end() == 0, terminal.shown
    assert f"was rolled back to {week.points[1]['name']}" in " ".join(terminal.shown.split())
    assert week.states[1].differences(week.stage.now()) == []


def test_enter_changes_nothing(week: Week) -> None:
    terminal = Terminal("recover", environment={**os.environ, **week.stage.lastgood.environment})
    terminal.read_until("Which one?")
    assert "* proposed" not in terminal.shown
    terminal.type("")
    assert terminal.end() == 3
    assert "cannot continue: nothing was chosen" in terminal.shown
    assert rows(week.stage, "public", "contacts") == week.stage.size.contacts + 50


def test_before_all_of_them(week: Week) -> None:
    answer = week.stage.lastgood("recover", "--before", "2020-01-01", "--yes")

    assert answer.status == 4
    assert answer.document["diagnosis"]["statement"].startswith(
        f'Of 6 restore points of "{week.stage.database}" no valid one was made before 2020-01-01 00:00:00 UTC. '
    )
