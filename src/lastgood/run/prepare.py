"""From a request to a plan: choose and read the restore point, inspect the server, count the loss.

Changes nothing. The whole dump is read here, so that an incomplete or unsafe one is refused before anything is created.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from lastgood import checks, loss, points
from lastgood.checklist import ITEMS, Finding, Override, Passed, check_names, checklist
from lastgood.checks import counted
from lastgood.checks.code import code_run
from lastgood.checks.later_code import later_code
from lastgood.checks.subject import InPlaceScope
from lastgood.dump.deferral import Deferrable
from lastgood.errors import NOT_REACHED, Stopped, reporting_state
from lastgood.events import Caution, Emit, StageDone, StageStarted
from lastgood.facts import Facts
from lastgood.in_place import names
from lastgood.in_place.definitions import against_facts
from lastgood.journal.run_names import new_run, suffix
from lastgood.load.deferred.choice import choose
from lastgood.load.expected import expected_seconds
from lastgood.members.survey import limited_to
from lastgood.plan.loss import TableLoss, outside
from lastgood.plan.plan import Choice, Plan, PlannedPoint, Prepared, Request
from lastgood.plan.unfinished import Unfinished, as_recorded, refuse_resume, requested_run
from lastgood.points import VerifiedPoint
from lastgood.postgres import clock, database, pooled
from lastgood.postgres import errors as server_errors
from lastgood.postgres.mark import OVERRIDE, TRUSTED, Mark
from lastgood.postgres.pressure import activity
from lastgood.postgres.pressure.activity import Sample
from lastgood.postgres.server import Connection, Target, read_tables_only
from lastgood.run import steps
from lastgood.run.pause import planned_pauses


def lock_name(run: str) -> str:
    """Return the application_name of a run's main session."""
    return f"lastgood rollback {run}"


def prepare(request: Request, emit: Emit) -> Prepared:
    """Plan a new rollback. Raises BadPoint, Refused (no such database, cannot connect)."""
    started = time.monotonic()
    emit(StageStarted("plan", "read the restore point and inspect the server"))
    live_name = request.target.dbname
    check_names(request.overrides, request.attestations, request.check.attested)
    # A wrong password or a missing database is reported before the restore point is read, which may take minutes.
    with database.connect_maintenance(request.target, live_name) as maintenance:
        is_open = database.describe(maintenance, live_name).allow_connections
    with reporting_state(live_name, is_open=is_open):
        return _prepare(request, emit, live_name, started)


