"""Commands with rows: COPY from the dump itself, INSERT of plain values."""

from __future__ import annotations

from typing import Any

from lastgood.dump.rows.copy_form import form_of
from lastgood.dump.rulings.foreign import insert
from lastgood.dump.rulings.ruling import Handler, Ruling
from lastgood.dump.rulings.tree import within
from lastgood.dump.statements import Command, CopyTarget, InsertTarget, Kind


def _copy(r: Ruling, node: Any) -> Command:
    if node.is_program:
        return r.refuse(Kind.COPY, 'has a "COPY … PROGRAM", which would run a program on the server')
    if not node.is_from:
        return r.refuse(Kind.COPY, 'has a "COPY … TO", which would write outside the database')
    if node.filename is not None:
        return r.refuse(Kind.COPY, 'has a "COPY" from a file, which would read the server\'s own files')
    form = form_of(node.options or (), r.encoding)
    relation = r.relation(node.relation)
    if form is None or node.whereClause:
        reason = 'has a "COPY" with options that are not supported, which pg_dump never writes'
        return r.foreign(Kind.COPY, reason, relation)
    columns = None if node.attlist is None else tuple(c.sval for c in node.attlist)
    return r.run(Kind.COPY, relation, detail=CopyTarget(relation, columns, form if node.options else None))


# The parts of an INSERT of values, and of its VALUES. Any other could be an expression that the server evaluates: a
# subscript, a sorting, a limit.
_OF_INSERT = frozenset({"relation", "cols", "selectStmt", "onConflictClause", "override"})
_OF_VALUES = frozenset({"valuesLists", "limitOption", "op"})
_EXPRESSIONS = frozenset({"expr", "whereClause"})  # of the index that ON CONFLICT names
_OF_COLUMN = frozenset({"name", "location"})
_VALUE_NODES = frozenset({"A_Const", "TypeCast", "SetToDefault", "A_ArrayExpr", "RowExpr", "TypeName", "String"})


def _insert(r: Ruling, node: Any) -> Command:
    source = node.selectStmt
    relation = r.relation(node.relation)
    if (
        not node.given <= _OF_INSERT
        or (source is not None and not (source.valuesLists and source.given <= _OF_VALUES))
        or any(not column.given <= _OF_COLUMN for column in node.cols or ())
    ):
        return insert(r, node, relation, 'has an "INSERT" from a query, which pg_dump never writes')
    rows = source.valuesLists if source is not None else ()
    for row in rows:
        for value in row:
            if not _is_value(value):
                return insert(r, node, relation, 'has an "INSERT" with computed values, which pg_dump never writes')
    conflict = node.onConflictClause
    if conflict is not None and (
        conflict.action != "ONCONFLICT_NOTHING" or any(tag in _EXPRESSIONS for tag, _ in within(conflict))
    ):
        return insert(r, node, relation, 'has an "INSERT" that changes other rows, which pg_dump never writes')
    columns = len(node.cols) if node.cols else None
    # An expression has no position of its own; the line of the first value is close.
    detail = InsertTarget(relation, columns, tuple((len(row), row[0].location or 0) for row in rows))
    return r.run(Kind.INSERT, relation, detail=detail)


def _is_value(node: Any) -> bool:
    kind = node.tag
    if kind == "TypeCast":
        return _is_value(node.arg)
    if kind == "A_ArrayExpr":
        return all(_is_value(element) for element in node.elements or ())
    if kind == "RowExpr":
        return all(_is_value(argument) for argument in node.args or ())
    if kind == "A_Expr":  # a sign: -5
        signed = [part.sval for part in node.name] in (["-"], ["+"])
        return node.lexpr is None and signed and _is_value(node.rexpr)
    return kind in _VALUE_NODES


HANDLERS: dict[str, Handler] = {
    "CopyStmt": _copy,
    "InsertStmt": _insert,
}
