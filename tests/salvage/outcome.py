"""The rows of a history's tables, compared with those that its model expects."""

from __future__ import annotations

import itertools
from collections import Counter

from tests.salvage.histories import NUMBERED
from tests.salvage.terms import Key, Row

RowsOf = dict[str, list[Row]]


def images_of(rows: RowsOf) -> dict[str, Counter[Key]]:
    return {table: Counter(tuple(row.values()) for row in found) for table, found in rows.items()}


def resolved(rows: RowsOf, expected: dict[str, Counter[Key]]) -> dict[str, Counter[Key]] | None:
    """The expected rows with the new keys as they were chosen; None if no choice makes them the rows that are there."""
    found = images_of(rows)
    new = {
        table: sorted({row[0] for row in expected[table] if row[0].startswith(f"new {table} ")})
        for table in NUMBERED
        if table in expected
    }
    free = {table: sorted({row[0] for row in found[table]} - {row[0] for row in expected[table]}) for table in new}
    choices = [itertools.permutations(free[table], len(new[table])) for table in new]
    for picks in itertools.product(*choices):
        names = {
            old: given
            for table, pick in zip(new, picks, strict=True)
            for old, given in zip(new[table], pick, strict=True)
        }
        renamed = {
            table: Counter({tuple(names.get(value, value) for value in row): count for row, count in counts.items()})
            for table, counts in expected.items()
        }
        if renamed == found:
            return renamed
    return None
