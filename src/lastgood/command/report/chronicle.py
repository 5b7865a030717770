"""The entries of a journal told in order, in the time of the server: who came, what was done and said, how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal

from lastgood.command.report.document import Appearance, Moment, PhaseOfRun
from lastgood.journal.reader import CAME, Entry, Recorded

_DID: Mapping[str, Literal["began", "resumed", "aborted"]] = {
    "begun": "began",
    "resumed": "resumed",
    "aborting": "aborted",
}
_ENDED = {
    "done": "done",
    "aborted": "aborted: what it had created was removed",
    "undone": "the switch was undone",
    "failed": "failed",
    "stopped": "stopped in between",
    "interrupted": "interrupted by the user, walked back",
}
# What is told elsewhere, or means nothing to people.
_SILENT = ("doing", "done", "undone", "undo failed", "failed")
_KNOWN = ("at", "event")
_AFTERWARDS = ("answered", "notified")


class Chronicle:
    """What the entries of one journal tell. ``titles`` are those of steps, for journals that do not have them."""

    def __init__(self, found: Recorded, titles: Mapping[str, str]) -> None:
        self._entries = found.entries
        self._known = titles
        self._titles: dict[str, str] = {}
        self._told = {each.text("name") for each in found.of("stage")}
        self.skew = next((each.skew for each in found.of(*CAME) if each.skew is not None), None)
        self._times = list(self._server_times())

    def _server_times(self) -> Iterator[datetime]:
        skew = self.skew or 0.0
        for each in self._entries:
            if each.event in CAME and each.skew is not None:
                skew = each.skew
            yield each.at + timedelta(seconds=skew)

    @property
    def begun(self) -> datetime:
        """When the first entry was written."""
        return self._times[0]

    @property
    def ended(self) -> datetime:
        """When the last entry was written that is not an answer of the days after, nor who was told of it."""
        together = zip(self._times, self._entries, strict=True)
        return max((at for at, each in together if each.event not in _AFTERWARDS), default=self._times[-1])

    def people(self) -> Iterator[Appearance]:
        """Who came, in order. A journal of an earlier version does not say who."""
        for at, each in zip(self._times, self._entries, strict=True):
            if each.event in CAME:
                yield _came(at, each)

    def timeline(self) -> Iterator[Moment]:
        """What people read."""
        self._titles = {}
        for at, each in zip(self._times, self._entries, strict=True):
            self._learn(each)
            found = self._moment(at, each)
            if found is not None:
                kind, text, seconds = found
                yield Moment(at=at, kind=kind, text=text, seconds=seconds)

    def _moment(self, at: datetime, each: Entry) -> tuple[str, str, float | None] | None:
        event = each.event
        if event in CAME:
            return "who", _who(_came(at, each)), None
        if event in ("stage", "stage done", "stage failed"):
            title = self._title(each.text("name"))
            if event == "stage":
                return "stage", title, None
            if event == "stage done":
                detail = each.text("detail")
                return "done", f"{title}: {detail}" if detail else title, each.number("seconds")
            return "failed", f"{title}: {each.reason}", each.number("seconds")
        if event in _SILENT:
            return self._step(each)
        if event in ("note", "caution"):
            return event, each.text("text"), None
        return _other(each)

    def _step(self, each: Entry) -> tuple[str, str, float | None] | None:
        event = each.event
        if event == "failed":
            told = any(e.event == "stage failed" and e.reason == each.reason for e in self._entries)
            return None if told else ("failed", each.reason or each.text("error"), None)
        title = self._title(each.step)
        if event == "undone":
            return "undone", f"taken back: {title}", None
        if event == "undo failed":
            return "failed", f"could not be taken back: {title}: {each.reason}", None
        if each.step in self._told:
            return None
        detail = each.result.get("detail", "") if event == "done" else ""
        return "stage" if event == "doing" else "done", f"{title}: {detail}" if detail else title, None

    def _title(self, name: str) -> str:
        return self._titles.get(name) or self._known.get(name) or name.replace("_", " ")

    def _learn(self, each: Entry) -> None:
        """A drill has stages of the same name that do different things."""
        if each.event == "stage":
            self._titles[each.text("name")] = each.text("title")

    def phases(self) -> Iterator[PhaseOfRun]:
        """Each stage from when to when; one that was begun twice is there twice."""
        begun: dict[str, datetime] = {}
        self._titles = {}
        for at, each in zip(self._times, self._entries, strict=True):
            self._learn(each)
            event, name = each.event, each.text("name") or each.step
            stage = event.startswith("stage")
            if not stage and (event not in ("doing", "done") or name in self._told):
                continue
            if event in ("stage", "doing"):
                begun[name] = at
            elif name in begun:
                outcome: Literal["done", "failed"] = "failed" if event == "stage failed" else "done"
                yield PhaseOfRun(name=name, title=self._title(name), begun=begun.pop(name), ended=at, outcome=outcome)
        for name, at in begun.items():
            yield PhaseOfRun(name=name, title=self._title(name), begun=at, ended=None, outcome="begun")


def _came(at: datetime, each: Entry) -> Appearance:
    said = {name: each.text(name) for name in Appearance.model_fields if name not in ("at", "did")}
    return Appearance(at=at, did=_DID[each.event], **said)


def _who(came: Appearance) -> str:
    """``ann on db1 from 10.0.0.7 began: lastgood rollback --yes``."""
    if not came.by:
        return came.did
    return f"{came.person} {came.did}" + (f": {came.command}" if came.command else "")


def _other(each: Entry) -> tuple[str, str, float | None] | None:
    event = each.event
    if event == "program":
        return "program", each.text("command"), None
    if event == "hook":
        return "hook", _with_problem(f'hook "{each.text("hook")}" {each.text("stage")}', each), each.number("seconds")
    if event == "health":
        said = each.text("problem") or f"healthy ({each.text('status')})"
        tries = f" after {each.text('tries')} tries" if (each.number("tries") or 1) > 1 else ""
        return "health", f"{each.text('url')}: {said}{tries}", each.number("seconds")
    if event == "pause begins":
        return "pause", f"PgBouncer paused clients of {', '.join(each.fields['databases'])}", None
    if event == "pause over":
        by = f" (by the {each.by})" if each.by else ""
        return "pause", f"PgBouncer resumed clients{by}", each.number("seconds")
    if event == "undoing":
        return "note", f"the switch is undone by run {each.by}: {each.reason}", None
    if event == "notified":
        said = f'"{each.text("target")}" was {"not " if each.text("problem") else ""}told "{each.text("title")}"'
        return "message", _with_problem(said, each), each.number("seconds")
    if event == "answered":
        note = f": {each.text('note')}" if each.text("note") else ""
        return "answer", f"{each.text('person')} attested {each.text('item')}{note}", None
    if event == "ended":
        return "end", _how_it_ended(each), None
    scalars = [
        f"{name} {value}" for name, value in each.fields.items() if name not in _KNOWN and isinstance(value, str | int)
    ]
    return "note", f"{event}: {', '.join(scalars)}" if scalars else event, None


def _with_problem(said: str, each: Entry) -> str:
    problem = each.text("problem")
    return f"{said}: {problem}" if problem else said


def _how_it_ended(each: Entry) -> str:
    text = _ENDED.get(each.status, each.status)
    if error := each.error:
        text += f": {error['message']}" + (f" (exit status {error['exit_status']})" if "exit_status" in error else "")
    elif each.by:
        text += f" by run {each.by}"
    return text
