"""What people elsewhere are told: what happened to which database, in which state it is, what was lost, what to do
next, who does it and where. Short enough for a phone at night; the same in plain text and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.config.tables.notifying import Event, Kind
from lastgood.errors import (
    BadPoint,
    ChecksFailed,
    ChecksFailedAfterSwap,
    Interrupted,
    LastgoodError,
    NotStarted,
    NotTakenBack,
    Refused,
    Stopped,
    TakenBack,
)
from lastgood.notifications import Message
from lastgood.plan.plan import Plan, TableLoss
from lastgood.run.report import FinishReport, Report
from lastgood.screen import markdown
from lastgood.text import units
from lastgood.text.visible import visible_lines
from lastgood.undo import UndoPlan, UndoReport

NAMED = 3
LONGEST = 1200
_DOING: dict[Kind, str] = {"rollback": "rollback", "undo": "undo", "deploy": "deployment", "drill": "drill"}


@dataclass(frozen=True, slots=True)
class Story:
    """One thing to tell. ``title`` says it in a few words, without the database's name; ``happened`` in a sentence or
    two. ``state``: of the live database; ``lost``: which writes it lacks, and where they are; ``next``: what the
    reader may or must do. ``figures``: pairs for the last line. Empty ones are left out."""

    events: frozenset[Event]
    title: str
    happened: str
    state: str = ""
    lost: str = ""
    next: str = ""
    figures: tuple[tuple[str, str], ...] = ()


def message(story: Story, kind: Kind, name: str, figures: Sequence[tuple[str, str]]) -> Message:
    """The story of the database ``name``, with ``figures`` (the run, who, where) behind its own."""
    title = f"{name}: {story.title}" if name else story.title
    parts = [("", story.happened), ("State", story.state), ("Lost", story.lost), ("Next", story.next)]
    parts = [(label, _short(said)) for label, said in parts if said]
    known = [(label, said) for label, said in (*story.figures, *figures) if said]
    plain = [f"{label}: {visible_lines(said)}" if label else visible_lines(said) for label, said in parts]
    plain.append("\n".join(f"{label}: {markdown.one_line(said)}" for label, said in known))
    marked = [f"**{label}:** {_marked(said)}" if label else _marked(said) for label, said in parts]
    marked.append(markdown.bullets(f"{label}: {markdown.text(said)}" for label, said in known))
    written = markdown.document(*marked)
    from lastgood.screen import page  # only who tells something pays for it

    return Message(
        events=story.events,
        kind=kind,
        title=_calling_nobody(markdown.one_line(title)),
        text=_calling_nobody("\n\n".join(each for each in plain if each) + "\n"),
        markdown=_calling_nobody(written),
        html=_calling_nobody(page.fragment(written)),
    )


def _calling_nobody(text: str) -> str:
    """Chats call everybody who is there by these words, whoever writes them; a name of a database may have them."""
    return re.sub(r"@(?=everyone|here|channel|all\b)", "@\u200b", text)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _marked(text: str) -> str:
    return "\\\n".join(markdown.text(line) for line in text.strip().splitlines())


def rollback_begun(plan: Plan) -> Story:
    """Before anything is changed."""
    point = plan.point
    meanwhile = {
        "now": f'"{plan.live}" can be read until the switch; writers wait from now on.',
        "at-swap": f'"{plan.live}" can be read and written until the switch.',
    }[plan.fence]
    expected = units.roughly(plan.expected_seconds) if plan.expected_seconds is not None else ""
    return Story(
        events=frozenset({"start"}),
        title="rollback started",
        happened=f'"{plan.live}" goes back to {Path(point.path).name}, made {units.moment(point.made_at)} '
        f"({units.ago(point.made_at, plan.made_at)}).",
        state=f"Nothing has been changed so far. {meanwhile}",
        lost=lost(plan.loss, plan.kept),
        next="Nothing to do. lastgood status shows whether it is at work.",
        figures=(("Expected", expected),),
    )


def rollback_resumed(live: str) -> Story:
    """A run that had stopped goes on."""
    return Story(
        events=frozenset({"start"}),
        title="rollback goes on",
        happened=f'The rollback of "{live}", which had stopped in between, goes on.',
    )


def rolled_back(report: Report, plan: Plan | None) -> Story:
    """It is done. ``plan``: where it is at hand, what is lost can be said by table."""
    point, seconds = report.point, report.seconds
    rows = sum(table.rows for table in report.tables)
    all_equal = all(table.equal is True for table in report.tables)
    said = "" if plan is None else lost(plan.loss, plan.kept)
    written = report.fence.writes_after
    if written:
        said += f" Written during the rollback: at most {units.counted(written, 'row')}; they are there too."
    return Story(
        events=frozenset({"success"}),
        title=f"rolled back to {units.moment(point.made_at)}",
        happened=f'"{report.live}" is back at {Path(point.path).name}, made {units.moment(point.made_at)}. '
        f"Its {units.counted(len(report.tables), 'table')} with {units.counted(rows, 'row')} "
        + ("equal the restore point in every row." if all_equal else "were compared with the restore point."),
        state=f'"{report.live}" is the restored database, and open. What it was until now is kept as "{report.kept}".',
        lost=said.strip() or f'What was written since the restore point is in "{report.kept}".',
        next=f"To take it back: {report.undo_command}",
        figures=(
            ("Took", units.duration(seconds.total)),
            ("Writers waited", units.duration(seconds.write_outage)),
            ("Readers waited", units.duration(seconds.read_outage)),
        ),
    )


def resumed(report: Report | FinishReport) -> Story:
    """A run that went on, to its end."""
    return finished(report) if isinstance(report, FinishReport) else rolled_back(report, None)


def finished(report: FinishReport) -> Story:
    """What was left for after the reopening is done."""
    return Story(
        events=frozenset({"success"}),
        title="rollback finished",
        happened=f'"{report.live}" lacks nothing any more: what was left for after the reopening is done.',
        state=f'"{report.live}" is the restored database, and open.',
        figures=(("Took", units.duration(report.seconds)),),
    )


def aborted(document: dict[str, Any]) -> Story:
    """A run that had stopped was walked back."""
    again = " The application was started again." if document["application"] == "started" else ""
    return Story(
        events=frozenset({"success", "undo"}),
        title="rollback aborted, database unchanged",
        happened=f'The rollback {document["run"]} of "{document["live"]}" was walked back to where it began.',
        state=f'"{document["live"]}" was not touched, and is open.{again}',
        next="It is still as it was before the rollback. To try again: lastgood rollback",
    )


def undo_begun(plan: UndoPlan) -> Story:
    """Before the switch back."""
    return Story(
        events=frozenset({"start"}),
        title="undo started",
        happened=f'"{plan.live}" becomes again what it was before run {plan.undoes}.',
        state="Nothing has been changed so far.",
    )


def undone(report: UndoReport) -> Story:
    """What was live before is live again."""
    return Story(
        events=frozenset({"success", "undo"}),
        title="rollback taken back",
        happened=f'"{report.live}" is again what it was before run {report.undoes}.',
        state=f'"{report.live}" is open. What it was until now is kept as "{report.kept}".',
        lost=f'What was written since run {report.undoes} is in "{report.kept}".',
        next=f"To take this back too: {report.undo_command}",
        figures=(("Readers waited", units.duration(report.seconds["read_outage"])),),
    )


def failed(error: LastgoodError, kind: Kind, live: str) -> Story:
    """An error, as the operator at the terminal sees it."""
    events: set[Event] = {"failure"}
    if isinstance(error, ChecksFailedAfterSwap | TakenBack):
        events.add("undo")
    return Story(
        events=frozenset(events),
        title=_failing(error, _DOING[kind]),
        happened=f'The {_DOING[kind]} of "{live}": {error.message}.',
        state=error.state,
        next=error.hint,
    )


def _failing(error: LastgoodError, doing: str) -> str:
    if isinstance(error, NotStarted):
        return "the application is stopped and could not be started"
    if isinstance(error, ChecksFailed):
        return "restored, but the application does not work with it"
    if isinstance(error, ChecksFailedAfterSwap):
        return f"{doing} taken back, the application did not work"
    if isinstance(error, TakenBack):
        return f"{doing} failed and was taken back"
    if isinstance(error, NotTakenBack):
        return f"{doing} FAILED and was not taken back"
    if isinstance(error, Stopped):
        return f"{doing} stopped in between"
    if isinstance(error, Refused):
        return f"{doing} refused, nothing changed"
    if isinstance(error, Interrupted):
        return f"{doing} interrupted"
    if isinstance(error, BadPoint):
        return f"{doing} failed, the restore point can't be used"
    if error.exit_status == 5:
        return f"{doing} failed, " + ("database unchanged" if doing == _DOING["deploy"] else "nothing switched")
    return f"{doing} broke off"


def killed(kind: Kind, live: str, run: str) -> Story:
    """What is told when lastgood is gone without a word: by the program beside it, so it must be known beforehand."""
    nexts = {
        "rollback": f"lastgood status, then lastgood resume {run} to go on or lastgood abort {run} to walk back",
        "undo": "lastgood status",
        "deploy": "lastgood status, then lastgood recover",
        "drill": "Nothing to do for the live database.",
    }
    state = f'"{live}" is either as it was or fully switched, never in between; lastgood status tells which.'
    return Story(
        events=frozenset({"failure"}),
        title=f"{_DOING[kind]} broke off, lastgood was killed",
        happened=f'lastgood was killed during the {_DOING[kind]} of "{live}".',
        state={"drill": f'A drill works on a server of its own: "{live}" was not touched.'}.get(kind, state),
        next=nexts[kind],
    )


def test(target: str) -> Story:
    """That messages arrive."""
    return Story(
        events=frozenset(),
        title="a test of lastgood's notifications",
        happened=f'This is a test: messages to "{target}" arrive.',
        state="No database was touched.",
        next="Nothing to do.",
    )


def lost(losses: Sequence[TableLoss], kept_as: str) -> str:
    """Which rows of the live database the restored one lacks, by what is known of them, and where they stay."""
    said = list(_lost(losses))
    kept = f'All of it stays in "{kept_as}".'
    if not said and losses and all(each.content == "equal" or each.live_rows is None for each in losses):
        return f"Nothing: no row of it differs from the restore point. {kept}"
    if not said:
        return f"By numbers of rows and time stamps nothing; rows changed in place go back too. {kept}"
    return f"{'; '.join(said)}. {kept}"


def _lost(losses: Sequence[TableLoss]) -> Iterator[str]:
    # Where no time stamp tells, the difference of the numbers of rows does.
    rows = {_named(each): _rows(each) for each in losses if each.point_rows is not None}
    rows = {name: count for name, count in rows.items() if count}
    if rows:
        most = sorted(rows, key=lambda name: -rows[name])
        named = ", ".join(f"{name} {units.number(rows[name])}" for name in most[:NAMED])
        more = f" and {units.counted(len(most) - NAMED, 'other table')}" if len(most) > NAMED else ""
        yield f"{units.counted(sum(rows.values()), 'row')} written since the restore point ({named}{more})"
    changed = [_named(each) for each in losses if each.in_place and not _rows(each)]
    if changed:
        more = f" and {units.number(len(changed) - NAMED)} more" if len(changed) > NAMED else ""
        yield f"rows changed in place in {', '.join(changed[:NAMED])}{more}"
    gone = [each for each in losses if each.point_rows is None]
    if gone:
        named = ", ".join(_named(each) for each in gone[:NAMED])
        more = f" and {units.number(len(gone) - NAMED)} more" if len(gone) > NAMED else ""
        yield f"{units.counted(len(gone), 'table')} made since it ({named}{more})"


def _rows(loss: TableLoss) -> int:
    if loss.written_since is not None:
        return max(loss.written_since, (loss.live_rows or 0) - (loss.point_rows or 0))
    return max(0, (loss.live_rows or 0) - (loss.point_rows or 0))


def _named(loss: TableLoss) -> str:
    return loss.name if loss.schema_name == "public" else f"{loss.schema_name}.{loss.name}"
