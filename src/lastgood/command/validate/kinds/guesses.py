"""Undeclared foreign keys, inferred from names: ``contact_id`` and a table ``contacts`` with a key ``id``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueColumn, CatalogueRelation
from lastgood.command.validate.kinds import foreign_keys
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import Mode, Rule, RuleFinding, RuleKind, RuleTask
from lastgood.postgres import integrity
from lastgood.postgres.integrity import ForeignKeyConstraint
from lastgood.text.units import counted

_INTEGERS = frozenset({20, 21, 23})
_TEXTS = frozenset({25, 1042, 1043})
_IRREGULAR = {"person": "people", "child": "children", "man": "men", "woman": "women", "datum": "data"}


def plurals(word: str) -> tuple[str, ...]:
    """Return possible table names for a word: ``company`` gives ``companies``, ``companys`` and ``company``."""
    stem, _, last = word.rpartition("_")
    lead = f"{stem}_" if stem else ""
    found = [lead + _IRREGULAR[last]] if last in _IRREGULAR else []
    if word.endswith("y"):
        found.append(word[:-1] + "ies")
    if word.endswith(("s", "x", "z", "ch", "sh")):
        found.append(word + "es")
    return (*found, word + "s", word)


def table_of(catalogue: Catalogue, schema: str, word: str) -> CatalogueRelation | None:
    """Return the table for a word: in that schema, or the only one with that name elsewhere."""
    for name in plurals(word):
        same_schema = catalogue.by_name.get((schema, name))
        if same_schema is not None and same_schema.kind in "rp":
            return same_schema
        elsewhere = catalogue.by_bare_name.get(name, [])
        if len(elsewhere) == 1:
            return elsewhere[0]
    return None


def match(column: CatalogueColumn, other: CatalogueColumn) -> bool:
    """Whether values of both columns can be compared as in a foreign key."""
    return any(
        column.type in family and other.type in family
        for family in (_INTEGERS, _TEXTS, frozenset({column.type} if not column.domain else ()))
    )


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    if not catalogue.settings.guesses:
        return
    declared = {
        (key.schema_name, key.table, column)
        for key in integrity.foreign_key_constraints(catalogue.connection)
        for column in key.columns
    }
    pairs = {(each.table, each.id_column) for each in catalogue.settings.polymorphic}
    for child in catalogue.tables:
        for column in child.columns:
            word = column.name.removesuffix("_id")
            if (
                not word
                or word == column.name
                or (child.schema_name, child.name, column.name) in declared
                or (str(child), column.name) in pairs
                or child.column(f"{word}_type") is not None
                or (len(child.key) == 1 and column.name in child.key)
            ):
                continue
            parent = table_of(catalogue, child.schema_name, word) or (child if word == "parent" else None)
            if parent is None or len(parent.key) != 1:
                continue
            other = parent.column(parent.key[0])
            if other is None or not match(column, other):
                continue
            key = _key(child, column, parent, other)
            rule = Rule(f"guessed_key:{child}.{column.name}", "guessed_key", "warning", guess=True)
            task = foreign_keys.task(rule, key, child, parent)
            yield RuleTask(
                task.rules,
                partial(_check, task, child, column.name),
                task.pages,
                task.extra_pages,
                True,
                task.relations,
            )


def _key(
    child: CatalogueRelation, column: CatalogueColumn, parent: CatalogueRelation, other: CatalogueColumn
) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        child.schema_name,
        child.name,
        column.name,
        parent.schema_name,
        parent.name,
        True,
        False,
        False,
        (column.name,),
        (other.name,),
        (("pg_catalog", "="),),
        child.kind == "p",
        parent.kind == "p",
    )


def _check(
    task: RuleTask, child: CatalogueRelation, column: str, reader: RuleReader, sample: float | None
) -> Sequence[RuleFinding]:
    (finding,) = task.run(reader, sample)
    if not finding.violations:
        return [finding]
    filled = reader.row(
        sql.SQL("SELECT count(l.{}) FROM {} l{}").format(
            sql.Identifier(column), child.only, integrity.tablesample(sample)
        )
    )[0]
    if finding.violations == filled:
        return [
            RuleFinding(
                message=f"none of the {counted(filled, 'row')} has a match, so {column} does not refer to that table",
                skipped="unavailable",
                sampled=sample,
            )
        ]
    return [
        RuleFinding(
            finding.violations,
            f"{finding.message} (inferred from names: no foreign key is declared)",
            f'If the column is not a foreign key, add "guessed_key:{child}.{column}" to "ignore" in [validate].',
            samples=finding.samples,
            sampled=sample,
            query=finding.query,
        )
    ]


GUESSES = RuleKind(
    "guessed_key",
    "guessed foreign keys",
    "Columns like contact_id without a declared key have a match in a table like contacts, if the types fit. If no "
    "value has a match, the guess was wrong.",
    ("quick", "full"),
    "warning",
    _find,
)
