"""The timeline of a run from its journal, in the server's time: operators, stages, messages, the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Literal

from lastgood.command.report.document import Participant, PhaseOfRun, TimelineEntry
from lastgood.journal.reader import CALLER_EVENTS, Entry, RunHistory

_ACTIONS: Mapping[str, Literal["began", "resumed", "aborted"]] = {
    "begun": "began",
    "resumed": "resumed",
    "aborting": "aborted",
}
_ENDED = {
    "done": "done",
    "aborted": "aborted: what it had created was removed",
    "undone": "the switch was undone",
    "failed": "failed",
    "stopped": "stopped, unfinished",
    "interrupted": "interrupted by the user; any changes were reverted",
}
# Entries of steps, shown only where the journal has no stage entry for them.
_STEP_EVENTS = ("doing", "done", "undone", "undo failed", "failed")
_COMMON_FIELDS = ("at", "event")
_AFTER_THE_RUN = ("answered", "notified")


class Chronicle:
    """The timeline of one journal. ``titles`` by step name, for journals without stage titles."""

    def __init__(self, found: RunHistory, titles: Mapping[str, str]) -> None:
        self._entries = found.entries
        self._known = titles
        self._titles: dict[str, str] = {}
        self._reported_stages = {each.text("name") for each in found.of("stage")}
        self.skew = next((each.skew for each in found.of(*CALLER_EVENTS) if each.skew is not None), None)
        self._times = list(self._server_times())

    def _server_times(self) -> Iterator[datetime]:
        skew = self.skew or 0.0
        for each in self._entries:
            if each.event in CALLER_EVENTS and each.skew is not None:
                skew = each.skew
            yield each.at + timedelta(seconds=skew)

    @property
    def begun(self) -> datetime:
        """The time of the first entry."""
        return self._times[0]

    @property
    def ended(self) -> datetime:
        """The time of the last entry, except later attestations and notifications."""
        together = zip(self._times, self._entries, strict=True)
        return max((at for at, each in together if each.event not in _AFTER_THE_RUN), default=self._times[-1])

    def people(self) -> Iterator[Participant]:
        """Yield the operators, in order. Journals of an earlier version do not name them."""
        for at, each in zip(self._times, self._entries, strict=True):
            if each.event in CALLER_EVENTS:
                yield _participant(at, each)

    def timeline(self) -> Iterator[TimelineEntry]:
        """Yield the lines of the timeline."""
        self._titles = {}
        for at, each in zip(self._times, self._entries, strict=True):
            self._remember_title(each)
            found = self._moment(at, each)
            if found is not None:
                kind, text, seconds = found
                yield TimelineEntry(at=at, kind=kind, text=text, seconds=seconds)

    def _moment(self, at: datetime, each: Entry) -> tuple[str, str, float | None] | None:
        event = each.event
        if event in CALLER_EVENTS:
            return "who", _participation(_participant(at, each)), None
        if event in ("stage", "stage done", "stage failed"):
            title = self._title(each.text("name"))
            if event == "stage":
                return "stage", title, None
            if event == "stage done":
                detail = each.text("detail")
                return "done", f"{title}: {detail}" if detail else title, each.number("seconds")
            return "failed", f"{title}: {each.reason}", each.number("seconds")
        if event in _STEP_EVENTS:
            return self._step(each)
        if event in ("note", "caution"):
            return event, each.text("text"), None
        return _other_moment(each)

    def _step(self, each: Entry) -> tuple[str, str, float | None] | None:
        event = each.event
        if event == "failed":
            reported = any(e.event == "stage failed" and e.reason == each.reason for e in self._entries)
            return None if reported else ("failed", each.reason or each.text("error"), None)
        title = self._title(each.step)
        if event == "undone":
            return "undone", title, None
        if event == "undo failed":
            return "failed", f"cannot undo the step: {title}: {each.reason}", None
        if each.step in self._reported_stages:
            return None
        detail = each.result.get("detail", "") if event == "done" else ""
        return "stage" if event == "doing" else "done", f"{title}: {detail}" if detail else title, None

    def _title(self, name: str) -> str:
        return self._titles.get(name) or self._known.get(name) or name.replace("_", " ")

    def _remember_title(self, each: Entry) -> None:
        """Remember the title of a stage. Stages of a drill may have the same name and different titles."""
        if each.event == "stage":
            self._titles[each.text("name")] = each.text("title")

    def phases(self) -> Iterator[PhaseOfRun]:
        """Yield the begin and end of each stage. A stage that began twice is included twice."""
        begun: dict[str, datetime] = {}
        self._titles = {}
        for at, each in zip(self._times, self._entries, strict=True):
            self._remember_title(each)
            event, name = each.event, each.text("name") or each.step
            stage = event.startswith("stage")
            if not stage and (event not in ("doing", "done") or name in self._reported_stages):
                continue
            if event in ("stage", "doing"):
                begun[name] = at
            elif name in begun:
                outcome: Literal["done", "failed"] = "failed" if event == "stage failed" else "done"
                yield PhaseOfRun(name=name, title=self._title(name), begun=begun.pop(name), ended=at, outcome=outcome)
        for name, at in begun.items():
            yield PhaseOfRun(name=name, title=self._title(name), begun=at, ended=None, outcome="begun")


def _participant(at: datetime, each: Entry) -> Participant:
    fields = {name: each.text(name) for name in Participant.model_fields if name not in ("at", "action")}
    return Participant(at=at, action=_ACTIONS[each.event], **fields)


def _participation(participant: Participant) -> str:
    """``ann on db1 from 10.0.0.7 began: lastgood rollback --yes``."""
    if not participant.by:
        return participant.action
    return f"{participant.person} {participant.action}" + (f": {participant.command}" if participant.command else "")


def _other_moment(each: Entry) -> tuple[str, str, float | None] | None:
    event = each.event
    if event == "program":
        return "program", each.text("command"), None
    if event == "hook":
        return "hook", _with_problem(f'hook "{each.text("hook")}" {each.text("stage")}', each), each.number("seconds")
    if event == "health":
        result = each.text("problem") or f"healthy ({each.text('status')})"
        tries = f" after {each.text('tries')} tries" if (each.number("tries") or 1) > 1 else ""
        return "health", f"{each.text('url')}: {result}{tries}", each.number("seconds")
    if event == "pause begins":
        return "pause", f"PgBouncer paused clients of {', '.join(each.fields['databases'])}", None
    if event == "pause over":
        by = f" (by the {each.by})" if each.by else ""
        return "pause", f"PgBouncer resumed clients{by}", each.number("seconds")
    if event == "undoing":
        return "note", f"the switch is undone by run {each.by}: {each.reason}", None
    if event == "notified":
        outcome = "failed" if each.text("problem") else "sent"
        text = f'notification "{each.text("title")}" to "{each.text("target")}" {outcome}'
        return "message", _with_problem(text, each), each.number("seconds")
    if event == "answered":
        note = f": {each.text('note')}" if each.text("note") else ""
        return "answer", f"{each.text('person')} attested {each.text('item')}{note}", None
    if event == "ended":
        return "end", _ending(each), None
    scalars = [
        f"{name} {value}"
        for name, value in each.fields.items()
        if name not in _COMMON_FIELDS and isinstance(value, str | int)
    ]
    return "note", f"{event}: {', '.join(scalars)}" if scalars else event, None


def _with_problem(text: str, each: Entry) -> str:
    problem = each.text("problem")
    return f"{text}: {problem}" if problem else text


def _ending(each: Entry) -> str:
    text = _ENDED.get(each.status, each.status)
    if error := each.error:
        text += f": {error['message']}" + (f" (exit status {error['exit_status']})" if "exit_status" in error else "")
    elif each.by:
        text += f" by run {each.by}"
    return text
