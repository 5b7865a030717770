"""The transaction of a salvage: the preview rolls it back, and the salvage commits it. Both merge alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql
from pydantic import Field

from lastgood.errors import Failed, LastgoodError, Refused, Stopped
from lastgood.facts.of_database import PINNED
from lastgood.models import Frozen
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Connection, Target, quiet_event_triggers
from lastgood.postgres.transactions import OutcomeUnknown, outcome_after_loss
from lastgood.salvage import merge, migrated, objects
from lastgood.salvage.merge import Exclusion
from lastgood.salvage.policy import COLLISIONS, MEANINGS, Collision, Policies
from lastgood.salvage.references import References, with_known_keys
from lastgood.salvage.rows import NO_NAMES, NamedRows, refuse_unknown
from lastgood.salvage.staged import Changed, Staged, analyze, cell, listed, stage
from lastgood.salvage.tables import Name, Table
from lastgood.text import units

SAMPLES = 5


class Sum(Frozen):
    """The rows of one table with the same fate. ``kind`` is their change after the restore point: ``insert``,
    ``update`` or ``delete``. ``action``: what is done in the live database; null for nothing, and then ``why``:
    ``there`` (the live database has the change already), a collision, or why they were not chosen."""

    kind: str
    action: str | None
    why: str
    rows: int


class Unknown(Frozen):
    """A column whose author is unknown in so many ``rows``, which ``transactions`` wrote last (the first few)."""

    column: str
    rows: int
    transactions: tuple[int, ...]


class TableSummary(Frozen):
    """What a salvage does with one table. ``key``: the columns by which its rows are recognised, empty without any.
    ``columns`` are merged; only the live database has ``only_ours``, of which a new row must give ``lacking`` a
    value. ``conflicts``: columns that both sides changed, with the number of rows; ``json_conflicts``: of those
    whose objects are merged by key, the keys that both sides changed most often; ``merged_json``: the columns that
    are merged by key; ``unmerged_json``: those in conflict that could be. ``samples``: keys of rows that collide,
    by collision. ``renumbered``: rows that get a new key. ``migrated``: columns of rows that were written again
    after the migration, with the number of rows in which they still have its value, which is left out. ``unknown``:
    those that the migration or a later transaction may have written."""

    schema_name: str
    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    only_ours: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    sums: tuple[Sum, ...]
    conflicts: dict[str, int] = Field(default_factory=dict)
    json_conflicts: dict[str, dict[str, int]] = Field(default_factory=dict)
    merged_json: tuple[str, ...] = ()
    unmerged_json: tuple[str, ...] = ()
    samples: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    renumbered: int = 0
    migrated: dict[str, int] = Field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()

    def rows(self, action: str) -> int:
        """The rows that are inserted, updated or deleted."""
        return sum(each.rows for each in self.sums if each.action == action)

    @property
    def left(self) -> dict[str, int]:
        """The rows that are left out, by reason; without those that the live database has already."""
        found: dict[str, int] = {}
        for each in self.sums:
            if each.action is None and each.why != "there":
                found[each.why] = found.get(each.why, 0) + each.rows
        return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """The choice of rows. ``excluded``: what is left out, by table. ``with_parents`` adds new rows to which chosen rows
    refer. ``migration``: the values that the migration wrote are wanted, too. ``columns``: those of each table that are
    taken as they are from rows that were written again after the migration. ``merge_json``: those whose
    JSON objects are merged by key. ``conditional``: tables with a condition of the user, whose errors are not the
    table's. ``named``: rows that are named by their keys. ``refused``: tables that cannot be written."""

    policies: Policies = field(default_factory=Policies)
    excluded: Mapping[Name, Sequence[Exclusion]] = field(default_factory=dict)
    with_parents: bool = False
    migration: bool = False
    columns: Mapping[Name, frozenset[str]] = field(default_factory=dict)
    merge_json: Mapping[Name, frozenset[str]] = field(default_factory=dict)
    conditional: frozenset[Name] = frozenset()
    named: Mapping[Name, NamedRows] = field(default_factory=dict)
    refused: Mapping[Name, Refused] = field(default_factory=dict)


