"""Whether the data can be read at all: every value of every row, those outside of the table (TOAST) too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import psycopg
from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, Column, Relation
from lastgood.command.validate.look import Look
from lastgood.command.validate.rule import Found, Kind, Mode, Rule, Task

_BYTEA = 17
_INTEGERS = frozenset({20, 21, 23})


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[Task]:
    for relation in catalogue.relations:
        if relation.kind in "rm" and relation.populated:
            yield Task(
                (Rule(f"readable:{relation}", "readable"),),
                partial(_look, relation),
                pages=relation.pages,
                relations=(relation.oid,),
            )


def _read(column: Column) -> sql.Composed:
    """An expression that needs the whole value; that of texts is checked for being valid in its encoding, too."""
    name = sql.Identifier(column.name)
    if column.type == _BYTEA:
        return sql.SQL("count(pg_catalog.md5({}))").format(name)
    return sql.SQL(
        "count(pg_catalog.length(pg_catalog.convert_to({}::text, pg_catalog.getdatabaseencoding())))"
    ).format(name)


def _look(relation: Relation, look: Look, sample: float | None) -> Sequence[Found]:
    columns = [each for each in relation.columns if each.varies or each.domain]
    wanted = sql.SQL(", ").join([sql.SQL("count(*)"), *map(_read, columns)])
    query = sql.SQL("SELECT {} FROM {}").format(wanted, relation.only)
    try:
        with look.connection.transaction():
            return [Found(rows=look.row(query)[0])]
    except psycopg.Error as error:
        # Bytes that are no text, pages and values that are damaged, files that are missing.
        if (error.sqlstate or "")[:2] not in ("22", "54", "58", "XX"):
            raise
        said = f"{error.diag.message_primary} [SQLSTATE {error.sqlstate}]"
    where = _where(relation, columns, look)
    return [
        Found(
            1,
            f"not all of {relation} can be read: {said}",
            "Don't write to it. What is readable can be copied row by row; a restore point from before has the rest.",
            samples=(where,) if where else (),
        )
    ]


def _fails(query: sql.Composed, look: Look) -> bool:
    try:
        with look.connection.transaction():
            look.rows(query)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in ("22", "54", "58", "XX"):
            return True
        raise
    return False


def _where(relation: Relation, columns: Sequence[Column], look: Look) -> str:
    """The first column that can't be read, and the first row by its primary key, where that is an integer."""
    for column in columns:
        query = sql.SQL("SELECT {} FROM {}").format(_read(column), relation.only)
        if _fails(query, look):
            break
    else:
        return ""
    key = relation.column(relation.key[0]) if len(relation.key) == 1 else None
    if key is None or key.type not in _INTEGERS:
        return f"column {column.name}"
    name = sql.Identifier(key.name)
    low, high = look.row(sql.SQL("SELECT min({0})::int8, max({0})::int8 FROM {1}").format(name, relation.only))
    # Each step reads half of what the step before read, where an index leads to the rows.
    while low < high:
        middle = (low + high) // 2
        if _fails(query + sql.SQL(" WHERE {} BETWEEN {} AND {}").format(name, low, middle), look):
            high = middle
        else:
            low = middle + 1
    return f"{key.name}={low}, column {column.name}"


READABLE = Kind(
    "readable",
    "readable data",
    "Every value of every row can be read, those stored outside of the table too, and texts are valid in the "
    "database's encoding.",
    ("full",),
    "blocker",
    _find,
)