def _prepare(request: Request, emit: Emit, live_name: str, started: float) -> Prepared:
    skipped, left_out = list[str](), list[str]()
    chosen = points.choose(
        request.store,
        name=request.choice.point,
        before=request.choice.before,
        before_migration=request.choice.before_migration,
        database=request.database or live_name,
        skip_rows=True,
        context=request.context(points.collect_skipped(emit, skipped, left_out)),
    )
    point, source, facts, summary = chosen.point, chosen.source, chosen.facts, chosen.summary
    with database.connect_maintenance(request.target, live_name) as maintenance:
        live = database.describe(maintenance, live_name)
        skew = clock.skew(maintenance)
        run = request.run or new_run(clock.now(maintenance))
        request = let_in(request, maintenance)
        with connect_live(request.target, live_name) as connection:
            # Before the other checks, which rely on their session.
            pooled.refuse(connection, f'roll back "{live_name}"')
            request = _settled(request, connection)
            code = code_run(maintenance, summary, request.code)
            confined = code is not None and code.confined
            # First, because our own queries count as use of an index, too.
            choice = None
            sample = _sample(request, maintenance, live.oid, connection)
            if request.reopen_when == "usable":
                deferrable = Deferrable.of(summary.script, confined=confined)
                choice = choose(connection, deferrable, replaces=True, allow_orphans=request.allow_orphans)
            expected = expected_seconds(maintenance, source, summary, live.size_bytes or 0, request.context())
            reading = checks.PointReading.of(chosen, expected, skipped=skipped, left_out=left_out)
            subject = checks.Subject.of(request, maintenance, connection, live, reading)
            looked = [*checks.results(subject)]
            if code is not None:
                code = code.model_copy(update={"later": later_code(connection, summary)})
            lost, refused = _loss(subject, chosen, looked, emit)
            revived = loss.revivals(lost, request.loss)
            back = (*revived, *loss.revoked_since(connection, summary, facts, subject.staying))
        looked += [*refused, *counted.findings(lost)]
        if choice is not None:
            looked += [Finding(level="caution", code="deferral", text=each) for each in choice.remarks]
        plan = Plan(
            run=run,
            made_at=clock.now(maintenance),
            server=request.target.place,
            server_version=maintenance.info.parameter_status("server_version") or "",
            live=live.name,
            live_oid=live.oid,
            live_bytes=live.size_bytes or 0,
            maintenance=maintenance.info.dbname,
            **_beside(live.name, run, subject.in_place, facts),
            point=_planned_point(chosen),
            fence=request.fence,
            reopen_when=request.reopen_when,
            deferred=tuple(map(str, choice.division.later)) if choice is not None else (),
            code=code,
            keep_shadow=request.keep_shadow,
            strict=request.strict,
            allow_orphans=request.allow_orphans,
            carry_owners=not summary.has_owners,
            carry_acls=not summary.has_acls,
            expected_seconds=expected.build,
            expected_backup_seconds=None if request.skips_backup else expected.backup,
            expected_between=expected.between,
            loss=lost,
            revivals=back,
            outside=outside(lost),
            # The rehearsal is reported by the checklist only.
            findings=tuple(each for each in checks.findings(looked) if each.item != "rehearsal"),
            checklist=checklist(looked, request.check.attested, request.overrides, request.attestations),
            pauses=planned_pauses(request.pgbouncer, subject.pools),
            steps=steps.planned(request),
        )
    seconds = time.monotonic() - started
    emit(StageDone("plan", seconds, f"{point.path.name}: {facts.summary}"))
    division = choice.division if choice is not None else None
    return Prepared(
        request,
        plan,
        point,
        source,
        facts,
        summary,
        seconds,
        division,
        sample,
        skew,
        subject.extension_changes,
        limited_to(subject.members, [each.name for each in facts.extensions]).rows,
    )


def _planned_point(chosen: VerifiedPoint) -> PlannedPoint:
    point, facts = chosen.point, chosen.facts
    return PlannedPoint(
        path=str(point.path),
        kind=chosen.source.kind,
        made_at=point.made_at,
        time_source=point.time_source,
        bytes=chosen.source.size,
        rows=facts.rows,
        tables=len(facts.tables),
        migration=facts.migration.version if facts.migration is not None else None,
    )


def _loss(
    subject: checks.Subject, chosen: VerifiedPoint, looked: Sequence[Finding | Passed], emit: Emit
) -> tuple[tuple[TableLoss, ...], tuple[Finding, ...]]:
    """What would be lost in the schemas that go back, and what is reported of rows that this role may not read."""
    request, connection = subject.request, subject.live
    try:
        (lost,) = loss.losses(
            connection,
            request.target.at(subject.database.name),
            [(loss.Then.of(chosen.point, chosen.facts), lambda context: chosen)],
            loss.Comparing(request.compare, request.check.compare_limit, request.loss),
            request.context(emit),
            held=subject.members.rows,
            stage="plan",
        )
    except psycopg.errors.InsufficientPrivilege as error:
        return (), tuple(counted.refused(subject.database.name, error, looked))
    return tuple(each for each in lost if each.schema_name not in subject.staying), ()


def _settled(request: Request, connection: Connection) -> Request:
    """The request with its way to switch. In place writers continue until the switch, which waits for their
    transactions, and nothing is deferred."""
    way = checks.way_of(request, connection)
    if way == "by-name":
        return replace(request, way=way)
    return replace(request, way=way, fence="at-swap", reopen_when="full")