@contextmanager
def opened(target: Target, name: str, *, preview: bool) -> Iterator[Connection]:
    """A session in an open transaction, which the block commits or which ends with it. A preview sees one snapshot;
    otherwise each statement sees what was committed before it, under the locks of the caller."""
    with target.connect(application_name=name) as connection:
        quiet_event_triggers(connection)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ if preview else IsolationLevel.READ_COMMITTED
        connection.autocommit = False
        for setting, value in (*PINNED, ("TimeZone", "UTC"), ("client_min_messages", "warning")):
            connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(setting), sql.Literal(value)))
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.rollback()


def merged(
    connection: Connection,
    changed: Sequence[Changed],
    tables: Mapping[Name, Table],
    wanted: Wanted,
    *,
    draw: bool,
    refused: dict[Name, str] | None = None,
) -> list[Staged]:
    """Stage and decide everything. ``draw``: take new keys from their sequences. ``refused`` gets the tables that
    cannot be salvaged, with the reason, and the others go on; without it the first one raises Refused."""
    pairs = [
        (found, each)
        for each in changed
        if (found := _each(connection, each, partial(stage, connection, each), wanted, refused)) is not None
    ]
    with_known_keys(connection, [found for found, _ in pairs], [each for _, each in pairs])
    staged = [
        found
        for one, each in pairs
        if (found := _each(connection, each, partial(_decided, connection, one, each, wanted), wanted, refused))
        is not None
    ]
    references = References(connection, staged, tables)
    references.settle(with_parents=wanted.with_parents)
    if wanted.policies.insert_exists == "renumber":
        references.renumber(draw=draw)
    for each in staged:
        analyze(connection, each)
    return staged


