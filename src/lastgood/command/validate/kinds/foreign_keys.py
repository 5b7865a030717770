"""Foreign keys that are declared: every row is looked up, whatever the catalogue claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, Relation
from lastgood.command.validate.look import Look
from lastgood.command.validate.rule import SAMPLES, Found, Kind, Mode, Rule, Task, shown, values
from lastgood.postgres import integrity
from lastgood.postgres.integrity import Key
from lastgood.text.units import counted


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[Task]:
    for key in integrity.keys(catalogue.connection):
        child = catalogue.by_name.get((key.schema_name, key.table))
        parent = catalogue.by_name.get((key.other_schema, key.other))
        if child is None or parent is None:
            continue  # a foreign table, or made after the catalogue was read
        rule = Rule(
            f"foreign_key:{key.schema_name}.{key.table}.{key.name}",
            "foreign_key",
            "blocker" if key.validated else "warning",
        )
        yield task(rule, key, child, parent)


def task(rule: Rule, key: Key, child: Relation, parent: Relation) -> Task:
    """Looks up the rows of ``child`` in ``parent``."""
    return Task(
        (rule,),
        partial(_look, key, child),
        pages=child.pages,
        # Each value is looked for by an index, or the parent is read once, whichever is less.
        beside=min(parent.pages, child.rows),
        sampled=True,
        relations=(child.oid, parent.oid),
    )


def _look(key: Key, child: Relation, look: Look, sample: float | None) -> Sequence[Found]:
    orphans = integrity.orphans(key, sample)
    (count,) = look.row(sql.SQL("SELECT count(*) ") + orphans)
    told = "" if key.validated else "the key is NOT VALID: the server never looked at all rows"
    if not count:
        hint = "" if key.validated or sample is not None else f"Make it valid: {_validate(look, key)}"
        return [Found(said=told and f"{told}, but all have a match", hint=hint, sampled=sample)]
    names = (*child.key, *(each for each in key.columns if each not in child.key))
    query = sql.SQL("SELECT {} {} LIMIT {}").format(values(names), orphans, SAMPLES)
    columns = ", ".join(key.columns)
    said = (
        f"{counted(count, 'row')} of {child} {'has' if count == 1 else 'have'} no match for {columns} in "
        f"{key.other_schema}.{key.other} ({', '.join(key.keys)})"
    )
    return [
        Found(
            count,
            f"{said}; {told}" if told else said,
            samples=tuple(shown(names, texts) for texts in look.texts(query)),
            sampled=sample,
            query=look.text(sql.SQL("SELECT l.* ") + integrity.orphans(key)),
        )
    ]


def _validate(look: Look, key: Key) -> str:
    return look.text(
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
            sql.Identifier(key.schema_name, key.table), sql.Identifier(key.name)
        )
    )


FOREIGN_KEYS = Kind(
    "foreign_key",
    "foreign keys",
    "Each row of a declared foreign key has its match, whatever the catalogue says of it. Keys that are NOT VALID or "
    "NOT ENFORCED only warn.",
    ("quick", "full"),
    "blocker",
    _find,
)
