"""The rows that differ between base and theirs, found by the difference engine and grouped by table of the live
database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from lastgood.context import Context
from lastgood.difference import Comparison, TableDifference, compared
from lastgood.dump.names import Relation
from lastgood.events import Caution
from lastgood.postgres.kept import read_only
from lastgood.postgres.reader_role import reader_role
from lastgood.postgres.server import Connection
from lastgood.salvage import origin
from lastgood.salvage.origin import Migration, Stored
from lastgood.salvage.sides import Sides
from lastgood.salvage.staged import Changed, Portion, copied_out
from lastgood.salvage.tables import Name, Table


@dataclass(frozen=True, slots=True)
class Found:
    """What differs between base and theirs. ``missing``: tables with rows that the live database or theirs lacks;
    ``not_compared``: tables that could not be read, with the reason; ``only_theirs``: columns that the live database
    lacks, by table. ``migrations``: whose rows were recognised."""

    changed: tuple[Changed, ...]
    missing: tuple[str, ...]
    not_compared: tuple[str, ...]
    only_theirs: Mapping[Name, tuple[str, ...]]
    migrations: tuple[Migration, ...]


@contextmanager
def found(
    sides: Sides,
    tables: Mapping[Name, Table],
    roots: Mapping[Name, Name],
    wanted: Callable[[Name], bool],
    recognise: Callable[[Connection, Iterable[Stored], Iterable[Stored]], tuple[Migration, ...]],
    context: Context,
) -> Iterator[Found]:
    """Compare base with theirs. ``roots``: partitions of the live database, with their partitioned tables. ``wanted``:
    whether the changes of a live table matter. Rows can be read while the block lasts."""

    def only(relation: Relation) -> bool:
        name = (relation.schema, relation.name)
        return wanted(roots.get(name, name))

    with compared(sides.base_side, sides.their_side, keep=True, only=only, context=context, stage="compare") as all_of:
        groups: dict[Name, list[TableDifference]] = defaultdict(list)
        missing, unread = [], []
        for each in all_of.tables:
            name = (each.schema_name, each.name)
            root = roots.get(name, name)
            if each.state == "not compared":
                unread.append(f"{each.schema_name}.{each.name}: {each.why}")
            elif each.state == "only a" or (each.state in ("different", "only b") and root not in tables):
                missing.append(f"{each.schema_name}.{each.name}")
            elif each.state == "different":
                groups[root].append(each)
        with _their_session(sides, context) as session:
            there = origin.stored(session, sides.schemas) if session is not None else {}
            differing = [there[name] for name in groups if name in there]
            migrations = recognise(session, there.values(), differing) if session is not None else ()
            changed = tuple(
                _changed(all_of, tables[name], parts, session, there.get(name), migrations)
                for name, parts in groups.items()
            )
            yield Found(
                changed=changed,
                missing=tuple(missing),
                not_compared=tuple(unread),
                only_theirs={
                    name: extra
                    for name, parts in groups.items()
                    if (extra := tuple(sorted({column for part in parts for column in part.columns_b})))
                },
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


def _changed(
    all_of: Comparison,
    table: Table,
    parts: list[TableDifference],
    session: Connection | None,
    there: Stored | None,
    migrations: tuple[Migration, ...],
) -> Changed:
    keyed = table.key is not None and all(set(table.key.columns) <= set(part.columns) for part in parts)
    written = None
    if session is not None and there is not None and migrations:
        columns = table.key.columns if keyed and table.key is not None else parts[0].columns
        query = origin.written_by(there, columns, migrations)
        written = Portion(columns, base=tuple, theirs=partial(copied_out, session, query))
    return Changed(table, tuple(_portion(all_of, part, keyed=keyed) for part in parts), written)


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