def _each(
    connection: Connection,
    changed: Changed,
    work: Callable[[], Staged],
    wanted: Wanted,
    refused: dict[Name, str] | None,
) -> Staged | None:
    """Do the work for one table; None if it cannot be salvaged."""
    name = (changed.table.schema, changed.table.name)
    if refused is None or name in wanted.conditional:
        return work()
    try:
        with connection.transaction():
            return work()
    except (Refused, psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        why = server_errors.message_of(error) if isinstance(error, psycopg.Error) else error.message
        refused[name] = why.removeprefix(f'cannot salvage table "{changed.table.shown}": ')
        return None


def _decided(connection: Connection, staged: Staged, changed: Changed, wanted: Wanted) -> Staged:
    name = (staged.table.schema, staged.table.name)
    if name in wanted.refused:
        raise wanted.refused[name]
    if not wanted.migration:
        staged = migrated.without_migrated(connection, staged, changed, wanted.columns.get(name, frozenset()))
    by_key = wanted.merge_json.get(name, frozenset()) if staged.key is not None else frozenset()
    staged = replace(staged, by_key=tuple(each for each in staged.columns if each in by_key))
    merge.decide(connection, staged, wanted.policies, wanted.excluded.get(name, ()))
    refuse_unknown(connection, staged, wanted.named.get(name, NO_NAMES))
    return staged


def summary(connection: Connection, staged: Staged) -> TableSummary:
    """What the merge decided for one table."""
    sums = connection.execute(
        sql.SQL("""
        SELECT kind, action, CASE WHEN action IS NULL THEN coalesce(why, state) ELSE '' END, count(*) FROM {}
        GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2, 3
        """).format(staged.merge)
    ).fetchall()
    row = connection.execute(sql.SQL("SELECT count(*) FROM {} WHERE renumbered").format(staged.merge)).fetchone()
    conflicts = merge.conflicts(connection, staged)
    return TableSummary(
        schema_name=staged.table.schema,
        name=staged.table.name,
        key=staged.key.columns if staged.key is not None else (),
        columns=staged.columns,
        only_ours=tuple(each for each in staged.table.stored if each not in staged.columns),
        lacking=staged.lacking,
        sums=tuple(Sum(kind=kind, action=action, why=why, rows=rows) for kind, action, why, rows in sums),
        conflicts=conflicts,
        json_conflicts={
            each: objects.conflicting_keys(connection, staged, each) for each in staged.by_key if each in conflicts
        },
        merged_json=staged.by_key,
        unmerged_json=tuple(each for each in conflicts if staged.table.column(each).json and each not in staged.by_key),
        samples={why: _samples(connection, staged, why) for why in sorted({row[2] for row in sums} & {*COLLISIONS})},
        renumbered=row[0] if row is not None else 0,
        migrated={each.column: each.rows for each in staged.migrated if each.rows},
        unknown=tuple(
            Unknown(column=each.column, rows=each.unknown, transactions=each.transactions)
            for each in staged.migrated
            if each.unknown
        ),
    )


def _samples(connection: Connection, staged: Staged, why: str) -> tuple[str, ...]:
    """Keys of the first rows with a collision."""
    if staged.key is None:
        return ()
    columns = [
        sql.SQL("coalesce({}, {})::text").format(cell("t", name), cell("b", name)) for name in staged.key.columns
    ]
    found = connection.execute(
        sql.SQL("""
        SELECT concat_ws(', ', {}) FROM {} m WHERE m.action IS NULL AND coalesce(m.why, m.state) = {}
        ORDER BY m.rid LIMIT {}
        """).format(listed(columns), staged.merge, sql.Literal(why), sql.Literal(SAMPLES))
    )
    return tuple(str(key) for (key,) in found)


def refuse_failing(tables: Sequence[TableSummary], policies: Policies) -> None:
    """Raise Refused for a collision whose policy is ``fail``."""
    for table in tables:
        for why, rows in table.left.items():
            collision = next((each for each in COLLISIONS if each == why), None)
            if collision is not None and policies.of(collision) == "fail":
                raise collided(table, collision, rows)


def collided(table: TableSummary, collision: Collision, rows: int) -> Refused:
    """The refusal for a collision."""
    keys = "; ".join(table.samples.get(collision, ()))
    return Refused(
        f'cannot salvage rows: {collision} in table "{table.schema_name}.{table.name}": {MEANINGS[collision]} '
        f"({units.counted(rows, 'row')}{f', such as {keys}' if keys else ''})",
        hint=f"Choose another policy, such as --on {collision}=skip, or leave these rows out.",
    )


def committed(connection: Connection, target: Target, transaction: int, process: int) -> None:
    """Commit. If the connection is lost meanwhile, wait for server process ``process`` and ask for the outcome. Raises
    Failed when the transaction was rolled back, and Stopped when the outcome is unknown."""
    try:
        connection.commit()
    except psycopg.Error as error:
        if not connection.broken:
            raise failed(error) from error
        try:
            rolled_back = not outcome_after_loss(target, process, lambda other: _outcome(other, transaction))
        except OutcomeUnknown as unknown:
            raise Stopped(
                "cannot verify the salvage: the connection was lost during the commit",
                hint="When the server answers again, run the same command with --dry-run: it shows what is missing.",
                state="Either all rows were salvaged, or none.",
            ) from unknown
        if rolled_back:
            raise failed(error) from error


def _outcome(connection: Connection, transaction: int) -> bool | None:
    """Return whether the transaction was committed; None while it is in progress, and for one that is too old."""
    row = connection.execute("SELECT pg_catalog.pg_xact_status(%s::text::xid8)", [str(transaction)]).fetchone()
    return {"committed": True, "aborted": False}.get(row[0]) if row is not None else None


def failed(error: psycopg.Error) -> LastgoodError:
    """An error of the server that ended the transaction before its commit."""
    detail: Any = error.diag.message_detail
    of_rows = (error.sqlstate or "")[:2] in ("22", "23")  # data exceptions, violated constraints
    where = f"{server_errors.message_of(error)}{f' ({detail})' if detail else ''}"
    return Failed(
        f"cannot salvage rows: {where}",
        hint="Leave the rows out, with --exclude TABLE or --where, or change them in the live database."
        if of_rows
        else "Fix the cause, then run the same command again.",
        state="Nothing was changed.",
    )
