"""Rows of the restore point whose parent in a table of the platform was deleted since, such as those of deleted users.

They follow the rule of their own foreign key, as if the parent were deleted after the rollback: ON DELETE CASCADE
leaves the row out, SET NULL and SET DEFAULT change it, and without a rule the restore point is refused. ``find`` counts
them before the build; ``foreign_key_rules.apply`` executes the rules in staging.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from psycopg import sql

from lastgood.dump.files.formats import DumpSource
from lastgood.dump.names import Relation, quoted
from lastgood.dump.script import Section
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Interrupted, Refused
from lastgood.facts.digest import split_lines, whole_lines
from lastgood.in_place.definitions.rewrite import Rewritten
from lastgood.in_place.platform.keys import Action, PlatformKey
from lastgood.load.family import Family
from lastgood.load.supply import Supply, supply_for
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection, event_triggers_off
from lastgood.text.redact import visible
from lastgood.text.units import counted

_NULL = rb"\N"
_FATES: Mapping[Action, str] = {
    "cascade": "leaves them out (ON DELETE CASCADE)",
    "set null": "clears the reference (ON DELETE SET NULL)",
    "set default": "sets the default reference (ON DELETE SET DEFAULT)",
    "no action": "has no rule for them",
    "restrict": "has no rule for them",
}


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The rows of one foreign key whose parent was deleted: ``rows`` of them, of ``parents`` parents. ``table`` is the
    live name."""

    key: PlatformKey
    table: Relation
    parents: int
    rows: int

    @property
    def refused(self) -> bool:
        """Whether the foreign key has no rule for them."""
        return self.key.on_delete in ("no action", "restrict")

    def __str__(self) -> str:
        return (
            f"{counted(self.rows, 'row')} of {self.table} {'references' if self.rows == 1 else 'reference'} "
            f"{counted(self.parents, 'row')} of {self.key.references} deleted since the restore point; "
            f"foreign key {quoted(self.key.name)} {_FATES[self.key.on_delete]}"
        )


def find(
    connection: Connection,
    source: DumpSource,
    summary: DumpSummary,
    rewritten: Rewritten,
    cancelled: Callable[[], bool],
) -> tuple[Orphaned, ...]:
    """The rows of the restore point whose parents the live database of ``connection`` lacks, by foreign key. Only keys
    are read from the restore point, and compared in temporary tables. ``connection`` must be in autocommit mode. Raises
    psycopg.Error, BadPoint, Interrupted."""
    by_table: dict[Relation, list[Section]] = {}
    for section in summary.script.sections:
        by_table.setdefault(section.start.relation, []).append(section)
    family = Family(summary.script.items, summary)

    def sections(table: Relation, columns: Sequence[str]) -> list[Section]:
        """The rows of a table and of its partitions, in the restore point's order."""
        found = [one for each in (table, *family.below(table)) for one in by_table.get(each, ())]
        having = [one for one in found if set(columns) <= set(one.start.columns or ())]
        return sorted(having, key=lambda one: one.number)

    found = []
    with event_triggers_off(connection), _keys(connection, source, summary, cancelled) as keys:
        for key in rewritten.keys:
            if not key.validated:
                continue  # the restore point itself may have rows without a match
            live = Relation(
                next(schema for schema, staging in rewritten.schemas.items() if staging == key.table.schema),
                key.table.name,
            )
            # The restore point's parents first: usually there are fewer of them, and none was deleted.
            parents = sections(key.references, key.keys)
            if parents and not keys.missing(key, parents, key.keys):
                continue
            counts = keys.missing(key, sections(live, key.columns), key.columns)
            if counts:
                found.append(Orphaned(key, live, *counts))
    return tuple(found)


def refuse(found: Iterable[Orphaned], name: str) -> None:
    """Raise Refused if a foreign key has no rule for its rows."""
    stuck = [each for each in found if each.refused]
    if stuck:
        raise Refused(
            f'cannot roll back to "{visible(name)}": {visible(str(stuck[0]))}',
            hint="Recreate the referenced rows, or choose a newer restore point: lastgood points",
        )


