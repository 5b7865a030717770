"""The only list of steps: what a step that is added there gets without another line anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.run import steps
from lastgood.run.context import Reversal, Run
from lastgood.run.runner import Result
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood


class Vacuum:
    """A step of its own."""

    name = "vacuum"
    title = "vacuum the restored database"
    commits = False

    def __init__(self, fails: bool = False) -> None:
        self._fails = fails
        self.undone = 0

    def planned(self, request: Request) -> PlannedStep:
        return PlannedStep(name=self.name, title="Vacuum the restored database", effect="users do not notice")

    def do(self, run: Run) -> Result:
        if self._fails:
            raise OSError(28, "No space left on device")
        with run.connected(run.plan.shadow, "vacuum") as shadow:
            shadow.execute("VACUUM")
        return Result(detail="vacuumed")

    def undo(self, run: Run) -> None:
        self.undone += 1

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False


class Announce(Vacuum):
    """A step behind the commit point, with an effect outside the database."""

    name = "announce"
    title = "announce the restored version"

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[str] = []

    def do(self, run: Run) -> Result:
        self.happened.append("announced")
        return Result()

    def reverse(self, back: Reversal) -> None:
        self.happened.append(f"withdrawn in {back.run}")


Added = Callable[[Vacuum], None]


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Added:
    """Adds a step before the swap: the one line that a new step needs."""

    def add(step: Vacuum) -> None:
        swap = next(at for at, lanes in enumerate(steps.STAGES) if lanes[0][0].name == "swap")
        monkeypatch.setattr(steps, "STAGES", (*steps.STAGES[:swap], [[step]], *steps.STAGES[swap:]))

    return add


def test_a_new_step_is_planned_taken_and_reported(lastgood: Lastgood, database: str, added: Added) -> None:
    added(Vacuum())
    assert lastgood("backup").status == 0
    planned = lastgood("rollback", "--latest", "--dry-run")
    prove, own = (
        "Verify the restored database against the restore point: a difference ends the run",
        "Vacuum the restored database: users do not notice",
    )
    assert f"  5  {prove}\n   6  {own}\n" in planned.out

    report = lastgood("rollback", "--latest", "--yes", "--json").document

    taken = ["fence", "emergency", "build", "carry_over", "prove", "vacuum", "swap", "reopen"]
    assert list(report["seconds"]["steps"]) == taken
    story = lastgood("explain", report["run"], "--json").document["run"]
    assert ("vacuum", "vacuum the restored database", "done") in [
        (each["name"], each["title"], each["state"]) for each in story["steps"]
    ]
    record = lastgood("report", report["run"])
    assert "done vacuum the restored database: vacuumed" in record.out
    assert "\n  Vacuum the restored database " in record.out.partition("\nFigures\n")[2]


def test_a_new_step_that_fails_is_undone(
    lastgood: Lastgood, database: str, server: EmbeddedServer, added: Added
) -> None:
    step = Vacuum(fails=True)
    added(step)
    assert lastgood("backup").status == 0

    failed = lastgood("rollback", "--latest", "--yes")

    assert (failed.status, step.undone) == (5, 1)
    assert f'state: "{database}" was not touched and is open.' in failed.err
    (run,) = lastgood("runs", "--json").document["runs"]
    story = lastgood("explain", run["run"], "--json").document["run"]
    assert (story["outcome"], story["failed_in"]) == ("reverted", ["vacuum"])
    with server.target("postgres").connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [database])
        assert names.fetchall() == [(database,)]


def test_a_new_step_behind_the_commit_point_is_reversed_with_the_switch(
    lastgood: Lastgood, database: str, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Announce()
    swap = next(at for at, lanes in enumerate(steps.STAGES) if lanes[0][0].name == "swap")
    monkeypatch.setattr(steps, "STAGES", (*steps.STAGES[: swap + 1], [[step]], *steps.STAGES[swap + 1 :]))
    Path("lastgood.toml").write_text('[hooks]\nsmoke = ["false"]\n')
    assert lastgood("backup").status == 0
    before = database_oid(server, database)

    failed = lastgood("rollback", "--latest", "--yes", "--json", "--on-failure", "undo")

    assert (failed.status, database_oid(server, database)) == (6, before)
    assert step.happened == ["announced", f"withdrawn in {failed.document['error']['run']}"]
    assert step.undone == 0


def database_oid(server: EmbeddedServer, name: str) -> int:
    with server.target(name).connect() as connection:
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


def test_what_is_left_after_the_commit_point_is_all_that_stands_behind_it() -> None:
    after = [step.name for lanes in steps.after_commit() for lane in lanes for step in lane]
    assert after == ["reopen", "start", "checks", "watch", "finish"]
    assert [step.name for step in steps.every() if step.commits] == ["swap"]


def test_names_of_steps_mean_one_thing() -> None:
    titles: dict[str, str] = {}
    for step in steps.every():
        assert titles.setdefault(step.name, step.title) == step.title
