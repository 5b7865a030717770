"""The checklist after a rollback: measured where possible, attested by people otherwise.

Attestations are appended to the run's journal. The verdicts of ``lastgood validate`` are read from its journals.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from lastgood import points
from lastgood.command.report.document import After, Holding, ItemAfter
from lastgood.command.report.holdings import ServerMarks
from lastgood.config.tables import RecordSettings
from lastgood.errors import NOT_REACHED, LastgoodError, Refused, UsageError
from lastgood.journal import JOURNAL_ERRORS, Journal, caller, incidents, past_runs
from lastgood.journal.incidents import MOST_JOURNALS, POST_MORTEM, Incident
from lastgood.journal.reader import entries
from lastgood.text import units

TITLES = {
    "writers": "Writers can write: the database is open, nothing blocks them",
    "health": "The application is healthy",
    "validation": "The data was validated since",
    "previous_database": "The previous database is kept",
    "emergency_backup": "The emergency backup exists",
    "restore_point": "The restore point is kept",
    "backup": "A backup was made since",
    "drill": "The procedure was rehearsed since, or a drill is planned",
    "users": "Users were informed",
    "retention": "The retention of backups was reviewed",
    POST_MORTEM: "The post-mortem was written",
}
# Items that cannot be measured when the server does not answer.
ON_THE_SERVER = ("writers", "previous_database")


@dataclass(frozen=True, slots=True)
class MeasuredItem:
    """A measured item: whether it is done, a text about it, and the ``command`` that completes it."""

    done: bool
    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources that the items are measured by."""

    incident: Incident
    seen: ServerMarks
    holdings: Sequence[Holding]
    state: Path
    store: Path
    healthy: MeasuredItem | None = None


def after(evidence: Sources, settings: RecordSettings) -> After:
    """Return the current checklist."""
    incident = evidence.incident
    own = {name: name for name in settings.checklist if name not in TITLES}
    # The post-mortem comes last, because it closes the incident.
    titles = {**TITLES, **own}
    titles[POST_MORTEM] = titles.pop(POST_MORTEM)
    trouble = evidence.seen.problem
    items = [
        _item(name, title, _measured(name, evidence), incident, trouble if name in ON_THE_SERVER else "")
        for name, title in titles.items()
    ]
    due = incident.due(settings.post_mortem_within) if settings.post_mortem_within else None
    return After(items=tuple(items), due=due, overdue=due is not None and incident.is_open and datetime.now(UTC) > due)


def _item(name: str, title: str, measured: MeasuredItem | None, incident: Incident, unknown: str = "") -> ItemAfter:
    if measured is not None and measured.done:
        return ItemAfter(item=name, title=title, done=True, source="measured", text=measured.text)
    answer = incident.answers.get(name)
    if answer is not None:
        return ItemAfter(
            item=name, title=title, done=True, source=f"attested by {answer.by}", text=answer.note, at=answer.at
        )
    if measured is not None:
        return ItemAfter(
            item=name, title=title, done=False, source="measured", text=measured.text, command=measured.command
        )
    text = f"unknown: {unknown}" if unknown else "not attested yet"
    return ItemAfter(item=name, title=title, done=False, source="unknown", text=text)


def _measured(name: str, evidence: Sources) -> MeasuredItem | None:
    incident = evidence.incident
    if name == "writers":
        return _writers(evidence.seen)
    if name == "health":
        return evidence.healthy
    if name == "validation":
        found = newest(evidence.state, incident.live, incident.ended)
        if found is None:
            return MeasuredItem(False, "no validation since", "lastgood validate --full")
        text = f"{found.verdict} ({found.mode}), {units.moment(found.at)}, by {found.by}"
        return MeasuredItem(found.verdict == "GO", text, "lastgood validate --full")
    if name == "backup":
        return _backup(evidence)
    if name == "drill":
        runs = past_runs.past_runs(evidence.state, incident.live)
        drill = next((each for each in runs if each.kind == "drill" and each.at > incident.ended), None)
        if drill is None:
            return MeasuredItem(False, "no drill since", "lastgood drill")
        return MeasuredItem(True, f"drill {drill.run}, {units.moment(drill.at)}")
    held = next((each for each in evidence.holdings if each.what == name.replace("_", " ")), None)
    if held is None or held.now == "unknown":
        return None
    return MeasuredItem(
        held.now == "present", f'"{held.name}" is {held.now}' + (f": {held.detail}" if held.detail else "")
    )


