"""Sequences behind their columns: the next row that gets its number from one would collide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, Relation
from lastgood.command.validate.look import Look
from lastgood.command.validate.rule import Found, Kind, Mode, Rule, Task

# Identity columns own theirs; a default that calls nextval depends on its sequence, serial or not.
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
SELECT n.nspname, s.relname, u.relation::bigint, a.attname, q.seqincrement, q.seqstart, q.seqmin, q.seqmax, q.seqcycle,
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
# From this share of its numbers on, somebody should think of a larger type.
NEARLY_USED_UP = 0.9


@dataclass(frozen=True, slots=True)
class _Sequence:
    schema_name: str
    name: str
    increment: int
    start: int
    least: int
    most: int
    cycles: bool
    column_most: int | None


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[Task]:
    for schema, name, table, column, *numbers, unique, indexed, oid in catalogue.connection.execute(
        _SEQUENCES, [catalogue.open]
    ).fetchall():
        relation = catalogue.by_oid.get(table)
        if relation is None:
            continue
        sequence = _Sequence(schema, name, *numbers)
        yield Task(
            (Rule(f"sequence:{relation}.{column}", "sequence", "blocker" if unique else "warning"),),
            partial(_look, sequence, relation, column),
            # Where an index knows the greatest value, next to nothing is read.
            pages=0 if indexed else relation.pages,
            relations=(relation.oid, oid),
        )


def _look(sequence: _Sequence, table: Relation, column: str, look: Look, sample: float | None) -> Sequence[Found]:
    name = sql.Identifier(sequence.schema_name, sequence.name)
    last, called = look.row(sql.SQL("SELECT last_value, is_called FROM {}").format(name))
    up = sequence.increment > 0
    extreme = sql.SQL("max" if up else "min")
    (reached,) = look.row(sql.SQL("SELECT {}({})::numeric FROM {}").format(extreme, sql.Identifier(column), table.only))
    if sequence.cycles or reached is None:
        return [Found()]
    following = last + sequence.increment if called else last
    behind = reached >= following if up else reached <= following
    whole = f"{sequence.schema_name}.{sequence.name}"
    if behind:
        reset = sql.SQL("SELECT pg_catalog.setval({}, (SELECT {}({}) FROM {}))").format(
            sql.Literal(name.as_string(look.connection)), extreme, sql.Identifier(column), table.only
        )
        return [
            Found(
                1,
                f"the next value of {whole} is {following:,}, but {table}.{column} has {reached:,} already: the next "
                "row collides with one that is there",
                f"Set it: {look.text(reset)}",
            )
        ]
    return [_room(sequence, f"{table}.{column}", whole, last)]


def _room(sequence: _Sequence, column: str, whole: str, last: Any) -> Found:
    """Whether numbers run out soon: a violation that only warns whatever the rule's severity is."""
    most = min(sequence.most, sequence.column_most or sequence.most)
    if sequence.increment < 0 or last < NEARLY_USED_UP * most:
        return Found()
    return Found(
        1,
        f"{whole} has given out {last:,} of the {most:,} numbers that fit into {column}",
        "Plan for a larger type (bigint) before they are used up.",
        mild=True,
    )


SEQUENCES = Kind(
    "sequence",
    "sequences",
    "The sequence of an identity column, or of a default that calls nextval, is beyond the column's greatest value. A "
    "column without a unique index only warns, and so does a sequence that has given out 90 % of its numbers.",
    ("quick", "full"),
    "blocker",
    _find,
)
