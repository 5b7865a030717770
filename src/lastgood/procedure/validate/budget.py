"""What --quick reads: small tables whole, of large ones so many pages that all of them together fit into its time."""

from __future__ import annotations

from collections.abc import Sequence

from lastgood.procedure.validate.rule import Mode, Task

# Blocks of 8 kB that are planned for each second of the limit, all connections together: 16 MB, a small part of what a
# server reads. The rest of the time is for servers that are slow or busy.
PAGES_A_SECOND = 2000
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
    return [
        max(0.01, round(100 * most / each.pages, 2)) if each.sampled and each.pages > most else None for each in tasks
    ]


def cost(task: Task, sample: float | None) -> float:
    """What a task reads, in pages; to order tasks by."""
    return (task.pages if sample is None else task.pages * sample / 100) + task.beside


def too_large(task: Task, mode: Mode) -> bool:
    """Whether --quick can't do it: it would read all of a large table."""
    return mode == "quick" and not task.sampled and task.pages > MOST_WHOLE
