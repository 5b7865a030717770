"""Pairs of columns that refer to rows of several tables: ``owner_type`` names the table, ``owner_id`` the row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueRelation
from lastgood.command.validate.kinds.guesses import match, table_of
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import (
    SAMPLES,
    Mode,
    Rule,
    RuleFinding,
    RuleKind,
    RuleTask,
    finished_task,
    sample_text,
    values,
)
from lastgood.postgres.integrity import tablesample
from lastgood.text.units import counted

_TEXTS = frozenset({25, 1043})
# A column with more values is not a type column.
_MOST_TYPES = 200


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    configured = set()
    for each in catalogue.settings.polymorphic:
        rule = Rule(f"polymorphic:{each.table}.{each.id_column}", "polymorphic")
        configured.add((each.table, each.id_column))
        table = _table_named(catalogue, each.table)
        problem = f"table {each.table} does not exist" if table is None else ""
        for name in (each.type_column, each.id_column):
            if table is not None and table.column(name) is None:
                problem = f"{table} has no column {name}"
        targets: dict[str, CatalogueRelation] = {}
        for value, name in each.targets.items():
            target = _table_named(catalogue, name)
            if target is None or len(target.key) != 1:
                problem = problem or f"there is no table {name} with a single-column primary key"
            else:
                targets[value] = target
        if problem or table is None:
            found = RuleFinding(
                message=f"{problem}, but [[validate.polymorphic]] in lastgood.toml names it", failed=True
            )
            yield finished_task(rule, found)
        else:
            yield _task(rule, table, each.type_column, each.id_column, targets, None)
    if not catalogue.settings.guesses:
        return
    for table in catalogue.tables:
        for column in table.columns:
            word = column.name.removesuffix("_type")
            other = table.column(f"{word}_id")
            if column.name == word or other is None or column.type not in _TEXTS:
                continue
            if (str(table), other.name) not in configured:
                rule = Rule(f"guessed_polymorphic:{table}.{other.name}", "guessed_polymorphic", "warning", guess=True)
                yield _task(rule, table, column.name, other.name, None, catalogue)


def _table_named(catalogue: Catalogue, name: str) -> CatalogueRelation | None:
    schema, _, table = name.rpartition(".")
    return catalogue.by_name.get((schema or "public", table))


def _task(
    rule: Rule,
    table: CatalogueRelation,
    type_column: str,
    id_column: str,
    targets: Mapping[str, CatalogueRelation] | None,
    catalogue: Catalogue | None,
) -> RuleTask:
    return RuleTask(
        (rule,),
        partial(_check, table, type_column, id_column, targets, catalogue),
        pages=2 * table.pages,
        sampled=True,
        relations=(table.oid, *(each.oid for each in (targets or {}).values())),
    )


def _guessed(catalogue: Catalogue, table: CatalogueRelation, value: str) -> CatalogueRelation | None:
    """Return the table of a type name: ``contacts`` for ``Contact`` and ``Crm::Contact``."""
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", value.rpartition("::")[2]).lower()
    table_found = table_of(catalogue, table.schema_name, word)
    return table_found if table_found is not None and len(table_found.key) == 1 else None


def _check(
    table: CatalogueRelation,
    type_column: str,
    id_column: str,
    targets: Mapping[str, CatalogueRelation] | None,
    catalogue: Catalogue | None,
    reader: RuleReader,
    sample: float | None,
) -> Sequence[RuleFinding]:
    kind, number, part = sql.Identifier(type_column), sql.Identifier(id_column), tablesample(sample)
    types = reader.texts(
        sql.SQL(
            "SELECT l.{}::text, count(*) FROM {} l{} WHERE l.{} IS NOT NULL AND l.{} IS NOT NULL GROUP BY 1 LIMIT {}"
        ).format(kind, table.only, part, kind, number, _MOST_TYPES + 1)
    )
    if len(types) > _MOST_TYPES:
        return [
            RuleFinding(
                message=f"{type_column} has more than {_MOST_TYPES} values", skipped="unavailable", sampled=sample
            )
        ]
    column = table.column(id_column)
    names = (*table.key, *(each for each in (type_column, id_column) if each not in table.key))
    total, parts, samples, unknown, queries = 0, list[str](), list[str](), list[str](), list[str]()
    for value, rows in sorted((kind or "", int(rows or 0)) for kind, rows in types):
        target = _guessed(catalogue, table, value) if catalogue is not None else (targets or {}).get(value)
        other = target.column(target.key[0]) if target is not None else None
        if target is None or other is None or column is None:
            unknown.append(value)
            total += rows if catalogue is None else 0
            continue
        equal = sql.SQL("r.{} = l.{}" if match(column, other) else "r.{}::text = l.{}::text").format(
            sql.Identifier(other.name), number
        )
        orphans = sql.SQL("FROM {} l{} WHERE l.{}::text = {} AND l.{} IS NOT NULL AND NOT EXISTS ").format(
            table.only, part, kind, sql.Literal(value), number
        ) + sql.SQL("(SELECT FROM {} r WHERE {})").format(target.only, equal)
        (unmatched,) = reader.row(sql.SQL("SELECT count(*) ") + orphans)
        if unmatched == 0 or (unmatched == rows and catalogue is not None):
            continue  # if no row matches, the guess was wrong
        total += unmatched
        parts.append(
            f"{counted(unmatched, 'row')} with {type_column} {value} {'has' if unmatched == 1 else 'have'} no match "
            f"in {target}"
        )
        some = sql.SQL("SELECT {} {} LIMIT {}").format(values(names), orphans, SAMPLES)
        samples += [sample_text(names, texts) for texts in reader.texts(some)]
        queries.append(reader.text(sql.SQL("SELECT l.* ") + orphans))
    if unknown and catalogue is None:
        parts.append(f"{type_column} has values that [[validate.polymorphic]] does not name: {', '.join(unknown[:5])}")
    if not total:
        return [RuleFinding(sampled=sample)]
    message = f"{table}: {'; '.join(parts)}"
    return [
        RuleFinding(
            total,
            f"{message} (inferred from names)" if catalogue is not None else message,
            samples=tuple(samples[:SAMPLES]),
            sampled=sample,
            query="; ".join(queries),
        )
    ]


POLYMORPHIC = RuleKind(
    "polymorphic",
    "polymorphic pairs",
    "Each row of a pair of columns in [[validate.polymorphic]] has its match in the table that its type names.",
    ("quick", "full"),
    "blocker",
    _find,
)
GUESSED = RuleKind(
    "guessed_polymorphic",
    "guessed polymorphic pairs",
    "The same for columns named like owner_type and owner_id, if the type is the name of a table.",
    ("quick", "full"),
    "warning",
)
