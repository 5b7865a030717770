"""A side whose tables and columns are compared under other names: those that a migration renamed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lastgood.context import Context
from lastgood.difference.sides import Block, OpenSide, Reading, ReadingPart, Side, SideTable
from lastgood.dump.names import Relation
from lastgood.errors import UsageError
from lastgood.facts import DigestRules, Facts, TableFacts


@dataclass(frozen=True, slots=True)
class NewNames:
    """The names of a side, with those under which they are compared. ``columns``: by the compared name of the table, or
    of the partitioned table that it belongs to."""

    tables: Mapping[Relation, Relation] = field(default_factory=dict)
    columns: Mapping[Relation, Mapping[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tables or self.columns)

    def of(self, table: SideTable) -> Mapping[str, str]:
        """The renamed columns of a table."""
        return self.columns.get(table.relation) or (self.columns.get(table.root) if table.root else None) or {}


@dataclass(frozen=True, slots=True)
class RenamedSide:
    """``side`` with other names. ``opened`` raises UsageError for a name that it does not have, and for two tables or
    columns that would get the same name."""

    side: Side
    names: NewNames

    @property
    def label(self) -> str:
        """See ``Side``."""
        return self.side.label

    @property
    def fixed(self) -> bool:
        """See ``Side``."""
        return self.side.fixed

    @contextmanager
    def opened(self, like: OpenSide | None, context: Context) -> Iterator[OpenSide]:
        """See ``Side``."""
        with self.side.opened(like, context) as inner:
            yield _Open(inner, self.names, _tables(inner, self.names, self.label))


def _tables(inner: OpenSide, names: NewNames, label: str) -> dict[Relation, SideTable]:
    roots = {table.root for table in inner.tables.values()}
    for old, new in names.tables.items():
        if old not in inner.tables and old not in roots:
            raise _wrong(label, f'it has no table "{_plain(old)}"')
        if new in inner.tables or new in roots:
            raise _wrong(label, f'it has both "{_plain(old)}" and "{_plain(new)}"')
    found = {}
    for relation, table in inner.tables.items():
        root = None if table.root is None else names.tables.get(table.root, table.root)
        shown = replace(table, relation=names.tables.get(relation, relation), root=root)
        columns = names.of(shown)
        for name, other in columns.items():
            if name not in table.names:
                raise _wrong(label, f'its table "{_plain(relation)}" has no column "{name}"')
            if other in table.names:
                raise _wrong(label, f'its table "{_plain(relation)}" has both "{name}" and "{other}"')
        found[shown.relation] = replace(
            shown,
            columns=tuple(replace(each, name=columns.get(each.name, each.name)) for each in table.columns),
            keys=tuple(tuple(columns.get(name, name) for name in key) for key in table.keys),
            sure=tuple(tuple(columns.get(name, name) for name in key) for key in table.sure),
        )
    return found


def _plain(relation: Relation) -> str:
    return f"{relation.schema}.{relation.name}"


def _wrong(label: str, why: str) -> UsageError:
    return UsageError(
        f"cannot use the new names in {label}: {why}",
        hint="Name what was renamed, and its old name: --renamed NEW=OLD, or --renamed TABLE.NEW=OLD for a column.",
    )


@dataclass(frozen=True, slots=True)
class _Open:
    """See ``OpenSide``. Recorded facts have the other names, and are not used."""

    inner: OpenSide
    names: NewNames
    tables: Mapping[Relation, SideTable]
    facts: Facts | None = None

    @property
    def rules(self) -> DigestRules:
        return self.inner.rules

    @property
    def zone_samples(self) -> tuple[str, ...]:
        return self.inner.zone_samples

    @property
    def in_order(self) -> bool:
        return self.inner.in_order

    @property
    def own_columns(self) -> bool:
        return self.inner.own_columns

    def _inside(self, reading: Reading) -> Reading:
        """The reading with the names of the side: it reads the parts of the table."""
        old = {new: name for name, new in self.names.of(reading.table).items()}
        return replace(reading, columns=tuple(old.get(name, name) for name in reading.columns))

    def read(self, wanted: Sequence[Reading], cancelled: Callable[[], bool]) -> Iterator[ReadingPart]:
        asked = {each.number: each for each in wanted}
        for portion in self.inner.read([self._inside(each) for each in wanted], cancelled):
            reading = asked[portion.reading.number]
            yield replace(portion, reading=reading, blocks=self._blocks(portion.blocks, self.names.of(reading.table)))

    def _blocks(self, blocks: Generator[Block], columns: Mapping[str, str]) -> Generator[Block]:
        try:
            for block in blocks:
                yield replace(block, columns=tuple(columns.get(name, name) for name in block.columns))
        finally:
            blocks.close()

    @property
    def no_rows(self) -> str:
        return self.inner.no_rows

    def count(self, table: SideTable, given: Sequence[str] = ()) -> int:
        old = {new: name for name, new in self.names.of(table).items()}
        return self.inner.count(table, [old.get(name, name) for name in given])

    def has_text(self, text: Sequence[str], reading: Reading, cancelled: Callable[[], bool]) -> bool:
        return self.inner.has_text(text, self._inside(reading), cancelled)

    def digest(self, reading: Reading, cancelled: Callable[[], bool]) -> TableFacts | None:
        found = self.inner.digest(self._inside(reading), cancelled)
        return None if found is None else found.model_copy(update={"columns": reading.columns})
