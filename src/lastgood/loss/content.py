"""Comparison of the rows of live tables with restore points: by digest, and by count where the digests differ.

A table that is not read in time, or whose digest can't be compared, is reported as not compared; never as equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Literal

from psycopg import IsolationLevel

from lastgood.context import BACKGROUND, Context
from lastgood.difference import DatabaseSide, FactsSide, Memory, PointSide, Side, TableDifference, compared
from lastgood.difference.of_database import LOCKED
from lastgood.dump.names import Relation
from lastgood.errors import Interrupted
from lastgood.facts import Facts, TableFacts
from lastgood.loss.tables import Key, LiveTable
from lastgood.points import VerifiedPoint
from lastgood.postgres.server import Connection, Target, only_row, read_tables_only
from lastgood.text.units import duration

State = Literal["equal", "changed", "not compared"]
TURNED_OFF = "content comparison is turned off"
NOT_COUNTED = "counting is turned off"
NOT_FOUND = "the restore point has it in another form"
LIVE = "the live database"
POINT = "the restore point"


@dataclass(frozen=True, slots=True)
class Content:
    """The result of comparing a table's rows. ``why``: why they were not compared or counted, or how they differ;
    ``rows``: the number of live rows read, None if they were not. The others as in ``TableLoss``."""

    state: State
    why: str = ""
    rows: int | None = None
    lost: int | None = None
    returns: int | None = None
    changed: int | None = None
    columns_lost: tuple[str, ...] = ()
    columns_back: tuple[str, ...] = ()
    referenced: int | None = None


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A time limit; without ``seconds``, there is none."""

    seconds: float | None
    until: float | None

    @classmethod
    def of(cls, seconds: float | None) -> TimeLimit:
        """A limit of ``seconds`` from now."""
        return cls(seconds, None if seconds is None else monotonic() + seconds)

    @property
    def left(self) -> float | None:
        """Seconds until the limit; None without one."""
        return None if self.until is None else self.until - monotonic()

    @property
    def over(self) -> bool:
        """Whether the limit is reached."""
        return self.left is not None and self.left <= 0

    @property
    def why(self) -> str:
        """The reason why a table was not compared or counted."""
        return f"time limit of {duration(self.seconds or 0)} reached"


References = Callable[[Relation, tuple[str, ...]], tuple[str, ...]]
Reads = Callable[[Context], VerifiedPoint]
"""Reads a restore point whole. Raises BadPoint, Interrupted."""


@dataclass(slots=True)
class Reader:
    """Compares the live database, in the ``snapshot`` that the caller holds, with any number of restore points. The
    digest of each table is read once. ``shut``: tables that other sessions have locked against readers."""

    live: Target
    snapshot: str
    shut: Collection[Key] = ()
    references: References = field(default=lambda relation, columns: ())
    context: Context = BACKGROUND
    stage: str = "difference"
    _memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self._memory.unreadable |= {Relation(*key): LOCKED for key in self.shut}

    def compare(self, tables: Mapping[Key, LiveTable], facts: Facts, limit: TimeLimit) -> dict[Key, Content]:
        """For each table of ``facts`` that the live database has: whether its rows are the same. Raises Failed,
        Interrupted."""
        found: dict[Key, Content] = {}
        wanted: list[TableFacts] = []
        for then in facts.tables:
            key = (then.schema_name, then.name)
            if key not in tables:
                continue
            settled = _settled(tables[key], then, locked=key in self.shut)
            if settled is not None:
                found[key] = settled
            else:
                wanted.append(then)
        if wanted and not limit.over:
            side = FactsSide(facts.model_copy(update={"tables": tuple(wanted)}), POINT)
            found |= self._compared(side, [_key(each) for each in wanted], limit, digests=True)
        return {**{_key(each): Content("not compared", limit.why) for each in wanted}, **found}

    def count(
        self,
        tables: Mapping[Key, LiveTable],
        content: Mapping[Key, Content],
        facts: Facts,
        whole: Reads,
        limit: TimeLimit,
    ) -> dict[Key, Content]:
        """The result of ``compare``, with exact numbers for the tables that differ, those without a digest, and new
        ones with references. Those that were not counted in time say so. Raises BadPoint, Failed, Interrupted."""
        undigested = {_key(each) for each in facts.tables if each.digest is None}
        wanted = [
            key
            for key, each in content.items()
            if each.state == "changed" or (each.state == "not compared" and key in undigested and each.why != LOCKED)
        ]
        known = {_key(each) for each in facts.tables}
        wanted += [
            key
            for key, each in tables.items()
            if key not in known
            and not each.unreadable
            and not each.partitioned
            and self.references(Relation(*key), each.columns)
        ]
        wanted = [key for key in wanted if key not in self.shut and not tables[key].unreadable]
        if not wanted:
            return dict(content)
        found: dict[Key, Content] = {}
        if not limit.over:
            try:
                point = whole(self.context.until(lambda: limit.over))
                side = PointSide(point.point, POINT, point.summary.database, point)
                found = self._compared(side, wanted, limit, digests=False)
            except Interrupted:
                self.context.check("cannot compare content: interrupted")
        return {**content, **{key: _joined(content.get(key), found.get(key), limit) for key in wanted}}

    def _compared(self, side: Side, wanted: Sequence[Key], limit: TimeLimit, *, digests: bool) -> dict[Key, Content]:
        keys = set(wanted)
        with compared(
            side,
            DatabaseSide(self.live, LIVE, snapshot=self.snapshot, memory=self._memory),
            level="digest" if digests else "count",
            only=lambda relation: (relation.schema, relation.name) in keys,
            by_root=False,
            digests=digests,
            references=self.references,
            seconds=limit.left,
            context=self.context,
            stage=self.stage,
        ) as comparison:
            return {(each.schema_name, each.name): _content(each) for each in comparison.tables}


