"""Maintenance: whether the application is stopped, and who writes all the same."""

from __future__ import annotations

from lastgood.command.maintenance.maintenance import Maintenance
from lastgood.events import Caution, Emit
from lastgood.screen.screen import Column, Screen
from lastgood.text import units

SHOWN = 10


def show(screen: Screen, found: Maintenance) -> None:
    """How it stands, in the order in which one asks."""
    stopped = found.application
    if stopped is None:
        screen.say(f'Maintenance is off for "{found.live}", as far as this machine knows.', style="bold")
    elif stopped.state == "stopped":
        screen.say(f'The application of "{found.live}" is stopped.', style="bold")
        when = f"{units.moment(stopped.since)} ({units.ago(stopped.since)})"
        screen.say(f"By {stopped.by}, {when}, {stopped.user} on {stopped.host}", first="  ", indent=2)
    else:
        screen.say(f'The application of "{found.live}" was started again and not found well.', style="bold")
        screen.say(f"By {stopped.by}, {units.moment(stopped.since)}", first="  ", indent=2)
    for hook in found.hooks:
        how = f"{hook.problem or 'well'}, {units.duration(hook.seconds)}"
        screen.say(f'Hook "{hook.hook}": {how}', first="  ", indent=2)
    if found.unreachable:
        screen.say(f"The server does not answer: {found.unreachable}", first="  ", indent=2)
    else:
        _writers(screen, found)
    if stopped is not None and stopped.state == "stopped":
        screen.heading("To start it again: lastgood maintenance off")


def _writers(screen: Screen, found: Maintenance) -> None:
    if found.fence is not None:
        tables = units.counted(found.fence.tables, "table")
        who = f"session {found.fence.pid} ({found.fence.application})"
        screen.say(f"Writers wait: {who} holds locks on {tables}.", first="  ", indent=2)
    counted = f"{units.counted(found.written or 0, 'row was', 'rows were')} written"
    screen.say(f"{counted} within {found.counted_seconds:g} s, by the server's counters.", first="  ", indent=2)
    if not found.sessions:
        screen.say("Nobody is connected to it.", first="  ", indent=2)
        return
    screen.heading(f"Connected: {units.counted(len(found.sessions), 'session')}")
    role, application = Column("role", fold=True), Column("application", fold=True)
    columns = (Column("process", right=True), role, application, Column("does"))
    rows = [
        (
            str(each.pid),
            each.user,
            each.application_name or each.client or "",
            "writes" if each.writing else each.state or "not known",
        )
        for each in found.sessions[:SHOWN]
    ]
    screen.table(columns, rows)
    if len(found.sessions) > SHOWN:
        screen.say(f"and {len(found.sessions) - SHOWN} more; --json lists all of them", first="  ", indent=2)


def cautions(found: Maintenance, emit: Emit) -> None:
    """What an operator who believes that nobody writes any more must hear."""
    writing = [each for each in found.sessions if each.writing]
    if found.written or writing:
        rows = units.counted(found.written or 0, "row was", "rows were")
        emit(
            Caution(
                f"somebody writes all the same: {rows} written within {found.counted_seconds:g} s, "
                f"{units.counted(len(writing), 'session')} in a transaction that has written; "
                "lastgood maintenance on --fence keeps them out"
            )
        )