def _beside(live: str, run: str, in_place: InPlaceScope | None, facts: Facts) -> dict[str, Any]:
    """The fields of the plan for what is built beside the live content, and for what is kept."""
    if in_place is None:
        return {
            "shadow": database.fit_name(live, suffix("shadow", run)),
            "kept": database.fit_name(live, suffix("old", run)),
        }
    staying = [each.schema for each in in_place.capabilities.staying]
    # A schema that was dropped since the restore point comes back.
    going = {*in_place.capabilities.schemas, *against_facts.schemas_of(facts)} - set(staying)
    return {
        "way": "in-place",
        "schemas": tuple(sorted(going)),
        "staying": tuple(staying),
        "shadow": names.staging(run, "*"),
        "kept": names.kept(run, "*"),
    }


def prepare_again(request: Request, emit: Emit) -> tuple[Prepared, Unfinished]:
    """Plan a stopped run again from the marks of its databases on the server. Returns the plan and the run as read
    without the lock; ``unfinished.still`` reads it again under the lock."""
    live_name = request.target.dbname
    with database.connect_maintenance(request.target, live_name) as maintenance:
        meant = requested_run(maintenance, request.target, request.state, request.run, to_resume=True)
        assert meant is not None  # only ``abort`` handles unmarked databases
        refuse_resume(meant)
        mark = as_recorded(meant, maintenance, request.state, request.store)
    if mark.options.get("hooks") == "yes" and not request.application.starts:
        emit(
            Caution(
                f'the run stopped the application with hooks on "{mark.host}", and no hook is configured here: after '
                "the run, start the application there with lastgood maintenance off, or manually"
            )
        )
    path = Path(mark.point)
    if not path.exists():
        raise Stopped(
            f'cannot resume run "{mark.run}": the restore point "{mark.point}" is not on this machine',
            hint=f"Run lastgood resume on {mark.host}, copy the file here, or run lastgood abort {mark.run}",
            state=NOT_REACHED,
        )
    again = replace(
        request,
        run=mark.run,
        choice=Choice(point=mark.point),
        fence="at-swap" if mark.options.get("fence") == "at-swap" else "now",
        way="in-place" if mark.options.get("way") == "in-place" else "by-name",
        reopen_when="usable" if mark.options.get("reopen_when") == "usable" else "full",
        overrides=tuple(_overrides(mark)),
        strict="strict" in mark.options,
        allow_orphans="allow_orphans" in mark.options,
        code=replace(request.code, trusted=mark.options.get(TRUSTED, request.code.trusted)),
        compare="none",  # the difference was shown when the run began
    )
    prepared = prepare(again, emit)
    plan = prepared.plan.model_copy(update={"live_oid": mark.live_oid})
    return replace(prepared, plan=plan), meant


def _overrides(mark: Mark) -> Iterator[Override]:
    """Yield the overrides of the run, from the marks of its databases."""
    for name, reason in mark.options.items():
        item = name.removeprefix(OVERRIDE)
        if name.startswith(OVERRIDE) and item in {each.name for each in ITEMS}:
            yield Override(item=item, reason=reason, by=mark.user, at=mark.started)


def _sample(request: Request, maintenance: Connection, oid: int, inside: Connection) -> Sample | None:
    if request.application.watch is None:
        return None
    try:
        return activity.sample(maintenance, oid, inside)
    except psycopg.Error:
        return None  # the watch then reports that it has no earlier figures


def let_in(request: Request, maintenance: Connection) -> Request:
    """Return the request, with event triggers disabled where this role may: a login trigger, of the live database or of
    the restore point, would run with its rights, or reject our connection."""
    row = maintenance.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if row is None or not row[0] or maintenance.info.server_version < 170000:
        return request
    quiet = request.target.at(request.target.dbname).without_event_triggers()
    try:
        quiet.connect().close()
    except psycopg.Error:
        return request  # a pooler may not pass the setting on
    return replace(request, target=quiet)


def connect_live(target: Target, dbname: str) -> Connection:
    """Connect to the live database itself. Raises Failed."""
    try:
        connection = target.at(dbname).connect()
        read_tables_only(connection)
        return connection
    except psycopg.Error as error:
        raise server_errors.failed(error, f'connect to "{dbname}"', context="connect", state=NOT_REACHED) from error
