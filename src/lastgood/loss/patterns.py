"""The tables and columns that the rules in ``[loss]`` of lastgood.toml name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from lastgood.config.tables import Loss
from lastgood.dump.names import Relation


def matches(schema: str, name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern, ``table`` or ``schema.table``, names the table, in any case."""
    names = (name.lower(), f"{schema}.{name}".lower())
    return any(fnmatchcase(each, pattern.lower()) for pattern in patterns for each in names)


def referring(rules: Loss) -> Callable[[Relation, tuple[str, ...]], tuple[str, ...]]:
    """A function that returns those columns of a table that name things outside of the database."""
    patterns = [pattern.lower() for pattern in rules.references]

    def columns_of(table: Relation, columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            column
            for column in columns
            if any(
                fnmatchcase(each.lower(), pattern)
                for pattern in patterns
                for each in (column, f"{table.name}.{column}", f"{table.schema}.{table.name}.{column}")
            )
        )

    return columns_of
