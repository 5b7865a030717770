"""``lastgood salvage``: rows written after the restore point, brought into the restored database.

    sides ─ compare base with theirs ─ stage ─ merge by cell ─ plan │ lock ─ merge again ─ write ─ prove ─ commit

The plan is made in a transaction that is rolled back; the salvage does the same in one that is committed, and only if
the result is the one that was shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import psycopg

from lastgood.config.tables import Audit
from lastgood.context import BACKGROUND, Context
from lastgood.errors import UsageError
from lastgood.events import reported
from lastgood.postgres import database
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection, Target, identity
from lastgood.salvage import audit, candidates, choosing, images, origin, quiet, renames, rows, sides, tables
from lastgood.salvage.apply import Destination, Look, apply, preview
from lastgood.salvage.audit import AuditTable
from lastgood.salvage.candidates import Found
from lastgood.salvage.origin import Migration, Stored
from lastgood.salvage.plan import Chosen, SalvagePlan, SalvageReport
from lastgood.salvage.planner import planner
from lastgood.salvage.rows import NamedRows
from lastgood.salvage.run import recorded
from lastgood.salvage.sides import Names, Sides
from lastgood.salvage.staged import Blocks
from lastgood.salvage.tables import Name, Table
from lastgood.salvage.transaction import TableSummary, Wanted, failed, opened, refuse_failing
from lastgood.text import units


@dataclass(frozen=True, slots=True)
class SalvageRequest:
    """The request of the user. ``target`` is the live database. ``audit``: its audit table, None for a known one."""

    target: Target
    store: Path
    state: Path
    names: Names = field(default_factory=Names)
    chosen: Chosen = field(default_factory=Chosen)
    audit: Audit | None = None


@dataclass(frozen=True, slots=True)
class ReadySalvage:
    """A plan whose rows can be read: the comparison is open."""

    request: SalvageRequest
    plan: SalvagePlan
    found: Found
    tables: Mapping[Name, Table]
    wanted: Wanted


@contextmanager
def planned(request: SalvageRequest, context: Context = BACKGROUND, look: Look | None = None) -> Iterator[ReadySalvage]:
    """Plan a salvage, for the length of a ``with`` block in which it can be executed. ``look`` may read the rows in the
    transaction of the preview. Writes nothing but temporary tables. Raises Refused, BadPoint, UsageError, Failed,
    Interrupted."""
    live = request.target
    with database.connect_maintenance(live, live.dbname) as maintenance:
        chosen_sides = sides.find(maintenance, live, request.store, request.names)
        system = identity(maintenance).system
        oid = database.describe(maintenance, live.dbname).oid
    with between(request, chosen_sides, system, oid, context, look) as ready:
        yield ready


@contextmanager
def between(
    request: SalvageRequest,
    chosen_sides: Sides,
    system: int | None,
    oid: int,
    context: Context = BACKGROUND,
    look: Look | None = None,
) -> Iterator[ReadySalvage]:
    """As ``planned``, for sides that are known. ``system``: the identifier of the server of the live database; ``oid``:
    its own."""
    live = request.target
    with live.connect(application_name="lastgood salvage") as connection:
        known, roots = tables.read(connection), tables.roots(connection)
        unsilenced = quiet.unsilenced(connection, list(known.values()))
    chosen_sides = chosen_sides.renamed(renames.new_names(request.chosen.renamed, known))
    choosing.refuse_contradiction(request.chosen)
    wished = choosing.chosen_tables(request.chosen, known)
    conditions = choosing.conditions(request.chosen, known)
    named = rows.named_rows(request.chosen.rows, request.chosen.without_rows, known)
    by = audit.find(known, request.audit, request.chosen)
    needed = choosing.with_ancestors(wished, known) | ({by.name} if by is not None else frozenset())
    ineffective = [
        f"--exclude {each} has no effect: it leaves out none of the tables that --table names"
        for each in choosing.idle_exclusions(request.chosen, known)
    ]
    recognised: list[Migration] = []
    recognise = partial(_migrations, request, chosen_sides, system, ineffective, recognised)
    with ExitStack() as stack:
        title = f"compare {chosen_sides.theirs.name} with {chosen_sides.point.path.name}"
        with reported(context.emit, "compare", title) as stage:
            found = stack.enter_context(
                candidates.found(
                    chosen_sides,
                    known,
                    roots,
                    lambda name: name in needed or name not in known,
                    recognise,
                    context,
                    request.chosen.transactions,
                )
            )
            found = _with_known_keys(request.state, oid, chosen_sides, found)
            stage.detail = f"{units.counted(len(found.changed), 'table')} with differences"
        _refuse_unchanged(named, found, known)
        wrote, timed = None, request.chosen
        if by is not None:
            # The time of an entry is more exact than a time stamp in the row.
            timed = timed.model_copy(update={"since": None, "until": None}) if by.shape.time else timed
            wrote = by.condition(found.changed, chosen_sides)
        columns = choosing.chosen_columns(request.chosen.columns, known)
        merge_json = choosing.json_columns(request.chosen.merge_json, known)
        options: dict[str, Iterable[Name]] = {
            "--where": conditions,
            "--column": columns,
            "--merge-json": merge_json,
            "[rows]": named,
        }
        wanted = Wanted(
            request.chosen.policies,
            {
                (each.table.schema, each.table.name): choosing.exclusions(timed, each, wished, conditions, named, wrote)
                for each in found.changed
            },
            request.chosen.with_parents,
            request.chosen.migration,
            columns,
            merge_json,
            frozenset(conditions) | ({by.name} if by is not None else frozenset()),
            named,
            {name: each for name, each in unsilenced.items() if name in wished or request.chosen.with_parents},
        )
        refused: dict[Name, str] = {}
        names = {(each.table.schema, each.table.name) for each in found.changed}
        names |= {by.name} if by is not None else set()
        # A condition may read any table.
        with planner(live, known, None if conditions else names, context.emit) as place:
            summaries = _previewed(place, found, known, wanted, refused, look)
        changed = tuple(each for each in found.changed if (each.table.schema, each.table.name) not in refused)
        yield ReadySalvage(
            request,
            SalvagePlan(
                live=live.dbname,
                base=chosen_sides.base,
                theirs=chosen_sides.theirs,
                chosen=request.chosen,
                tables=summaries,
                left_tables=found.left_tables,
                left_columns=found.left_columns,
                refused={f"{schema}.{name}": why for (schema, name), why in refused.items()},
                not_compared=found.not_compared,
                migrations=found.migrations,
                remarks=(*ineffective, *_remarks(found, timed, by, wished, options, recognised)),
                audit=by.table.shown if by is not None else "",
            ),
            replace(found, changed=changed),
            known,
            wanted,
        )


def _refuse_unchanged(named: Mapping[Name, NamedRows], found: Found, known: Mapping[Name, Table]) -> None:
    """Raise UsageError for named rows of a table without differences."""
    changed = {(each.table.schema, each.table.name) for each in found.changed}
    for name, each in named.items():
        if name not in changed and (keys := (each.only or ()) + each.without):
            raise rows.no_such_row(known[name], keys[0])


def _with_known_keys(state: Path, oid: int, chosen: Sides, found: Found) -> Found:
    """Add the new keys that earlier salvages of the same source gave to rows."""
    known: dict[Name, list[Blocks]] = defaultdict(list)
    for each in images.of_source(state, oid, chosen.source):
        for image in each.tables:
            if image.renumbered:
                known[image.schema_name, image.name].append(partial(images.rows, state, each.run, image, "renumbered"))

    def blocks(name: Name) -> Iterator[bytes]:
        return chain.from_iterable(read() for read in known[name])

    changed = tuple(
        replace(each, renumbered=partial(blocks, name))
        if (name := (each.table.schema, each.table.name)) in known
        else each
        for each in found.changed
    )
    return replace(found, changed=changed)


def _migrations(
    request: SalvageRequest,
    chosen: Sides,
    system: int | None,
    ineffective: list[str],
    recognised: list[Migration],
    session: Connection,
    stored: Iterable[Stored],
    changed: Sequence[Stored],
) -> tuple[Migration, ...]:
    """The transactions of the kept database whose rows are left out. ``ineffective`` gets what the plan says about
    numbers that change nothing, and ``recognised`` the transactions of the migration."""
    wished, manifest = request.chosen, chosen.point.manifest
    found = origin.of_deployments(request.state, request.target.dbname, chosen.base.made_at)
    if manifest is not None and manifest.transaction is not None and manifest.system == system:
        seen = origin.of_database(session, manifest.transaction, stored, changed, chosen.schemas)
        # The record of a deployment is exact; definitions may have changed before and after it, too.
        found += [each for each in seen if not found or each.first == each.last]
    recognised += found
    ineffective += [
        f"--transaction {number} has no effect: the rows of this transaction are not left out"
        for number in wished.transactions
        if not any(each.first <= number <= each.last for each in found)
    ]
    there = origin.last_writers(session, changed, wished.without_transactions)
    ineffective += [
        f"--without-transaction {number} has no effect: this transaction wrote none of the rows that differ"
        for number in wished.without_transactions
        if number not in there
    ]
    found += [Migration(first=each, last=each, by="--without-transaction") for each in wished.without_transactions]
    return tuple(origin.without(found, wished.transactions))


# Everything else in the statements comes from the catalogue.
_WRONG_CONDITIONS = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.SyntaxError,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.GroupingError,
    psycopg.DataError,
)


def _previewed(
    live: Target,
    found: Found,
    known: Mapping[Name, Table],
    wanted: Wanted,
    refused: dict[Name, str],
    look: Look | None,
) -> tuple[TableSummary, ...]:
    with opened(live, "lastgood salvage plan", preview=True) as connection:
        try:
            return preview(connection, found.changed, known, wanted, refused, look)
        except psycopg.Error as error:
            if wanted.conditional and isinstance(error, _WRONG_CONDITIONS):
                raise UsageError(
                    f"cannot plan the salvage: {message_of(error)}",
                    hint="Check the conditions in --where: names of columns, and functions with their schema.",
                ) from error
            raise failed(error) from error


def _remarks(
    found: Found,
    wished: Chosen,
    by: AuditTable | None,
    tables: frozenset[Name],
    named: Mapping[str, Iterable[Name]],
    recognised: Sequence[Migration],
) -> tuple[str, ...]:
    """What the plan says beside its numbers. ``tables``: the chosen ones; ``named``: those that options name;
    ``recognised``: the transactions of the migration, chosen or not."""
    remarks = [
        f"{each.table.shown}: it has no key by which the audit table could name its rows, so none is chosen"
        for each in found.changed
        if by is not None and each.table.key is None and each.table.oid != by.table.oid
    ]
    remarks += [
        f"{each.table.shown}: it has no column with a time stamp, so --since and --until take none of its rows"
        for each in found.changed
        if (wished.since or wished.until)
        and (each.table.schema, each.table.name) in tables
        and not choosing.dated_columns(each)
    ]
    remarks += [
        f"{option} has no effect on {'.'.join(name)}: this table is not chosen"
        for option, names in named.items()
        for name in sorted({*names} - tables)
    ]
    if not recognised and found.changed and not wished.migration:
        remarks.append("rows of a migration cannot be identified, so they are brought back too")
    return tuple(remarks)


def salvage(ready: ReadySalvage, context: Context = BACKGROUND) -> SalvageReport:
    """Execute a plan. Raises Refused when the live database changed since, or another run holds its lock; Failed,
    Interrupted: then nothing was changed; Stopped when the outcome is unknown."""
    request, plan = ready.request, ready.plan
    refuse_failing(plan.tables, request.chosen.policies)

    def write(destination: Destination) -> SalvageReport:
        destination = replace(destination, source=plan.theirs.run or plan.theirs.name)
        apply(destination, ready.found.changed, ready.tables, ready.wanted, plan.tables)
        run = destination.run
        return SalvageReport.of(
            plan.tables,
            run=run,
            status="salvaged",
            live=plan.live,
            new_keys={
                f"{each.schema_name}.{each.name}": str(images.new_keys(request.state, run, each.schema_name, each.name))
                for each in plan.tables
                if each.renumbered
            },
            undo_command=f"lastgood salvage undo {run}",
        )

    title = f"write {plan.written:,} rows in one transaction"
    return recorded(request.target.at(plan.live), request.state, plan, title, write, context, point=plan.base.path)


def nothing_to_do(ready: ReadySalvage) -> SalvageReport:
    """The report of a plan that writes no row. No run is recorded."""
    refuse_failing(ready.plan.tables, ready.request.chosen.policies)
    return SalvageReport.of(ready.plan.tables, run="", status="nothing to do", live=ready.plan.live)
