"""The checklist after a rollback: measured where it can be measured, answered by people where it can't.

What people answer for afterwards, written into the run's journal: it only ever grows.

What ``lastgood validate`` found, as its records tell.
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
from lastgood.command.report.holdings import Server
from lastgood.config.tables import Record
from lastgood.errors import NOT_REACHED, LastgoodError, Refused, UsageError
from lastgood.journal import SENSELESS, Journal, caller, incidents, past_runs
from lastgood.journal.incidents import LOOKED_AT, POST_MORTEM, Incident
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
# What can't be measured when the server does not answer.
ON_THE_SERVER = ("writers", "previous_database")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a look found: whether it is so, and how that is said; ``command`` would do it."""

    done: bool
    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What the items are measured by."""

    incident: Incident
    seen: Server
    holdings: Sequence[Holding]
    state: Path
    store: Path
    healthy: Measured | None = None


def after(look: Look, settings: Record) -> After:
    """The checklist as it stands now."""
    incident = look.incident
    own = {name: name for name in settings.checklist if name not in TITLES}
    # The post-mortem comes last: it is what closes all this.
    titles = {**TITLES, **own}
    titles[POST_MORTEM] = titles.pop(POST_MORTEM)
    trouble = look.seen.trouble
    items = [
        _item(name, title, _measured(name, look), incident, trouble if name in ON_THE_SERVER else "")
        for name, title in titles.items()
    ]
    due = incident.due(settings.post_mortem_within) if settings.post_mortem_within else None
    return After(items=tuple(items), due=due, overdue=due is not None and incident.is_open and datetime.now(UTC) > due)


def _item(name: str, title: str, measured: Measured | None, incident: Incident, unknown: str = "") -> ItemAfter:
    if measured is not None and measured.done:
        return ItemAfter(item=name, title=title, done=True, known="measured", text=measured.text)
    answer = incident.answers.get(name)
    if answer is not None:
        return ItemAfter(
            item=name, title=title, done=True, known=f"answered by {answer.by}", text=answer.note, at=answer.at
        )
    if measured is not None:
        return ItemAfter(
            item=name, title=title, done=False, known="measured", text=measured.text, command=measured.command
        )
    text = f"not known: {unknown}" if unknown else "not attested yet"
    return ItemAfter(item=name, title=title, done=False, known="not known", text=text)


def _measured(name: str, look: Look) -> Measured | None:
    incident = look.incident
    if name == "writers":
        return _writers(look.seen)
    if name == "health":
        return look.healthy
    if name == "validation":
        found = newest(look.state, incident.live, incident.ended)
        if found is None:
            return Measured(False, "lastgood validate was not run since", "lastgood validate --full")
        said = f"{found.verdict} ({found.mode}), {units.moment(found.at)}, by {found.by}"
        return Measured(found.verdict == "GO", said, "lastgood validate --full")
    if name == "backup":
        return _backup(look)
    if name == "drill":
        runs = past_runs.past_runs(look.state, incident.live)
        found_drill = next((each for each in runs if each.kind == "drill" and each.at > incident.ended), None)
        if found_drill is None:
            return Measured(False, "no drill since", "lastgood drill")
        return Measured(True, f"drill {found_drill.run}, {units.moment(found_drill.at)}")
    held = next((each for each in look.holdings if each.what == name.replace("_", " ")), None)
    if held is None or held.now == "not known":
        return None
    return Measured(held.now == "there", f'"{held.name}" is {held.now}' + (f": {held.detail}" if held.detail else ""))


def _writers(seen: Server) -> Measured | None:
    found = seen.status
    if found is None:
        return None
    wrong = []
    if not found.live.open:
        wrong.append("the database is closed to new connections")
    if found.fence is not None:
        wrong.append(f"session {found.fence.pid} blocks writers")
    if found.application is not None and found.application.state == "stopped":
        wrong.append("the application is stopped")
    if any(pool.paused for pool in found.pools):
        wrong.append("PgBouncer pauses clients")
    return Measured(not wrong, "; ".join(wrong) or "open, and nothing blocks writers", "lastgood maintenance off")


def _backup(look: Look) -> Measured:
    incident, made = look.incident, None
    try:
        ours = (p for p in points.listing(look.store) if not p.is_emergency and not p.problem)
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
        return Measured(False, f'none in "{look.store}"', "lastgood backup")
    return Measured(True, f"{made.path.name}, {units.moment(made.made_at)}")


def answer(state: Path, run: str, items: Sequence[str], person: str, note: str, settings: Record) -> None:
    """``person`` says that ``items`` of the checklist after ``run`` are done. Raises UsageError for what is no item,
    Refused for a run that asks for nothing, or whose journal is elsewhere or can't be written."""
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
        if incidents.read(journal) is None:
            raise Refused(
                f'cannot write into the record of run "{run}": it has no checklist after',
                hint="Only a run that switched databases has one. Look at lastgood runs --kind rollback.",
                state=NOT_REACHED,
            )
        identity = {name: value for name, value in caller.identity().items() if name not in ("command", "folder")}
        for item in items:
            journal.write("answered", item=item, person=person.strip(), note=note, **identity)
    except SENSELESS as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Refused(
            f'cannot write into the record "{journal.path}": {why.lower()}',
            hint="Fix the folder, and run the same command again.",
            state=NOT_REACHED,
        ) from error


@dataclass(frozen=True, slots=True)
class Validation:
    """One validation of a database as a whole."""

    at: datetime
    by: str
    verdict: str
    mode: str


def newest(state: Path, live: str, since: datetime) -> Validation | None:
    """The newest one of ``live`` after ``since``; one of a few rules only does not count."""
    for journal in islice(Journal.newest(state, "validate"), LOOKED_AT):
        with suppress(*SENSELESS):
            found = next(entries(journal, "begun"), None)
            if found is not None and found.live == live and not found.fields["only"] and found.at > since:
                return Validation(found.at, found.by, found.text("verdict"), found.text("mode"))
    return None
