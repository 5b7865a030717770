"""Every fault point around the application × every kind of fault: whatever happens, there is a command that starts it
again, and the live name means the old data or the new."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood import fault
from tests.crash.test_crash import NEW, OLD, Scene
from tests.crash.test_crash import scene as scene
from tests.support import forked_cli
from tests.support.waiting import until

POINTS = [name for name in fault.POINTS if name.startswith("application.")]
KINDS = ("kill", "enospc", "terminate", "cut")
SHORT = {
    ("application.after_stop", "kill"),
    ("application.after_stop", "terminate"),
    ("application.before_start", "enospc"),
    ("application.before_undo", "cut"),
    ("application.before_start_again", "kill"),
}
RESTORE_POINT = "cloud_backup_20251104_143000.sql"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"point", "kind"} <= set(metafunc.fixturenames):
        every = [(point, kind) for point in POINTS for kind in KINDS]
        long = metafunc.config.getoption("--campaign") == "long"
        metafunc.parametrize(("point", "kind"), every if long else [pair for pair in every if pair in SHORT])


@pytest.fixture
def hooked(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes a lastgood.toml whose hooks make and remove the file ``stopped``; ``sick``: the smoke command fails."""
    monkeypatch.chdir(tmp_path)
    stop = "import pathlib; pathlib.Path('stopped').touch()"
    start = "import pathlib; pathlib.Path('stopped').unlink(missing_ok=True)"

    def write(*, sick: bool = False) -> None:
        lines = ["[hooks]", *(f'{name} = ["{sys.executable}", "-c", "{text}"]' for name, text in
                              (("stop", stop), ("start", start)))]  # fmt: skip
        if sick:
            lines.append('smoke = ["false"]')
        (tmp_path / "lastgood.toml").write_text("\n".join(lines) + "\n")

    return write


def stopped() -> bool:
    return Path("stopped").exists()


def of_undo(point: str) -> bool:
    return point in ("application.before_undo", "application.before_start_again")


def test_a_fault_leaves_a_way_to_start_it_again(
    scene: Scene, hooked: Callable[..., None], point: str, kind: str
) -> None:
    hooked(sick=of_undo(point))
    struck = scene.run(
        "rollback", RESTORE_POINT, "--yes", "--json", "--on-failure", "undo", fault_spec=f"{point}:{kind}"
    )
    found = scene.content()
    assert found in (OLD, NEW)
    if kind == "kill":
        assert struck.returncode == -9
    elif (point, kind) in {("application.before_undo", "cut"), ("application.before_start_again", "cut")}:
        assert struck.returncode == 6, struck.stderr  # the next command reconnects
    elif point == "application.after_stop":
        assert (struck.returncode, found, stopped()) == ({"terminate": 130}.get(kind, 5), OLD, False), struck.stderr
    else:
        assert struck.returncode in (0, 6, 7, 130), (struck.stdout, struck.stderr)
    if stopped():
        assert "The application is stopped" in scene.run("status").stdout
    # The run is finished from any state.
    hooked()
    resumed = scene.run("resume", "--yes", "--json")
    if point == "application.before_start_again":
        assert (resumed.returncode, scene.content()) == (6 if kind in ("kill", "enospc") else 3, OLD)
    elif resumed.returncode == 0:
        assert scene.content() == NEW
    assert not stopped()
    # And the next run is not blocked.
    assert scene.run("rollback", RESTORE_POINT, "--yes", "--json").returncode == 0
    assert (scene.content(), stopped(), scene.leftovers()) == (NEW, False, [])


@pytest.mark.parametrize("when", ["now", "at-swap"])
@pytest.mark.parametrize("way", ["resume", "abort"])
def test_killed_with_the_application_stopped(scene: Scene, hooked: Callable[..., None], when: str, way: str) -> None:
    hooked()
    killed = scene.run("rollback", "--yes", "--fence", when, fault_spec="application.after_stop:kill")
    assert (killed.returncode, scene.content(), stopped()) == (-9, OLD, True)
    done = scene.run(way, "--yes", "--json")
    assert done.returncode == 0, done.stdout
    assert (scene.content(), stopped(), scene.leftovers()) == (NEW if way == "resume" else OLD, False, [])
    assert scene.run("status").returncode == 0


@pytest.mark.parametrize(("way", "reopen_when"), [("resume", "full"), ("undo", "full"), ("resume", "usable")])
def test_killed_after_the_switch_before_the_start(
    scene: Scene, hooked: Callable[..., None], way: str, reopen_when: str
) -> None:
    hooked()
    killed = scene.run("rollback", "--yes", "--reopen-when", reopen_when, fault_spec="application.before_start:kill")
    assert (killed.returncode, scene.content(), stopped()) == (-9, NEW, True)
    done = scene.run(way, "--yes", "--json")
    assert done.returncode == 0, done.stdout
    assert (scene.content(), stopped()) == (NEW if way == "resume" else OLD, False)
    assert scene.run("status").returncode == 0


