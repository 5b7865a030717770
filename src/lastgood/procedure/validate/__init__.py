"""Whether the data of a database is what its catalogue and its owner say: GO or NO-GO, and why.

Reads only, in one snapshot, on several connections; holds a table's weakest lock for as long as it looks at it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from time import monotonic

import psycopg

from lastgood.config import NOTHING_LOOKED_AT
from lastgood.config.tables import Validate
from lastgood.errors import NOT_REACHED, UsageError
from lastgood.events import Caution, Emit, StageDone, StageFailed, StageStarted, silent
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Target
from lastgood.procedure.validate import budget, catalogue, rows
from lastgood.procedure.validate.catalogue import Catalogue
from lastgood.procedure.validate.crew import STAGE, Crew, Planned, snapshot
from lastgood.procedure.validate.kinds import KINDS
from lastgood.procedure.validate.rule import Found, Mode, Rule, Task
from lastgood.procedure.validate.verdict import RuleResult, Verdict, conclude, result

__all__ = ["KINDS", "Mode", "RuleResult", "Verdict", "validate"]


def validate(
    target: Target,
    settings: Validate,
    mode: Mode,
    emit: Emit = silent,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    only: Sequence[str] = (),
    time_limit: float | None = None,
    jobs: int | None = None,
) -> Verdict:
    """Looks at the database of ``target``. ``only``: names or kinds of rules, or patterns of names
    (``unique:public.*``); none means all. ``time_limit`` in seconds; None means the settings' for quick, and no limit
    for full.

    Emits Progress of stage ``validate`` in rules. Raises UsageError for a name in ``only`` that no rule has,
    Interrupted, and Failed when the server can't be reached or goes away.
    """
    title = f'validate "{target.dbname}"' if target.keywords.get("dbname") else "validate the database"
    emit(StageStarted(STAGE, title))
    began = monotonic()
    limit = time_limit if time_limit is not None else settings.time_limit if mode == "quick" else None
    try:
        verdict = _validate(target, settings, mode, emit, cancelled, only, limit, jobs, began)
    except psycopg.Error as error:
        emit(StageFailed(STAGE, monotonic() - began, "the server refused"))
        # Nothing told us that we were ever let in: a refused login is what it most likely is.
        context: server_errors.Context = "connect" if error.sqlstate is None else "any"
        raise server_errors.failed(error, "validate the database", context=context, state=NOT_REACHED) from error
    except BaseException as error:
        emit(StageFailed(STAGE, monotonic() - began, str(error)))
        raise
    emit(StageDone(STAGE, verdict.seconds, f"{verdict.verdict}, {len(verdict.rules):,} rules"))
    return verdict


def _validate(
    target: Target,
    settings: Validate,
    mode: Mode,
    emit: Emit,
    cancelled: Callable[[], bool],
    only: Sequence[str],
    limit: float | None,
    jobs: int | None,
    began: float,
) -> Verdict:
    deadline = began + limit if limit is not None else None
    with snapshot(target, jobs) as shared:
        with shared.first.transaction(force_rollback=True):
            known = catalogue.read(shared.first, settings)
        tasks, refused = _tasks(known, mode)
        _refuse_unknown(only, [rule for task in tasks for rule in task.rules])
        for name in settings.ignore:
            if not any(_is_called(rule, name) for task in tasks for rule in task.rules) and mode == "full":
                emit(Caution(f'"{name}" in the list "ignore" of [validate] is no rule of this database'))
        tasks = list(_chosen(tasks, lambda rule: _wanted(rule, only, settings.ignore)))
        planned = _order(tasks, mode, limit)
        connections = shared.share(len(planned))
        info = shared.first.info
        version = ".".join(str(part) for part in (info.server_version // 10000, info.server_version % 10000))
        role = info.user
        database = info.dbname
        crew = Crew(connections, shared.path, mode, deadline, emit, cancelled)
        results = [each for group in crew.run(planned) for each in group]
        count = len(connections)
    order = {kind.name: number for number, kind in enumerate(KINDS)}
    results = sorted(
        [*refused, *results], key=lambda each: (order[each.kind], each.name if each.weight is None else "")
    )
    return conclude(
        results,
        mode=mode,
        database=database,
        server_version=version,
        role=role,
        connections=count,
        threshold=settings.threshold,
        remarks=_remarks(results, mode),
        seconds=monotonic() - began,
    )


def _tasks(known: Catalogue, mode: Mode) -> tuple[list[Task], list[RuleResult]]:
    """All tasks; and what is said of kinds of rules that can't even be listed."""
    tasks: list[Task] = []
    refused: list[RuleResult] = []
    for kind in KINDS:
        if mode not in kind.modes or kind.finds is None:
            continue
        try:
            with known.connection.transaction(force_rollback=True):
                tasks += kind.finds(known, mode)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as error:
            said = f"the {kind.title} can't be listed: {error.diag.message_primary}"
            locked = error.sqlstate == "55P03"
            found = Found(said=said, hint="Try again.", skipped="locked" if locked else "privilege")
            refused.append(result(Rule(kind.name, kind.name), found, 0.0))
    sources = [kind.conditions for kind in KINDS if kind.conditions is not None and mode in kind.modes]
    tasks += rows.tasks(known, sources)
    return tasks, refused


