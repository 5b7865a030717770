"""Test restores of every restore point of a store: each is restored on a scratch server, proved, and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import psycopg

from lastgood import points, restore
from lastgood.command.drill.evidence import Circumstances, DrillRequest, ProvedPoint, StoreEvidence, point_digest
from lastgood.command.drill.occasion import Occasion, occasion
from lastgood.command.drill.scratch import DrillServer, check_room, room_needed
from lastgood.command.drill.seal import Render, Sealed
from lastgood.command.drill.story import SCRATCH_ONLY
from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import shown
from lastgood.dump.reader import WhichDatabase
from lastgood.errors import BadPoint, Interrupted, LastgoodError
from lastgood.events import StageDone, StageFailed, StageStarted
from lastgood.plan.plan import CodePolicy
from lastgood.points import RestorePoint, VerifiedPoint
from lastgood.points.verdict import DEFAULT_DATABASES
from lastgood.postgres import errors as server_errors
from lastgood.postgres.embedded import available
from lastgood.text.units import counted


def prove_all(request: DrillRequest, render: Render, context: Context = BACKGROUND) -> Sealed:
    """Restore and prove all restore points, newest first. A damaged one is reported and does not stop the others.

    Raises BadPoint (the store is empty), Refused, Failed, Interrupted; then there is no evidence.
    """
    store = request.live.store
    there = points.all_points(store)
    if not there:
        others = points.nearby_folders(store)
        found_there = f" There are restore points in {others[0].folder}." if others else ""
        raise BadPoint(
            f'cannot prove restore points of "{store}": the store is empty',
            hint=f"Give another folder with --store, or make a restore point with lastgood backup.{found_there}",
        )
    began = datetime.now(UTC)
    with occasion(request, "store", context.emit) as found:
        if request.server is None:
            check_room(found.place.work.parent, room_needed(there, 0, copies=1))
        with ExitStack() as stack:
            work = _Work(found, stack, Context(cancelled=context.cancelled, pace=request.live.pace))
            proved = [each for number, point in enumerate(there, 1) for each in work.prove(point, number, len(there))]
            servers = tuple(each.described() for each in work.servers.values())
        ended = datetime.now(UTC)
        evidence = StoreEvidence(
            run=found.run,
            status="passed" if all(each.proved for each in proved) else "failed",
            live=request.live.target.dbname,
            store=str(store.absolute()),
            began=began,
            ended=ended,
            seconds=round((ended - began).total_seconds(), 3),
            by=Circumstances.here(),
            servers=servers,
            points=tuple(proved),
            cautions=(f"code in the restore points ran as a superuser of the scratch server (trusted: {trusted})",)
            if (trusted := request.live.code.trusted)
            else (),
        )
        return found.keep(evidence, render, None)


@dataclass(slots=True)
class _Work:
    """The scratch servers, each started at the first point of its version. ``context`` is that of each restore, whose
    events are discarded: only the results per point are shown."""

    occasion: Occasion
    stack: ExitStack
    context: Context
    servers: dict[int | None, DrillServer] = field(default_factory=dict)

    def prove(self, point: RestorePoint, number: int, total: int) -> Iterator[ProvedPoint]:
        """Restore and prove one point. A dump of a whole cluster gives a result per database."""
        self.context.check("interrupted", state=SCRATCH_ONLY)
        emit = self.occasion.emit
        name = f"point_{number}"
        emit(StageStarted(name, f"{number} of {total}: {shown(point.path.name)}"))
        began = monotonic()
        results = list(self._databases(point))
        bad = next((each for each in results if not each.proved), None)
        if bad is None:
            rows = sum(each.rows or 0 for each in results)
            emit(StageDone(name, monotonic() - began, f"restored and proved, {counted(rows, 'row')}"))
        else:
            emit(StageFailed(name, monotonic() - began, f"{bad.verdict}: {bad.message}"))
        yield from results

    def _databases(self, point: RestorePoint) -> Iterator[ProvedPoint]:
        try:
            whole = points.read_whole(point, context=self.context)
        except WhichDatabase as error:
            for name in error.databases:
                found = self._one(point, name, None)
                # Every cluster has these databases, mostly empty; a partial one is no loss.
                if not (name in DEFAULT_DATABASES and found.verdict == "partial"):
                    yield found
        except Interrupted:
            raise
        except BadPoint as error:
            yield _damaged(point, None, points.state_of(error), error, 0.0)
        except LastgoodError as error:
            yield _damaged(point, None, "unproved", error, 0.0)
        else:
            yield self._one(point, whole.summary.database, whole)

    def _one(self, point: RestorePoint, database: str | None, whole: VerifiedPoint | None) -> ProvedPoint:
        began = monotonic()
        try:
            if whole is None:
                whole = points.read_whole(point, database=database, context=self.context)
            if whole.lack is not None:
                return _partial(point, database, whole.lack.short, monotonic() - began)
            return self._restored(point, database, whole, began)
        except Interrupted:
            raise
        except BadPoint as error:
            return _damaged(point, database, points.state_of(error), error, monotonic() - began)
        except LastgoodError as error:
            return _damaged(point, database, "unproved", error, monotonic() - began)
        except psycopg.Error as error:
            failed = server_errors.failed(error, "restore it on the scratch server", state=SCRATCH_ONLY)
            return _damaged(point, database, "unproved", failed, monotonic() - began)

    def _restored(self, point: RestorePoint, database: str | None, whole: VerifiedPoint, began: float) -> ProvedPoint:
        scratch = self._server(whole.summary.server_major)
        request = self.occasion.request.live
        scratch.make_roles(whole.summary.roles)
        model = scratch.model(None, whole.summary)
        try:
            report = restore.restore(
                scratch.target.at(model),
                request.store,
                str(point.path.absolute()),
                scratch.name,
                self.context,
                database_name=database,
                policy=CodePolicy(request.code.trusted),
            )
        finally:
            scratch.drop(scratch.name)
        return _result(
            point,
            database,
            verdict="proved",
            server_version=scratch.maintenance.info.parameter_status("server_version"),
            rows=sum(table.rows for table in report.tables),
            tables=len(report.tables),
            counted_only=sum(table.equal is None for table in report.tables),
            digest=point_digest(whole.facts.tables),
            seconds=round(monotonic() - began, 3),
        )

    def _server(self, major: int | None) -> DrillServer:
        """Return the given server, or one of that version or the next newer one."""
        fitting = [each for each in available() if major is None or each >= major]
        key = None if self.occasion.request.server is not None else fitting[0] if fitting else major
        if key not in self.servers:
            self.servers[key] = self.stack.enter_context(self.occasion.scratch(key, timed=False))
        return self.servers[key]


def _result(point: RestorePoint, database: str | None, **found: Any) -> ProvedPoint:
    manifest = point.manifest
    form = manifest.form if manifest is not None else "".join(point.path.suffixes[-2:]).lstrip(".") or "folder"
    return ProvedPoint(
        name=point.path.name,
        path=str(point.path.absolute()),
        form=form,
        database=database,
        made_at=point.made_at,
        known=manifest is not None,
        bytes=point.size,
        **found,
    )


def _damaged(
    point: RestorePoint, database: str | None, verdict: str, error: LastgoodError, seconds: float
) -> ProvedPoint:
    return _result(point, database, verdict=verdict, message=error.message, hint=error.hint, seconds=round(seconds, 3))


def _partial(point: RestorePoint, database: str | None, lacks: str, seconds: float) -> ProvedPoint:
    return _result(
        point,
        database,
        verdict="partial",
        message=f"it has no {lacks}, so it cannot replace a whole database",
        hint="Put the file with the rest next to it, or make a complete one: lastgood backup",
        seconds=round(seconds, 3),
    )
