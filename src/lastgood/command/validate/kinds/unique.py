"""Uniqueness: search for rows with equal keys, without the index that should prevent them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueRelation
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import SAMPLES, Mode, Rule, RuleFinding, RuleKind, RuleTask, sample_text
from lastgood.text.units import counted

# The largest table that --quick reads for this, in blocks of 8 kB: a valid index normally prevents duplicates.
QUICK_PAGES = 2560

# Indexes of partitions are checked with those of their parents.
_INDEXES = """
SELECT i.indexrelid::bigint, i.indrelid::bigint, ic.relname, i.indisvalid AND i.indisready AND i.indislive,
       i.indnullsnotdistinct, pg_catalog.pg_get_expr(i.indpred, i.indrelid),
       (SELECT array_agg(pg_catalog.pg_get_indexdef(i.indexrelid, k, false) ORDER BY k)
        FROM generate_series(1, i.indnkeyatts) k),
       (SELECT array_agg(CASE WHEN cl.oid IS NOT NULL THEN format('%%I.%%I', cn.nspname, cl.collname) END ORDER BY k)
        FROM generate_series(1, i.indnkeyatts) k
        LEFT JOIN pg_catalog.pg_collation cl ON cl.oid = (i.indcollation::oid[])[k - 1]
        LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = cl.collnamespace),
       (SELECT array_agg(coalesce(a.attname, pg_catalog.pg_get_indexdef(i.indexrelid, k::int4, false)) ORDER BY k)
        FROM generate_series(1, i.indnkeyatts) k
        LEFT JOIN pg_catalog.pg_attribute a
          ON a.attrelid = i.indrelid AND a.attnum = (i.indkey::int2[])[k - 1] AND a.attnum > 0),
       x.operators
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
LEFT JOIN LATERAL (
  SELECT (SELECT array_agg(format('OPERATOR(%%I.%%s)', n.nspname, o.oprname) ORDER BY p.position)
                     FROM unnest(k.conexclop) WITH ORDINALITY p (operator, position)
                     JOIN pg_catalog.pg_operator o ON o.oid = p.operator
                     JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace) AS operators
  FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.conexclop IS NOT NULL
    AND k.conrelid = i.indrelid LIMIT 1) x ON true
WHERE (i.indisunique OR i.indisexclusion) AND NOT ic.relispartition AND i.indrelid = ANY (%s::oid[])
ORDER BY i.indrelid, ic.relname
"""


@dataclass(frozen=True, slots=True)
class Index:
    """A unique or exclusion index. ``keys``: its columns or expressions as SQL, with their ``collations``. ``names``:
    for messages. ``operators``: those of an exclusion constraint, None for a unique index."""

    oid: int
    table: CatalogueRelation
    name: str
    valid: bool
    nulls_equal: bool
    predicate: str | None
    keys: tuple[str, ...]
    collations: tuple[str | None, ...]
    names: tuple[str, ...]
    operators: tuple[str, ...] | None

    @property
    def key_list(self) -> sql.Composed:
        """The keys as a select list, named k1, k2, …"""
        return sql.SQL(", ").join(
            # The definition from the catalogue; it cannot be composed of identifiers.
            sql.SQL("({}{}) AS {}").format(
                sql.SQL(key),
                sql.SQL(" COLLATE {}").format(sql.SQL(collation)) if collation is not None else sql.SQL(""),
                sql.Identifier(f"k{number}"),
            )
            for number, (key, collation) in enumerate(zip(self.keys, self.collations, strict=True), 1)
        )

    @property
    def rows(self) -> sql.Composed:
        """The FROM clause for the rows that the index covers."""
        return sql.SQL("FROM {}{}").format(
            self.table.only, sql.SQL(" WHERE ({})").format(sql.SQL(self.predicate)) if self.predicate else sql.SQL("")
        )

    @property
    def aliases(self) -> list[sql.Identifier]:
        """The names k1, k2, …"""
        return [sql.Identifier(f"k{number}") for number in range(1, len(self.keys) + 1)]


def indexes(catalogue: Catalogue) -> Iterator[Index]:
    """Yield all unique and exclusion indexes."""
    for oid, table, name, valid, nulls, predicate, keys, collations, names, operators in catalogue.connection.execute(
        _INDEXES, [catalogue.open]
    ).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is not None and relation.populated:
            yield Index(
                oid,
                relation,
                name,
                valid,
                nulls,
                predicate,
                tuple(keys),
                tuple(collations),
                tuple(names),
                tuple(operators) if operators else None,
            )


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    for index in indexes(catalogue):
        if index.operators is None and (mode == "full" or index.table.pages <= QUICK_PAGES or not index.valid):
            yield RuleTask(
                (Rule(f"unique:{index.table}.{index.name}", "unique"),),
                partial(_check, index),
                pages=index.table.pages,
                relations=(index.table.oid,),
            )


def without_indexes(reader: RuleReader) -> None:
    """Disable index scans for the rest of the task: a damaged index must not confirm itself."""
    for setting in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        reader.rows(sql.SQL("SELECT pg_catalog.set_config(%s, 'off', true)"), [setting])


def _check(index: Index, reader: RuleReader, sample: float | None) -> Sequence[RuleFinding]:
    without_indexes(reader)
    keys = sql.SQL(", ").join(index.aliases)
    without_nulls = sql.SQL("") if index.nulls_equal else sql.SQL(" WHERE pg_catalog.num_nulls({}) = 0").format(keys)
    duplicates = sql.SQL("SELECT {}, count(*) AS n FROM (SELECT {} {}) t{} GROUP BY {} HAVING count(*) > 1").format(
        keys, index.key_list, index.rows, without_nulls, keys
    )
    try:
        several, rows = reader.row(sql.SQL("SELECT count(*), coalesce(sum(n), 0)::int8 FROM ({}) t").format(duplicates))
    except psycopg.errors.UndefinedFunction as error:
        if "equality operator" not in (error.diag.message_primary or ""):
            raise
        return [RuleFinding(message="values of its type can be compared only by its index", skipped="unavailable")]
    if not several:
        return [RuleFinding()]
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(each) for each in index.aliases)
    some = sql.SQL("SELECT n::text, {} FROM ({}) t ORDER BY t.n DESC, 2 LIMIT {}").format(texts, duplicates, SAMPLES)
    names = ", ".join(index.names)
    count = "1 value" if several == 1 else f"{several:,} values"
    return [
        RuleFinding(
            rows - several,
            f"{count} of ({names}) in {index.table} occur{'s' if several == 1 else ''} more than once, in "
            f"{counted(rows, 'row')}, despite index {index.name}",
            "The index is corrupt, or never became valid. Remove the duplicate rows, then run REINDEX INDEX "
            "CONCURRENTLY on it.",
            samples=tuple(f"{sample_text(index.names, found)} ({n} times)" for n, *found in reader.texts(some)),
            query=reader.text(duplicates),
        )
    ]


UNIQUE = RuleKind(
    "unique",
    "unique keys",
    "No two rows have equal keys by a primary key, a unique constraint or a unique index (partial, with expressions, "
    "NULLS NOT DISTINCT), checked without the index. --quick checks tables below 20 MB, and all with an invalid index.",
    ("quick", "full"),
    "blocker",
    _find,
)
