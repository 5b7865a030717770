"""The state of the live database, its runs and kept databases, for the operator on call."""

from __future__ import annotations

from collections.abc import Sequence

from lastgood.application.record import StopRecord
from lastgood.journal.past_runs import DrillDue
from lastgood.postgres.deployment import ACTIVITY
from lastgood.screen.screen import Screen
from lastgood.status import (
    Finishing,
    OurDatabase,
    PoolStatus,
    PostMortemStatus,
    Status,
    UnfinishedDeployment,
    UnfinishedRun,
)
from lastgood.text import units
from lastgood.text.quoting import argument


def show(screen: Screen, status: Status) -> None:
    """Print the state of the live database and the next command first, then what is unfinished, then what can be
    undone."""
    live = status.live
    size = f"{units.size(live.bytes)}, " if live.bytes is not None else ""
    screen.say(
        f'"{live.name}" is {"open" if live.open else "CLOSED to new connections"}: {size}'
        f"{units.counted(live.sessions, 'session')}, PostgreSQL {status.server_version}",
        style="bold",
    )
    if (command := next_command(status)) is not None:
        screen.say(f"Next: {command}", style="bold")
    if status.working:
        screen.say(f"Run in progress: {status.working}", first="  ", indent=2)
    if status.fence is not None:
        since = f" since {units.moment(status.fence.since)}" if status.fence.since is not None else ""
        screen.say(
            f"Writes are blocked{since}: session {status.fence.pid} ({status.fence.application}) holds locks on "
            f"{units.counted(status.fence.tables, 'table')}. They resume when it ends.",
            first="  ",
            indent=2,
        )
    if status.application is not None:
        _application(screen, status.application)
    for pool in status.pools:
        _pool(screen, pool)
    if status.deployment is not None:
        _deployment(screen, status.deployment)
    if status.drill is not None:
        screen.say(drill_due(status.drill), first="  ", indent=2)
    if status.unfinished:
        screen.heading("Unfinished runs")
        for run in status.unfinished:
            _unfinished(screen, run)
    if status.finishing:
        screen.heading("In service, but not finished")
        for rest in status.finishing:
            _finishing(screen, rest)
    if status.empty_views:
        screen.heading("Materialized views that are empty until they are refreshed")
        for refresh in status.empty_views:
            screen.say(refresh, first="  ", indent=4)
    if status.leftovers:
        screen.heading("Leftovers of a run that was killed before it could mark them")
        for left in status.leftovers:
            size = f", {units.size(left.bytes)}" if left.bytes is not None else ""
            screen.say(f'"{left.name}"{size}: closed. To remove it if it is empty:', first="  ", indent=4)
            screen.say(left.command, first="    ", indent=4)
    if status.roles:
        screen.heading("Roles of killed runs")
        for role in status.roles:
            screen.say(f'"{role.name}" of run {role.run}. To remove it:', first="  ", indent=4)
            screen.say(role.command, first="    ", indent=4)
    if status.kept:
        usable = all(not each.invalid for each in status.kept)
        can = "each can become live again" if usable else "those that are not invalid can become live again"
        total = sum(each.bytes or 0 for each in status.kept)
        sizes = f", {units.size(total)} in total" if total and len(status.kept) > 1 else ""
        screen.heading(f"{_kinds(status.kept)}{sizes}, newest first: {can}")
        for each in status.kept:
            _kept(screen, each)
    _post_mortems(screen, status.post_mortems)
    held = any(pool.paused for pool in status.pools)
    unfinished = (
        status.unfinished or status.finishing or status.leftovers or status.roles or status.deployment is not None
    )
    if not (unfinished or status.working or held):
        screen.out.print()
        screen.say("Nothing is unfinished." if status.kept else "Nothing is unfinished. Nothing of a rollback is kept.")


def next_command(status: Status) -> str | None:
    """Return the command for the most urgent fault; None without one."""
    if status.working:
        return None  # a run is repairing it
    interrupted = (
        *status.unfinished,
        *((status.deployment,) if status.deployment is not None else ()),
        *status.finishing,
    )
    commands = [each.commands[0] for each in interrupted if not each.working and each.commands]
    commands += [each.command for each in status.pools if each.paused]
    commands += [each.command for each in status.leftovers]
    if not status.live.open:
        commands.append("lastgood recover --dry-run")
    if status.application is not None and status.application.state == "stopped":
        commands.append("lastgood maintenance off")
    return commands[0] if commands else None


_DEPLOYMENT = {
    "migrating": "the migration is running",
    "checking": "the migrated database is being checked",
    "rolling back": "it is being rolled back",
}


def _deployment(screen: Screen, found: UnfinishedDeployment) -> None:
    working = found.working
    screen.heading("A deployment is in progress" if working else "A deployment was interrupted")
    stage = _DEPLOYMENT[found.stage] if working else f"it stopped while {ACTIVITY[found.stage]}"
    label = f' "{found.label}"' if found.label else ""
    screen.say(f"{found.run}{label} ({found.program}): {stage}", first="  ", indent=4)
    screen.say(
        f"started {units.moment(found.started)} ({units.ago(found.started)}) by {found.user} on {found.host}",
        first="    ",
        indent=4,
    )
    screen.say(f"restore point: {found.point}", first="    ", indent=4)
    if found.commands:
        back, accept = found.commands
        screen.say(f"{back} rolls back to that restore point", first="    ", indent=4)
        screen.say(f"{accept} accepts the database as it is", first="    ", indent=4)


