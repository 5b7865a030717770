"""Rules, the tasks that check them, and their findings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from lastgood.text.redact import HIDDEN

if TYPE_CHECKING:
    from lastgood.command.validate.catalogue import Catalogue
    from lastgood.command.validate.reader import RuleReader
    from lastgood.command.validate.rows import Condition

Severity = Literal["blocker", "warning"]
Mode = Literal["quick", "full"]
SkipReason = Literal["time", "privilege", "locked", "size", "unavailable"]

SAMPLES = 5
_SECRET = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition on the data. ``name`` is unique in a database, ``KIND:OBJECT`` for rules from the catalogue.

    ``severity``: whether a violation blocks or only warns. ``guess``: not declared, but inferred from names.
    ``weight``: None except for the user's own rules, which determine the quality.
    """

    name: str
    kind: str
    severity: Severity = "blocker"
    guess: bool = False
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """The finding for one rule. ``violations`` counts rows (or objects). ``message``: a sentence without a full stop,
    may be empty. ``query`` lists all violations.

    ``rows``: the number of rows checked, if counted. ``sampled``: the percentage of the table that was read, None for
    all. ``skipped``: why it was not checked, with ``message`` in words. ``failed``: the rule could not be evaluated,
    which counts like a violation. ``mild``: a warning, whatever the rule's severity.
    """

    violations: int = 0
    message: str = ""
    hint: str = ""
    rows: int | None = None
    samples: tuple[str, ...] = ()
    sampled: float | None = None
    percent: float | None = None
    passes: bool | None = None
    skipped: SkipReason | None = None
    failed: bool = False
    mild: bool = False
    query: str = ""


Run = Callable[["RuleReader", float | None], Sequence[RuleFinding]]


@dataclass(frozen=True, slots=True)
class RuleTask:
    """One unit of work that gives the findings for ``rules``, in order.

    ``pages``: blocks of the table, which can be sampled. ``extra_pages``: other blocks that it reads. ``sampled``:
    whether ``run`` accepts a sample; its second argument is a percentage, or None for all. ``relations``: the OIDs that
    it reads, for the GRANT it may need. ``single_rule_tasks``: tasks with one rule each, to be run instead if the
    server rejects this one for a reason that may concern only one rule. ``as_operator``: it needs the operator's
    own rights, and runs no code of the database.
    """

    rules: tuple[Rule, ...]
    run: Run
    pages: int = 0
    extra_pages: int = 0
    sampled: bool = False
    relations: tuple[int, ...] = ()
    single_rule_tasks: tuple[RuleTask, ...] = ()
    as_operator: bool = False


def finished_task(rule: Rule, found: RuleFinding) -> RuleTask:
    """Build a task with a known finding, from the catalogue."""
    return RuleTask((rule,), lambda reader, sample: [found])


@dataclass(frozen=True, slots=True)
class RuleKind:
    """A kind of rule. ``title``: its name in the plural. ``what``: the condition on the data, for the documentation.

    ``finds`` yields the tasks for one database. Rules about single rows are given as ``conditions`` instead, which
    share one scan per table. ``modes``: the modes that check it.
    """

    name: str
    title: str
    what: str
    modes: tuple[Mode, ...]
    severity: str
    finds: Callable[[Catalogue, Mode], Iterator[RuleTask]] | None = None
    conditions: Callable[[Catalogue], Iterator[Condition]] | None = None


def values(columns: Sequence[str], alias: str = "l") -> sql.Composed:
    """Return a select list of these columns as text."""
    texts = [sql.SQL("{}.{}::text").format(sql.Identifier(alias), sql.Identifier(column)) for column in columns]
    return sql.SQL(", ").join(texts)


def sample_text(names: Sequence[str], texts: Sequence[str | None]) -> str:
    """Render ``id=17, organization_id=99``. Long values are truncated; columns with the name of a secret are hidden."""
    return ", ".join(
        f"{name}={HIDDEN if text is not None and _SECRET.search(name) else _short(text)}"
        for name, text in zip(names, texts, strict=True)
    )


def _short(text: str | None) -> str:
    if text is None:
        return "NULL"
    return text if len(text) <= 60 else text[:57] + "…"
