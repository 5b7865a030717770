"""Validation of a database's data against its catalogue and the user's rules: GO or NO-GO, with reasons.

Reads only, in one snapshot, on several connections, with an ACCESS SHARE lock on a table while a task reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

import psycopg

from lastgood.command.validate import budget, catalogue, listing
from lastgood.command.validate.crew import STAGE, ConnectionLost, Crew, snapshot
from lastgood.command.validate.kinds import KINDS
from lastgood.command.validate.rule import Mode
from lastgood.command.validate.verdict import RuleResult, ValidationSummary, ValidationVerdict, conclude
from lastgood.config.tables import Validate
from lastgood.context import BACKGROUND, Context
from lastgood.errors import NOT_REACHED, LastgoodError, Refused, UsageError
from lastgood.events import Caution, StageDone, StageFailed, StageStarted
from lastgood.postgres import database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.kept import read_only
from lastgood.postgres.server import ClosedDatabase, Target

__all__ = ["KINDS", "Mode", "RuleResult", "ValidationSummary", "ValidationVerdict", "validate"]


def validate(
    target: Target,
    settings: Validate,
    mode: Mode,
    context: Context = BACKGROUND,
    *,
    only: Sequence[str] = (),
    time_limit: float | None = None,
    jobs: int | None = None,
) -> ValidationVerdict:
    """Validate the database of ``target``. ``only``: names or kinds of rules, or patterns of names
    (``unique:public.*``); empty means all. ``time_limit`` in seconds; None means that of the settings for quick, and no
    limit for full.

    Emits Progress of stage ``validate`` in rules. Raises UsageError for an unknown name in ``only``, Interrupted, and
    Failed when the server cannot be reached or the connection is lost.
    """
    title = f'validate "{target.dbname}"' if target.keywords.get("dbname") else "validate the database"
    emit = context.emit
    emit(StageStarted(STAGE, title))
    began = monotonic()
    limit = time_limit if time_limit is not None else settings.time_limit if mode == "quick" else None
    try:
        verdict = _validate(target, settings, mode, context, only, limit, jobs, began)
    except ConnectionLost as lost:
        emit(StageFailed(STAGE, monotonic() - began, "the connection was lost"))
        doing = f'continue the validation: the connection was lost during rule "{lost.rule}"'
        raise server_errors.failed(lost.error, doing, state=NOT_REACHED) from lost.error
    except psycopg.Error as error:
        emit(StageFailed(STAGE, monotonic() - began, "rejected by the server"))
        raise _failed(target, error) from error
    except BaseException as error:
        emit(StageFailed(STAGE, monotonic() - began, "no such rule" if isinstance(error, UsageError) else str(error)))
        raise
    emit(StageDone(STAGE, verdict.seconds, f"{verdict.verdict}, {len(verdict.rules):,} rules"))
    return verdict


def _validate(
    target: Target,
    settings: Validate,
    mode: Mode,
    context: Context,
    only: Sequence[str],
    limit: float | None,
    jobs: int | None,
    began: float,
) -> ValidationVerdict:
    deadline = began + limit if limit is not None else None
    with snapshot(read_only(target), jobs) as shared:
        if shared.role.caution:
            context.emit(Caution(shared.role.caution))
        with shared.first.transaction(force_rollback=True):
            relations = catalogue.read(shared.first, settings)
        all_tasks = listing.tasks(relations, mode)
        if mode == "full":
            for name in listing.unknown_names(all_tasks, settings.ignore):
                context.emit(Caution(f'"{name}" in "ignore" of [validate] matches no rule of this database'))
        planned = budget.planned(listing.select(all_tasks, only, settings.ignore), mode, limit or 0.0)
        connections = shared.share(len(planned))
        info = shared.first.info
        version = ".".join(str(part) for part in (info.server_version // 10000, info.server_version % 10000))
        role, name = info.user, info.dbname
        operator = shared.first if shared.role.made else None
        crew = Crew(connections, shared.path, mode, deadline, context, operator=operator)
        results = [each for group in crew.run(planned) for each in group]
        count = len(connections)
        confined = shared.role.confined
    order = {kind.name: number for number, kind in enumerate(KINDS)}
    results.sort(key=lambda each: (order[each.kind], each.name if each.weight is None else ""))
    return conclude(
        results,
        mode=mode,
        database=name,
        server_version=version,
        role=role,
        connections=count,
        confined=confined,
        threshold=settings.threshold,
        remarks=_remarks(results, mode),
        seconds=monotonic() - began,
    )


def _failed(target: Target, error: psycopg.Error) -> LastgoodError:
    if error.sqlstate is None and not isinstance(error, ClosedDatabase) and target.keywords.get("dbname"):
        # libpq gives a refused login no SQLSTATE: check in the catalogue whether the database exists.
        try:
            with database.connect_maintenance(target, target.dbname) as maintenance:
                database.describe(maintenance, target.dbname)
        except Refused as refused:
            return refused
        except (LastgoodError, psycopg.Error):
            pass  # that database is not reachable, either
    # Without an SQLSTATE there was no session yet: most likely the login failed.
    context: server_errors.Context = "connect" if error.sqlstate is None else "any"
    return server_errors.failed(error, "validate the database", context=context, state=NOT_REACHED)


def _remarks(results: Sequence[RuleResult], mode: Mode) -> list[str]:
    remarks = []
    sampled = [each.sampled for each in results if each.sampled is not None]
    if sampled:
        least = f"{min(sampled):g} %"
        most = f"{max(sampled):g} %"
        remarks.append(
            f"{len(sampled):,} of {len(results):,} rules read only a sample of a large table, "
            + (f"{least} of it" if least == most else f"{least} to {most} of it")
        )
    if mode == "quick":
        remarks.append(
            "--full reads all rows, and checks what --quick skips: large unique keys, contents of indexes, and whether "
            "all data is readable"
        )
    return remarks
