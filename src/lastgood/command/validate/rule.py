"""What is looked at: rules, the tasks that look, and what they found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from lastgood.text.redact import HIDDEN

if TYPE_CHECKING:
    from lastgood.command.validate.catalogue import Catalogue
    from lastgood.command.validate.look import Look
    from lastgood.command.validate.rows import Condition

Severity = Literal["blocker", "warning"]
Mode = Literal["quick", "full"]
Why = Literal["time", "privilege", "locked", "size", "unavailable"]

SAMPLES = 5
_SECRET = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold. ``name`` is unique in a database; of the catalogue's rules it is ``KIND:OBJECT``.

    ``severity`` says whether a violation stops or only warns. ``guess``: nobody declared it, names suggest it.
    ``weight`` is None for all rules but the user's own, which make up the quality.
    """

    name: str
    kind: str
    severity: Severity = "blocker"
    guess: bool = False
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at one rule gave. ``violations`` counts rows (or objects); ``said`` is a sentence without its full
    stop, empty where there is nothing to say; ``query`` lists all violations.

    ``rows``: how many were looked at, where that was counted. ``sampled``: the percent of the table that was looked
    at, None for all of it. ``skipped``: why it was not looked at, ``said`` then says it in words. ``failed``: the rule
    could not be tried at all, which is as bad as a violation. ``mild``: only warns, whatever the rule's severity is.
    """

    violations: int = 0
    said: str = ""
    hint: str = ""
    rows: int | None = None
    samples: tuple[str, ...] = ()
    sampled: float | None = None
    percent: float | None = None
    passes: bool | None = None
    skipped: Why | None = None
    failed: bool = False
    mild: bool = False
    query: str = ""


Run = Callable[["Look", float | None], Sequence[Found]]


@dataclass(frozen=True, slots=True)
class Task:
    """One look at the server that answers ``rules``, in their order.

    ``pages`` is what it has to read of the table that can be sampled, ``beside`` what it reads besides; both in blocks.
    ``sampled`` is whether ``run`` can do with a part of the pages: its second argument is a percentage, or None for
    all. ``relations`` are those that it reads, by OID: for the GRANT that it may need. ``alone`` are tasks with one
    rule each, to be run instead when the server refuses this one for a reason that may be only one rule's.
    """

    rules: tuple[Rule, ...]
    run: Run
    pages: int = 0
    beside: int = 0
    sampled: bool = False
    relations: tuple[int, ...] = ()
    alone: tuple[Task, ...] = ()


def already(rule: Rule, found: Found) -> Task:
    """A task whose answer is known: the catalogue gave it."""
    return Task((rule,), lambda look, sample: [found])


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rules. ``title`` is for people, in the plural; ``what`` says what holds, for the documentation.

    ``finds`` gives the tasks for one database. Rules that one look at each row can answer come as ``conditions``
    instead: all those of a table are answered by one reading of it. ``modes`` are those that look at it at all.
    """

    name: str
    title: str
    what: str
    modes: tuple[Mode, ...]
    severity: str
    finds: Callable[[Catalogue, Mode], Iterator[Task]] | None = None
    conditions: Callable[[Catalogue], Iterator[Condition]] | None = None


def values(columns: Sequence[str], alias: str = "l") -> sql.Composed:
    """A list of the texts of these columns."""
    texts = [sql.SQL("{}.{}::text").format(sql.Identifier(alias), sql.Identifier(column)) for column in columns]
    return sql.SQL(", ").join(texts)


def shown(names: Sequence[str], texts: Sequence[str | None]) -> str:
    """``id=17, organization_id=99``; long values are cut, and what looks like a secret by its name is not shown."""
    return ", ".join(
        f"{name}={HIDDEN if text is not None and _SECRET.search(name) else _short(text)}"
        for name, text in zip(names, texts, strict=True)
    )


def _short(text: str | None) -> str:
    if text is None:
        return "NULL"
    return text if len(text) <= 60 else text[:57] + "…"