def _writers(seen: ServerMarks) -> MeasuredItem | None:
    status = seen.status
    if status is None:
        return None
    obstacles = []
    if not status.live.open:
        obstacles.append("the database is closed to new connections")
    if status.fence is not None:
        obstacles.append(f"session {status.fence.pid} blocks writers")
    if status.application is not None and status.application.state == "stopped":
        obstacles.append("the application is stopped")
    if any(pool.paused for pool in status.pools):
        obstacles.append("PgBouncer pauses clients")
    text = "; ".join(obstacles) or "open, and no session blocks writers"
    return MeasuredItem(not obstacles, text, "lastgood maintenance off")


def _backup(evidence: Sources) -> MeasuredItem:
    incident, made = evidence.incident, None
    try:
        ours = (p for p in points.list_points(evidence.store) if not p.is_emergency and not p.problem)
        made = next(
            (
                p
                for p in ours
                if p.made_at > incident.ended and (p.manifest is None or p.manifest.database == incident.live)
            ),
            None,
        )
    except (LastgoodError, OSError):
        pass
    if made is None:
        return MeasuredItem(False, f'none in "{evidence.store}"', "lastgood backup")
    return MeasuredItem(True, f"{made.path.name}, {units.moment(made.made_at)}")


def answer(state: Path, run: str, items: Sequence[str], person: str, note: str, settings: RecordSettings) -> None:
    """Record that ``person`` attests ``items`` of the checklist after ``run``. Raises UsageError for an unknown item,
    Refused for a run without a checklist, or whose journal is on another machine or cannot be written."""
    known = (*TITLES, *settings.checklist)
    for item in items:
        if item not in known:
            raise UsageError(
                f'cannot attest "{item}": no such checklist item',
                hint=f"Its items: {', '.join(known)}. Define your own as checklist in [record] of lastgood.toml.",
                state=NOT_REACHED,
            )
    if not person.strip():
        raise UsageError(
            "cannot attest an item: no person is named",
            hint="Name who attests it: --by NAME.",
            state=NOT_REACHED,
        )
    journal = Journal.find(state, run)
    if journal is None:
        raise Refused(
            f'cannot write into the record of run "{run}": this machine has no journal of it',
            hint=f'Journals are in "{state / "runs"}" of the machine that ran it (--state names another folder).',
            state=NOT_REACHED,
        )
    try:
        if incidents.incident_of(journal) is None:
            raise Refused(
                f'cannot write into the record of run "{run}": the run has no checklist',
                hint="Only a run that switched databases has one. List them: lastgood runs --kind rollback",
                state=NOT_REACHED,
            )
        identity = {name: value for name, value in caller.identity().items() if name not in ("command", "folder")}
        for item in items:
            journal.write("answered", item=item, person=person.strip(), note=note, **identity)
    except JOURNAL_ERRORS as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Refused(
            f'cannot write into the record "{journal.path}": {why.lower()}',
            hint="Fix the folder, then run the same command again.",
            state=NOT_REACHED,
        ) from error


@dataclass(frozen=True, slots=True)
class Validation:
    """One validation of a whole database."""

    at: datetime
    by: str
    verdict: str
    mode: str


def newest(state: Path, live: str, since: datetime) -> Validation | None:
    """Return the newest validation of ``live`` after ``since``. Those of single rules (``--only``) do not count."""
    for journal in islice(Journal.newest(state, "validate"), MOST_JOURNALS):
        with suppress(*JOURNAL_ERRORS):
            found = next(entries(journal, "begun"), None)
            if found is not None and found.live == live and not found.fields["only"] and found.at > since:
                return Validation(found.at, found.by, found.text("verdict"), found.text("mode"))
    return None
