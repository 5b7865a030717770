"""The rows that differ between base and theirs, found by the difference engine and grouped by table of the live
database; and what cannot be brought back, because a table or a column is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from lastgood.context import Context
from lastgood.difference import Comparison, TableDifference, compared
from lastgood.dump.names import Relation
from lastgood.events import Caution
from lastgood.postgres.kept import read_only
from lastgood.postgres.roles.reader_role import reader_role
from lastgood.postgres.server import Connection
from lastgood.salvage import origin, renames
from lastgood.salvage.origin import Migration, Stored
from lastgood.salvage.plan import LeftColumn, LeftTable
from lastgood.salvage.sides import Sides
from lastgood.salvage.staged import Changed, Portion, Written, copied_out
from lastgood.salvage.tables import Name, Table


@dataclass(frozen=True, slots=True)
class Found:
    """What differs between base and theirs. ``not_compared``: tables that could not be read, with the reason.
    ``migrations``: whose rows were recognised."""

    changed: tuple[Changed, ...]
    left_tables: tuple[LeftTable, ...]
    left_columns: tuple[LeftColumn, ...]
    not_compared: tuple[str, ...]
    migrations: tuple[Migration, ...]


@contextmanager
def found(
    sides: Sides,
    tables: Mapping[Name, Table],
    roots: Mapping[Name, Name],
    wanted: Callable[[Name], bool],
    recognise: Callable[[Connection, Iterable[Stored], Sequence[Stored]], tuple[Migration, ...]],
    context: Context,
    taken: tuple[int, ...] = (),
) -> Iterator[Found]:
    """Compare base with theirs. ``roots``: partitions of the live database, with their partitioned tables. ``wanted``:
    whether the changes of a live table matter. ``taken``: transactions whose rows are wanted as they are. Rows can be
    read while the block lasts."""

    def root_of(each: TableDifference) -> Name:
        name = (each.schema_name, each.name)
        return roots.get(name, name)

    def only(relation: Relation) -> bool:
        name = (relation.schema, relation.name)
        return wanted(roots.get(name, name)) and (not sides.schemas or relation.schema in sides.schemas)

    with compared(sides.base_side, sides.their_side, keep=True, only=only, context=context, stage="compare") as all_of:
        groups: dict[Name, list[TableDifference]] = defaultdict(list)
        for each in all_of.tables:
            # A table that the restore point lacks and the live database has was created on both sides.
            if root_of(each) in tables and (each.state == "different" or (each.state == "only b" and each.only_b)):
                groups[root_of(each)].append(each)
        with _their_session(sides, context) as session:
            there = origin.stored(session, sides.schemas, sides.new_names) if session is not None else {}
            differing = [there[name] for name in groups if name in there]
            migrations = recognise(session, there.values(), differing) if session is not None else ()
            changed = tuple(
                _changed(number, all_of, tables[name], parts, session, there.get(name), migrations, taken)
                for number, (name, parts) in enumerate(groups.items(), 1)
            )
            yield Found(
                changed=changed,
                left_tables=tuple(_left_tables(all_of, lambda each: root_of(each) in tables)),
                left_columns=tuple(_left_columns(all_of, root_of, tables, session, there, migrations)),
                not_compared=tuple(
                    f"{each.table}: {each.why}" for each in all_of.tables if each.state == "not compared"
                ),
                migrations=migrations,
            )


@contextmanager
def _their_session(sides: Sides, context: Context) -> Iterator[Connection | None]:
    """A session on the kept database, in one snapshot; None for a restore point, whose rows have no transactions."""
    if sides.target is None:
        yield None
        return
    with (
        read_only(sides.target).connect(application_name="lastgood salvage") as operator,
        reader_role(sides.target, operator) as role,
        read_only(role.target, sides.target).connect(
            autocommit=False, application_name="lastgood salvage 2"
        ) as connection,
    ):
        if role.caution:
            context.emit(Caution(role.caution))
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection
        connection.rollback()


def _left_tables(all_of: Comparison, is_live: Callable[[TableDifference], bool]) -> Iterator[LeftTable]:
    """The tables with rows that cannot be brought back, because a side lacks the table."""
    proposed, old = renames.of_tables(all_of)
    for each in all_of.tables:
        live = is_live(each)
        if (each.schema_name, each.name) in old:
            continue  # the proposal for its new name says so
        if each.state == "only a" or (not live and each.state in ("different", "only b")):
            yield LeftTable(
                schema_name=each.schema_name,
                name=each.name,
                rows=each.rows_a if each.state == "only a" else each.rows_b,
                lacking="theirs" if each.state == "only a" else "live",
                created=each.state == "only b",
                renamed=proposed.get((each.schema_name, each.name), ""),
            )


def _left_columns(
    all_of: Comparison,
    root_of: Callable[[TableDifference], Name],
    tables: Mapping[Name, Table],
    session: Connection | None,
    there: Mapping[Name, Stored],
    migrations: tuple[Migration, ...],
) -> Iterator[LeftColumn]:
    """The columns that theirs has and base lacks, with the rows in which users wrote a value."""
    seen = set()
    for each in all_of.tables:
        name = root_of(each)
        if name in seen or name not in tables or not each.columns_b:
            continue
        seen.add(name)
        stored = there.get(name)
        ranges = [(one.first, one.last) for one in migrations]
        counts = origin.filled(session, stored, each.columns_b, ranges) if session is not None and stored else {}
        old = {one.b: one.a for one in each.renames}
        for column in each.columns_b:
            yield LeftColumn(
                schema_name=name[0],
                name=name[1],
                column=column,
                rows=counts.get(column),
                live=column in tables[name].stored,
                renamed=f"{name[0]}.{name[1]}.{column}={old[column]}" if column in old else "",
            )


def _changed(
    number: int,
    all_of: Comparison,
    table: Table,
    parts: list[TableDifference],
    session: Connection | None,
    there: Stored | None,
    migrations: tuple[Migration, ...],
    taken: tuple[int, ...],
) -> Changed:
    keyed = table.key is not None and all(set(table.key.columns) <= set(part.columns) for part in parts)
    written = None
    if session is not None and there is not None and migrations:
        columns = table.key.columns if keyed and table.key is not None else parts[0].columns
        query = origin.written_since(there, columns, min(each.first for each in migrations))
        ranges = tuple((each.first, each.last) for each in migrations)
        written = Written(columns, partial(copied_out, session, query), ranges, taken)
    return Changed(table, tuple(_portion(all_of, part, keyed=keyed) for part in parts), number, written)


def _portion(all_of: Comparison, part: TableDifference, *, keyed: bool) -> Portion:
    if not keyed and not part.key:
        return Portion(part.columns, partial(all_of.copies, part, "a"), partial(all_of.copies, part, "b"))

    def base() -> Iterator[bytes]:
        yield from all_of.lines(part, "only_a", "a")
        yield from all_of.lines(part, "changed", "a")

    def theirs() -> Iterator[bytes]:
        yield from all_of.lines(part, "only_b", "b")
        yield from all_of.lines(part, "changed", "b")

    return Portion(part.columns, base, theirs)
