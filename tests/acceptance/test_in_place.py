"""A rollback in place, from the command's request to the undo, on a stand-in for a hosted project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lastgood import rollback, undo
from lastgood.plan.plan import Choice, Request
from lastgood.points.dump_point import take
from tests.conftest import OURS, require
from tests.support.account import assert_same
from tests.support.hosted import FOLDER, Project, account_of


@dataclass(frozen=True, slots=True)
class Hosted:
    """A project with a restore point from before the migration that went wrong."""

    project: Project
    database: str
    request: Request
    before: dict[str, object]


@pytest.fixture(scope="session")
def projects() -> Iterator[Callable[[int], Project]]:
    running: dict[int, Project] = {}

    def get(major: int) -> Project:
        require(major)
        if major not in running:
            running[major] = Project(major, settings=OURS)
        return running[major]

    yield get
    for each in running.values():
        each.close()


@pytest.fixture(params=[15, 17], ids=["pg15", "pg17"])
def hosted(request: pytest.FixtureRequest, projects: Callable[[int], Project], tmp_path: Path) -> Iterator[Hosted]:
    project = projects(request.param)
    database = project.copy()
    target = project.target(database)
    before = account_of(project, database)
    point = take(target, tmp_path / "backups")
    project.psql(database, (FOLDER / "migration.sql").read_text())
    wanted = Request(target, tmp_path / "backups", tmp_path / "state", Choice(point=point.path.name), way="in-place")
    yield Hosted(project, database, wanted, before)
    project.drop(database)


def test_back_in_place_and_forward_again(hosted: Hosted) -> None:
    damaged = account_of(hosted.project, hosted.database)
    prepared = rollback.plan(hosted.request)
    assert prepared.plan.refusals == ()
    report = rollback.run(prepared)
    assert report.status == "done"
    assert_same(hosted.before, account_of(hosted.project, hosted.database))
    plan = undo.plan(hosted.request.target, hosted.database)
    undone = undo.undo(hosted.request.target, plan, hosted.request.state)
    assert undone.undoes == report.run
    assert_same(damaged, account_of(hosted.project, hosted.database))
