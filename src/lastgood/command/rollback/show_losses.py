"""The losses of a plan: the tables that change, what comes back to life, what the outside world knows, and the line
that the operator decides by."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lastgood.checklist import BACKUP
from lastgood.plan.loss import OutsideReference, Revival, RevivalKind, TableLoss, Totals
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

if TYPE_CHECKING:
    from lastgood.plan.plan import Plan

# More tables than this fill a screen. The rest is counted; the JSON document lists all tables.
SHOWN = 30
NAMED = 5
LOSS = "red"
CHANGE = "yellow"
COLUMNS = (
    TableColumn("table", fold=True),
    TableColumn("rows now", right=True, drop=2),
    TableColumn("restored", right=True, drop=1),
    TableColumn("lost", right=True, style=LOSS),
    TableColumn("returns", right=True),
    TableColumn("changed", right=True, style=CHANGE),
)
BACK_TO_LIFE: dict[RevivalKind, str] = {
    "person": "People who were deleted since return; delete those again who asked for it",
    "consent": "Consents that were revoked since are valid again",
    "access": "Sessions, tokens and rights of users that were ended since are valid again",
    "queue": "Work that was done since is done again: messages, calls of other systems",
    "schedule": "Jobs that were removed or changed since run again as before",
    "grant": "Grants that were revoked since are in force again",
}


def losses(screen: Screen, plan: Plan) -> None:
    """Print the tables that change, and everything that follows from that."""
    changed = sorted((loss for loss in plan.loss if loss.differs), key=lambda loss: loss.weight, reverse=True)
    screen.heading(f'Changes to "{plan.live}"')
    if not plan.loss:
        unread = any(finding.code == "cannot_read" for finding in plan.findings)
        text = "The tables could not be compared." if unread else "No tables: neither side has any."
        screen.say(text, first="  ", indent=2)
    elif changed:
        screen.table(COLUMNS, [_loss(loss) for loss in changed[:SHOWN]])
        screen.more(len(changed), SHOWN, "table")
        _same(screen, plan.loss, other="other ")
        backup = "" if plan.checklist.override(BACKUP) else " and in the emergency backup"
        screen.say(f'All lost rows remain in "{plan.kept}"{backup}.', first="  ", indent=2)
    else:
        _same(screen, plan.loss)
    if plan.revivals:
        screen.heading("Comes back to life")
        for text in revivals(plan.revivals):
            screen.say(text, first="  ", indent=4)
    if plan.outside:
        screen.heading("The outside world knows these")
        for text in outside(plan.outside):
            screen.say(text, first="  ", indent=4)
        first = plan.outside[0].table
        command = f"lastgood diff {shlex.quote(plan.point.path)} --rows --table {shlex.quote(first)}"
        screen.say("Other systems keep what they recorded for these rows. To see the rows:", first="  ", indent=2)
        screen.say(command, first="    ", indent=6)


def revivals(found: Sequence[Revival]) -> Iterator[str]:
    """Yield a sentence for each kind."""
    for kind, meaning in BACK_TO_LIFE.items():
        of_kind = [each for each in found if each.kind == kind]
        if of_kind:
            yield f"{meaning}: {units.listed(map(_revival, of_kind), NAMED, '; ')}."


def _revival(each: Revival) -> str:
    if each.kind == "grant":
        return each.what
    if each.returns is None:
        return f"{each.what} (not counted)"
    rows = [f"{units.number(each.returns)} return"] if each.returns else []
    rows += [f"{units.number(each.changed)} change back"] if each.changed else []
    return f"{each.what} ({', '.join(rows)})"


def outside(found: Sequence[OutsideReference]) -> Iterator[str]:
    """Yield the rows of each table."""
    for each in found[:SHOWN]:
        rows = "rows (not counted)" if each.rows is None else units.counted(each.rows, "row")
        yield f"{rows} of {each.table}, by {', '.join(each.columns)}"
    if len(found) > SHOWN:
        yield f"and {units.counted(len(found) - SHOWN, 'more table')}; --json lists all of them"


def decision(plan: Plan) -> str:
    """The line that carries the decision: how far back, the rows that go, change and come back, and who waits."""
    back = max(0.0, (plan.made_at - plan.point.made_at).total_seconds())
    when = f"Goes back {units.duration(back)} (to {_short(plan.point.made_at, plan.made_at)})"
    rows = Totals.of(plan.loss).summary if plan.loss else ""
    return " · ".join(part for part in (when, rows, _wait(plan)) if part)


def style(plan: Plan) -> str:
    """The colour of the decision: that of a loss if a row is lost."""
    totals = Totals.of(plan.loss)
    return f"bold {LOSS}" if totals.lost else f"bold {CHANGE}" if totals.changed or not totals.exact else "bold"


def _short(when: datetime, now: datetime) -> str:
    """``02:00 UTC`` on the same day, ``2025-11-04 02:00 UTC`` on another."""
    when, now = when.astimezone(UTC), now.astimezone(UTC)
    return f"{when:%H:%M} UTC" if when.date() == now.date() else f"{when:%Y-%m-%d %H:%M} UTC"


def _wait(plan: Plan) -> str:
    if plan.fence == "at-swap" or plan.way == "in-place":
        return "writers wait for the switch only"
    if plan.expected_seconds is not None:
        return f"writers wait {units.roughly(max(plan.expected_seconds, plan.expected_backup_seconds or 0.0))}"
    return f"writers wait {units.between(*plan.expected_between)} (a guess)" if plan.expected_between else ""


def expected(plan: Plan) -> str:
    """The duration: from earlier runs on the server; otherwise a range, said to be one."""
    if plan.expected_seconds is None:
        if plan.expected_between is None:
            return "unknown"
        between = units.between(*plan.expected_between)
        return f"no estimate yet: no large load was measured on this server; by the size, {between}"
    if plan.expected_backup_seconds is None:
        return f"{units.roughly(plan.expected_seconds)} to build and prove it, based on earlier runs on this server"
    both = max(plan.expected_seconds, plan.expected_backup_seconds)
    return f"{units.roughly(both)} until the switch, based on earlier runs on this server"


def _same(screen: Screen, found: Sequence[TableLoss], other: str = "") -> None:
    """Print the number of equal tables, and what was not compared or counted, with the reason."""
    if equal := sum(loss.content == "equal" and not loss.differs for loss in found):
        table = units.counted(equal, f"{other}table equals", f"{other}tables equal")
        screen.say(f"{table} the restore point in every row.", first="  ", indent=2)
    for text in (*_columns(found), *_not_compared(found), *_not_counted(found)):
        screen.say(text, first="  ", indent=2)


def _columns(found: Sequence[TableLoss]) -> Iterator[str]:
    """Yield the columns that only one side has."""
    for loss in [each for each in found if each.columns_lost or each.columns_back][:SHOWN]:
        gone = [f"loses {', '.join(loss.columns_lost)}"] if loss.columns_lost else []
        back = [f"gets {', '.join(loss.columns_back)} back"] if loss.columns_back else []
        yield f"Columns: {loss.table} {' and '.join([*gone, *back])}."


def _by_reason(found: Sequence[TableLoss], chosen: Callable[[TableLoss], bool]) -> Iterator[tuple[str, str]]:
    """Yield the names of the chosen tables, and the reason that they share."""
    by_reason: dict[str, list[str]] = {}
    for loss in found:
        if chosen(loss):
            by_reason.setdefault(loss.why, []).append(loss.table)
    for why, names in by_reason.items():
        more = f" and {units.counted(len(names) - NAMED, 'more table')}" if len(names) > NAMED else ""
        yield f"{', '.join(names[:NAMED])}{more}", why


def _not_counted(found: Sequence[TableLoss]) -> Iterator[str]:
    for names, why in _by_reason(found, lambda loss: loss.content == "changed" and not loss.counted and bool(loss.why)):
        yield f"Rows not counted: {names} ({why})."


def _not_compared(found: Sequence[TableLoss]) -> Iterator[str]:
    for names, why in _by_reason(found, lambda loss: loss.content == "not compared" and not loss.differs):
        yield (
            f"Compared by row count only: {names} ({why}). Rows changed in place are not shown here, but are reverted."
        )


def _loss(loss: TableLoss) -> tuple[str, ...]:
    live, point = loss.live_rows, loss.point_rows
    rows_now = "none" if live is None else units.number(live)
    return (
        loss.table,
        f"~ {rows_now}" if loss.estimated else rows_now,
        "none" if point is None else units.number(point),
        *rows_of(loss),
    )


def rows_of(loss: TableLoss) -> tuple[str, str, str]:
    """The rows that go, come back and change: exact numbers, or what the counts of both sides show."""
    if loss.unreadable:
        return "damaged", "", ""
    if loss.not_in_dumps and loss.live_rows == loss.point_rows:
        return "0", "0", f"{units.number(loss.not_in_dumps)} copied over"
    if loss.counted:
        changed = "no key" if loss.changed is None else units.number(loss.changed)
        return units.number(loss.lost or 0), units.number(loss.returns or 0), changed
    lost, returns, _ = loss.at_least
    return at_least(lost), at_least(returns), "?"


def at_least(rows: int) -> str:
    """A minimum: ``≥ 12``; ``?`` where nothing is known."""
    return f"≥ {units.number(rows)}" if rows > 0 else "?"