@contextmanager
def snapshot_of(connection: Connection) -> Iterator[str]:
    """Put a connection into a read-only snapshot for the length of a ``with`` block; other sessions may use it. Raises
    psycopg.Error."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # it holds the snapshot for the others
        read_tables_only(connection, local=True)
        row = only_row(connection, "SELECT pg_catalog.pg_export_snapshot()")
        yield str(row[0])


def turned_off(
    tables: Mapping[Key, LiveTable], facts: Facts, shut: Collection[Key], why: str = TURNED_OFF
) -> dict[Key, Content]:
    """Return what is known of the tables of ``facts`` without reading rows; ``why`` they are not read."""
    found = {}
    for then in facts.tables:
        if (table := tables.get(_key(then))) is not None:
            settled = _settled(table, then, locked=_key(then) in shut)
            found[_key(then)] = settled or Content("not compared", why)
    return found


def not_counted(content: Mapping[Key, Content]) -> dict[Key, Content]:
    """The same results; tables that differ say that their rows were not to be counted."""
    return {
        key: replace(each, why=each.why or NOT_COUNTED) if each.state == "changed" else each
        for key, each in content.items()
    }


def _key(table: TableFacts) -> Key:
    return table.schema_name, table.name


def _content(each: TableDifference) -> Content:
    state: State = "changed"
    if each.state == "not compared" and not each.structure_differs:
        state = "not compared"
    elif each.state == "equal" and not each.structure_differs:
        state = "equal"
    return Content(
        state,
        "its columns differ" if state == "changed" and each.state == "not compared" else each.why,
        each.rows_b,
        each.only_b,
        each.only_a,
        each.changed,
        each.columns_b,
        each.columns_a,
        each.referenced,
    )


def _joined(before: Content | None, counts: Content | None, limit: TimeLimit) -> Content:
    """The result of counting a table; if it was not counted, the one before, with the reason."""
    if counts is not None and counts.lost is not None and counts.returns is not None:
        return counts if before is None or before.state == "not compared" else replace(counts, state="changed")
    why = counts.why if counts is not None else ""
    why = why or (limit.why if limit.over else NOT_FOUND)
    if before is None:
        return Content("changed", why)
    return replace(before, why=before.why or why)


def _settled(table: LiveTable, then: TableFacts, *, locked: bool) -> Content | None:
    """The result that needs no reading; None when the table has to be read."""
    if table.unreadable:
        return Content("not compared", f"the server cannot read it: {table.unreadable}")
    if table.exact and table.rows != then.rows:
        return Content("changed")
    if then.columns and not table.partitioned and set(table.columns) != set(then.columns):
        lost, back = _missing(table.columns, then.columns), _missing(then.columns, table.columns)
        return Content("changed", "its columns differ", columns_lost=lost, columns_back=back)
    if table.exact and table.rows == 0 == then.rows:
        return Content("equal", rows=0, lost=0, returns=0, changed=0, referenced=0)
    if locked:
        return Content("not compared", LOCKED)
    return None


def _missing(these: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    return tuple(each for each in these if each not in others)
