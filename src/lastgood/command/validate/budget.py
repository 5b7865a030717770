"""What --quick reads: small tables whole, of large ones so many pages that all of them together fit into its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastgood.command.validate.rule import Found, Mode, Task

# Blocks of 8 kB that are planned for each second of the limit, all connections together: 40 MB, a part of what a
# server reads. The rest of the time is for servers that are slow or busy.
PAGES_A_SECOND = 5000
# What needs the whole of a table that large is left to --full.
MOST_WHOLE = 64_000
# A sample of fewer pages says nothing.
LEAST_PAGES = 256


def largest_share(pages: Sequence[int], budget: int) -> int:
    """The number of pages that each may have at most so that all together have ``budget``: who needs less leaves the
    rest to the others."""
    left = budget
    for number, need in enumerate(sorted(pages)):
        share = left // (len(pages) - number)
        if need > share:
            return max(share, LEAST_PAGES)
        left -= need
    return max(pages, default=0)


def samples(tasks: Sequence[Task], mode: Mode, limit: float) -> list[float | None]:
    """For each task the percentage of pages to look at, None for all."""
    if mode == "full":
        return [None for _ in tasks]
    most = largest_share([each.pages for each in tasks if each.sampled], int(limit * PAGES_A_SECOND))
    return [_percent(task.pages, most) if task.sampled else None for task in tasks]


def _percent(pages: int, most: int) -> float | None:
    """None where a sample would save next to nothing."""
    return max(0.01, round(100 * most / pages, 2)) if most < 0.9 * pages else None


def cost(task: Task, sample: float | None) -> float:
    """What a task reads, in pages; to order tasks by."""
    return (task.pages if sample is None else task.pages * sample / 100) + task.beside


@dataclass(frozen=True, slots=True)
class Planned:
    """A task, and the part of its table that it looks at in percent, None for all."""

    task: Task
    sample: float | None


def planned(tasks: Sequence[Task], mode: Mode, limit: float) -> list[Planned]:
    """The tasks in the order in which they are done. For --quick the cheapest first: what does not fit into its time is
    what would have taken most of it. Without a limit the longest first, so that no connection is left alone with one
    at the end."""
    parts = samples(tasks, mode, limit)
    found = [Planned(_fitting(task, mode), sample) for task, sample in zip(tasks, parts, strict=True)]
    return sorted(found, key=lambda each: cost(each.task, each.sample), reverse=mode == "full")


def _fitting(task: Task, mode: Mode) -> Task:
    """The task, or in its place the answer that --quick can't do it: it would read all of a large table."""
    if mode == "full" or task.sampled or task.pages <= MOST_WHOLE:
        return task
    found = Found(said="its table is too large to be read whole: --full looks at it", skipped="size")
    return Task(task.rules, lambda look, sample: [found for _ in task.rules])
