"""The facts of a dump, read once from its text without restoring it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from xxhash import xxh3_128

from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import Relation, parse, quoted
from lastgood.dump.reader import DumpReading, ReaderSource, RowPart, Rows, RowsEnd, RowsStart, Skimmed, read
from lastgood.dump.statements import (
    Command,
    Created,
    Kind,
    LargeObjectCall,
    SequenceDefinition,
    SequencePosition,
    TableDefinition,
    Verdict,
)
from lastgood.dump.summary import BUILT_IN_EXTENSIONS, DumpSummary
from lastgood.events import Progress
from lastgood.facts import (
    DigestRules,
    ExtensionFacts,
    Facts,
    LargeObjectFacts,
    MigrationFacts,
    ObjectFacts,
    SequenceFacts,
    TableFacts,
    migrations,
)
from lastgood.facts.digest import RowsDigest, large_object_line
from lastgood.facts.rows_text import BEGINNING, RowsText

ZONE_SAMPLES = 100
ONLY_COUNTED = "its rows were only counted"
_TIMES = frozenset({"date", "timestamp without time zone", "timestamp with time zone"})
_ZONED = frozenset({"timestamp with time zone", "tstzrange", "tstzmultirange"})


def facts_of_dump(
    source: ReaderSource,
    *,
    database: str | None = None,
    time_zone: str | None = None,
    skim: bool = False,
    context: Context = BACKGROUND,
    stage: str = "facts",
    measure: Callable[[], tuple[int, int]] | None = None,
) -> tuple[Facts, DumpSummary]:
    """The facts of a dump, and the summary of reading it.

    ``time_zone`` is that of the session that made the dump, if known (a point of our own: UTC). ``database`` and the
    errors (Incomplete, Corrupt, Unsafe, BadPoint) are those of ``lastgood.dump.reader.read``. Emits Progress of
    ``stage`` in bytes: from ``measure`` (read so far, in total), otherwise of the dump's text. ``skim`` only counts
    rows: the result has no digests, newest time stamps and migrations. Raises Interrupted.

    Newest time stamps with the same offset are compared as text, which is correct until the year 9999, and otherwise as
    instants; infinite ones are left out.
    """
    reading = read(source, database=database, skim=skim)
    gathered = _Gathered(reading.summary)
    rows = 0
    for entry in reading.summary.script.recording(reading):
        match entry:
            case Rows() | RowPart() | Skimmed():
                match entry:
                    case Rows(data=data) if entry.rows == 1 and len(data) > BEGINNING:
                        gathered.table.add_part(data, last=True)
                    case Rows():
                        gathered.add(entry.data)
                    case RowPart():
                        gathered.table.add_part(entry.data, last=entry.last)
                    case Skimmed():
                        gathered.table.skim(entry)
                rows += entry.rows
                name = str(gathered.table.relation)
                done, size = measure() if measure is not None else (entry.offset + entry.size, None)
                context.emit(Progress(stage, done, size, "bytes", rows=rows, detail=name))
                context.check("cannot continue reading the dump: interrupted")
            case RowsStart():
                gathered.start(entry)
            case RowsEnd():
                gathered.end()
            case Command() if entry.verdict is Verdict.RUN:
                gathered.command(entry)
    return gathered.facts(reading, time_zone), reading.summary


class _TableRows(RowsText):
    """The facts of one relation, collected from all its sections."""

    def __init__(self, start: RowsStart, summary: DumpSummary) -> None:
        types = {column.name: column.type for column in summary.columns_of(start.relation) or ()}
        columns = start.columns or ()
        super().__init__(
            columns,
            dated=[name for name in columns if types.get(name) in _TIMES],
            offset=[name for name in columns if types.get(name) == "timestamp with time zone"],
            tool=migrations.recognise(start.relation.schema, start.relation.name, columns),
        )
        self.relation = start.relation
        self.named_columns = start.columns
        self.why_no_digest = "" if start.columns is not None else "the dump does not name its columns"
        self.zoned = any(_zoned(types.get(name), summary) for name in columns)
        # The places of bytea columns, until one of their values has shown the format.
        self.binary = tuple(i for i, name in enumerate(columns) if types.get(name) == "bytea")
        self.bytea_output: Literal["hex", "escape"] | None = None

    def _note_format(self, line: bytes) -> None:
        """Recognise the format of bytea: hex begins with a backslash, which the other format would double."""
        fields = line.rstrip(b"\n").split(b"\t")
        for place in self.binary:
            value = fields[place] if place < len(fields) else b""
            if value not in (b"", b"\\N"):
                self.bytea_output = "hex" if value.startswith(b"\\\\x") else "escape"
                self.binary = ()
                return

    def _collect(self, lines: Sequence[bytes]) -> None:
        for line in lines if self.binary else ():
            self._note_format(line)
            if not self.binary:
                break
        super()._collect(lines)

    def skim(self, rows: Skimmed) -> None:
        """Count rows; one row of each portion may show the time zone."""
        self.digest.rows += rows.rows
        self.why_no_digest = self.why_no_digest or ONLY_COUNTED
        if self.binary:
            self._note_format(rows.first)
        fields = rows.first.split(b"\t")
        for place in self.with_offset:
            value = fields[place] if place < len(fields) else b""
            if value[-2:].isdigit():
                self.zone_samples.setdefault(value[-3:], value)

    def facts(self) -> TableFacts:
        return TableFacts(
            schema_name=self.relation.schema,
            name=self.relation.name,
            columns=self.columns,
            rows=self.digest.rows,
            digest=None if self.why_no_digest else self.digest.hexdigest(),
            why_no_digest=self.why_no_digest,
            text=() if self.why_no_digest else self.digest_of_text,
            newest={name: value.decode("ascii") for name, value in sorted(self.newest.items())},
            zoned=self.zoned,
        )


def _empty(relation: Relation, summary: DumpSummary) -> RowsStart:
    columns = summary.columns_of(relation)
    return RowsStart(
        relation, None if columns is None else tuple(c.name for c in columns if not c.generated), b"", 0, 0
    )


def _zoned(type_name: str | None, summary: DumpSummary, depth: int = 0) -> bool:
    """Whether a type's text depends on the time zone; True if the dump does not show it."""
    if type_name is None or depth > 8:
        return True
    name = type_name.removesuffix("[]")
    if name in summary.plain_types:
        return False
    if "." not in name:
        return name in _ZONED
    relation = parse(name, "")
    composite = None if relation is None else summary.tables.get(relation)
    return composite is None or any(_zoned(column.type, summary, depth + 1) for column in composite.columns)


