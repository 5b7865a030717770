"""Recorded facts of a side: whether the text of its rows is comparable, and whether a digest settles a table."""

from __future__ import annotations

from collections.abc import Callable

from lastgood.difference.pairing import Pair
from lastgood.difference.sides import OpenSide, Reading, SideName, SideTable
from lastgood.dump.names import Relation
from lastgood.facts import Facts, TableFacts
from lastgood.facts.compare import FIRST_MAJOR_OF_THIS_TEXT, compare


def other_text(side_a: OpenSide, side_b: OpenSide, a: SideTable, b: SideTable) -> str:
    """Return the reason why the text of equal values may differ; empty if it does not."""
    here, there = side_a.rules, side_b.rules
    majors = (here.server_major, there.server_major)
    if majors[0] != majors[1] and not all(major and major >= FIRST_MAJOR_OF_THIS_TEXT for major in majors):
        one, two = (f"PostgreSQL {major}" if major else "an unknown version of PostgreSQL" for major in majors)
        return f"{one} and {two} may format the same values differently"
    binary = any(column.type in (None, "bytea", "bytea[]") for column in (*a.columns, *b.columns))
    if binary and here.bytea_output != there.bytea_output:
        return f"bytea is written in the formats {here.bytea_output} and {there.bytea_output}"
    if not a.zoned or not b.zoned or here.time_zone == there.time_zone:
        return ""
    samples = (side_a.zone_samples, side_b.zone_samples)
    unknown = here.time_zone is None or there.time_zone is None
    if unknown and (0 in (a.rows, b.rows) or (samples[0] and samples[0] == samples[1])):
        return ""  # the samples of one side were written alike on the other
    if unknown:
        return "the time zone of the time stamps is unknown"
    return f"the time stamps are in different time zones ({here.time_zone} and {there.time_zone})"


def larger(pair: Pair) -> SideTable:
    """The table of a pair whose size is known best."""
    tables = [table for table in (pair.a, pair.b) if table is not None]
    return max(tables, key=lambda table: table.bytes)


class Records:
    """The recorded facts of both sides, by table."""

    def __init__(self, a: OpenSide, b: OpenSide) -> None:
        self._sides: dict[SideName, OpenSide] = {"a": a, "b": b}
        self._known = {name: _with_digests(side.facts) for name, side in self._sides.items()}

    def side_of(self, pair: Pair) -> SideName | None:
        """The side with a recorded digest of the table with exactly the common columns; None without one."""
        if pair.a is None or pair.b is None or not pair.same_structure:
            return None
        for name, known in self._known.items():
            table = known.get(pair.relation)
            if table is not None and set(table.columns) == set(pair.columns):
                return name
        return None

    def compared(
        self, pair: Pair, number: int, cancelled: Callable[[], bool], *, counted: bool
    ) -> tuple[bool, int, int] | None:
        """Whether a table with a recorded digest is equal, and its rows on both sides; None if digests do not tell.
        ``counted``: the rows of a table are counted next unless it is equal. Raises as ``OpenSide.digest`` does."""
        name = self.side_of(pair)
        assert name is not None and pair.a is not None and pair.b is not None  # the caller chose the pair
        away: SideName = "b" if name == "a" else "a"
        here, there = self._sides[name], self._sides[away]
        then, other = self._known[name][pair.relation], self._known[away].get(pair.relation)
        if other is None or other.columns != then.columns:
            reading = Reading(number, pair.b if name == "a" else pair.a, then.columns)
            if then.text and there.has_text(then.text, reading, cancelled):
                return True, then.rows, then.rows
            if then.text and counted and not other_text(self._sides["a"], self._sides["b"], pair.a, pair.b):
                return None
            other = there.digest(reading, cancelled)
        if other is None:
            return None
        equal = (
            compare(
                Facts(origin="dump", rules=here.rules, tables=(then,), zone_samples=here.zone_samples),
                Facts(origin="dump", rules=there.rules, tables=(other,), zone_samples=there.zone_samples),
            )
            .tables[0]
            .equal
        )
        rows = (then.rows, other.rows) if name == "a" else (other.rows, then.rows)
        return None if equal is None else (equal, *rows)


def _with_digests(facts: Facts | None) -> dict[Relation, TableFacts]:
    tables = facts.tables if facts is not None else ()
    return {Relation(each.schema_name, each.name): each for each in tables if each.digest is not None}
