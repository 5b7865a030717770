"""The content of notifications: the event, the database and its state, the loss, the next step, the user and the host.
Short enough for a phone; the same in plain text and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.config.tables.application import Event, Kind
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
from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import Plan, Way
from lastgood.plan.undo_plan import UndoPlan
from lastgood.run.report import FinishReport, Report
from lastgood.screen import markdown
from lastgood.text import units
from lastgood.text.redact import visible_lines
from lastgood.undo import UndoReport

MOST_NAMED = 3
MOST_CHARACTERS = 1200
PROCEDURES: dict[Kind, str] = {"rollback": "rollback", "undo": "undo", "deploy": "deployment", "drill": "drill"}


@dataclass(frozen=True, slots=True)
class Story:
    """The content of one notification. ``title``: a few words without the database's name. ``event``: a sentence or
    two. ``state``: of the live database. ``loss``: the writes that it lacks, and where they are. ``next``: the next
    step. ``figures``: pairs for the last line. Empty ones are left out."""

    events: frozenset[Event]
    title: str
    event: str
    state: str = ""
    loss: str = ""
    next: str = ""
    figures: tuple[tuple[str, str], ...] = ()


def message(story: Story, kind: Kind, name: str, figures: Sequence[tuple[str, str]]) -> Message:
    """Build the message for the database ``name``, with ``figures`` (run, user, host) after those of the story."""
    title = f"{name}: {story.title}" if name else story.title
    parts = [("", story.event), ("State", story.state), ("Lost", story.loss), ("Next", story.next)]
    parts = [(label, _short(text)) for label, text in parts if text]
    pairs = [(label, text) for label, text in (*story.figures, *figures) if text]
    plain = [f"{label}: {visible_lines(text)}" if label else visible_lines(text) for label, text in parts]
    plain.append("\n".join(f"{label}: {markdown.one_line(text)}" for label, text in pairs))
    marked = [f"**{label}:** {_as_markdown(text)}" if label else _as_markdown(text) for label, text in parts]
    marked.append(markdown.bullets(f"{label}: {markdown.text(text)}" for label, text in pairs))
    document = markdown.document(*marked)
    from lastgood.screen import page  # imported only for notifications, because it is slow

    return Message(
        events=story.events,
        kind=kind,
        title=_without_mentions(markdown.one_line(title)),
        text=_without_mentions("\n\n".join(each for each in plain if each) + "\n"),
        markdown=_without_mentions(document),
        html=_without_mentions(page.fragment(document)),
    )


def _without_mentions(text: str) -> str:
    """Disable mentions that notify a whole channel: a database name may contain one."""
    return re.sub(r"@(?=everyone|here|channel|all\b)", "@\u200b", text)


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _as_markdown(text: str) -> str:
    return "\\\n".join(markdown.text(line) for line in text.strip().splitlines())


def rollback_begun(plan: Plan) -> Story:
    """The notification before anything is changed."""
    point = plan.point
    meanwhile = {
        "now": f'"{plan.live}" is readable until the switch; writes are blocked from now on.',
        "at-swap": f'"{plan.live}" is readable and writable until the switch.',
    }[plan.fence]
    expected = units.roughly(plan.expected_seconds) if plan.expected_seconds is not None else ""
    return Story(
        events=frozenset({"start"}),
        title="rollback started",
        event=f'"{plan.live}" is being rolled back to {Path(point.path).name}, made {units.moment(point.made_at)} '
        f"({units.ago(point.made_at, plan.made_at)}).",
        state=f"Nothing was changed yet. {meanwhile}",
        loss=loss_summary(plan.loss, plan.kept, plan.way),
        next="No action needed. lastgood status shows the progress.",
        figures=(("Expected", expected),),
    )


def rollback_resumed(live: str) -> Story:
    """The notification when an interrupted run is resumed."""
    return Story(
        events=frozenset({"start"}),
        title="rollback resumed",
        event=f'The interrupted rollback of "{live}" was resumed.',
    )


def rolled_back(report: Report, plan: Plan | None) -> Story:
    """The notification of a completed rollback. With ``plan``, the loss is given per table."""
    point, seconds = report.point, report.seconds
    rows = sum(table.rows for table in report.tables)
    all_equal = all(table.equal is True for table in report.tables)
    loss = "" if plan is None else loss_summary(plan.loss, plan.kept, plan.way)
    written = report.fence.writes_after
    if written:
        loss += f" At most {units.counted(written, 'row')} written during the rollback; kept there, too."
    return Story(
        events=frozenset({"success"}),
        title=f"rolled back to {units.moment(point.made_at)}",
        event=f'"{report.live}" was rolled back to {Path(point.path).name}, made {units.moment(point.made_at)}. '
        f"Its {units.counted(len(report.tables), 'table')} with {units.counted(rows, 'row')} "
        + ("equal the restore point in every row." if all_equal else "were compared with the restore point."),
        state=f'"{report.live}" is restored and open. ' + _kept_sentence("The previous", report.way, report.kept),
        loss=loss.strip() or f"Rows written since the restore point are in {_place(report.way, report.kept)}.",
        next=f"To undo: {report.undo_command}",
        figures=(
            ("Duration", units.duration(seconds.total)),
            ("Write outage", units.duration(seconds.write_outage)),
            ("Read outage", units.duration(seconds.read_outage)),
        ),
    )


def resumed(report: Report | FinishReport) -> Story:
    """The notification of a resumed run at its end."""
    return finished(report) if isinstance(report, FinishReport) else rolled_back(report, None)


def finished(report: FinishReport) -> Story:
    """The notification when the deferred work is done."""
    return Story(
        events=frozenset({"success"}),
        title="rollback finished",
        event=f'"{report.live}" is complete: the work deferred until after the switch is done.',
        state=f'"{report.live}" is restored and open.',
        figures=(("Duration", units.duration(report.seconds)),),
    )


def aborted(document: dict[str, Any]) -> Story:
    """The notification of an aborted run."""
    started = " The application was started again." if document["application"] == "started" else ""
    return Story(
        events=frozenset({"success", "undo"}),
        title="rollback aborted, database unchanged",
        event=f'Rollback {document["run"]} of "{document["live"]}" was aborted.',
        state=f'"{document["live"]}" was not touched and is open.{started}',
        next="The cause of the rollback still exists. To try again: lastgood rollback",
    )


def undo_begun(plan: UndoPlan) -> Story:
    """The notification before an undo."""
    return Story(
        events=frozenset({"start"}),
        title="undo started",
        event=f'Run {plan.undoes} of "{plan.live}" is being undone.',
        state="Nothing was changed yet.",
    )


def undone(report: UndoReport) -> Story:
    """The notification of a completed undo."""
    return Story(
        events=frozenset({"success", "undo"}),
        title="rollback undone",
        event=f'"{report.live}" '
        + ("has the objects from before" if report.way == "in-place" else "is again the database from before")
        + f" run {report.undoes}"
        + (" again." if report.way == "in-place" else "."),
        state=f'"{report.live}" is open. ' + _kept_sentence("The replaced", report.way, report.kept),
        loss=f"Rows written since run {report.undoes} are in {_place(report.way, report.kept)}.",
        next=f"To undo this undo: {report.undo_command}",
        figures=(("Read outage", units.duration(report.seconds["read_outage"])),),
    )


def _kept_sentence(which: str, way: Way, name: str) -> str:
    if way == "in-place":
        return f"{which} objects are kept in {_place(way, name)}."
    return f'{which} database is kept as "{name}".'


def _place(way: Way, name: str) -> str:
    return f'the schemas "{name}"' if way == "in-place" else f'"{name}"'


def failed(error: LastgoodError, kind: Kind, live: str) -> Story:
    """The notification of an error, as shown at the terminal."""
    events: set[Event] = {"failure"}
    if isinstance(error, ChecksFailedAfterSwap | TakenBack):
        events.add("undo")
    return Story(
        events=frozenset(events),
        title=_failure_title(error, PROCEDURES[kind]),
        event=f'The {PROCEDURES[kind]} of "{live}": {error.message}.',
        state=error.state,
        next=error.hint,
    )


def _failure_title(error: LastgoodError, doing: str) -> str:
    if isinstance(error, NotStarted):
        return "the application is stopped and did not start"
    if isinstance(error, ChecksFailed):
        return "restored, but the application checks failed"
    if isinstance(error, ChecksFailedAfterSwap):
        return f"{doing} undone, application checks failed"
    if isinstance(error, TakenBack):
        return f"{doing} failed and was rolled back"
    if isinstance(error, NotTakenBack):
        return f"{doing} FAILED and was not rolled back"
    if isinstance(error, Stopped):
        return f"{doing} interrupted, to be resumed or aborted"
    if isinstance(error, Refused):
        return f"{doing} refused, nothing changed"
    if isinstance(error, Interrupted):
        return f"{doing} interrupted"
    if isinstance(error, BadPoint):
        return f"{doing} failed, the restore point is unusable"
    if error.exit_status == 5:
        return f"{doing} failed, " + ("database unchanged" if doing == PROCEDURES["deploy"] else "nothing switched")
    return f"{doing} terminated unexpectedly"


def killed(kind: Kind, live: str, run: str) -> Story:
    """The notification if lastgood is killed. A separate process sends it, so the text is prepared in advance."""
    next_steps = {
        "rollback": f"Run lastgood status, then lastgood resume {run} or lastgood abort {run}",
        "undo": "Run lastgood status.",
        "deploy": "Check the state with lastgood status, then run: lastgood recover",
        "drill": "No action needed for the live database.",
    }
    state = f'"{live}" is either unchanged or fully switched, never in between; lastgood status shows which.'
    return Story(
        events=frozenset({"failure"}),
        title=f"{PROCEDURES[kind]} terminated, lastgood was killed",
        event=f'lastgood was killed during the {PROCEDURES[kind]} of "{live}".',
        state={"drill": f'A drill uses a scratch server: "{live}" was not touched.'}.get(kind, state),
        next=next_steps[kind],
    )


def test(target: str) -> Story:
    """The test message."""
    return Story(
        events=frozenset(),
        title="test of lastgood notifications",
        event=f'This is a test: notifications to "{target}" work.',
        state="No database was touched.",
        next="No action needed.",
    )


def loss_summary(losses: Sequence[TableLoss], kept_as: str, way: Way = "by-name") -> str:
    """Describe the rows that the restored database lacks, and where they are kept."""
    parts = list(_loss_parts(losses))
    place = f"Everything is kept in {_place(way, kept_as)}."
    if not parts and losses and all(each.content == "equal" or each.live_rows is None for each in losses):
        return f"Nothing: no row differs from the restore point. {place}"
    if not parts:
        return f"Nothing by row counts and time stamps; changes to existing rows are reverted, too. {place}"
    return f"{'; '.join(parts)}. {place}"


def _loss_parts(losses: Sequence[TableLoss]) -> Iterator[str]:
    # Without time stamps, the difference of the row counts is used.
    rows = {_table_name(each): _rows(each) for each in losses if each.point_rows is not None}
    rows = {name: count for name, count in rows.items() if count}
    if rows:
        largest = sorted(rows, key=lambda name: -rows[name])
        names = ", ".join(f"{name} {units.number(rows[name])}" for name in largest[:MOST_NAMED])
        more = f" and {units.counted(len(largest) - MOST_NAMED, 'other table')}" if len(largest) > MOST_NAMED else ""
        yield f"{units.counted(sum(rows.values()), 'row')} written since the restore point ({names}{more})"
    reverted = {_table_name(each): each.changed for each in losses if each.changed}
    if reverted:
        largest = sorted(reverted, key=lambda name: -reverted[name])
        names = ", ".join(f"{name} {units.number(reverted[name])}" for name in largest[:MOST_NAMED])
        more = f" and {units.counted(len(largest) - MOST_NAMED, 'other table')}" if len(largest) > MOST_NAMED else ""
        yield f"{units.counted(sum(reverted.values()), 'row')} changed since the restore point ({names}{more})"
    changed = [_table_name(each) for each in losses if each.in_place and not each.counted and not _rows(each)]
    if changed:
        more = f" and {units.number(len(changed) - MOST_NAMED)} more" if len(changed) > MOST_NAMED else ""
        yield f"rows changed in place in {', '.join(changed[:MOST_NAMED])}{more}"
    created = [each for each in losses if each.point_rows is None]
    if created:
        names = ", ".join(_table_name(each) for each in created[:MOST_NAMED])
        more = f" and {units.number(len(created) - MOST_NAMED)} more" if len(created) > MOST_NAMED else ""
        yield f"{units.counted(len(created), 'table')} created since then ({names}{more})"


def _rows(loss: TableLoss) -> int:
    if loss.lost is not None:
        return loss.lost
    if loss.written_since is not None:
        return max(loss.written_since, (loss.live_rows or 0) - (loss.point_rows or 0))
    return max(0, (loss.live_rows or 0) - (loss.point_rows or 0))


def _table_name(loss: TableLoss) -> str:
    return loss.name if loss.schema_name == "public" else f"{loss.schema_name}.{loss.name}"