class _Gathered:
    """The facts that are collected while a dump is read."""

    def __init__(self, summary: DumpSummary) -> None:
        self._summary = summary
        self._tables: dict[Relation, _TableRows] = {}
        self._sequences: dict[Relation, SequencePosition] = {}
        self._starts: dict[Relation, int] = {}
        self._large_objects: dict[int, xxh3_128] = {}
        self._written: int | None = None
        self.table: _TableRows

    def start(self, entry: RowsStart) -> None:
        table = self._tables.get(entry.relation)
        if table is None:
            table = self._tables[entry.relation] = _TableRows(entry, self._summary)
        else:
            table.whole = None  # as a database, which has an order of partitions of its own
            if table.named_columns != entry.columns:
                # Two sections with different columns can't be added up.
                table.why_no_digest = table.why_no_digest or "its rows are given with different columns"
                table.only_digest()
        self.table = table

    def add(self, data: bytes) -> None:
        self.table.add(data)

    def end(self) -> None:
        """Handle the end of a section: nothing to do before the end of the dump."""

    def command(self, command: Command) -> None:
        match command.detail:
            case SequencePosition() as position:
                self._sequences[position.sequence] = position
            case SequenceDefinition() as definition:
                self._starts[definition.sequence] = definition.start
            case TableDefinition(sequences=sequences):
                self._starts |= {each.sequence: each.start for each in sequences}
            case LargeObjectCall() as call:
                self._large_object(call)
        if command.kind is Kind.INSERT:
            relation = command.relations[0]
            start = RowsStart(relation, None, b"", command.statement.offset, command.statement.line)
            table = self._tables.get(relation)
            if table is None:
                table = self._tables[relation] = _TableRows(start, self._summary)
            table.why_no_digest = "some of its INSERTs contain expressions"

    def _large_object(self, call: LargeObjectCall) -> None:
        if call.function == "lo_create" and call.oid is not None:
            self._large_objects.setdefault(call.oid, xxh3_128())
        elif call.function == "lo_open":
            self._written = call.oid
        elif call.function == "lowrite" and self._written is not None:
            self._large_objects.setdefault(self._written, xxh3_128()).update(call.data)
        else:
            self._written = None

    def facts(self, reading: DumpReading, time_zone: str | None) -> Facts:
        summary = self._summary
        large_objects = RowsDigest()
        for oid, content in self._large_objects.items():
            large_objects.add(large_object_line(oid, content.hexdigest()))
        created = [*self._objects(), *self._columns()]
        for relation in summary.tables_without_section:
            # Created without data (--exclude-table-data): empty in a database restored from the dump.
            self._tables.setdefault(relation, _TableRows(_empty(relation, summary), summary))
        unrecorded = [sequence for sequence in self._starts if sequence not in self._sequences]
        positions = {sequence: SequencePosition(sequence, self._starts[sequence], False) for sequence in unrecorded}
        positions |= self._sequences
        return Facts(
            origin="dump",
            database=summary.database,
            server_version=summary.server_version,
            rules=DigestRules(
                client_encoding=summary.encoding,
                time_zone=time_zone,
                server_major=summary.server_major,
                bytea_output="escape" if any(t.bytea_output == "escape" for t in self._tables.values()) else "hex",
            ),
            tables=tuple(self._tables[relation].facts() for relation in sorted(self._tables)),
            sequences=tuple(
                SequenceFacts(
                    schema_name=relation.schema,
                    name=relation.name,
                    last_value=positions[relation].last_value,
                    is_called=positions[relation].is_called,
                )
                for relation in sorted(positions)
            ),
            large_objects=LargeObjectFacts(count=large_objects.rows, digest=large_objects.hexdigest()),
            extensions=tuple(
                ExtensionFacts(name=name, version=extension.version, as_language=extension.as_language)
                for name, extension in sorted(summary.extensions.items())
                if name not in BUILT_IN_EXTENSIONS
            ),
            migration=self._migration(),
            object_counts=dict(sorted(Counter(one.kind for one in created).items())),
            objects=tuple(sorted(created, key=lambda one: (one.kind, one.identity))),
            zone_samples=self._zone_samples(),
            not_recorded=tuple(
                f"{each.schema}.{each.name}" for each in sorted([*summary.tables_without_data, *unrecorded])
            ),
        )

    def _zone_samples(self) -> tuple[str, ...]:
        samples = sorted({value for table in self._tables.values() for value in table.zone_samples.values()})
        return tuple(value.decode("ascii") for value in samples[:: max(1, len(samples) // ZONE_SAMPLES)])

    def _objects(self) -> list[ObjectFacts]:
        """The created objects, without extensions and the schema public, which the facts of a database do not count
        either."""
        left_out = {Created(Kind.SCHEMA, "public")}
        return [
            ObjectFacts(kind=str(one.kind), identity=one.identity)
            for one in self._summary.created
            if one.kind is not Kind.EXTENSION and one not in left_out
        ]

    def _columns(self) -> list[ObjectFacts]:
        found = []
        for relation, definition in self._summary.tables.items():
            if definition.carries_rows or definition.partitioned or definition.foreign:
                found += [
                    ObjectFacts(kind="column", identity=f"{relation}.{quoted(name)}")
                    for name in self._summary.declared_columns(relation)
                ]
        return found

    def _migration(self) -> MigrationFacts | None:
        candidates = [table for table in self._tables.values() if table.tool is not None]
        candidates.sort(key=lambda table: migrations.preference(table.relation.schema, table.relation.name))
        for table in candidates:
            if table.tool is not None and table.why_no_digest != ONLY_COUNTED:
                return migrations.facts(table.tool, table.relation.schema, table.relation.name, table.migrations)
        return None
