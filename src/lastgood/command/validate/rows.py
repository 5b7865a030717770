"""Rules about single rows: one scan of a table checks all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue, CatalogueRelation
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import SAMPLES, Rule, RuleFinding, RuleTask, sample_text
from lastgood.postgres.integrity import tablesample
from lastgood.text.units import counted


@dataclass(frozen=True, slots=True)
class Condition:
    """A rule about single rows. ``bad``: an expression over the columns of ``relation``, by their bare names, true for
    a row that violates the rule. ``messages`` follow "1 row of public.contacts" or "12 rows of public.contacts".
    ``columns`` are shown for each sample, with ``nulls_only`` only those that are NULL. ``note`` is always shown.
    """

    rule: Rule
    relation: CatalogueRelation
    bad: sql.Composable
    messages: tuple[str, str]
    columns: tuple[str, ...] = ()
    nulls_only: bool = False
    note: str = ""


Conditions = Callable[[Catalogue], Iterable[Condition]]


def tasks(catalogue: Catalogue, sources: Sequence[Conditions]) -> Iterator[RuleTask]:
    """Yield one task for each table with conditions."""
    by_table: dict[int, list[Condition]] = defaultdict(list)
    for source in sources:
        for condition in source(catalogue):
            by_table[condition.relation.oid].append(condition)
    for conditions in by_table.values():
        alone = tuple(_task([each]) for each in conditions) if len(conditions) > 1 else ()
        yield _task(conditions, alone)


def _task(conditions: Sequence[Condition], alone: tuple[RuleTask, ...] = ()) -> RuleTask:
    relation = conditions[0].relation
    return RuleTask(
        tuple(each.rule for each in conditions),
        partial(_check, conditions),
        pages=relation.pages,
        sampled=True,
        relations=(relation.oid,),
        single_rule_tasks=alone,
    )


def _check(conditions: Sequence[Condition], reader: RuleReader, sample: float | None) -> Sequence[RuleFinding]:
    relation = conditions[0].relation
    # Without an alias, because a CHECK may name its table.
    rows = sql.SQL("FROM {}{}").format(relation.only, tablesample(sample))
    counts = sql.SQL(", ").join(sql.SQL("count(*) FILTER (WHERE {})").format(each.bad) for each in conditions)
    total, *violations = reader.row(sql.SQL("SELECT count(*), {} {}").format(counts, rows))
    return [
        _finding(condition, relation, total, count, reader, sample)
        for condition, count in zip(conditions, violations, strict=True)
    ]


def _finding(
    condition: Condition, relation: CatalogueRelation, total: int, count: int, reader: RuleReader, sample: float | None
) -> RuleFinding:
    if not count:
        return RuleFinding(
            message=condition.note and f"{condition.note}, but all rows satisfy it", rows=total, sampled=sample
        )
    names = (*relation.key, *(each for each in condition.columns if each not in relation.key))
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    samples = sql.SQL("SELECT {} FROM {}{} WHERE {} LIMIT {}").format(
        texts, relation.only, tablesample(sample), condition.bad, SAMPLES
    )
    message = f"{counted(count, 'row')} of {relation} {condition.messages[count != 1]}"
    rows = reader.texts(samples) if names else []
    return RuleFinding(
        count,
        f"{message}; {condition.note}" if condition.note else message,
        rows=total,
        samples=tuple(_shown(condition, names, each) for each in rows),
        sampled=sample,
        query=reader.text(sql.SQL("SELECT * FROM {} WHERE {}").format(relation.only, condition.bad)),
    )


def _shown(condition: Condition, names: Sequence[str], texts: Sequence[str | None]) -> str:
    kept = [
        (name, text)
        for name, text in zip(names, texts, strict=True)
        if text is None or name in condition.relation.key or not condition.nulls_only
    ]
    return sample_text([name for name, _ in kept], [text for _, text in kept])