def _order(tasks: Sequence[Task], mode: Mode, limit: float | None) -> list[Planned]:
    """For --quick the cheapest first: what does not fit into its time is what would have taken most of it. Without a
    limit the longest first, so that no connection is left alone with one at the end."""
    samples = budget.samples(tasks, mode, limit or 0.0)
    planned = [Planned(_light(task, mode), sample) for task, sample in zip(tasks, samples, strict=True)]
    return sorted(planned, key=lambda each: budget.cost(each.task, each.sample), reverse=mode == "full")


def _light(task: Task, mode: Mode) -> Task:
    if not budget.too_large(task, mode):
        return task
    found = Found(said="its table is too large to be read whole: --full looks at it", skipped="size")
    return Task(task.rules, lambda look, sample: [found for _ in task.rules])


def _is_called(rule: Rule, name: str) -> bool:
    return name in (rule.name, rule.kind) or (rule.weight is None and fnmatchcase(rule.name, name))


def _wanted(rule: Rule, only: Sequence[str], ignore: Sequence[str]) -> bool:
    if any(_is_called(rule, name) for name in ignore):
        return False
    return not only or any(_is_called(rule, name) for name in only)


def _chosen(tasks: Sequence[Task], wanted: Callable[[Rule], bool]) -> Iterator[Task]:
    """Of tasks for several rules, only what is wanted of them."""
    for task in tasks:
        if all(wanted(rule) for rule in task.rules):
            yield task
        else:
            yield from _chosen(task.alone, wanted)


def _refuse_unknown(only: Sequence[str], rules: Sequence[Rule]) -> None:
    kinds = [kind.name for kind in KINDS]
    for name in only:
        if name in kinds or any(_is_called(rule, name) for rule in rules):
            continue
        near = difflib.get_close_matches(name, [*kinds, *(rule.name for rule in rules)], n=1)
        raise UsageError(
            f'cannot validate: no rule is called "{name}"',
            hint=f'Did you mean "{near[0]}"?' if near else f"The kinds of rules are: {', '.join(kinds)}.",
            state=NOTHING_LOOKED_AT,
        )


def _remarks(results: Sequence[RuleResult], mode: Mode) -> list[str]:
    remarks = []
    sampled = [each.sampled for each in results if each.sampled is not None]
    if sampled:
        least = f"{min(sampled):g} %"
        most = f"{max(sampled):g} %"
        remarks.append(
            f"{len(sampled):,} of {len(results):,} rules looked at a sample of a large table, "
            + (f"{least} of it" if least == most else f"{least} to {most} of it")
        )
    if mode == "quick":
        remarks.append(
            "--full looks at all rows, and at what --quick leaves out: large unique keys, contents of indexes, "
            "whether all data can be read"
        )
    return remarks
