"""Every fault point that a rollback in place reaches × every kind of fault, with a client that writes all the time:
whatever happens, the live schemas are those from before or those of the restore point, and any machine can go on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MAJORS, OURS, require
from tests.crash.conftest import Tally
from tests.crash.hosted import PATIENCE, Scene, Site, site, writing
from tests.support.account import assert_same
from tests.support.hosted import Project

KINDS = ("kill", "cut", "enospc", "crash", "interrupt", "terminate")
HARD = ("kill", "cut", "enospc", "crash")
BEFORE = (
    "journal.after_doing",
    "journal.before_done",
    "durable.before_rename",
    "emergency.after_dump",
    "build.before_mark",
    "build.during_load",
    "build.after_load",
    "build.closed",
    "build.handed_over",
    "prove.before_verdict",
    "inplace.in_scratch",
    "inplace.after_create",
    "inplace.before_proved",
    "inplace.after_locks",
    "inplace.between_moves",
    "inplace.before_commit",
)
# The steps of a rollback: fence, emergency backup, build, prove, swap, reopen. Other times that a point is reached.
LATER = (
    *(f"journal.after_doing#{step}" for step in range(2, 6)),
    *(f"journal.before_done#{step}" for step in range(2, 5)),
    "durable.before_rename#2",
    "build.before_mark#2",
    "build.during_load#7",
)
COMMITTED = ("journal.before_done#5", "journal.after_doing#6", "journal.before_done#6")
# The keys of staging schemas are validated before the switch; those of kept schemas after the undo.
AFTER_UNDO = ("inplace.after_commit", "inplace.before_validate", "inplace.before_validate#3", "journal.before_done")
AFTER = (*COMMITTED, "inplace.after_commit")
OF_ROLLBACK = [
    *((point, kind) for point in (*BEFORE, "inplace.after_commit") for kind in KINDS),
    *((point, kind) for point in (*LATER, *COMMITTED) for kind in HARD),
]
OF_UNDO = [
    *((point, kind) for point in ("inplace.before_commit", "inplace.after_commit") for kind in KINDS),
    *(
        (point, kind)
        for point in (
            "journal.after_doing",
            "inplace.after_locks",
            "inplace.between_moves",
            "inplace.before_validate",
            "inplace.before_validate#3",
            "journal.before_done",
        )
        for kind in HARD
    ),
]
OF_RESUME = [
    (point, kind)
    for point in (
        "journal.after_doing#3",
        "inplace.in_scratch",
        "inplace.between_drops",
        "inplace.after_create",
        "build.during_load",
        "inplace.before_proved",
        "inplace.between_moves",
        "inplace.before_commit",
        "inplace.after_commit",
    )
    for kind in HARD
]
SHORT = {
    ("inplace.in_scratch", "kill"),
    ("build.during_load", "kill"),
    ("build.closed", "cut"),
    ("build.handed_over", "terminate"),
    ("inplace.between_moves", "cut"),
    ("inplace.before_commit", "crash"),
    ("inplace.after_commit", "kill"),
}
SHORT_OF_UNDO = {
    ("inplace.before_commit", "kill"),
    ("inplace.after_commit", "crash"),
    ("inplace.before_validate", "kill"),
}
SHORT_OF_RESUME = {("inplace.between_drops", "kill"), ("inplace.before_commit", "cut")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    long = metafunc.config.getoption("--campaign") == "long"
    majors = MAJORS if long else (17,)
    metafunc.parametrize("project", majors, indirect=True, ids=[f"pg{major}" for major in majors], scope="module")
    if "blow" in metafunc.fixturenames:
        metafunc.parametrize("blow", HARD if long else ["kill"])
    if {"point", "kind"} <= set(metafunc.fixturenames):
        every, short = {"undo": (OF_UNDO, SHORT_OF_UNDO), "resume": (OF_RESUME, SHORT_OF_RESUME)}.get(
            metafunc.function.__name__.rpartition("_")[2], (OF_ROLLBACK, SHORT)
        )
        metafunc.parametrize(("point", "kind"), every if long else [pair for pair in every if pair in short])


@pytest.fixture(scope="module")
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    major: int = request.param
    require(major)
    project = Project(major, settings=OURS)
    try:
        yield site(project, tmp_path_factory.mktemp("backups"))
    finally:
        project.close()


@pytest.fixture
def scene(project: Site, tmp_path: Path) -> Iterator[Scene]:
    live = project.project.copy(project.broken)
    yield Scene(project, live, tmp_path / "machine 1")
    project.project.drop(live)


def test_a_fault_leaves_one_of_two_states_and_a_way_on(scene: Scene, point: str, kind: str, tally: Tally) -> None:
    tally.add(f"in place: fault points, {kind}")
    with writing(scene):
        struck = scene.rollback(fault=f"{point}:{kind}")
        led_back(scene, struck, point, kind)


def test_a_fault_in_a_resume(scene: Scene, point: str, kind: str, tally: Tally) -> None:
    tally.add(f"in place, resume: fault points, {kind}")
    with writing(scene):
        assert scene.rollback(fault="inplace.before_proved:kill").returncode == -9
        scene.another_machine()
        struck = scene.run("resume", "--yes", "--json", fault=f"{point}:{kind}")
        led_back(scene, struck, point, kind)


def led_back(scene: Scene, struck: subprocess.CompletedProcess[str], point: str, kind: str) -> None:
    """After a fault in a rollback or in its resume: one of two states, and from there the way of an operator elsewhere
    to the restore point and back."""
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
        assert good == (point not in AFTER_UNDO and struck.returncode != 0), struck.stderr
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
    output, errors = first.communicate(timeout=PATIENCE)
    assert (first.wait(), scene.good()) == (0, True), (output, errors)
    scene.verify()