def drill_due(due: DrillDue) -> str:
    """Return one line: when the last drill passed, and when the next one is due."""
    every = f"one is due every {units.span(due.every)}"
    if due.last is None or due.next is None:
        return f"This machine has no record of a successful drill; {every}: lastgood drill"
    last = f"The last drill passed on {units.day(due.last)} ({units.ago(due.last)}, run {due.run})"
    if due.overdue:
        return f"{last}; the next has been OVERDUE since {units.day(due.next)}: lastgood drill"
    return f"{last}; the next is due on {units.day(due.next)} ({units.ago(due.next)})."


def _application(screen: Screen, found: StopRecord) -> None:
    who = f"by {found.by}, {units.moment(found.since)} ({units.ago(found.since)}), {found.user} on {found.host}"
    if found.state == "stopped":
        screen.say(f"The application is stopped: {who}", first="  ", indent=2)
        screen.say("To start it: lastgood maintenance off", first="    ", indent=4)
    else:
        screen.say(f"The application was started again, but its health is not confirmed: {who}", first="  ", indent=2)


def _pool(screen: Screen, pool: PoolStatus) -> None:
    name = f' for "{pool.database}"' if pool.database else ""
    if pool.paused:
        screen.say(
            f"PgBouncer is PAUSED{name}: {units.counted(pool.waiting, 'query waits', 'queries wait')}. To resume it:",
            first="  ",
            indent=2,
        )
        screen.say(pool.command, first="    ", indent=4)
    elif pool.problem:
        screen.say(
            f"The state of PgBouncer{name} is unknown: {pool.problem}. To check it:",
            first="  ",
            indent=2,
        )
        screen.say(pool.command, first="    ", indent=4)


def _unfinished(screen: Screen, run: UnfinishedRun) -> None:
    started = f"started {units.moment(run.started)} ({units.ago(run.started)}) by {run.user} on {run.host}"
    if run.kind != "rollback":
        screen.say(f"{run.run}, kind {run.kind}", first="  ", indent=4)
        screen.say(f'creating "{run.shadow}", {started}', first="    ", indent=4)
    elif run.shadow:
        screen.say(f"{run.run}, stage {run.stage or 'unknown'}", first="  ", indent=4)
        screen.say(f'building "{run.shadow}", {started}', first="    ", indent=4)
    else:
        screen.say(f"{run.run}: it stopped the application and has no shadow database", first="  ", indent=4)
        screen.say(started, first="    ", indent=4)
    if run.obstacle and not run.working:
        screen.say(f"cannot be resumed: {run.obstacle}", first="    ", indent=4)
    if run.working:
        screen.say("in progress: wait, or interrupt it on its host", first="    ", indent=4)
    for command in run.commands:
        screen.say(command, first="    ", indent=4)


def _finishing(screen: Screen, run: Finishing) -> None:
    screen.say(
        f"{run.run}: {run.tasks - run.left} of {units.number(run.tasks)} tasks done; left: "
        f"{units.counted(run.indexes_left, 'index', 'indexes')} to build, "
        f"{units.counted(run.foreign_keys_left, 'foreign key')} to validate"
        + (f", {units.counted(run.views_left, 'materialized view')} to refresh" if run.views_left else "")
        + (f", {units.counted(run.checks_left, 'check')} to verify" if run.checks_left else ""),
        first="  ",
        indent=4,
    )
    if run.working:
        screen.say(f"in progress: {run.working}" + (f" ({run.doing})" if run.doing else ""), first="    ", indent=4)
    for command in run.commands:
        screen.say(command, first="    ", indent=4)


def _post_mortems(screen: Screen, found: Sequence[PostMortemStatus]) -> None:
    """Print one line about all of them: the first that is due, and the number of the others."""
    if not found:
        return
    first = min(found, key=lambda each: each.due)
    due = f"OVERDUE since {units.day(first.due)}" if first.overdue else f"due {units.day(first.due)}"
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    screen.out.print()
    screen.say(f"Post-mortem {due}: {first.command}{others}", indent=2)


def _kinds(kept: Sequence[OurDatabase]) -> str:
    ways = {each.way for each in kept}
    if ways == {"in-place"}:
        return "Kept schemas"
    return "Kept databases and schemas" if len(ways) > 1 else "Kept databases"


def _kept(screen: Screen, each: OurDatabase) -> None:
    size = f", {units.size(each.bytes)}" if each.bytes is not None else ""
    screen.say(f'"{each.name}"{size}', first="  ", indent=4)
    screen.say(
        f"{each.origin}, {units.moment(each.made_at)} ({units.ago(each.made_at)}), by {each.user} on {each.host}",
        first="    ",
        indent=4,
    )
    if each.invalid:
        removed = f"lastgood prune {argument(each.name)}"
        screen.say(f"INVALID: DROP DATABASE was interrupted. To remove it: {removed}", first="    ", indent=4)
    if each.undo_command:
        screen.say(each.undo_command, first="    ", indent=4)
        if each.way == "by-name":
            screen.say(f"To show its contents: lastgood facts {argument(each.name)}", first="    ", indent=4)
