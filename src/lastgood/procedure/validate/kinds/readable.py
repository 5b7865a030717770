"""Whether the data can be read at all: every value of every row, those outside of the table (TOAST) too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from psycopg import sql

from lastgood.procedure.validate.catalogue import Catalogue, Column, Relation
from lastgood.procedure.validate.look import Look
from lastgood.procedure.validate.rule import Found, Kind, Mode, Rule, Task

_BYTEA = 17


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
    row = look.row(sql.SQL("SELECT {} FROM {}").format(wanted, relation.only))
    return [Found(rows=row[0])]


READABLE = Kind(
    "readable",
    "readable data",
    "Every value of every row can be read, those stored outside of the table too, and texts are valid in the "
    "database's encoding.",
    ("full",),
    "blocker",
    _find,
)
