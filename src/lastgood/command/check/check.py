"""The checklist before a rollback, run by itself. It changes nothing, leaves nothing behind and blocks no one else."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from lastgood import checks, points
from lastgood.checklist import Checklist, check_names, checklist
from lastgood.checks import PointReading
from lastgood.checks.rehearsal import expectation
from lastgood.errors import BadPoint
from lastgood.events import Emit, StageDone, StageStarted, silent
from lastgood.in_place.capabilities import probe
from lastgood.load.expected import expected_seconds
from lastgood.models import Document, Frozen
from lastgood.plan.plan import Request
from lastgood.points import QuickCheck, VerifiedPoint
from lastgood.postgres import database
from lastgood.postgres.access import required_grants
from lastgood.postgres.server import Connection, Target
from lastgood.run import prepare


class CheckedPoint(Frozen):
    """The restore point that a rollback would use. ``known``: it has a manifest. ``read``: it was read to its end."""

    path: str
    made_at: datetime
    time_source: str
    bytes: int
    known: bool
    read: bool


class CheckReport(Document):
    """The result of ``lastgood check``. ``point`` is null if there is no valid one. ``expected_seconds``: the estimate
    until the switch; ``expected_end``: the end if the rollback started now. Both are null until a run on this machine
    has completed. ``grants``: what a superuser must run once for a rollback by name."""

    live: str
    server: str
    server_version: str
    checked_at: datetime
    point: CheckedPoint | None
    checklist: Checklist
    expected_seconds: float | None
    expected_end: datetime | None
    grants: tuple[str, ...] = ()
    seconds: float


class Right(Frozen):
    """The answer to one attempt: ``able``, and the reason in ``text``."""

    name: str
    able: bool
    text: str


class Rights(Document):
    """The rights of a role in a database: each was tried in a transaction that was rolled back. ``schemas`` could
    go back in place, ``staying`` could not. ``grants``: what a superuser must run once for a rollback by name."""

    live: str
    role: str
    rights: tuple[Right, ...]
    schemas: tuple[str, ...]
    staying: dict[str, str]
    by_name: bool
    in_place: bool
    grants: tuple[str, ...] = ()


def rights(target: Target) -> Rights:
    """Try the rights for an exchange in place. Raises Failed (cannot connect)."""
    with prepare.connect_live(target, target.dbname) as live:
        found = probe(live)
        return Rights(
            live=target.dbname,
            role=live.info.user,
            rights=tuple(Right(name=each.name, able=each.able, text=each.text) for each in found.answers),
            schemas=found.schemas,
            staying={each.schema: each.reason for each in found.staying},
            by_name=found.by_name,
            in_place=found.in_place,
            grants=required_grants.lacking(live),
        )


def check(request: Request, *, thorough: bool = False, emit: Emit = silent) -> CheckReport:
    """Check everything that a rollback with this request would need. ``thorough``: read the restore point from end to
    end, as a rollback does; otherwise only its manifest, its size, its beginning and its end.

    Raises UsageError, Failed (cannot connect), Refused (no such database).
    """
    started = time.monotonic()
    check_names(request.overrides, request.attestations, request.check.attested)
    emit(StageStarted("check", "check the server and the restore points"))
    live_name = request.target.dbname
    with database.connect_maintenance(request.target, live_name) as maintenance:
        live = database.describe(maintenance, live_name)
        with prepare.connect_live(prepare.let_in(request, maintenance).target, live_name) as inside:
            reading = _read(request, thorough, live.size_bytes or 0, maintenance, emit)
            subject = checks.Subject.of(request, maintenance, inside, live, reading)
            found = checks.results(subject)
            lacking = required_grants.lacking(inside)
        seconds, _ = expectation(subject)
        report = CheckReport(
            live=live_name,
            server=request.target.place,
            server_version=maintenance.info.parameter_status("server_version") or "",
            checked_at=subject.now,
            point=_shown(reading),
            checklist=checklist(found, request.check.attested, request.overrides, request.attestations),
            expected_seconds=seconds,
            expected_end=subject.now + timedelta(seconds=seconds) if seconds is not None else None,
            grants=lacking,
            seconds=round(time.monotonic() - started, 3),
        )
    emit(StageDone("check", report.seconds, report.checklist.verdict))
    return report


def _read(request: Request, thorough: bool, live_bytes: int, maintenance: Connection, emit: Emit) -> PointReading:
    """Read the restore point, in whole or at its ends."""
    wanted, skipped, left_out = request.choice, list[str](), list[str]()
    choose: Callable[..., QuickCheck | VerifiedPoint] = points.choose if thorough else points.choose_quickly
    try:
        chosen = choose(
            request.store,
            name=wanted.point,
            before=wanted.before,
            before_migration=wanted.before_migration,
            database=request.target.dbname,
            context=request.context(points.collect_skipped(emit, skipped, left_out)),
        )
    except BadPoint as error:
        return PointReading(problem=str(error), hint=error.hint, skipped=tuple(skipped))
    if isinstance(chosen, QuickCheck):
        return PointReading(
            chosen.point,
            chosen.facts,
            evidence=chosen.evidence,
            skipped=tuple(skipped),
            left_out=tuple(left_out),
        )
    expected = expected_seconds(maintenance, chosen.source, chosen.summary, live_bytes, request.context())
    return PointReading.of(chosen, expected, skipped=skipped, left_out=left_out)


def _shown(reading: PointReading) -> CheckedPoint | None:
    point = reading.point
    if point is None:
        return None
    return CheckedPoint(
        path=str(point.path),
        made_at=point.made_at,
        time_source=point.time_source,
        bytes=point.size,
        known=point.manifest is not None,
        read=reading.summary is not None,
    )
