"""One drill from start to end, and its evidence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from lastgood import points
from lastgood.checks.subject import way_of
from lastgood.command.drill.evidence import Circumstances, DrillEvidence, DrillRequest, ScratchServer, point_digest
from lastgood.command.drill.history import compared, expected, passed_before
from lastgood.command.drill.occasion import Occasion, occasion
from lastgood.command.drill.phases import Phases
from lastgood.command.drill.scratch import DrillServer, LiveServer, check_room, room_needed
from lastgood.command.drill.seal import Render, Sealed
from lastgood.command.drill.story import SCRATCH_ONLY, Rehearsal
from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import shown
from lastgood.errors import NOT_REACHED, Refused
from lastgood.facts import Facts
from lastgood.in_place import capabilities
from lastgood.in_place.definitions import against_facts
from lastgood.journal import past_runs
from lastgood.journal.past_runs import DrillDue
from lastgood.plan.plan import PlannedPoint, Request
from lastgood.points import VerifiedPoint
from lastgood.process import durable

# The stand-in, its replacement, and the database restored by hand.
COPIES = 3


def drill(request: DrillRequest, render: Render, context: Context = BACKGROUND) -> Sealed:
    """Rehearse the whole procedure and keep the evidence, also of a failed drill (``status``).

    Raises BadPoint (no usable restore point), Refused (no scratch server, no disk space, or the given server is the
    live one), Failed, Interrupted; then there is no evidence, and nothing is left.
    """
    with occasion(request, "drill", context.emit) as found:
        phases = Phases(found.emit)
        with phases.phase("point", "read the restore point from end to end") as measured:
            with phases.nested("point") as nested:
                whole = _point(request, replace(context, emit=nested))
            sha256 = whole.point.manifest.sha256 if whole.point.manifest is not None else whole.source.sha256()
            measured.bytes, measured.rows, measured.detail = whole.source.size, whole.facts.rows, whole.facts.summary
        if request.server is None:
            live_bytes = found.live.database.size_bytes if found.live is not None else None
            check_room(found.place.work.parent, room_needed([whole.point], live_bytes or 0, copies=COPIES))
        majors = [whole.summary.server_major, found.live.major if found.live is not None else None]
        wanted = max((major for major in majors if major), default=None)
        context.check("interrupted", state=SCRATCH_ONLY)
        with ExitStack() as stack:
            with phases.phase("server", "start the scratch server") as measured:
                scratch = stack.enter_context(found.scratch(wanted))
                measured.detail = f"PostgreSQL {scratch.major}"
            _check_extensions(scratch, whole)
            scratch.make_roles(whole.summary.roles)
            schemas = _in_place(request.live, found.live, whole.facts)
            rehearsal = Rehearsal(
                replace(request.live, schemas=schemas),
                request.validation,
                whole,
                found.live,
                scratch,
                found.place,
                phases,
                replace(context, emit=found.emit),
            )
            rehearsal.run()
            described = scratch.described()
            with phases.phase("clean", "remove everything from the scratch server"):
                stack.close()
        _keep_journals(found)
        evidence = _evidence(found, rehearsal, described, sha256)
        return found.keep(evidence, render, _past(evidence))


def _in_place(request: Request, live: LiveServer | None, facts: Facts) -> tuple[str, ...]:
    """The schemas that a rollback of the live database would exchange in place: those of its role, and those of the
    restore point that it lacks. None where databases exchange their names, or where it cannot be asked."""
    if live is None:
        return ()
    with suppress(psycopg.Error), request.target.connect(application_name="lastgood drill") as connection:
        if way_of(request, connection) == "by-name":
            return ()
        here = {row[0] for row in connection.execute("SELECT nspname::text FROM pg_catalog.pg_namespace")}
        return tuple(sorted({*capabilities.schemas(connection)[0], *(against_facts.schemas_of(facts) - here)}))
    return ()


def _evidence(found: Occasion, rehearsal: Rehearsal, server: ScratchServer, sha256: str) -> DrillEvidence:
    request, live, whole, report = found.request, found.live, rehearsal.whole, rehearsal.report
    phases, ended = rehearsal.phases.all(), datetime.now(UTC)
    name, state = request.live.target.dbname, request.live.state
    passed = rehearsal.failure is None and all(proof.holds for proof in rehearsal.proofs)
    live_bytes = live.database.size_bytes if live is not None else None
    due = DrillDue(
        last=ended,
        run=found.run,
        next=ended + timedelta(seconds=request.live.drill.every),
        overdue=False,
        every=request.live.drill.every,
    )
    return DrillEvidence(
        run=found.run,
        status="passed" if passed else "failed",
        live=name,
        began=rehearsal.phases.began,
        ended=ended,
        seconds=round((ended - rehearsal.phases.began).total_seconds(), 3),
        by=Circumstances.here(),
        live_server=live.version if live is not None else None,
        server=server,
        point=_planned(whole),
        point_digest=point_digest(whole.facts.tables if report is None else report.tables),
        point_sha256=sha256,
        phases=phases,
        proofs=tuple(rehearsal.proofs),
        tables=report.tables if report is not None else (),
        schemas=rehearsal.schemas,
        broken=rehearsal.broken,
        outages=rehearsal.outages(),
        validation=rehearsal.validated,
        expected=expected(report, rehearsal.stand_in_bytes, live_bytes) if report is not None else None,
        compared=compared(phases, whole.source.size, passed_before(state, name)),
        cautions=tuple(rehearsal.phases.cautions),
        left_out=tuple(_left_out(request, server, rehearsal.no_guide, rehearsal.schemas)),
        failure=rehearsal.failure,
        due=due if passed else past_runs.drill_due(state, name, request.live.drill.every, ended),
    )


def _planned(whole: VerifiedPoint) -> PlannedPoint:
    point, facts = whole.point, whole.facts
    return PlannedPoint(
        path=str(point.path),
        kind=whole.source.kind,
        made_at=point.made_at,
        time_source=point.time_source,
        bytes=whole.source.size,
        rows=facts.rows,
        tables=len(facts.tables),
        migration=facts.migration.version if facts.migration is not None else None,
        sha256=point.manifest.sha256 if point.manifest is not None else None,
    )


def _left_out(request: DrillRequest, server: ScratchServer, no_guide: str, schemas: tuple[str, ...]) -> Iterator[str]:
    """Yield the steps of a real rollback that the drill skipped."""
    if no_guide:
        yield f"the commands of the guide: {no_guide}"
    application = request.live.application
    if application.stops or application.starts:
        yield "the hooks in [hooks]: a drill must not stop the real application"
    if application.health is not None:
        yield "the health check in [health]: it would query the real application"
    if application.watch is not None:
        yield "the watch in [watch]: a scratch server has no users"
    if request.live.pgbouncer.admin:
        yield "the pause of PgBouncer: its clients are the real ones"
    if schemas:
        yield "the privileges of the live role, which lastgood check --capabilities tests: the drill ran as a superuser"
    if not server.given:
        yield "the live server's settings, hardware and load: the scratch server had default settings on this machine"


def _past(evidence: DrillEvidence) -> dict[str, Any] | None:
    """Return the figures for later estimates; None for a failed drill."""
    if evidence.status != "passed" or evidence.expected is None:
        return None
    point = evidence.point
    return past_runs.past_fields(
        live=evidence.live, seconds=evidence.expected.seconds, bytes=point.bytes, point=point.path
    )


def _point(request: DrillRequest, context: Context) -> VerifiedPoint:
    choice = request.live.choice
    return points.choose(
        request.live.store,
        name=choice.point,
        before=choice.before,
        before_migration=choice.before_migration,
        database=request.live.target.dbname,
        skim=True,
        context=context,
    )


def _check_extensions(scratch: DrillServer, whole: VerifiedPoint) -> None:
    if missing := scratch.lacking(whole):
        raise Refused(
            "cannot drill on the scratch server: extensions needed by the restore point are not installed there: "
            + ", ".join(shown(name) for name in missing),
            hint="Install their packages for that version on this machine, or give a server that has them with "
            "--server URL.",
            state=NOT_REACHED,
        )


def _keep_journals(found: Occasion) -> None:
    """Copy the journals of the rehearsed rollback and undo to the evidence."""
    for each in (found.place.state / "runs").glob("*.jsonl"):
        durable.write_private(found.place.folder / each.name, each.read_bytes())
