"""Options: a load's name, its share of the server, how rows are read back."""

from __future__ import annotations

from dataclasses import dataclass, field

from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import Relation
from lastgood.load.builder import Builder
from lastgood.load.costs import Known
from lastgood.load.repairs import Rules
from lastgood.postgres.pressure.capacity import Capacity
from lastgood.postgres.pressure.monitor import Pressure


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The options for reading rows back: under ``settings``, with which the dump's text was written. Tables in
    ``left_out`` are not read: their text depends on an unknown time zone."""

    settings: tuple[tuple[str, str], ...]
    left_out: frozenset[Relation] = frozenset()


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a load. ``name`` is the dump's, for messages. ``capacity`` limits the use of the server,
    ``pressure`` slows the load down, ``rules`` allow omissions and repairs. ``reading``: how rows are read back; None
    leaves them unread. ``large_only``: statistics of small tables, of inheritance trees and of statistics objects are
    deferred. ``known``: the known costs of this server. ``builder``: who executes what may run code of the dump; None
    if the operator does.
    """

    name: str
    capacity: Capacity
    pressure: Pressure
    rules: Rules = field(default_factory=Rules)
    reading: ReadBack | None = None
    context: Context = BACKGROUND
    known: Known = field(default_factory=Known)
    large_only: bool = False
    builder: Builder | None = None
