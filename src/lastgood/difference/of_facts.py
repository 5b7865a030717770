"""The recorded facts of a restore point as a side: which tables are equal, without a look at its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lastgood.context import Context
from lastgood.difference.sides import OpenSide, Reading, ReadingPart, SideColumn, SideTable
from lastgood.dump.names import Relation
from lastgood.facts import DigestRules, Facts, TableFacts

NO_DIGEST = "the restore point's rows have no digest"
OTHER_RULES = "its digests cannot be compared"


@dataclass(frozen=True, slots=True)
class FactsSide:
    """Facts with digests, for comparisons of level ``digest``."""

    facts: Facts
    label: str

    @property
    def fixed(self) -> bool:
        """See ``Side``."""
        return True

    @contextmanager
    def opened(self, like: OpenSide | None, context: Context) -> Iterator[OpenSide]:
        """See ``Side``."""
        yield _OpenFacts({_relation(each): _table(each) for each in self.facts.tables}, self.facts)


def _relation(table: TableFacts) -> Relation:
    return Relation(table.schema_name, table.name)


def _table(table: TableFacts) -> SideTable:
    columns = tuple(SideColumn(name, None) for name in table.columns)
    why = "" if table.digest is not None else table.why_no_digest or NO_DIGEST
    return SideTable(_relation(table), columns, rows=table.rows, zoned=table.zoned, unreadable=why)


@dataclass(frozen=True, slots=True)
class _OpenFacts:
    """See ``OpenSide``."""

    tables: Mapping[Relation, SideTable]
    facts: Facts
    in_order: bool = False
    own_columns: bool = True
    no_rows: str = OTHER_RULES

    @property
    def rules(self) -> DigestRules:
        return self.facts.rules

    @property
    def zone_samples(self) -> tuple[str, ...]:
        return self.facts.zone_samples

    def read(self, wanted: Sequence[Reading], cancelled: Callable[[], bool]) -> Iterator[ReadingPart]:
        return iter(())

    def count(self, table: SideTable, given: Sequence[str] = ()) -> int:
        return 0 if given else table.rows or 0

    def has_text(self, text: Sequence[str], reading: Reading, cancelled: Callable[[], bool]) -> bool:
        return False

    def digest(self, reading: Reading, cancelled: Callable[[], bool]) -> TableFacts | None:
        return None
