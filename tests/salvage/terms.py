"""The terms of a history's model: tables, references, choices and the fate of a changed row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Row = dict[str, str]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    child: str
    columns: tuple[str, ...]
    parent: str
    referenced: tuple[str, ...]
    fold: bool = False


@dataclass(frozen=True)
class Form:
    """The fixed properties of a table of the test. ``fold``: its key ignores case; ``nulls_equal``: of its unique
    columns."""

    key: tuple[str, ...]
    unique: tuple[str, ...] = ()
    numbered: bool = False
    fold: bool = False
    nulls_equal: bool = False


@dataclass(frozen=True)
class Choice:
    """What a choice of rows means here: the ``tables`` of the model that are wanted; ``holds`` decides about the row of
    theirs, or the deleted one of base; ``within`` about the change from base to theirs; ``wrote`` about a key. ``only``
    and ``without``: keys by table. ``json``: the kinds of the columns that are merged by key; ``lacking``: tables
    into which no row can be inserted."""

    tables: frozenset[str]
    holds: dict[str, Callable[[Row], bool]] = field(default_factory=dict)
    within: Callable[[str, Row | None, Row | None], bool] | None = None
    wrote: Callable[[str, Key], bool] | None = None
    only: dict[str, set[Key]] = field(default_factory=dict)
    without: dict[str, set[Key]] = field(default_factory=dict)
    json: dict[tuple[str, str], str] = field(default_factory=dict)
    lacking: frozenset[str] = frozenset()


@dataclass
class Fate:
    """One changed row."""

    kind: str
    state: str
    b: Row | None
    t: Row | None
    o: Row | None
    f: Row | None
    action: str | None
    why: str | None
    renumbered: bool = False

    @property
    def reason(self) -> str:
        return "" if self.action is not None else self.why or self.state
