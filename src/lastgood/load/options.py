"""How a load is done: what it is called, how much of the server it may take, how rows are read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lastgood.dump.names import Relation
from lastgood.events import Emit, silent
from lastgood.load.costs import Known
from lastgood.load.repairs import Rules
from lastgood.postgres.capacity import Capacity
from lastgood.postgres.pressure import Pressure


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read back: under ``settings``, those that the dump's text was written with. Tables in ``left_out``
    are not: their text depends on a time zone that is not known."""

    settings: tuple[tuple[str, str], ...]
    left_out: frozenset[Relation] = frozenset()


@dataclass(frozen=True, slots=True)
class Options:
    """How a dump is loaded. ``name`` is the dump's, for messages. ``capacity`` says how much of the server may be
    taken, ``pressure`` when to slow down, ``rules`` what may be left out or repaired. ``reading`` says how rows are
    read back; None leaves them unread. ``large_only``: statistics of small tables, of whole trees and of statistics
    objects are left for later. ``known``: what work costs on this server, as far as that is known.
    """

    name: str
    capacity: Capacity
    pressure: Pressure
    rules: Rules = field(default_factory=Rules)
    reading: Reading | None = None
    emit: Emit = silent
    cancelled: Callable[[], bool] = lambda: False
    known: Known = field(default_factory=Known)
    large_only: bool = False
