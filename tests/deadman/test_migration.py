"""The dead-man switch: dismissed at the end of the command it does nothing, otherwise it terminates the command."""

from __future__ import annotations

import os
from pathlib import Path

from lastgood.deadman.migration import armed_switch, watch
from lastgood.journal import Journal
from lastgood.process.supervised import SupervisedProgram, marked_processes
from tests.support.waiting import until


def started(run: str) -> SupervisedProgram:
    return SupervisedProgram(
        ["sh", "-c", "setsid sleep 60 & sleep 60"],
        environment=dict(os.environ),
        mark=("LASTGOOD_DEPLOYMENT", run),
        line=lambda text: None,
    )


def test_when_we_are_gone_it_ends_the_command(tmp_path: Path) -> None:
    run = f"gone-{os.getpid()}"
    journal = Journal.create(tmp_path, run)
    mark = ("LASTGOOD_DEPLOYMENT", run)
    with armed_switch(mark, journal.path) as switch:
        command = started(run)
        watch(switch, command.group)
        until(lambda: len(marked_processes(mark)) == 3, "they are at work")
        # The block ends without dismissing the dead-man switch, as if lastgood had been killed.
    until(lambda: marked_processes(mark) == [], "all are ended")
    assert command.wait(5.0, lambda: False) is not None
    until(lambda: bool(list(journal.replay())), "the dead-man switch writes an entry")
    (entry,) = journal.replay()
    assert (entry["event"], entry["by"]) == ("command ended", "dead-man switch")


def test_dismissed_it_does_nothing(tmp_path: Path) -> None:
    run = f"dismissed-{os.getpid()}"
    journal = Journal.create(tmp_path, run)
    mark = ("LASTGOOD_DEPLOYMENT", run)
    with armed_switch(mark, journal.path) as switch:
        command = started(run)
        watch(switch, command.group)
        switch.dismiss()
    assert len(marked_processes(mark)) >= 1
    command.end()
    assert list(journal.replay()) == []
