"""Puts the record of a run together: from its journal, or from what the server's marks tell where this machine has
none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lastgood import incidents
from lastgood.application.results import HealthResult, HookResult, WatchResult
from lastgood.checklist import Attestation, Override
from lastgood.config.tables import Tables
from lastgood.errors import NOT_REACHED, Refused
from lastgood.journal import Journal
from lastgood.postgres.mark import OVERRIDE, Mark
from lastgood.postgres.server import Target
from lastgood.procedure.explain.run import TITLES, newest, story_of
from lastgood.procedure.record import afterwards, holdings
from lastgood.procedure.record.afterwards import Look, Measured
from lastgood.procedure.record.chronicle import Chronicle, Entry
from lastgood.procedure.record.document import (
    Appearance,
    Holding,
    Loss,
    Moment,
    Planned,
    Problem,
    Proof,
    RunRecord,
    UndoneBy,
)
from lastgood.procedure.record.holdings import Server
from lastgood.status import PostMortemStatus


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Where to look. ``target`` is None where the server is not to be asked."""

    state: Path
    store: Path
    tables: Tables
    target: Target | None


def record_of(inquiry: Inquiry, run: str | None) -> RunRecord:
    """The record of ``run``, the newest one of this machine when None. Raises Refused when nothing knows of it, and
    UsageError for what is no name of a run."""
    name = run if run is not None else newest(inquiry.state)
    if name is None:
        raise Refused(
            "cannot report: this machine has no run of lastgood",
            hint=f'Journals lie in "{inquiry.state / "runs"}" of the machine that ran it (--state names another '
            "folder); lastgood report RUN asks the server for the run's marks.",
            state=NOT_REACHED,
        )
    journal = Journal.find(inquiry.state, name)
    entries = list(journal.replay()) if journal is not None else []
    if journal is None or not entries:
        return _from_marks(inquiry, name)
    return _from_journal(inquiry, journal, entries)


def _from_journal(inquiry: Inquiry, journal: Journal, entries: list[Entry]) -> RunRecord:
    story, told = story_of(journal, entries), Chronicle(entries, TITLES)
    plan = next((each["plan"] for each in reversed(entries) if isinstance(each.get("plan"), Mapping)), None)
    ended = next((each for each in reversed(entries) if each["event"] == "ended"), {})
    report = ended.get("report")
    known, server_of = plan or {}, str((plan or {}).get("server", ""))
    folder = Path(next((str(each["folder"]) for each in entries if each.get("folder")), ""))
    live = str(known.get("live") or next((each["live"] for each in entries if each.get("live")), story.live))
    switched = story.kind in ("rollback", "recover", "undo") and story.outcome not in ("aborted", "walked_back")
    target = inquiry.target if switched and live else None
    seen = holdings.look(
        target, live, server_of if "server" in known else None, inquiry.tables.pgbouncer, inquiry.state
    )
    incident = None
    with suppress(OSError, ValueError, KeyError, TypeError):
        incident = incidents.read(journal)
    held = (
        *_held(seen, story.kind, known, entries, folder, switched),
        holdings.file("journal", str(journal.path)),
    )
    application = _application(entries, report)
    undone_by = tuple(sorted(_undone_by(inquiry.state, journal.run, seen), key=lambda each: each.at))
    state, commands = (story.state, story.commands) if not undone_by else _taken_back(story.kind, live, undone_by[-1])
    after = (
        afterwards.after(
            Look(incident, seen, held, inquiry.state, inquiry.store, _healthy(application[1])), inquiry.tables.record
        )
        if incident is not None
        else None
    )
    point = known.get("point")
    return RunRecord(
        run=journal.run,
        kind=story.kind,
        undoes=str(known.get("undoes", "")),
        live=live,
        server=server_of,
        server_version=str(known.get("server_version", "")),
        point=_path(folder, story.point or next((str(e["point"]) for e in entries if e.get("point")), "")),
        point_made_at=_time(point.get("made_at")) if isinstance(point, Mapping) else None,
        source="journal",
        journal=str(journal.path),
        clock="server" if told.skew is not None else "machine",
        skew=told.skew,
        begun=told.begun,
        ended=told.ended,
        seconds=round((told.ended - told.begun).total_seconds(), 3),
        outcome=story.outcome,
        status=str(ended.get("status", "")),
        state=state,
        reason=story.reason,
        error=_problem(ended),
        commands=commands,
        people=tuple(told.people()),
        timeline=tuple(told.timeline()),
        phases=tuple(told.phases()),
        planned=_planned(known),
        loss=tuple(_loss(known)),
        proofs=tuple(_proofs(report)),
        not_compared=tuple(map(str, (report or {}).get("not_compared", ()))),
        overrides=tuple(_given(Override, known, "overrides")),
        attestations=tuple(_given(Attestation, known, "attestations")),
        hooks=application[0],
        health=application[1],
        watch=application[2],
        figures=_figures(report),
        holdings=held,
        undone_by=undone_by,
        remarks=tuple(_remarks(journal.run, told, seen, entries, asked=target is not None)),
        after=after,
        plan=dict(plan) if plan is not None else None,
        report=dict(report) if isinstance(report, Mapping) else None,
    )


