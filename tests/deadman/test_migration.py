"""The dead-man switch: dismissed at the end of the command it does nothing, otherwise it terminates the command."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psycopg

from lastgood.deadman.migration import Sessions, armed_switch, watch
from lastgood.journal import Journal
from lastgood.postgres import transactions
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.process.supervised import SupervisedProgram, marked_processes
from tests.support.waiting import until


def started(run: str) -> SupervisedProgram:
    return SupervisedProgram(
        ["sh", "-c", "setsid sleep 60 & sleep 60"],
        environment=dict(os.environ),
        mark=("LASTGOOD_DEPLOYMENT", run),
        line=lambda text: None,
    )


def test_when_we_are_gone_it_ends_the_command(server: EmbeddedServer, tmp_path: Path) -> None:
    """A server process outlives its client: the migration ends with its last session."""
    run = f"gone-{os.getpid()}"
    journal = Journal.create(tmp_path, run)
    mark = ("LASTGOOD_DEPLOYMENT", run)
    target = server.target("postgres")
    last: list[int] = []

    def outlive() -> None:
        with psycopg.connect(server.url("postgres"), application_name=run, autocommit=True) as session:
            opened.set()
            until(lambda: bool(list(journal.replay())), "the dead-man switch writes an entry")
            for _ in range(3):
                session.execute("SELECT pg_catalog.pg_current_xact_id()")
            last.append(transactions.following(session))

    opened = threading.Event()
    thread = threading.Thread(target=outlive)
    thread.start()
    assert opened.wait(10)
    with armed_switch(mark, journal.path, Sessions(target, run)) as switch:
        command = started(run)
        watch(switch, command.group)
        until(lambda: len(marked_processes(mark)) == 3, "they are at work")
        # The block ends without dismissing the dead-man switch, as if lastgood had been killed.
    thread.join()
    assert marked_processes(mark) == []
    assert command.wait(5.0, lambda: False) is not None
    until(lambda: len(list(journal.replay())) == 2, "the dead-man switch writes the end")
    ended, over = journal.replay()
    assert (ended["event"], ended["by"]) == ("command ended", "dead-man switch")
    assert (over["event"], over["step"]) == ("sessions ended", "migrate")
    assert over["transaction"] >= last[0]


def test_dismissed_it_does_nothing(server: EmbeddedServer, tmp_path: Path) -> None:
    run = f"dismissed-{os.getpid()}"
    journal = Journal.create(tmp_path, run)
    mark = ("LASTGOOD_DEPLOYMENT", run)
    with armed_switch(mark, journal.path, Sessions(server.target("postgres"), run)) as switch:
        command = started(run)
        watch(switch, command.group)
        switch.dismiss()
    assert len(marked_processes(mark)) >= 1
    command.end()
    assert list(journal.replay()) == []
