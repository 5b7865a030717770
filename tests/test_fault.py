"""Fault points that a test arms through the environment of a command."""

from __future__ import annotations

import pytest

from lastgood import fault


def test_a_fault_strikes_from_the_time_on_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault, "_armed", {})
    monkeypatch.setenv("LASTGOOD_FAULT", "journal.before_done#2:enospc")
    fault.arm_from_environment()
    fault.point("journal.before_done")
    fault.point("journal.after_doing")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            fault.point("journal.before_done")


@pytest.mark.parametrize("spec", ["no.such:kill", "journal.before_done:burn", "journal.before_done#x:kill"])
def test_a_fault_that_does_not_exist_is_a_defect_of_the_test(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault, "_armed", {})
    monkeypatch.setenv("LASTGOOD_FAULT", spec)
    with pytest.raises(LookupError, match="unknown fault point or kind of fault"):
        fault.arm_from_environment()
