"""Maintenance: whether the application is stopped, and which sessions still write."""

from __future__ import annotations

from lastgood.command.maintenance.maintenance import Maintenance
from lastgood.events import Caution, Emit
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

SHOWN = 10


def show(screen: Screen, found: Maintenance) -> None:
    """Print the application's state, then the writers."""
    stopped = found.application
    if stopped is None:
        screen.say(f'Maintenance is off for "{found.live}" according to the records of this machine.', style="bold")
    elif stopped.state == "stopped":
        screen.say(f'The application of "{found.live}" is stopped.', style="bold")
        since = f"{units.moment(stopped.since)} ({units.ago(stopped.since)})"
        screen.say(f"By {stopped.by}, {since}, {stopped.user} on {stopped.host}", first="  ", indent=2)
    else:
        screen.say(
            f'The application of "{found.live}" was started again, but its health is not confirmed.', style="bold"
        )
        screen.say(f"By {stopped.by}, {units.moment(stopped.since)}", first="  ", indent=2)
    for hook in found.hooks:
        outcome = f"{hook.problem or 'ok'}, {units.duration(hook.seconds)}"
        screen.say(f'Hook "{hook.hook}": {outcome}', first="  ", indent=2)
    if found.unreachable:
        screen.say(f"Cannot reach the server: {found.unreachable}", first="  ", indent=2)
    else:
        _writers(screen, found)
    if stopped is not None and stopped.state == "stopped":
        screen.heading("To start it again: lastgood maintenance off")


def _writers(screen: Screen, found: Maintenance) -> None:
    if found.fence is not None:
        tables = units.counted(found.fence.tables, "table")
        session = f"session {found.fence.pid} ({found.fence.application})"
        screen.say(f"Writes are blocked: {session} holds locks on {tables}.", first="  ", indent=2)
    counted = f"{units.counted(found.written or 0, 'row was', 'rows were')} written"
    screen.say(f"{counted} within {found.counted_seconds:g} s, by the server's counters.", first="  ", indent=2)
    if not found.sessions:
        screen.say("No sessions are connected.", first="  ", indent=2)
        return
    screen.heading(f"Connected: {units.counted(len(found.sessions), 'session')}")
    role, application = TableColumn("role", fold=True), TableColumn("application", fold=True)
    columns = (TableColumn("process", right=True), role, application, TableColumn("state"))
    rows = [
        (
            str(each.pid),
            each.user,
            each.application_name or each.client or "",
            "writes" if each.writing else each.state or "unknown",
        )
        for each in found.sessions[:SHOWN]
    ]
    screen.table(columns, rows)
    screen.more(len(found.sessions), SHOWN)


def cautions(found: Maintenance, emit: Emit) -> None:
    """Warn when writes still arrive in maintenance mode."""
    writing = [each for each in found.sessions if each.writing]
    if found.written or writing:
        rows = units.counted(found.written or 0, "row was", "rows were")
        emit(
            Caution(
                f"writes are still arriving: {rows} written within {found.counted_seconds:g} s, "
                f"{units.counted(len(writing), 'session')} in a transaction that has written; "
                "lastgood maintenance on --fence blocks them"
            )
        )
