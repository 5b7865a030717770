"""The entries of a journal told in order, in the time of the server: who came, what was done and said, how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from lastgood.command.report.document import Appearance, Moment, PhaseOfRun

Entry = Mapping[str, Any]

_CAME: Mapping[str, Literal["began", "resumed", "aborted"]] = {
    "begun": "began",
    "resumed": "resumed",
    "aborting": "aborted",
}
_ENDED = {
    "done": "done",
    "aborted": "aborted: what it had made is removed again",
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

    def __init__(self, entries: Sequence[Entry], titles: Mapping[str, str]) -> None:
        self._entries = entries
        self._known = titles
        self._titles: dict[str, str] = {}
        self._told = {each["name"] for each in entries if each["event"] == "stage"}
        skews = [each["skew"] for each in entries if each["event"] in _CAME and "skew" in each]
        self.skew: float | None = skews[0] if skews else None
        self._times = list(self._server_times())

    def _server_times(self) -> Iterator[datetime]:
        skew = self.skew or 0.0
        for each in self._entries:
            if each["event"] in _CAME:
                skew = each.get("skew", skew)
            yield datetime.fromisoformat(each["at"]) + timedelta(seconds=skew)

    @property
    def begun(self) -> datetime:
        """When the first entry was written."""
        return self._times[0]

    @property
    def ended(self) -> datetime:
        """When the last entry was written that is not an answer of the days after, nor who was told of it."""
        together = zip(self._times, self._entries, strict=True)
        return max((at for at, each in together if each["event"] not in _AFTERWARDS), default=self._times[-1])

    def people(self) -> Iterator[Appearance]:
        """Who came, in order. A journal of an earlier version does not say who."""
        for at, each in zip(self._times, self._entries, strict=True):
            if each["event"] in _CAME:
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
        event = each["event"]
        if event in _CAME:
            return "who", _who(_came(at, each)), None
        if event in ("stage", "stage done", "stage failed"):
            title = self._title(each["name"])
            if event == "stage":
                return "stage", title, None
            if event == "stage done":
                return "done", f"{title}: {each['detail']}" if each.get("detail") else title, each["seconds"]
            return "failed", f"{title}: {each['reason']}", each["seconds"]
        if event in _SILENT:
            return self._step(each)
        if event in ("note", "caution"):
            return event, str(each["text"]), None
        return _other(each)

    def _step(self, each: Entry) -> tuple[str, str, float | None] | None:
        event = each["event"]
        if event == "failed":
            told = any(e["event"] == "stage failed" and e.get("reason") == each["reason"] for e in self._entries)
            return None if told else ("failed", str(each["reason"] or each.get("error", "")), None)
        title = self._title(each["step"])
        if event == "undone":
            return "undone", f"taken back: {title}", None
        if event == "undo failed":
            return "failed", f"could not be taken back: {title}: {each['reason']}", None
        if each["step"] in self._told:
            return None
        detail = each.get("result", {}).get("detail", "") if event == "done" else ""
        return "stage" if event == "doing" else "done", f"{title}: {detail}" if detail else title, None

    def _title(self, name: str) -> str:
        return self._titles.get(name) or self._known.get(name) or name.replace("_", " ")

    def _learn(self, each: Entry) -> None:
        """A drill has stages of the same name that do different things."""
        if each["event"] == "stage":
            self._titles[str(each["name"])] = str(each["title"])

    def phases(self) -> Iterator[PhaseOfRun]:
        """Each stage from when to when; one that was begun twice is there twice."""
        begun: dict[str, datetime] = {}
        self._titles = {}
        for at, each in zip(self._times, self._entries, strict=True):
            self._learn(each)
            event, name = each["event"], str(each.get("name") or each.get("step") or "")
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
    said = {name: str(each.get(name, "")) for name in Appearance.model_fields if name not in ("at", "did")}
    return Appearance(at=at, did=_CAME[each["event"]], **said)


def _who(came: Appearance) -> str:
    """``ann on db1 from 10.0.0.7 began: lastgood rollback --yes``."""
    if not came.by:
        return came.did
    return f"{came.person} {came.did}" + (f": {came.command}" if came.command else "")


def _other(each: Entry) -> tuple[str, str, float | None] | None:
    event = each["event"]
    if event == "program":
        return "program", str(each["command"]), None
    if event == "hook":
        problem = f": {each['problem']}" if each.get("problem") else ""
        return "hook", f'hook "{each["hook"]}" {each.get("stage", "")}{problem}', each.get("seconds")
    if event == "health":
        tries = f" after {each['tries']} tries" if each.get("tries", 1) > 1 else ""
        said = each["problem"] or f"healthy ({each['status']})"
        return "health", f"{each['url']}: {said}{tries}", each.get("seconds")
    if event == "pause begins":
        return "pause", f"PgBouncer holds clients of {', '.join(each['databases'])} back", None
    if event == "pause over":
        by = f" (by the {each['by']})" if each.get("by") else ""
        return "pause", f"PgBouncer lets clients go on{by}", each.get("seconds")
    if event == "undoing":
        return "note", f"the switch is undone by run {each['by']}: {each['reason']}", None
    if event == "notified":
        said = f'"{each["target"]}" was {"not " if each["problem"] else ""}told "{each["title"]}"'
        return "message", f"{said}: {each['problem']}" if each["problem"] else said, each.get("seconds")
    if event == "answered":
        note = f": {each['note']}" if each.get("note") else ""
        return "answer", f"{each['person']} answered for {each['item']}{note}", None
    if event == "ended":
        return "end", _how_it_ended(each), None
    scalars = [f"{name} {value}" for name, value in each.items() if name not in _KNOWN and isinstance(value, str | int)]
    return "note", f"{event}: {', '.join(scalars)}" if scalars else str(event), None


def _how_it_ended(each: Entry) -> str:
    status = str(each["status"])
    text = _ENDED.get(status, status)
    error = each.get("error")
    if isinstance(error, Mapping):
        text += f": {error['message']}" + (f" (exit status {error['exit_status']})" if "exit_status" in error else "")
    elif each.get("by"):
        text += f" by run {each['by']}"
    return text
