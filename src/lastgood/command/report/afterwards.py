"""The checklist after a rollback: measured where it can be measured, answered by people where it can't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lastgood import points
from lastgood.command.report import validations
from lastgood.command.report.document import After, Holding, ItemAfter
from lastgood.command.report.holdings import Server
from lastgood.config.tables import Record
from lastgood.errors import LastgoodError
from lastgood.journal import past_runs
from lastgood.journal.incidents import POST_MORTEM, Incident
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
        found = validations.newest(look.state, incident.live, incident.ended)
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
