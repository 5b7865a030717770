"""Required fields: NOT NULL columns have a value in every row."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueRelation
from lastgood.command.validate.rows import Condition
from lastgood.command.validate.rule import Rule, RuleKind

# PostgreSQL 18 and newer; older versions have no such constraints.
_NOT_VALID = """
SELECT k.conrelid::bigint, a.attname
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.contype = 'n' AND NOT k.convalidated
"""


def missing(columns: tuple[str, ...]) -> sql.Composed:
    """Return an expression that is true for a row with a NULL in one of the columns. The planner would optimise ``IS
    NULL`` away for NOT NULL columns, but not this function."""
    return sql.SQL("pg_catalog.num_nulls({}) > 0").format(sql.SQL(", ").join(map(sql.Identifier, columns)))


def _conditions(catalogue: Catalogue) -> Iterator[Condition]:
    """Yield one condition for each table with NOT NULL columns, and one for each column whose constraint is NOT
    VALID."""
    not_valid = {(oid, name) for oid, name in catalogue.connection.execute(_NOT_VALID)}
    for table in catalogue.relations:
        if table.kind not in "rp":
            continue
        required = tuple(
            each.name for each in table.columns if each.not_null and not _of_parent(catalogue, table, each.name)
        )
        validated = tuple(name for name in required if (table.oid, name) not in not_valid)
        if validated:
            messages = ("lacks a required value", "lack a required value")
            yield Condition(
                Rule(f"required:{table}", "required"), table, missing(validated), messages, validated, nulls_only=True
            )
        for name in required:
            if name not in validated:
                yield Condition(
                    Rule(f"required:{table}.{name}", "required", "warning"),
                    table,
                    missing((name,)),
                    (f"has no {name}", f"have no {name}"),
                    (name,),
                    note="its NOT NULL constraint is NOT VALID: the server has not checked all rows",
                )


def _of_parent(catalogue: Catalogue, table: CatalogueRelation, name: str) -> bool:
    """Whether the column of a partition is checked with that of its parent."""
    parent = catalogue.by_oid.get(table.parent)
    column = parent.column(name) if parent is not None else None
    return column is not None and column.not_null


REQUIRED = RuleKind(
    "required",
    "required fields",
    "NOT NULL columns have a value in every row. Violations of NOT NULL constraints that are NOT VALID (PostgreSQL 18) "
    "only warn.",
    ("quick", "full"),
    "blocker",
    conditions=_conditions,
)
