"""Readability: every value of every row can be read, including values in TOAST tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import psycopg
from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueColumn, CatalogueRelation
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import Mode, Rule, RuleFinding, RuleKind, RuleTask

_BYTEA = 17
_INTEGERS = frozenset({20, 21, 23})


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    for relation in catalogue.relations:
        if relation.kind in "rm" and relation.populated:
            yield RuleTask(
                (Rule(f"readable:{relation}", "readable"),),
                partial(_check, relation),
                pages=relation.pages,
                relations=(relation.oid,),
            )


def _read(column: CatalogueColumn) -> sql.Composed:
    """Return an expression that reads the whole value. Texts are also checked for valid encoding."""
    name = sql.Identifier(column.name)
    if column.type == _BYTEA:
        return sql.SQL("count(pg_catalog.md5({}))").format(name)
    return sql.SQL(
        "count(pg_catalog.length(pg_catalog.convert_to({}::text, pg_catalog.getdatabaseencoding())))"
    ).format(name)


def _check(relation: CatalogueRelation, reader: RuleReader, sample: float | None) -> Sequence[RuleFinding]:
    columns = [each for each in relation.columns if each.varies or each.domain]
    wanted = sql.SQL(", ").join([sql.SQL("count(*)"), *map(_read, columns)])
    query = sql.SQL("SELECT {} FROM {}").format(wanted, relation.only)
    try:
        with reader.connection.transaction():
            return [RuleFinding(rows=reader.row(query)[0])]
    except psycopg.Error as error:
        # Invalid encoding, damaged pages and values, missing files.
        if (error.sqlstate or "")[:2] not in ("22", "54", "58", "XX"):
            raise
        message = f"{error.diag.message_primary} [SQLSTATE {error.sqlstate}]"
    place = _first_unreadable(relation, columns, reader)
    return [
        RuleFinding(
            1,
            f"{relation} is not fully readable: {message}",
            "Do not write to it. Copy the readable rows one by one, and get the rest from an earlier restore point.",
            samples=(place,) if place else (),
        )
    ]


def _fails(query: sql.Composed, reader: RuleReader) -> bool:
    try:
        with reader.connection.transaction():
            reader.rows(query)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in ("22", "54", "58", "XX"):
            return True
        raise
    return False


def _first_unreadable(relation: CatalogueRelation, columns: Sequence[CatalogueColumn], reader: RuleReader) -> str:
    """Return the first unreadable column, and the first row by its primary key if that is an integer."""
    for column in columns:
        query = sql.SQL("SELECT {} FROM {}").format(_read(column), relation.only)
        if _fails(query, reader):
            break
    else:
        return ""
    key = relation.column(relation.key[0]) if len(relation.key) == 1 else None
    if key is None or key.type not in _INTEGERS:
        return f"column {column.name}"
    name = sql.Identifier(key.name)
    low, high = reader.row(sql.SQL("SELECT min({0})::int8, max({0})::int8 FROM {1}").format(name, relation.only))
    # With an index, each step reads half as much as the step before.
    while low < high:
        middle = (low + high) // 2
        if _fails(query + sql.SQL(" WHERE {} BETWEEN {} AND {}").format(name, low, middle), reader):
            high = middle
        else:
            low = middle + 1
    return f"{key.name}={low}, column {column.name}"


READABLE = RuleKind(
    "readable",
    "readable data",
    "Every value of every row can be read, including values stored outside the table, and texts are valid in the "
    "database's encoding.",
    ("full",),
    "blocker",
    _find,
)
