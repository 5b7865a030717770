"""Every fault point of finishing × every kind of fault: the switch holds, and the rest can be done by anyone."""

from __future__ import annotations

import pytest

from lastgood import fault
from tests.acceptance.test_usable import Stage, lastgood
from tests.acceptance.test_usable import stage as stage

POINTS = [name for name in fault.POINTS if name.startswith("finish.")]
KINDS = ("kill", "enospc", "terminate")
SHORT = {("finish.before_forget", "kill"), ("finish.after_index", "enospc"), ("finish.before_task", "terminate")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"point", "kind"} <= set(metafunc.fixturenames):
        every = [(point, kind) for point in POINTS for kind in KINDS]
        long = metafunc.config.getoption("--campaign") == "long"
        metafunc.parametrize(("point", "kind"), every if long else [pair for pair in every if pair in SHORT])


def test_a_fault_while_it_finishes_undoes_nothing(stage: Stage, point: str, kind: str) -> None:
    state = stage.request.state
    stopped = lastgood(stage, "rollback", "-y", "--reopen-when", "usable", state=state, faulty=f"{point}:{kind}")
    assert stopped.returncode in ((-9,) if kind == "kill" else (0, 7)), stopped.stderr
    with stage.connect() as live:
        assert live.execute("SELECT count(*) FROM shop.customer WHERE note = 'lost'").fetchone() == (0,)
    if stopped.returncode != 0:
        assert lastgood(stage, "status", state=state).returncode == 7
        assert lastgood(stage, "resume", "-y", state=state).returncode == 0
    assert stage.missing() == (set(), set())
    assert lastgood(stage, "status", state=state).returncode == 0
