"""The display of a PgBouncer pause: before it, after it, and when clients are still paused."""

from __future__ import annotations

import io

import pytest

from lastgood.command.rollback import show as shown_report
from lastgood.command.rollback import show_plan as shown_plan
from lastgood.command.status import show as shown_status
from lastgood.plan.plan import Finding, PlannedPause
from lastgood.plan.undo_plan import UndoPlan
from lastgood.run.report import PauseReport
from lastgood.screen.screen import Screen
from lastgood.status import LiveStatus, PoolStatus, Status
from lastgood.undo import UndoReport

CONSOLE = "host=10.0.0.5 port=6432 user=boss dbname=pgbouncer"
APP = PlannedPause(pooler="PgBouncer at 10.0.0.5:6432", console=CONSOLE, database="app", mode="transaction", limit=10)


def screen() -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(stdout=stream, stderr=io.StringIO(), width=80), stream


def undo(pause: PauseReport | None) -> UndoReport:
    return UndoReport(
        run="2", undoes="1", live="crm", kept="crm_undone", seconds={"total": 0.5}, pause=pause, undo_command="x"
    )


def test_whom_a_switch_holds_back() -> None:
    assert shown_plan.pauses([APP, APP.model_copy(update={"database": "jobs"})]) == [
        (
            "Clients paused",
            'clients of "app" of PgBouncer at 10.0.0.5:6432, during the switch; open transactions have 10 s to end',
        ),
        ("", 'clients of "jobs" of PgBouncer at 10.0.0.5:6432, during the switch; open transactions have 10 s to end'),
    ]
    assert shown_plan.pauses([]) == []


def test_the_plan_of_an_undo_names_them_and_what_is_in_the_way() -> None:
    on, stream = screen()
    plan = UndoPlan(
        run="2",
        undoes="1",
        live="crm",
        live_oid=5,
        arriving="crm_old",
        arriving_oid=4,
        kept="crm_undone",
        original_comment=None,
        pauses=(APP,),
        findings=(Finding(level="caution", code="c", text="look here", hint="Do this."),),
    )
    shown_report.show_undo_plan(on, plan)
    assert stream.getvalue() == (
        'Plan: undo run 1: "crm_old" becomes "crm" again\n'
        '  The current "crm" remains on the server as "crm_undone"; nothing is deleted.\n'
        '  Clients paused  clients of "app" of PgBouncer at 10.0.0.5:6432, during the\n'
        "                  switch; open transactions have 10 s to end\n"
        "\n"
        "Findings\n"
        "  caution look here\n"
        "          Do this.\n"
        "Nothing was changed yet.\n"
    )


@pytest.mark.parametrize(
    ("pause", "expected"),
    [
        (None, None),
        (
            PauseReport(databases=("app", "jobs"), seconds=0.043, quiet=True, cut=()),
            'clients of PgBouncer ("app", "jobs"), for 43 ms; no query failed',
        ),
        (
            PauseReport(databases=("app",), seconds=10.2, quiet=False, cut=('process 7 of "x"',)),
            'clients of PgBouncer ("app"), for 10 s; 1 transaction did not end in time: process 7 of "x"',
        ),
    ],
)
def test_what_became_of_them(pause: PauseReport | None, expected: str | None) -> None:
    on, stream = screen()
    on.out.width = 200
    shown_report.show_undo(on, undo(pause))
    lines = [" ".join(each.split()) for each in stream.getvalue().splitlines() if "Clients paused" in each]
    assert lines == ([] if expected is None else [f"Clients paused {expected}"])


def test_a_status_shows_a_pause_and_how_to_resume() -> None:
    on, stream = screen()
    resume = f"psql '{CONSOLE}' -c 'RESUME \"app\"'"
    look = f"psql '{CONSOLE}' -c 'SHOW DATABASES'"
    pools = (
        PoolStatus(console=CONSOLE, database="app", paused=True, waiting=12, command=resume),
        PoolStatus(console=CONSOLE, database="jobs", paused=False, waiting=0, command=""),
        PoolStatus(console=CONSOLE, database="", paused=False, waiting=0, command=look, problem="it is down"),
    )
    live = LiveStatus(name="crm", oid=5, bytes=None, open=True, sessions=1)
    shown_status.show(
        on,
        Status(
            server_version="18.6", live=live, working="", fence=None, shadows=(), kept=(), unfinished=(), pools=pools
        ),
    )
    assert stream.getvalue() == (
        '"crm" is open: 1 session, PostgreSQL 18.6\n'
        f"Next: psql '{CONSOLE}' -c 'RESUME\n"
        '"app"\'\n'
        '  PgBouncer is PAUSED for "app": 12 queries wait. To resume it:\n'
        f"    {resume}\n"
        "  The state of PgBouncer is unknown: it is down. To check it:\n"
        "    psql 'host=10.0.0.5 port=6432 user=boss dbname=pgbouncer' -c 'SHOW\n"
        "    DATABASES'\n"
    )