def newest_incident(inquiry: Inquiry) -> str:
    """The newest run of the live database that has a checklist after. Raises Refused when there is none."""
    live = inquiry.target.dbname if inquiry.target is not None else ""
    found = incidents.all_of(inquiry.state, live)
    if not found:
        raise Refused(
            f'cannot choose a run: no rollback of "{live}" on this machine has switched anything',
            hint="Name it: lastgood runs lists them.",
            state=NOT_REACHED,
        )
    return found[0].run


def to_do(inquiry: Inquiry) -> Iterator[PostMortemStatus]:
    """The rollbacks of the live database whose post-mortem is not written yet, the newest first, with what is open of
    their checklists."""
    target = inquiry.target
    if target is None:
        return
    for each, due, overdue in afterwards.unwritten(
        inquiry.state, target.dbname, holdings.server_name(target), inquiry.tables.record
    ):
        found = record_of(inquiry, each.run)
        items = found.after.open if found.after is not None else ()
        yield PostMortemStatus(
            run=each.run,
            due=due,
            overdue=overdue,
            open=tuple(item.item for item in items if item.item != incidents.POST_MORTEM),
            command=f"lastgood report {each.run}",
        )


def _held(
    seen: Server, kind: str, plan: Mapping[str, Any], entries: Sequence[Entry], folder: Path, switched: bool
) -> Iterator[Holding]:
    results = {each["step"]: each["result"] for each in entries if each["event"] == "done"}
    if kind == "rollback" and plan and switched:
        yield from holdings.databases(seen, plan, results.get("build", {}).get("oid"))
    if kind == "rollback" and plan:
        yield holdings.file("restore point", _path(folder, str(plan["point"]["path"])))
    if emergency := results.get("emergency", {}).get("path"):
        yield holdings.file("emergency backup", _path(folder, str(emergency)))


def _path(folder: Path, path: str) -> str:
    return str(folder / path) if path and "/" in path else path


