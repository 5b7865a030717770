"""The record of a run from its journal, with what the server and the disk show now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lastgood.application.results import HealthResult, HookResult, WatchResult
from lastgood.checklist import Attestation, Override
from lastgood.command.explain.run import RunStory, kept_words, story_of, titles
from lastgood.command.report import follow_up, holdings
from lastgood.command.report.chronicle import Chronicle
from lastgood.command.report.document import Holding, RecordedError, RecordedPlan, RunRecord, UndoneBy
from lastgood.command.report.follow_up import MeasuredItem, Sources
from lastgood.command.report.holdings import ServerMarks, undone_by
from lastgood.command.report.inquiry import Inquiry
from lastgood.journal import JOURNAL_ERRORS, Journal, incidents
from lastgood.journal.reader import BUILD, EMERGENCY, WATCH, RunHistory
from lastgood.models import Frozen
from lastgood.plan.loss import OutsideReference, Revival, TableLoss
from lastgood.run.report import ProvedTable

T = TypeVar("T", bound=Frozen)


def of_journal(inquiry: Inquiry, journal: Journal, history: RunHistory, seen: ServerMarks | None = None) -> RunRecord:
    """Return the record. ``history``: the content of the journal. ``seen``: the result of a query of the server, which
    saves another one. Raises ValueError, KeyError, TypeError for a damaged journal."""
    story, chronicle = story_of(history), Chronicle(history, titles())
    plan, ended, live = history.plan, history.ended, history.live
    report = ended.report if ended is not None else {}
    server_of = str(plan.get("server", ""))
    switched = story.kind in ("rollback", "recover", "undo") and story.outcome not in ("aborted", "reverted")
    target = inquiry.target if switched and live else None
    if seen is None:
        at = server_of if "server" in plan else None
        seen = holdings.inspect(target, live, at, inquiry.tables.pgbouncer, inquiry.state)
    incident = None
    with suppress(*JOURNAL_ERRORS):
        incident = incidents.incident_of(journal)
    run_holdings = (
        *_holdings(seen, history, switched=switched),
        holdings.file("journal", str(journal.path)),
    )
    application = _application(history)
    undone = tuple(sorted(undone_by(inquiry.state, journal.run, seen), key=lambda each: each.at))
    story = _with_server_state(story, seen) if target is not None else story
    state, commands = (story.state, story.commands) if not undone else _after_undo(story.kind, live, undone[-1])
    after = (
        follow_up.follow_up_of(
            Sources(incident, seen, run_holdings, inquiry.state, inquiry.store, _healthy(application[1])),
            inquiry.tables.record,
        )
        if incident is not None
        else None
    )
    point = plan.get("point")
    return RunRecord(
        run=journal.run,
        kind=story.kind,
        undoes=str(plan.get("undoes", "")),
        live=live,
        server=server_of,
        server_version=str(plan.get("server_version", "")),
        point=_path(history.folder, history.point or history.named_point),
        point_made_at=_time(point.get("made_at")) if isinstance(point, Mapping) else None,
        source="journal",
        journal=str(journal.path),
        clock="server" if chronicle.skew is not None else "machine",
        skew=chronicle.skew,
        begun=chronicle.begun,
        ended=chronicle.ended,
        seconds=round((chronicle.ended - chronicle.begun).total_seconds(), 3),
        outcome=story.outcome,
        status=ended.status if ended is not None else "",
        state=state,
        reason=story.reason,
        error=_recorded_error(ended.error) if ended is not None else None,
        commands=commands,
        people=tuple(chronicle.people()),
        timeline=tuple(chronicle.timeline()),
        phases=tuple(chronicle.phases()),
        planned=_planned(plan),
        loss=tuple(_loss(plan, report)),
        revivals=tuple(_read(Revival, each) for each in _latest("revivals", plan, report)),
        outside=tuple(_read(OutsideReference, each) for each in _latest("outside", plan, report)),
        proofs=tuple(_proofs(report)),
        not_compared=tuple(map(str, report.get("not_compared", ()))),
        overrides=tuple(_checklist_entries(Override, plan, "overrides")),
        attestations=tuple(_checklist_entries(Attestation, plan, "attestations")),
        hooks=application[0],
        health=application[1],
        watch=application[2],
        figures=_figures(report),
        holdings=run_holdings,
        undone_by=undone,
        remarks=tuple(_remarks(history, chronicle, seen, queried=target is not None)),
        after=after,
        plan=dict(plan) or None,
        report=dict(report) or None,
    )


def _holdings(seen: ServerMarks, history: RunHistory, *, switched: bool) -> Iterator[Holding]:
    plan, folder = history.plan, history.folder
    if history.kind == "rollback" and plan:
        if switched:
            yield from holdings.databases(seen, plan, history.result(BUILD).get("oid"))
        yield holdings.file("restore point", _path(folder, str(plan["point"]["path"])))
    elif history.point:
        yield holdings.file("restore point", _path(folder, history.point))
    if emergency := history.result(EMERGENCY).get("path"):
        yield holdings.file("emergency backup", _path(folder, str(emergency)))


def _path(folder: Path, path: str) -> str:
    return str(folder / path) if path else ""


def _time(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None


def _recorded_error(error: Mapping[str, Any]) -> RecordedError | None:
    with suppress(ValidationError):
        return RecordedError.model_validate(error) if error else None
    return None


def _planned(plan: Mapping[str, Any]) -> RecordedPlan | None:
    if "fence" not in plan:
        return None
    return RecordedPlan(
        fence=str(plan["fence"]),
        reopen_when=str(plan.get("reopen_when", "full")),
        shadow=str(plan.get("shadow", "")),
        kept=str(plan.get("kept", "")),
        expected_seconds=plan.get("expected_seconds"),
        verdict=str(plan.get("checklist", {}).get("verdict", "")),
        findings=tuple(_findings(plan)),
    )


def _findings(plan: Mapping[str, Any]) -> Iterator[str]:
    for item in plan.get("checklist", {}).get("items", ()):
        for line in item["lines"]:
            if line["status"] != "PASS":
                yield f"{line['status']} {item['title']}: {line['text']}"
    for each in plan.get("findings", ()):
        if not each.get("item"):
            yield f"{each['level']}: {each['text']}"


def _loss(plan: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[TableLoss]:
    for each in _latest("loss", plan, report) or plan.get("loss", ()):
        yield _read(TableLoss, each)


def _latest(name: str, plan: Mapping[str, Any], report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return a list from the report, which has the latest row counts; from the plan if there is no report."""
    return tuple(report.get(name, plan.get(name, ())))


