"""Declared foreign keys: every row is looked up, even if the catalogue calls the key valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueRelation
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import SAMPLES, Mode, Rule, RuleFinding, RuleKind, RuleTask, sample_text, values
from lastgood.postgres import integrity
from lastgood.postgres.integrity import ForeignKeyConstraint
from lastgood.text.units import counted


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    for key in integrity.foreign_key_constraints(catalogue.connection):
        child = catalogue.by_name.get((key.schema_name, key.table))
        parent = catalogue.by_name.get((key.other_schema, key.other))
        if child is None or parent is None:
            continue  # a foreign table, or created after the catalogue was read
        rule = Rule(
            f"foreign_key:{key.schema_name}.{key.table}.{key.name}",
            "foreign_key",
            "blocker" if key.validated else "warning",
        )
        yield task(rule, key, child, parent)


def task(rule: Rule, key: ForeignKeyConstraint, child: CatalogueRelation, parent: CatalogueRelation) -> RuleTask:
    """Build the task that looks up the rows of ``child`` in ``parent``."""
    return RuleTask(
        (rule,),
        partial(_check, key, child),
        pages=child.pages,
        # Values are looked up by index, or the parent is scanned once, whichever is cheaper.
        extra_pages=min(parent.pages, child.rows),
        sampled=True,
        relations=(child.oid, parent.oid),
    )


def _check(
    key: ForeignKeyConstraint, child: CatalogueRelation, reader: RuleReader, sample: float | None
) -> Sequence[RuleFinding]:
    orphans = integrity.orphans(key, sample)
    (count,) = reader.row(sql.SQL("SELECT count(*) ") + orphans)
    note = "" if key.validated else "the key is NOT VALID: the server has not checked all rows"
    if not count:
        hint = "" if key.validated or sample is not None else f"Validate it: {_validate(reader, key)}"
        return [RuleFinding(message=note and f"{note}, but all have a match", hint=hint, sampled=sample)]
    names = (*child.key, *(each for each in key.columns if each not in child.key))
    query = sql.SQL("SELECT {} {} LIMIT {}").format(values(names), orphans, SAMPLES)
    columns = ", ".join(key.columns)
    message = (
        f"{counted(count, 'row')} of {child} {'has' if count == 1 else 'have'} no match for {columns} in "
        f"{key.other_schema}.{key.other} ({', '.join(key.keys)})"
    )
    return [
        RuleFinding(
            count,
            f"{message}; {note}" if note else message,
            samples=tuple(sample_text(names, texts) for texts in reader.texts(query)),
            sampled=sample,
            query=reader.text(sql.SQL("SELECT l.* ") + integrity.orphans(key)),
        )
    ]


def _validate(reader: RuleReader, key: ForeignKeyConstraint) -> str:
    return reader.text(
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
            sql.Identifier(key.schema_name, key.table), sql.Identifier(key.name)
        )
    )


FOREIGN_KEYS = RuleKind(
    "foreign_key",
    "foreign keys",
    "Each row of a declared foreign key has its match, even if the catalogue calls the key valid. Violations of keys "
    "that are NOT VALID or NOT ENFORCED only warn.",
    ("quick", "full"),
    "blocker",
    _find,
)