def _time(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None


def _problem(ended: Mapping[str, Any]) -> Problem | None:
    with suppress(ValidationError, TypeError):
        return Problem.model_validate(ended["error"]) if ended.get("error") else None
    return None


def _planned(plan: Mapping[str, Any]) -> Planned | None:
    if "fence" not in plan:
        return None
    return Planned(
        fence=str(plan["fence"]),
        reopen_when=str(plan.get("reopen_when", "full")),
        shadow=str(plan.get("shadow", "")),
        kept=str(plan.get("kept", "")),
        expected_seconds=plan.get("expected_seconds"),
        verdict=str(plan.get("checklist", {}).get("verdict", "")),
        found=tuple(_found(plan)),
    )


def _found(plan: Mapping[str, Any]) -> Iterator[str]:
    for item in plan.get("checklist", {}).get("items", ()):
        for line in item["lines"]:
            if line["status"] != "PASS":
                yield f"{line['status']} {item['title']}: {line['text']}"
    for each in plan.get("findings", ()):
        if not each.get("item"):
            yield f"{each['level']}: {each['text']}"


def _loss(plan: Mapping[str, Any]) -> Iterator[Loss]:
    for each in plan.get("loss", ()):
        yield Loss(
            table=f"{each['schema_name']}.{each['name']}",
            live_rows=each["live_rows"],
            point_rows=each["point_rows"],
            written_since=each.get("written_since"),
            by=each.get("by"),
        )


def _proofs(report: Any) -> Iterator[Proof]:
    for each in (report or {}).get("tables", ()):
        with suppress(KeyError, ValidationError):
            schema = each.get("schema", each.get("schema_name", ""))
            yield Proof(table=f"{schema}.{each['name']}", rows=each["rows"], digest=each["digest"], equal=each["equal"])


def _given(model: Any, plan: Mapping[str, Any], name: str) -> Iterator[Any]:
    for each in plan.get("checklist", {}).get(name, ()):
        with suppress(ValidationError):
            yield model.model_validate(each)


def _application(
    entries: Sequence[Entry], report: Any
) -> tuple[tuple[HookResult, ...], HealthResult | None, WatchResult | None]:
    """Hooks and health as they were written down one by one; the watch as its step gave it."""
    hooks = tuple(_read(HookResult, each) for each in entries if each["event"] == "hook")
    health = next((_read(HealthResult, each) for each in reversed(entries) if each["event"] == "health"), None)
    results = (each["result"] for each in reversed(entries) if each["event"] == "done" and each["step"] == "watch")
    watch: Mapping[str, Any] = next(results, {})
    watched = {name: value for name, value in watch.items() if name in WatchResult.model_fields}
    with suppress(ValidationError):
        return hooks, health, WatchResult.model_validate(watched) if watched else None
    return hooks, health, None


def _read(model: Any, entry: Entry) -> Any:
    return model.model_validate({name: value for name, value in entry.items() if name in model.model_fields})


def _healthy(health: HealthResult | None) -> Measured | None:
    if health is None:
        return None
    said = health.problem or f"{health.url} answered {health.status}"
    return Measured(not health.problem, said, "lastgood resume" if health.problem else "")


def _figures(report: Any) -> dict[str, float]:
    found = (report or {}).get("seconds", {})
    if isinstance(found, int | float):
        return {"total": float(found)}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _undone_by(state: Path, run: str, seen: Server) -> Iterator[UndoneBy]:
    """From the journals of this machine, and from the marks of the server."""
    known = set()
    for journal in Journal.newest(state, "undo"):
        if journal.run <= run:
            break  # names begin with the time
        with suppress(OSError, KeyError, StopIteration):
            entries = journal.replay()
            begun = next(entries)
            if begun.get("kind") != "undo" or begun["plan"]["undoes"] != run:
                continue
            done = next((e for e in entries if e["event"] == "done" and e["step"] == "swap"), None)
            if done is not None:
                known.add(journal.run)
                at = datetime.fromisoformat(done["at"]) + timedelta(seconds=begun.get("skew", 0.0))
                yield UndoneBy(run=journal.run, at=at, by=str(begun.get("by", "")), host=str(begun.get("host", "")))
    for _, mark in seen.marks:
        if mark.options.get("undoes") == run and mark.run not in known:
            yield UndoneBy(run=mark.run, at=mark.started, by=mark.user, host=mark.host)


def _taken_back(kind: str, live: str, by: UndoneBy) -> tuple[str, tuple[str, ...]]:
    return (
        f'The {kind} was done, and taken back since: "{live}" became again what it was before it.',
        ("lastgood status", f"lastgood undo {by.run}   # takes that back"),
    )


def _remarks(run: str, told: Chronicle, seen: Server, entries: Sequence[Entry], *, asked: bool) -> Iterator[str]:
    if not any(each.get("by") for each in entries if each["event"] == "begun"):
        yield "who began it is not known: an earlier version of lastgood did, or another machine"
    if told.skew is None:
        yield "the server's clock was not compared: times are those of the machine that ran it"
    if asked and seen.status is None:
        yield f"what is on the server now is not known: {seen.trouble}"
    elsewhere = {mark.host for _, mark in seen.marks if mark.run == run}
    here = {str(each["host"]) for each in entries if each.get("host")}
    for host in sorted(elsewhere - here) if here else ():
        yield f'part of it was done on "{host}": the journal there tells more'


def _from_marks(inquiry: Inquiry, run: str) -> RunRecord:
    """What the marks of its databases tell on the server. Raises Refused when there are none."""
    live = inquiry.target.dbname if inquiry.target is not None else ""
    seen = holdings.look(inquiry.target, live, None, inquiry.tables.pgbouncer, inquiry.state)
    ours = [(found, mark) for found, mark in seen.marks if mark.run == run]
    if not ours:
        why = seen.trouble or "the server has no database of it"
        raise Refused(
            f'cannot report on run "{run}": this machine has no journal of it, and {why}',
            hint=f'Journals lie in "{inquiry.state / "runs"}" of the machine that ran it (--state names another '
            "folder).",
            state=NOT_REACHED,
        )
    found, mark = ours[0]
    undone_by = tuple(_undone_by(inquiry.state, run, seen))
    kind = mark.options.get("kind", "rollback")
    outcome = "switched" if mark.role == "kept" else "stopped"
    text = {
        "kept": f'It has switched: what "{live}" was before is kept as "{found.name}".',
        "shadow": f'It was building "{found.name}" and has not switched: "{live}" was not touched by it.',
    }[mark.role]
    return RunRecord(
        run=run,
        kind=kind,
        undoes=mark.options.get("undoes", ""),
        live=live,
        server=holdings.server_name(inquiry.target) if inquiry.target is not None else "",
        server_version=seen.status.server_version if seen.status is not None else "",
        point=mark.point if kind == "rollback" else "",
        point_made_at=None,
        source="server",
        journal="",
        clock="server",
        skew=None,
        begun=mark.started,
        ended=mark.started,
        seconds=0.0,
        outcome=outcome,
        status="",
        state=text,
        reason="",
        error=None,
        commands=("lastgood status",),
        people=(Appearance(at=mark.started, did="began", by=mark.user, host=mark.host),),
        timeline=(Moment(at=mark.started, kind="who", text=f"{mark.user} on {mark.host} began", seconds=None),),
        phases=(),
        planned=None,
        loss=(),
        proofs=(),
        not_compared=(),
        overrides=tuple(_overridden(mark)),
        attestations=(),
        hooks=(),
        health=None,
        watch=None,
        figures={},
        holdings=tuple(_of_marks(ours)),
        undone_by=undone_by,
        remarks=(
            f'this machine has no journal of it: timeline, loss, proof and messages are in that of "{mark.host}"',
            "that it is marked so is all that the server tells: when it ended, and whether its checks passed, it does "
            "not know",
        ),
        after=None,
        plan=None,
        report=None,
    )


def _overridden(mark: Mark) -> Iterator[Override]:
    for name, reason in mark.options.items():
        if name.startswith(OVERRIDE):
            yield Override(item=name.removeprefix(OVERRIDE), reason=reason, by=mark.user, at=mark.started)


def _of_marks(ours: Sequence[tuple[Any, Mark]]) -> Iterator[Holding]:
    for found, mark in ours:
        what = "previous database" if mark.role == "kept" else "restored database"
        yield Holding(what=what, name=found.name, now="there", detail=mark.role)