def _proofs(report: Mapping[str, Any]) -> Iterator[ProvedTable]:
    for each in report.get("tables", ()):
        with suppress(ValidationError):
            yield ProvedTable.model_validate(each)


def _checklist_entries(model: type[T], plan: Mapping[str, Any], name: str) -> Iterator[T]:
    for each in plan.get("checklist", {}).get(name, ()):
        with suppress(ValidationError):
            yield model.model_validate(each)


def _application(
    history: RunHistory,
) -> tuple[tuple[HookResult, ...], HealthResult | None, WatchResult | None]:
    """Return the hooks and the last health check from their entries, and the watch from its step's result."""
    hooks = tuple(_read(HookResult, each.fields) for each in history.of("hook"))
    last = history.last("health")
    health = _read(HealthResult, last.fields) if last is not None else None
    with suppress(ValidationError):
        return hooks, health, _read(WatchResult, watched) if (watched := history.result(WATCH)) else None
    return hooks, health, None


def _read(model: type[T], fields: Mapping[str, Any]) -> T:
    """Build a model from journal data, ignoring fields of a later version."""
    return model.model_validate({name: value for name, value in fields.items() if name in model.model_fields})


def _healthy(health: HealthResult | None) -> MeasuredItem | None:
    if health is None:
        return None
    text = health.problem or f"{health.url} answered {health.status}"
    return MeasuredItem(not health.problem, text, "lastgood resume" if health.problem else "")


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    seconds = report.get("seconds", {})
    if isinstance(seconds, int | float):
        return {"total": float(seconds)}
    flat: dict[str, Any] = {}
    for name, value in seconds.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    return {name: float(value) for name, value in flat.items() if isinstance(value, int | float)}


def _with_server_state(story: RunStory, seen: ServerMarks) -> RunStory:
    """Correct the outcome of a run that another machine continued, from the state of the server."""
    if story.kind != "rollback" or story.outcome not in ("stopped", "unknown") or seen.status is None:
        return story
    mark, name = next(((m, d.name) for d, m in seen.marks if m.run == story.run), (None, ""))
    if mark is None:
        text = "The journal ends before the switch, and the server has no database of this run: it was aborted, or its "
        text += f'kept database was removed. "{story.live}" is open.'
        return story.model_copy(update={"state": text, "commands": ("lastgood status",)})
    if mark.role == "shadow":
        return story
    text = f'The journal ends before the switch, but the server shows that it took place: "{story.live}" is the '
    previous = kept_words({"way": mark.options.get("way"), "kept": name})
    text += f"restored database, and the previous {previous}. {mark.user} on {mark.host} continued it."
    commands = ("lastgood status", f"lastgood undo {story.run}   # restores the previous database")
    return story.model_copy(update={"outcome": "switched", "state": text, "commands": commands})


def _after_undo(kind: str, live: str, by: UndoneBy) -> tuple[str, tuple[str, ...]]:
    return (
        f'The {kind} was completed and later undone: "{live}" is again the database from before.',
        ("lastgood status", f"lastgood undo {by.run}   # undoes that"),
    )


def _remarks(history: RunHistory, chronicle: Chronicle, seen: ServerMarks, *, queried: bool) -> Iterator[str]:
    if not any(each.by for each in history.of("begun")):
        yield "unknown operator: an earlier version of lastgood or another machine began the run"
    if chronicle.skew is None:
        yield "unknown clock skew: times are those of the machine that executed the run"
    if queried and seen.status is None:
        yield f"unknown state of the server: {seen.problem}"
    marked_hosts = {mark.host for _, mark in seen.marks if mark.run == history.run}
    hosts = {each.host for each in history.entries if each.host}
    for host in sorted(marked_hosts - hosts) if hosts else ():
        yield f'part of the run was executed on "{host}": see the journal there'
