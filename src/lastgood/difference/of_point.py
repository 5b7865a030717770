"""A restore point as a side: any kind of dump, read without restoring it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pglast

from lastgood import points
from lastgood.context import Context
from lastgood.difference.sides import Block, OpenSide, Reading, ReadingPart, SideColumn, SideTable
from lastgood.dump.names import Relation
from lastgood.dump.rows import encodings
from lastgood.dump.script import Bulk, ScriptStep, Section
from lastgood.dump.statements import Command, Kind
from lastgood.errors import BadPoint, Interrupted
from lastgood.facts import DigestRules, Facts, TableFacts
from lastgood.load.supply import Supply, supply_for
from lastgood.points import RestorePoint, VerifiedPoint

BLOCK = 1 << 21
COMPUTED = "some of its INSERTs contain expressions"


@dataclass(frozen=True, slots=True)
class PointSide:
    """A restore point. ``database``: one of a cluster dump. ``whole``: the point as it was read and verified before;
    without it, ``opened`` does that."""

    point: RestorePoint
    label: str
    database: str | None = None
    whole: VerifiedPoint | None = None

    @property
    def fixed(self) -> bool:
        """See ``Side``."""
        return True

    @contextmanager
    def opened(self, like: OpenSide | None, context: Context) -> Iterator[OpenSide]:
        """See ``Side``. The settings of a dump are what they are: ``like`` changes nothing. Raises BadPoint."""
        yield _opened(self.whole or self._read(context))

    def _read(self, context: Context) -> VerifiedPoint:
        try:
            return points.read_whole(
                self.point, database=self.database, skim=True, skip_rows=True, stage="difference", context=context
            )
        except BadPoint as error:
            if str(self.point.path) not in error.message:
                why = error.message.removeprefix("cannot read the dump: ").removeprefix("cannot use the dump: ")
                error.message = f'cannot use "{self.point.path}" as a restore point: {why}'
                error.args = (error.message,)
            raise


def _opened(whole: VerifiedPoint) -> _OpenPoint:
    summary = whole.summary
    sections: dict[Relation, list[Section]] = defaultdict(list)
    for section in summary.script.sections:
        sections[section.start.relation].append(section)
    computed = any(isinstance(item, Bulk) and item.inserts for item in summary.script.items)
    inserted = {each.schema_name + "." + each.name for each in whole.facts.tables if each.why_no_digest == COMPUTED}
    keys, roots = _keys_and_roots(item.command for item in summary.script.items if isinstance(item, ScriptStep))
    zoned = {Relation(each.schema_name, each.name): each.zoned for each in whole.facts.tables}
    names = [*summary.tables, *sections]
    tables = {}
    for relation in dict.fromkeys(names):
        definition = summary.tables.get(relation)
        if definition is not None and not definition.carries_rows and relation not in sections:
            continue
        own = sections.get(relation, [])
        unknown = any(section.start.columns is None for section in own)
        why = "the dump does not name its columns" if unknown else ""
        if computed and f"{relation.schema}.{relation.name}" in inserted:
            why = COMPUTED
        if relation in summary.tables_without_data:
            why = "the restore point does not record its rows"
        declared = summary.columns_of(relation)
        given = own[0].start.columns if own and own[0].start.columns is not None else ()
        columns = (
            tuple(SideColumn(each.name, each.type) for each in declared if not each.generated)
            if declared is not None
            else tuple(SideColumn(name, None) for name in given)
        )
        tables[relation] = SideTable(
            relation,
            columns,
            tuple(key for _, key in keys[relation]),
            tuple(key for primary, key in keys[relation] if primary),
            sum(section.size for section in own),
            sum(section.rows for section in own),
            zoned.get(relation, True),
            roots.get(relation),
            why,
            tuple(own),
        )
    facts = whole.facts if whole.point.manifest is not None else None
    supply = supply_for(whole.source, summary.script, database=summary.database, in_place=not summary.notes, only=())
    try:
        in_order = supply.in_order
    finally:
        supply.close()
    return _OpenPoint(
        tables,
        facts,
        whole.facts.rules,
        whole.facts.zone_samples,
        in_order,
        whole,
        encodings.codec(summary.encoding) or "utf-8",
    )


def _keys_and_roots(
    commands: Iterable[Command],
) -> tuple[dict[Relation, list[tuple[bool, tuple[str, ...]]]], dict[Relation, Relation]]:
    """The declared keys of each table, the primary key first and marked, and the topmost parent of each partition."""
    keys: dict[Relation, list[tuple[bool, tuple[str, ...]]]] = defaultdict(list)
    parents: dict[Relation, Relation] = {}
    for command in commands:
        if command.kind in (Kind.PRIMARY_KEY, Kind.UNIQUE, Kind.TABLE, Kind.INDEX):
            for primary, columns in _declared(command):
                found = keys[command.relations[0]]
                found.insert(0 if primary else len(found), (primary, columns))
        if command.kind is Kind.PARTITION and len(command.relations) == 2:
            parents[command.relations[1]] = command.relations[0]
    roots = {}
    for leaf, parent in parents.items():
        while parent in parents:
            parent = parents[parent]
        roots[leaf] = parent
    return keys, roots


_KEYS = ("CONSTR_PRIMARY", "CONSTR_UNIQUE")


def _declared(command: Command) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """The keys that a statement declares: whether it is the primary key, and its columns."""
    text = command.statement.text.decode("utf-8", "replace")
    if " KEY" not in text.upper() and "UNIQUE" not in text.upper():
        return
    node: Any = pglast.parse_sql(text)[0].stmt
    if type(node).__name__ == "IndexStmt":
        if node.unique and node.whereClause is None and all(each.name for each in node.indexParams):
            yield False, tuple(each.name for each in node.indexParams)
        return
    elements = node.cmds if type(node).__name__ == "AlterTableStmt" else getattr(node, "tableElts", None)
    for element in elements or ():
        declared = getattr(element, "def_", element)
        of_column = type(declared).__name__ == "ColumnDef"
        for each in (declared.constraints or ()) if of_column else (declared,):
            if type(each).__name__ == "Constraint" and each.contype.name in _KEYS:
                columns = (declared.colname,) if of_column else tuple(name.sval for name in each.keys or ())
                if columns:
                    yield each.contype.name == _KEYS[0], columns


@dataclass(frozen=True, slots=True)
class _OpenPoint:
    """See ``OpenSide``."""

    tables: Mapping[Relation, SideTable]
    facts: Facts | None
    rules: DigestRules
    zone_samples: tuple[str, ...]
    in_order: bool
    whole: VerifiedPoint
    codec: str
    own_columns: bool = True
    no_rows: str = ""

    def read(self, wanted: Sequence[Reading], cancelled: Callable[[], bool]) -> Iterator[ReadingPart]:
        sections = [
            (section, reading)
            for reading in wanted
            for section in reading.table.parts
            if isinstance(section, Section) and section.size
        ]
        sections.sort(key=lambda pair: pair[0].number)
        numbers = {section.number for section, _ in sections}
        last = {reading.number: section.number for section, reading in sections}
        summary = self.whole.summary
        supply = supply_for(
            self.whole.source, summary.script, database=summary.database, in_place=not summary.notes, only=numbers
        )
        try:
            for section, reading in sections:
                blocks = self._blocks(supply, section, cancelled)
                yield ReadingPart(reading, blocks, last=last[reading.number] == section.number)
        finally:
            supply.close()

    def _blocks(self, supply: Supply, section: Section, cancelled: Callable[[], bool]) -> Generator[Block]:
        columns = section.start.columns or ()
        held: list[bytes] = []
        size = 0
        for piece in supply.rows(section):
            if cancelled():
                raise Interrupted("cannot continue reading the dump: interrupted")
            size += len(piece)
            end = piece.rfind(b"\n") + 1 if size >= BLOCK else 0
            if end:
                yield self._block([*held, piece[:end]], columns)
                held, size = [piece[end:]], len(piece) - end
            else:
                held.append(piece)
        if size:
            yield self._block(held, columns)

    def _block(self, pieces: Sequence[bytes], columns: tuple[str, ...]) -> Block:
        data = b"".join(pieces)
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        if self.codec != "utf-8":
            data = data.decode(self.codec).encode()
        return Block(data, columns)

    def count(self, table: SideTable, given: Sequence[str] = ()) -> int:
        return 0 if given else table.rows or 0

    def has_text(self, text: Sequence[str], reading: Reading, cancelled: Callable[[], bool]) -> bool:
        return False

    def digest(self, reading: Reading, cancelled: Callable[[], bool]) -> TableFacts | None:
        return None
