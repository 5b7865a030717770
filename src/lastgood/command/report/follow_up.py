"""The checklist after a rollback: measured where possible, otherwise attested by people.

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
from lastgood.command.report.document import FollowUp, FollowUpItem, Holding
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
    "validation": "The data was validated after the run",
    "previous_database": "The previous database is kept",
    "emergency_backup": "The emergency backup exists",
    "restore_point": "The restore point is kept",
    "backup": "A backup was made after the run",
    "drill": "The procedure was rehearsed after the run, or a drill is planned",
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


def follow_up_of(evidence: Sources, settings: RecordSettings) -> FollowUp:
    """Return the current checklist."""
    incident = evidence.incident
    own_items = {name: name for name in settings.checklist if name not in TITLES}
    # The post-mortem comes last, because it closes the incident.
    titles = {**TITLES, **own_items}
    titles[POST_MORTEM] = titles.pop(POST_MORTEM)
    unknown_server = evidence.seen.problem
    items = [
        _item(name, title, _measured(name, evidence), incident, unknown_server if name in ON_THE_SERVER else "")
        for name, title in titles.items()
    ]
    due = incident.due(settings.post_mortem_within) if settings.post_mortem_within else None
    return FollowUp(
        items=tuple(items), due=due, overdue=due is not None and incident.is_open and datetime.now(UTC) > due
    )


def _item(name: str, title: str, measured: MeasuredItem | None, incident: Incident, unknown: str = "") -> FollowUpItem:
    if measured is not None and measured.done:
        return FollowUpItem(item=name, title=title, done=True, source="measured", text=measured.text)
    attestation = incident.answers.get(name)
    if attestation is not None:
        return FollowUpItem(
            item=name,
            title=title,
            done=True,
            source=f"attested by {attestation.by}",
            text=attestation.note,
            at=attestation.at,
        )
    if measured is not None:
        return FollowUpItem(
            item=name, title=title, done=False, source="measured", text=measured.text, command=measured.command
        )
    text = f"unknown: {unknown}" if unknown else "not attested yet"
    return FollowUpItem(item=name, title=title, done=False, source="unknown", text=text)


def _measured(name: str, evidence: Sources) -> MeasuredItem | None:
    incident = evidence.incident
    if name == "writers":
        return _writers(evidence.seen)
    if name == "health":
        return evidence.healthy
    if name == "validation":
        validation = newest_validation(evidence.state, incident.live, incident.ended)
        if validation is None:
            return MeasuredItem(False, "no validation after the run", "lastgood validate --full")
        text = f"{validation.verdict} ({validation.mode}), {units.moment(validation.at)}, by {validation.by}"
        return MeasuredItem(validation.verdict == "GO", text, "lastgood validate --full")
    if name == "backup":
        return _backup(evidence)
    if name == "drill":
        runs = past_runs.past_runs(evidence.state, incident.live)
        drill = next((each for each in runs if each.kind == "drill" and each.at > incident.ended), None)
        if drill is None:
            return MeasuredItem(False, "no drill after the run", "lastgood drill")
        return MeasuredItem(True, f"drill {drill.run}, {units.moment(drill.at)}")
    holding = next((each for each in evidence.holdings if each.what == name.replace("_", " ")), None)
    if holding is None or holding.now == "unknown":
        return None
    return MeasuredItem(
        holding.now == "present",
        f'"{holding.name}" is {holding.now}' + (f": {holding.detail}" if holding.detail else ""),
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
    incident, newest_point = evidence.incident, None
    try:
        ours = (p for p in points.list_points(evidence.store) if not p.is_emergency and not p.problem)
        newest_point = next(
            (
                p
                for p in ours
                if p.made_at > incident.ended and (p.manifest is None or p.manifest.database == incident.live)
            ),
            None,
        )
    except (LastgoodError, OSError):
        pass
    if newest_point is None:
        return MeasuredItem(False, f'none in "{evidence.store}"', "lastgood backup")
    return MeasuredItem(True, f"{newest_point.path.name}, {units.moment(newest_point.made_at)}")


def attest(state: Path, run: str, items: Sequence[str], person: str, note: str, settings: RecordSettings) -> None:
    """Record that ``person`` attests ``items`` of the checklist after ``run``. Raises UsageError for an unknown item,
    Refused for a run without a checklist, or whose journal is on another machine or cannot be written."""
    known_items = (*TITLES, *settings.checklist)
    for item in items:
        if item not in known_items:
            raise UsageError(
                f'cannot attest "{item}": no such checklist item',
                hint=f"Its items: {', '.join(known_items)}. Define your own as checklist in [record] of lastgood.toml.",
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


def newest_validation(state: Path, live: str, since: datetime) -> Validation | None:
    """Return the newest validation of ``live`` after ``since``. Those of single rules (``--only``) do not count."""
    for journal in islice(Journal.newest(state, "validate"), MOST_JOURNALS):
        with suppress(*JOURNAL_ERRORS):
            begun = next(entries(journal, "begun"), None)
            if begun is not None and begun.live == live and not begun.fields["only"] and begun.at > since:
                return Validation(begun.at, begun.by, begun.text("verdict"), begun.text("mode"))
    return None
