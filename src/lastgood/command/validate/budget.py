"""The budget of --quick: small tables are read whole, large ones sampled so that the total fits into the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastgood.command.validate.rule import Mode, RuleFinding, RuleTask

# Blocks of 8 kB planned per second of the limit, for all connections together: 40 MB, less than a server can read.
# The rest of the time is a reserve for slow or busy servers.
PAGES_A_SECOND = 5000
# Rules that need a whole table larger than this are left to --full.
MOST_WHOLE = 64_000
# A sample of fewer pages is not meaningful.
LEAST_PAGES = 256


def largest_share(pages: Sequence[int], budget: int) -> int:
    """Return the maximum number of pages per table, so that the total is ``budget``. What small tables do not need goes
    to the others."""
    remaining = budget
    for number, need in enumerate(sorted(pages)):
        share = remaining // (len(pages) - number)
        if need > share:
            return max(share, LEAST_PAGES)
        remaining -= need
    return max(pages, default=0)


def samples(tasks: Sequence[RuleTask], mode: Mode, limit: float) -> list[float | None]:
    """Return for each task the percentage of pages to read, None for all."""
    if mode == "full":
        return [None for _ in tasks]
    most = largest_share([each.pages for each in tasks if each.sampled], int(limit * PAGES_A_SECOND))
    return [_percent(task.pages, most) if task.sampled else None for task in tasks]


def _percent(pages: int, most: int) -> float | None:
    """Return the sample in percent, None if it would save next to nothing."""
    return max(0.01, round(100 * most / pages, 2)) if most < 0.9 * pages else None


def cost(task: RuleTask, sample: float | None) -> float:
    """Return the pages that a task reads, to order tasks by."""
    return (task.pages if sample is None else task.pages * sample / 100) + task.extra_pages


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task, and its sample of the table in percent, None for all."""

    task: RuleTask
    sample: float | None


def planned(tasks: Sequence[RuleTask], mode: Mode, limit: float) -> list[PlannedTask]:
    """Return the tasks in order of execution. For --quick the cheapest first, so that only the most expensive miss the
    time limit. Without a limit the longest first, so that no connection ends with a long task alone."""
    parts = samples(tasks, mode, limit)
    tasks_and_samples = [PlannedTask(_fitting(task, mode), sample) for task, sample in zip(tasks, parts, strict=True)]
    return sorted(tasks_and_samples, key=lambda each: cost(each.task, each.sample), reverse=mode == "full")


def _fitting(task: RuleTask, mode: Mode) -> RuleTask:
    """Return the task, or a skipped result if it would read all of a large table in --quick."""
    if mode == "full" or task.sampled or task.pages <= MOST_WHOLE:
        return task
    finding = RuleFinding(message="the table is too large for --quick; --full checks it", skipped="size")
    return RuleTask(task.rules, lambda reader, sample: [finding for _ in task.rules])