class _Keys:
    """Keys of the restore point in temporary tables."""

    def __init__(
        self, connection: Connection, supply: Callable[[Collection[int]], Supply], cancelled: Callable[[], bool]
    ) -> None:
        self._connection = connection
        self._supply = supply
        self._cancelled = cancelled
        self._closed = not_to_query(connection)

    def missing(self, key: PlatformKey, sections: Sequence[Section], columns: Sequence[str]) -> tuple[int, int] | None:
        """The number of keys, and of rows with them, that the live parent table lacks; None without any."""
        if not sections:
            return None
        table, copy = sql.Identifier("pg_temp", "lastgood_keys"), sql.Identifier("pg_temp", "lastgood_parents")
        parent = sql.Identifier(key.references.schema, key.references.name)
        closed = (key.references.schema, key.references.name) in self._closed
        listed = sql.SQL(", ").join(map(sql.Identifier, key.keys))
        execute = self._connection.execute
        execute(sql.SQL("CREATE TEMP TABLE lastgood_keys AS SELECT {} FROM {} WITH NO DATA").format(listed, parent))
        try:
            self._fill(table, sections, columns)
            if closed:  # a query would run functions in its definitions, COPY does not
                execute(sql.SQL("CREATE TEMP TABLE lastgood_parents (LIKE {})").format(table))
                self._copy(sql.SQL("COPY {} ({}) TO STDOUT").format(parent, listed), copy)
                parent = copy
            equal = sql.SQL(" AND ").join(
                sql.SQL("r.{0} OPERATOR(pg_catalog.=) k.{0}").format(sql.Identifier(name)) for name in key.keys
            )
            query = sql.SQL(
                "SELECT count(*), coalesce(sum(n), 0)::bigint FROM (SELECT {}, count(*) AS n FROM {} GROUP BY {}) k"
                " WHERE NOT EXISTS (SELECT FROM {} r WHERE {})"
            ).format(listed, table, listed, parent, equal)
            parents, rows = execute(query).fetchone() or (0, 0)
        finally:
            execute(sql.SQL("DROP TABLE IF EXISTS {}, {}").format(table, copy))
        return (parents, rows) if parents else None

    def _copy(self, rows: sql.Composed, table: sql.Identifier) -> None:
        """Copy the result of a COPY into a table. The client reads all of it first: this is one session."""
        with tempfile.TemporaryFile() as file, self._connection.cursor() as cursor:
            with cursor.copy(rows) as reading:
                for block in reading:
                    file.write(block)
            file.seek(0)
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as writing:
                while block := file.read(1 << 20):
                    writing.write(block)

    def _fill(self, table: sql.Identifier, sections: Sequence[Section], columns: Sequence[str]) -> None:
        with (
            closing(self._supply({section.number for section in sections})) as supply,
            self._connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as stream,
        ):
            for section in sections:
                places = [(section.start.columns or ()).index(column) for column in columns]
                for lines in whole_lines(supply.rows(section)):
                    if self._cancelled():
                        raise Interrupted("interrupted while deleted rows were counted")
                    if picked := _picked(lines, places):
                        stream.write(picked)


def _picked(lines: bytes, places: Sequence[int]) -> bytes:
    """Some columns of whole lines of COPY text, without the rows in which one of them is NULL: these need no match."""
    most = max(places) + 1
    if len(places) == 1:
        (place,) = places
        values = [line.split(b"\t", most)[place] for line in split_lines(lines)]
        return b"".join([value + b"\n" for value in values if value != _NULL])
    found = []
    for line in split_lines(lines):
        fields = line.split(b"\t", most)
        values = [fields[place] for place in places]
        if _NULL not in values:
            found.append(b"\t".join(values) + b"\n")
    return b"".join(found)


@contextmanager
def _keys(
    connection: Connection, source: DumpSource, summary: DumpSummary, cancelled: Callable[[], bool]
) -> Iterator[_Keys]:
    connection.execute("SELECT pg_catalog.set_config('client_encoding', %s, false)", [summary.encoding])
    try:
        yield _Keys(
            connection,
            lambda only: supply_for(
                source, summary.script, database=summary.database, in_place=not summary.notes, only=only
            ),
            cancelled,
        )
    finally:
        connection.execute("SET client_encoding = 'UTF8'")
