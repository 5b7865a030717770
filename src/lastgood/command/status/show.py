"""What is on the server, for somebody who was just woken up."""

from __future__ import annotations

import shlex

from lastgood.journal.past_runs import DrillDue
from lastgood.postgres.deployment import ACTIVITY
from lastgood.screen.screen import Screen
from lastgood.status import (
    Finishing,
    OurDatabase,
    PoolStatus,
    PostMortemStatus,
    Status,
    StoppedStatus,
    UnfinishedDeployment,
    UnfinishedRun,
)
from lastgood.text import units


def show(screen: Screen, status: Status) -> None:
    """The live database first, then what is unfinished, then what can be undone."""
    live = status.live
    size = f"{units.size(live.bytes)}, " if live.bytes is not None else ""
    screen.say(
        f'"{live.name}" is {"open" if live.open else "CLOSED to new connections"}: {size}'
        f"{units.counted(live.sessions, 'session')}, PostgreSQL {status.server_version}",
        style="bold",
    )
    if status.working:
        screen.say(f"At work on it now: {status.working}", first="  ", indent=2)
    if status.fence is not None:
        since = f" since {units.moment(status.fence.since)}" if status.fence.since is not None else ""
        screen.say(
            f"Writers wait{since}: session {status.fence.pid} ({status.fence.application}) holds locks on "
            f"{units.counted(status.fence.tables, 'table')}. When it ends, they go on.",
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
        screen.heading("In service, and not finished yet")
        for rest in status.finishing:
            _finishing(screen, rest)
    if status.leftovers:
        screen.heading("Left over: made by a run that was killed before it could say whose they are")
        for left in status.leftovers:
            size = f", {units.size(left.bytes)}" if left.bytes is not None else ""
            screen.say(f'"{left.name}"{size}: closed; removed if it is empty by', first="  ", indent=4)
            screen.say(left.command, first="    ", indent=4)
    if status.kept:
        usable = all(not each.invalid for each in status.kept)
        can = "each can become the live one again" if usable else "those that are not invalid can become the live one"
        screen.heading(f"Kept databases, newest first: {can}")
        for each in status.kept:
            _kept(screen, each)
    for unwritten in status.post_mortems:
        _post_mortem(screen, unwritten)
    held = any(pool.paused for pool in status.pools)
    unfinished = status.unfinished or status.finishing or status.leftovers or status.deployment is not None
    if not (unfinished or status.working or held):
        screen.out.print()
        screen.say("Nothing is unfinished." if status.kept else "Nothing is unfinished, and nothing is kept.")


_DEPLOYMENT = {
    "migrating": "its migration runs",
    "checking": "the migrated database is looked at",
    "going back": "it is taken back",
}


def _deployment(screen: Screen, found: UnfinishedDeployment) -> None:
    working = found.working
    screen.heading("A deployment is at work" if working else "A deployment stopped half-way")
    stage = _DEPLOYMENT[found.stage] if working else f"it stopped while {ACTIVITY[found.stage]}"
    label = f' "{found.label}"' if found.label else ""
    screen.say(f"{found.run}{label} ({found.program}): {stage}", first="  ", indent=4)
    screen.say(
        f"begun {units.moment(found.started)} ({units.ago(found.started)}) by {found.user} on {found.host}",
        first="    ",
        indent=4,
    )
    screen.say(f"restore point: {found.point}", first="    ", indent=4)
    if found.commands:
        back, accept = found.commands
        screen.say(f"{back} goes back to that restore point", first="    ", indent=4)
        screen.say(f"{accept} takes the database as it is", first="    ", indent=4)


def drill_due(due: DrillDue) -> str:
    """When the last drill was, and when the next one is due."""
    every = f"there is to be one every {units.span(due.every)}"
    if due.last is None or due.next is None:
        return f"This machine has no record of a drill that passed; {every}: lastgood drill"
    last = f"The last drill passed on {units.day(due.last)} ({units.ago(due.last)}, run {due.run})"
    if due.overdue:
        return f"{last}; the next is OVERDUE since {units.day(due.next)}: lastgood drill"
    return f"{last}; the next is due on {units.day(due.next)} ({units.ago(due.next)})."


def _application(screen: Screen, found: StoppedStatus) -> None:
    who = f"by {found.by}, {units.moment(found.since)} ({units.ago(found.since)}), {found.user} on {found.host}"
    if found.state == "stopped":
        screen.say(f"The application is stopped: {who}", first="  ", indent=2)
        screen.say("lastgood maintenance off starts it", first="    ", indent=4)
    else:
        screen.say(f"The application was started again and not found well: {who}", first="  ", indent=2)


def _pool(screen: Screen, pool: PoolStatus) -> None:
    name = f' of "{pool.database}"' if pool.database else ""
    if pool.paused:
        screen.say(
            f"PgBouncer HOLDS BACK the clients{name}: {units.counted(pool.waiting, 'query waits', 'queries wait')}. "
            "To let them go on:",
            first="  ",
            indent=2,
        )
        screen.say(pool.command, first="    ", indent=4)
    elif pool.trouble:
        screen.say(
            f"Whether PgBouncer holds back clients{name} is not known: {pool.trouble}. To see it:",
            first="  ",
            indent=2,
        )
        screen.say(pool.command, first="    ", indent=4)


def _unfinished(screen: Screen, run: UnfinishedRun) -> None:
    begun = f"begun {units.moment(run.started)} ({units.ago(run.started)}) by {run.user} on {run.host}"
    if run.kind != "rollback":
        screen.say(f"{run.run}, a {run.kind}", first="  ", indent=4)
        screen.say(f'making "{run.shadow}", {begun}', first="    ", indent=4)
    elif run.shadow:
        screen.say(f"{run.run}, stage {run.stage or 'unknown'}", first="  ", indent=4)
        screen.say(f'building "{run.shadow}", {begun}', first="    ", indent=4)
    else:
        screen.say(f"{run.run}: it stopped the application, and has no database", first="  ", indent=4)
        screen.say(begun, first="    ", indent=4)
    if run.obstacle and not run.working:
        screen.say(f"cannot be resumed: {run.obstacle}", first="    ", indent=4)
    if run.working:
        screen.say("it is being worked on now: wait, or interrupt it where it runs", first="    ", indent=4)
    for command in run.commands:
        screen.say(command, first="    ", indent=4)


def _finishing(screen: Screen, run: Finishing) -> None:
    screen.say(
        f"{run.run}: {run.tasks - run.left} of {units.number(run.tasks)} things done; left: "
        f"{units.counted(run.indexes_left, 'index', 'indexes')} to build, "
        f"{units.counted(run.foreign_keys_left, 'foreign key')} to validate",
        first="  ",
        indent=4,
    )
    if run.working:
        screen.say(f"at it now: {run.working}" + (f" ({run.doing})" if run.doing else ""), first="    ", indent=4)
    for command in run.commands:
        screen.say(command, first="    ", indent=4)


def _post_mortem(screen: Screen, found: PostMortemStatus) -> None:
    left = f", with {', '.join(found.open)} open" if found.open else ""
    due = f"is OVERDUE since {units.moment(found.due)}" if found.overdue else f"is due {units.moment(found.due)}"
    screen.out.print()
    screen.say(f"The post-mortem of {found.run} {due}{left}: {found.command}", indent=2)


def _kept(screen: Screen, each: OurDatabase) -> None:
    size = f", {units.size(each.bytes)}" if each.bytes is not None else ""
    screen.say(f'"{each.name}"{size}', first="  ", indent=4)
    screen.say(
        f"{each.origin}, {units.moment(each.made_at)} ({units.ago(each.made_at)}), by {each.user} on {each.host}",
        first="    ",
        indent=4,
    )
    if each.invalid:
        removed = f"lastgood prune {shlex.quote(each.name)}"
        screen.say(
            f"INVALID: dropping it was interrupted, and it can only be removed: {removed}", first="    ", indent=4
        )
    if each.undo_command:
        screen.say(each.undo_command, first="    ", indent=4)
        screen.say(f"lastgood facts {shlex.quote(each.name)} shows its contents", first="    ", indent=4)
