"""Every fault point that a rollback in place reaches × every kind of fault, with a client that writes all the time:
whatever happens, the live schemas are those from before or those of the restore point, and any machine can go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import OURS, require
from tests.crash.conftest import Tally
from tests.crash.hosted import Scene, Site, site, writing
from tests.support.account import assert_same
from tests.support.hosted import Project

KINDS = ("kill", "interrupt", "terminate", "enospc", "cut", "crash")
BEFORE = (
    "journal.after_doing",
    "journal.before_done",
    "durable.before_rename",
    "emergency.after_dump",
    "build.before_mark",
    "build.during_load",
    "build.after_load",
    "prove.before_verdict",
    "inplace.in_scratch",
    "inplace.after_create",
    "inplace.before_proved",
    "inplace.after_locks",
    "inplace.between_moves",
    "inplace.before_commit",
)
# The keys of staging schemas are validated before the switch; those of kept schemas after the undo.
AFTER = ("inplace.after_commit", "inplace.before_validate")
OF_ROLLBACK = (*BEFORE, "inplace.after_commit")
OF_UNDO = ("journal.after_doing", "inplace.after_locks", "inplace.between_moves", "inplace.before_commit", *AFTER)
SHORT = {
    ("inplace.in_scratch", "kill"),
    ("build.during_load", "kill"),
    ("build.after_load", "cut"),
    ("inplace.before_proved", "terminate"),
    ("inplace.after_locks", "terminate"),
    ("inplace.between_moves", "cut"),
    ("inplace.before_commit", "crash"),
    ("inplace.before_commit", "enospc"),
    ("inplace.after_commit", "kill"),
}
SHORT_OF_UNDO = {
    ("inplace.before_commit", "kill"),
    ("inplace.after_commit", "crash"),
    ("inplace.before_validate", "kill"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    long = metafunc.config.getoption("--campaign") == "long"
    if "blow" in metafunc.fixturenames:
        metafunc.parametrize("blow", ["kill", "cut", "crash"] if long else ["kill"])
    if {"point", "kind"} <= set(metafunc.fixturenames):
        of_undo = "undo" in metafunc.function.__name__
        every = [(point, kind) for point in (OF_UNDO if of_undo else OF_ROLLBACK) for kind in KINDS]
        short = SHORT_OF_UNDO if of_undo else SHORT
        metafunc.parametrize(("point", "kind"), every if long else [pair for pair in every if pair in short])


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require(17)
    project = Project(17, settings=OURS)
    try:
        yield site(project, tmp_path_factory.mktemp("backups"))
    finally:
        project.close()


@pytest.fixture
def scene(hosted: Site, tmp_path: Path) -> Iterator[Scene]:
    live = hosted.project.copy(hosted.broken)
    yield Scene(hosted, live, tmp_path / "machine 1")
    hosted.project.drop(live)


def test_a_fault_leaves_one_of_two_states_and_a_way_on(scene: Scene, point: str, kind: str, tally: Tally) -> None:
    tally.add(f"in place: fault points, {kind}")
    with writing(scene):
        struck = scene.rollback(fault=f"{point}:{kind}")
        good = scene.good()
        assert struck.returncode in ((-9,) if kind == "kill" else (0, 5, 7, 130)), struck.stderr
        assert good == (point in AFTER or struck.returncode == 0), struck.stderr
        assert good or struck.returncode != 0, "the fault did not strike"
        scene.verify()
        scene.another_machine()
        if good:
            finish(scene)
        elif scene.status()[0] == 7:
            go_on(scene, resumes=kind in ("kill", "cut"))
        assert scene.schemas("staging") == []
        if not scene.good():
            done = scene.rollback()
            assert done.returncode == 0, done.stderr
        assert (scene.good(), scene.scratch()) == (True, [])
        scene.verify()
        undone = scene.run("undo", "--yes", "--json")
        assert undone.returncode == 0, undone.stderr
        assert_same(scene.site.bad, scene.account())
        scene.verify()


def finish(scene: Scene) -> None:
    """Finish a run that was committed, if status asks for it."""
    code, seen = scene.status()
    if code == 7:
        done = scene.run("resume", "--yes", "--json")
        assert done.returncode == 0, (done.stderr, seen)
    assert scene.status()[0] == 0


def go_on(scene: Scene, *, resumes: bool) -> None:
    """Resume or abort each unfinished run, as status proposes."""
    for _ in range(3):
        code, seen = scene.status()
        if code == 0:
            return
        assert [command for each in seen["unfinished"] for command in each["commands"]] or seen["leftovers"], seen
        can = [each for each in seen["unfinished"] if any("resume" in command for command in each["commands"])]
        way = "resume" if resumes and can else "abort"
        done = scene.run(way, "--yes", "--json")
        assert done.returncode == 0, (way, done.stderr, seen)
        assert scene.good() == (way == "resume")
        if way == "abort":
            assert scene.schemas("staging") == []
    raise AssertionError(f"never finished: {seen}")


def test_a_fault_in_an_undo(scene: Scene, point: str, kind: str, tally: Tally) -> None:
    tally.add(f"in place, undo: fault points, {kind}")
    with writing(scene):
        assert scene.rollback().returncode == 0
        struck = scene.run("undo", "--yes", "--json", fault=f"{point}:{kind}")
        good = scene.good()
        assert struck.returncode in ((-9,) if kind == "kill" else (0, 3, 5, 7, 130)), struck.stderr
        assert good == (point not in AFTER and struck.returncode != 0), struck.stderr
        scene.verify()
        scene.another_machine()
        finish(scene)
        if good:
            undone = scene.run("undo", "--yes", "--json")
            assert undone.returncode == 0, undone.stderr
        assert_same(scene.site.bad, scene.account())
        scene.verify()
        assert scene.run("undo", "--yes", "--json").returncode == 0  # and forward again
        assert_same(scene.site.good, scene.account())


def test_an_undo_that_is_undone_before_its_keys_are_validated(scene: Scene) -> None:
    """The way forward and back again ends with the foreign keys of both states, all of them validated."""
    assert scene.rollback().returncode == 0
    assert scene.run("undo", "--yes", fault="inplace.before_validate:kill").returncode == -9
    for account in (scene.site.good, scene.site.bad):
        assert scene.run("undo", "--yes").returncode == 0
        assert_same(account, scene.account())


@pytest.mark.parametrize("command", ["abort", "prune"])
def test_schemas_whose_drop_stops_halfway(scene: Scene, command: str, blow: str, tally: Tally) -> None:
    tally.add(f"in place, {command}: fault points, {blow}")
    if command == "abort":
        assert scene.rollback(fault="inplace.before_proved:kill").returncode == -9
        arguments: tuple[str, ...] = ("abort", "--yes", "--json")
    else:
        assert scene.rollback().returncode == 0
        (kept,) = scene.status()[1]["kept"]
        arguments = ("prune", kept["name"], "--yes", "--json")
    good = scene.good()
    struck = scene.run(*arguments, fault=f"inplace.between_drops:{blow}")
    assert struck.returncode != 0
    assert scene.schemas("staging", "kept") != []
    scene.verify()
    scene.another_machine()
    done = scene.run(*arguments)
    assert done.returncode == 0, done.stdout
    assert scene.schemas("staging", "kept") == []
    assert scene.good() == good
    scene.verify()


def test_a_second_operator_is_refused_while_the_first_one_works(scene: Scene) -> None:
    first = scene.start("rollback", scene.point, "--in-place", "--yes", "--json", fault="inplace.after_create:stop")
    scene.wait_for_stop(first)
    machine = scene.state
    scene.another_machine()
    for arguments in (("rollback", scene.point, "--in-place", "--yes"), ("resume", "--yes"), ("abort", "--yes")):
        refused = scene.run(*arguments)
        assert refused.returncode == 3
        assert f'error: cannot work on the database "{scene.live}": another run holds its lock (' in refused.stderr
    assert scene.run("prune", "--keep", "0", "--yes").returncode in (0, 3)
    scene.state = machine
    first.send_signal(signal.SIGCONT)
    output, errors = first.communicate(timeout=120)
    assert (first.wait(), scene.good()) == (0, True), (output, errors)
    scene.verify()
