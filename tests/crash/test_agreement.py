"""status, resume and abort never disagree whether a run is unfinished: after a kill at each fault point of each command
that makes or removes a database."""

from __future__ import annotations

import json

import pytest

from lastgood import fault
from tests.crash.test_crash import NEW, OLD, Scene
from tests.crash.test_crash import scene as scene

POINT = "cloud_backup_20251104_143000.sql"
OF_ROLLBACK = [
    name
    for name in fault.POINTS
    if not name.startswith(("undo.", "finish.", "pause.", "application.", "inplace.", "salvage."))
]
OF_RESTORE = ["build.before_mark", "build.during_load", "prove.before_verdict"]
COMMANDS = {
    "rollback": (("rollback", POINT, "--yes"), OF_ROLLBACK),
    "restore": (("restore", POINT, "--into", "{live}_copy"), OF_RESTORE),
    "undo": (("undo", "--yes"), ["swap.between_renames", "undo.before_commit", "undo.after_commit"]),
}
SHORT = {
    ("rollback", "journal.after_doing"),
    ("rollback", "build.before_mark"),
    ("rollback", "build.after_load"),
    ("rollback", "swap.after_commit"),
    ("undo", "undo.after_commit"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"command", "point"} <= set(metafunc.fixturenames):
        every = [(command, point) for command, (_, points) in COMMANDS.items() for point in points]
        long = metafunc.config.getoption("--campaign") == "long"
        metafunc.parametrize(("command", "point"), every if long else [pair for pair in every if pair in SHORT])


def test_they_agree(scene: Scene, command: str, point: str) -> None:
    if command == "undo":
        assert scene.run("rollback", POINT, "--yes").returncode == 0
    arguments, _ = COMMANDS[command]
    before = scene.content()
    killed = scene.run(*(each.replace("{live}", scene.live) for each in arguments), fault_spec=f"{point}:kill")
    assert killed.returncode == -9, killed.stderr
    for state in (scene.state, scene.state.with_name("another machine")):
        scene.state = state
        status = scene.run("status", "--json")
        seen = json.loads(status.stdout)
        assert (status.returncode == 7) == bool(seen["unfinished"] or seen["leftovers"]), status.stdout
        if status.returncode == 7:
            continue
        for way in ("resume", "abort"):
            refused = scene.run(way, "--yes")
            assert refused.returncode == 3
            assert f'error: cannot resume or abort: no run of "{scene.live}" is unfinished\n' in refused.stderr
    if status.returncode == 7:
        resumable = [each for each in seen["unfinished"] if not each["obstacle"]]
        resumed = scene.run("resume", "--yes")
        assert (resumed.returncode == 0) == bool(resumable), (seen, resumed.stderr)
        if not resumable:
            assert resumed.returncode == 3
            assert scene.run("abort", "--yes").returncode == 0
    assert scene.run("status").returncode == 0
    assert scene.content() in (OLD, NEW)
    if command == "restore":
        assert scene.content() == before
    assert scene.leftovers() == []
    assert scene.run("rollback", POINT, "--yes").returncode == 0