@pytest.mark.parametrize("named", [True, False])
def test_killed_before_the_mark_with_the_application_stopped(
    scene: Scene, hooked: Callable[..., None], named: bool
) -> None:
    """Both are taken back at once: the application is started, and what the run could not mark is removed."""
    hooked()
    killed = scene.run("rollback", "--yes", fault_spec="build.before_mark:kill")
    assert (killed.returncode, scene.content(), stopped()) == (-9, OLD, True)
    (run,) = [path.stem for path in (scene.state / "runs").iterdir()]
    assert scene.run("status").returncode == 7
    aborted = scene.run("abort", *([run] if named else []), "--yes")
    assert (aborted.returncode, stopped(), scene.leftovers()) == (0, False, []), aborted.stderr
    assert scene.run("status").returncode == 0


def test_an_undo_on_another_machine_reports_an_unknown_application_state(
    scene: Scene, hooked: Callable[..., None]
) -> None:
    hooked()
    killed = scene.run("rollback", "--yes", fault_spec="application.before_start:kill")
    assert (killed.returncode, scene.content(), stopped()) == (-9, NEW, True)
    scene.state = scene.state.with_name("another machine")
    undone = scene.run("undo", "--yes")
    assert (undone.returncode, scene.content(), stopped()) == (0, OLD, True)
    assert (
        "caution unknown whether the application runs: the run stopped it from another machine; if it does "
        "not run: lastgood maintenance off\n" in undone.stderr
    )


def test_killed_between_failed_checks_and_the_undo(scene: Scene, hooked: Callable[..., None]) -> None:
    hooked(sick=True)
    killed = scene.run("rollback", "--yes", "--on-failure", "undo", fault_spec="application.before_undo:kill")
    assert (killed.returncode, scene.content(), stopped()) == (-9, NEW, False)
    resumed = scene.run("resume", "--yes", "--json", "--on-failure", "undo")
    assert (resumed.returncode, scene.content(), stopped()) == (6, OLD, False), resumed.stderr


@pytest.mark.parametrize("way", ["resume", "abort"])
def test_killed_between_the_undo_and_the_start(scene: Scene, hooked: Callable[..., None], way: str) -> None:
    hooked(sick=True)
    killed = scene.run("rollback", "--yes", "--on-failure", "undo", fault_spec="application.before_start_again:kill")
    assert (killed.returncode, scene.content(), stopped()) == (-9, OLD, True)
    done = scene.run(way, "--yes", "--json")
    assert (done.returncode, scene.content(), stopped()) == (6 if way == "resume" else 0, OLD, False), done.stdout


def test_an_abort_on_another_machine_reports_an_unknown_application_state(
    scene: Scene, hooked: Callable[..., None]
) -> None:
    hooked()
    killed = scene.run("rollback", "--yes", "--fence", "at-swap", fault_spec="application.after_stop:kill")
    assert (killed.returncode, stopped()) == (-9, True)
    scene.state = scene.state.with_name("another machine")
    aborted = scene.run("abort", "--yes")
    assert aborted.returncode == 0
    assert "caution unknown whether the run stopped the application: its journal is on " in aborted.stderr
    assert "if the application does not run, run: lastgood maintenance off\n" in aborted.stderr
    assert stopped()
    assert scene.run("maintenance", "off").returncode == 0
    assert not stopped()


def test_a_run_is_resumed_elsewhere_with_the_hooks_of_there(scene: Scene, hooked: Callable[..., None]) -> None:
    hooked()
    killed = scene.run("rollback", "--yes", "--fence", "at-swap", fault_spec="application.after_stop:kill")
    assert (killed.returncode, stopped()) == (-9, True)
    scene.state = scene.state.with_name("another machine")
    resumed = scene.run("resume", "--yes", "--json")
    assert resumed.returncode == 0, resumed.stdout
    assert (scene.content(), stopped()) == (NEW, False)


STUBBORN = """
import pathlib, signal, sys, time
log = open("log", "a", buffering=1)

def ended(number, frame):
    # What a hook still does when it is asked to end: meanwhile nothing may be started.
    time.sleep(0.5)
    print("stop ends", file=log)
    sys.exit(1)

signal.signal(signal.SIGTERM, ended)
print("stop begins", file=log)
time.sleep(60)
print("stop is done", file=log)
"""


def test_killed_while_a_hook_stops_the_application(scene: Scene, hooked: Callable[..., None], tmp_path: Path) -> None:
    """The hook ends with lastgood, and what takes it back waits until it has."""
    hooked()
    (tmp_path / "stop.py").write_text(STUBBORN)
    (tmp_path / "start.py").write_text("print('start', file=open('log', 'a'))")
    lines = ["[hooks]", *(f'{name} = ["{sys.executable}", "{name}.py"]' for name in ("stop", "start"))]
    (tmp_path / "lastgood.toml").write_text("\n".join(lines) + "\n")
    log = tmp_path / "log"
    options = ["--db", scene.server.url(scene.live), "--store", str(scene.store), "--state", str(scene.state)]
    with forked_cli.Process(*options, "rollback", "--yes") as run:
        until(lambda: log.exists() and log.read_text() == "stop begins\n", "the hook is at work")
        run.kill()
    aborted = scene.run("abort", "--yes")
    assert (aborted.returncode, scene.content()) == (0, OLD), aborted.stderr
    assert log.read_text().splitlines() == ["stop begins", "stop ends", "start"]
    assert "note    waiting for another hook of this application to end\n" in aborted.stderr
