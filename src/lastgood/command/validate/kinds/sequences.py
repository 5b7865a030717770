"""Sequences behind their columns: the next row would collide with an existing one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueRelation
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import Mode, Rule, RuleFinding, RuleKind, RuleTask

# Identity columns own their sequence; a default that calls nextval depends on its sequence, serial or not.
_SEQUENCES = """
WITH used AS (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
  FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    AND d.deptype = 'i' AND d.refobjsubid > 0
  UNION
  SELECT d.refobjid, a.adrelid, a.adnum
  FROM pg_catalog.pg_attrdef a
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = a.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass
  WHERE a.adrelid = ANY (%s::oid[]) AND pg_catalog.pg_get_expr(a.adbin, a.adrelid) LIKE '%%nextval(%%')
SELECT n.nspname, s.relname, u.relation::bigint, a.attname, q.seqincrement, q.seqstart, q.seqmax, q.seqcycle,
       CASE a.atttypid WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 END,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = u.relation AND i.indisunique AND (i.indkey::int2[])[0] = u.number AND i.indisvalid
                 AND i.indpred IS NULL),
       EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
               JOIN pg_catalog.pg_am m ON m.oid = ic.relam
               WHERE i.indrelid = u.relation AND (i.indkey::int2[])[0] = u.number AND i.indisvalid
                 AND i.indpred IS NULL AND m.amname = 'btree'),
       s.oid::bigint
FROM used u JOIN pg_catalog.pg_class s ON s.oid = u.sequence AND s.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number AND a.atttypid IN (20, 21, 23, 1700)
JOIN pg_catalog.pg_class c ON c.oid = u.relation AND NOT c.relispartition
ORDER BY u.relation, a.attname
"""
# From this share on, warn that the numbers may run out.
NEARLY_USED_UP = 0.9


@dataclass(frozen=True, slots=True)
class _Sequence:
    schema_name: str
    name: str
    increment: int
    start: int
    most: int
    cycles: bool
    column_most: int | None


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    for schema, name, table, column, *numbers, unique, indexed, oid in catalogue.connection.execute(
        _SEQUENCES, [catalogue.open]
    ).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is None:
            continue
        sequence = _Sequence(schema, name, *numbers)
        yield RuleTask(
            (Rule(f"sequence:{relation}.{column}", "sequence", "blocker" if unique else "warning"),),
            partial(_check, sequence, relation, column),
            # With an index on the column, the greatest value costs next to nothing.
            pages=0 if indexed else relation.pages,
            relations=(relation.oid, oid),
        )


def _check(
    sequence: _Sequence, table: CatalogueRelation, column: str, reader: RuleReader, sample: float | None
) -> Sequence[RuleFinding]:
    name = sql.Identifier(sequence.schema_name, sequence.name)
    last, called = reader.row(sql.SQL("SELECT last_value, is_called FROM {}").format(name))
    ascending = sequence.increment > 0
    extreme = sql.SQL("max" if ascending else "min")
    (reached,) = reader.row(
        sql.SQL("SELECT {}({})::numeric FROM {}").format(extreme, sql.Identifier(column), table.only)
    )
    if sequence.cycles or reached is None:
        return [RuleFinding()]
    following = last + sequence.increment if called else last
    behind = reached >= following if ascending else reached <= following
    whole = f"{sequence.schema_name}.{sequence.name}"
    if behind:
        reset = sql.SQL("SELECT pg_catalog.setval({}, (SELECT {}({}) FROM {}))").format(
            sql.Literal(name.as_string(reader.connection)), extreme, sql.Identifier(column), table.only
        )
        return [
            RuleFinding(
                1,
                f"the next value of {whole} is {following:,}, but {table}.{column} already contains {reached:,}: the "
                "next row will collide with an existing one",
                f"Reset it: {reader.text(reset)}",
            )
        ]
    return [_room(sequence, f"{table}.{column}", whole, last)]


def _room(sequence: _Sequence, column: str, whole: str, last: Any) -> RuleFinding:
    """Warn if the numbers run out soon, whatever the rule's severity."""
    most = min(sequence.most, sequence.column_most or sequence.most)
    if sequence.increment < 0 or last < NEARLY_USED_UP * most:
        return RuleFinding()
    return RuleFinding(
        1,
        f"{whole} has used {last:,} of the {most:,} values that fit into {column}",
        "Change the column to a larger type (bigint) before they are exhausted.",
        mild=True,
    )


SEQUENCES = RuleKind(
    "sequence",
    "sequences",
    "The sequence of an identity column, or of a default that calls nextval, is beyond the column's greatest value. "
    "Columns without a unique index only warn, and so do sequences that have used 90 % of their values.",
    ("quick", "full"),
    "blocker",
    _find,
)
