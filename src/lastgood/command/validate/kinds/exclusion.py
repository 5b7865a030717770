"""Exclusion constraints: no two rows conflict, checked without the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.kinds.unique import Index, indexes, without_indexes
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import SAMPLES, Mode, Rule, RuleFinding, RuleKind, RuleTask, sample_text
from lastgood.text.units import counted

# Each row is compared with each other row.
MOST_ROWS = 3000


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    for index in indexes(catalogue):
        if index.operators is not None:
            rule = Rule(f"exclusion:{index.table}.{index.name}", "exclusion")
            yield RuleTask((rule,), partial(_check, index), pages=index.table.pages, relations=(index.table.oid,))


def _check(index: Index, reader: RuleReader, sample: float | None) -> Sequence[RuleFinding]:
    without_indexes(reader)
    rows = reader.row(sql.SQL("SELECT count(*) FROM (SELECT 1 {} LIMIT {}) t").format(index.rows, MOST_ROWS + 1))[0]
    if rows > MOST_ROWS:
        return [
            RuleFinding(
                message=f"more than {MOST_ROWS:,} rows are too many to compare in pairs; the server enforces the "
                "constraint for new rows",
                skipped="unavailable",
            )
        ]
    conflict = sql.SQL(" AND ").join(
        # An operator's name cannot be quoted; it comes from the catalogue and contains no letters.
        sql.SQL("a.{} {} b.{}").format(name, sql.SQL(operator), name)
        for name, operator in zip(index.aliases, index.operators or (), strict=True)
    )
    pairs = sql.SQL(
        "WITH r AS MATERIALIZED (SELECT pg_catalog.row_number() OVER () AS n, {} {}) "
        "SELECT {} FROM r a JOIN r b ON a.n < b.n AND {}"
    )
    numbered, source = index.key_list, index.rows
    count = reader.row(pairs.format(numbered, source, sql.SQL("count(*)"), conflict))[0]
    if not count:
        return [RuleFinding(rows=rows)]
    texts = sql.SQL(", ").join(sql.SQL("a.{0}::text, b.{0}::text").format(each) for each in index.aliases)
    some = pairs.format(numbered, source, texts, conflict) + sql.SQL(" LIMIT {}").format(SAMPLES)
    names = [name for each in index.names for name in (each, f"and {each}")]
    return [
        RuleFinding(
            count,
            f"{counted(count, 'pair')} of rows of {index.table} violate the exclusion constraint {index.name}",
            rows=rows,
            samples=tuple(sample_text(names, found) for found in reader.texts(some)),
        )
    ]


EXCLUSION = RuleKind(
    "exclusion",
    "exclusion constraints",
    "No two rows violate an exclusion constraint (or a key WITHOUT OVERLAPS). Tables of more than 3,000 rows are "
    "listed as not checked.",
    ("quick", "full"),
    "blocker",
    _find,
)
