"""Build a database from the readable part of a damaged restore point, and report table by table what is missing.

The result is not verified: it is for inspection, and for copying rows by hand. It never gets the live name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lastgood import points
from lastgood.context import BACKGROUND, Context
from lastgood.damaged.best_effort import ReadableLoader, TableLoad
from lastgood.damaged.confined import OperatorsPart
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.hints import ANOTHER
from lastgood.dump.names import Relation
from lastgood.dump.readable import SHOWN, Omission, ReadableReading
from lastgood.errors import NOT_REACHED, BadPoint, Corrupt, Refused
from lastgood.events import StageDone, StageStarted
from lastgood.journal import recording
from lastgood.load import made_beside, servers_rights
from lastgood.load.builder import Builder
from lastgood.load.repairs import what
from lastgood.models import Document, Frozen
from lastgood.plan.plan import CONFINED, CodePolicy
from lastgood.points import RestorePoint
from lastgood.points.signature import NOT_SIGNED
from lastgood.postgres import database
from lastgood.postgres.mark import forget_marks
from lastgood.postgres.roles import lent_role
from lastgood.postgres.server import Connection, Target, cancelled_with
from lastgood.process import interrupts
from lastgood.text.units import counted


class LeftOutLine(Frozen):
    """A row or a command that was left out; ``line`` counts from 1 in the dump's text, ``what`` is empty for a row."""

    line: int
    why: str
    what: str = ""


class DamagedTable(Frozen):
    """A table of the result. ``rows`` are loaded. ``expected`` is the number in the manifest, None without one;
    ``left_out`` the number of rows that were read but not loaded, ``first`` the first few of them. State ``whole``:
    nothing is known to be missing. ``why``: what else is known about missing rows.
    """

    schema_name: str
    name: str
    state: Literal["whole", "partial", "missing"]
    rows: int
    expected: int | None
    left_out: int
    first: tuple[LeftOutLine, ...]
    why: str


class DamagedReport(Document):
    """The report on a damaged restore point. ``damage`` are sentences; ``commands`` were left out. ``not_valid``:
    foreign keys that were added NOT VALID because referenced rows are missing. ``maker``: the program that wrote the
    file, if it is known and not pg_dump. ``trusted``: the reason for which its code ran with
    the rights of the operator.
    """

    run: str
    status: Literal["partial"] = "partial"
    point: str
    into: str
    damage: tuple[str, ...]
    tables: tuple[DamagedTable, ...]
    commands: tuple[LeftOutLine, ...]
    not_valid: tuple[str, ...]
    maker: str = ""
    trusted: str = ""
    notes: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        whole = all(table.state == "whole" for table in self.tables)
        return whole and not (self.damage or self.commands or self.not_valid)


def restore_readable(
    target: Target,
    store: Path,
    names: Sequence[str],
    into: str,
    context: Context = BACKGROUND,
    *,
    database_name: str | None = None,
    policy: CodePolicy = CONFINED,
) -> DamagedReport:
    """Create the database ``into`` (a new name, not the live one) from the readable part of the restore point
    ``names``. Its comment describes it; only its owner and superusers may connect. It is removed again when this is
    interrupted or fails. ``policy``: who runs code of the restore point.

    Raises BadPoint when nothing can be read, Refused, Failed, Interrupted.
    """
    if into == target.dbname:
        raise Refused(
            f'cannot restore a damaged dump into "{into}": that is the name of the live database',
            hint="Choose another name with --into.",
            state=NOT_REACHED,
        )
    started = time.monotonic()
    point = points.find_by_names(store, names)
    source = _source(point)
    of_manifest = point.manifest.database if point.manifest is not None else None
    reading = ReadableReading(source, database=database_name or of_manifest)
    with database.connect_maintenance(target, target.dbname) as maintenance, ExitStack() as stack:
        model = database.describe(maintenance, target.dbname)
        run, journal = made_beside.begun(maintenance, target.dbname, into, point.path, context)
        emit = stack.enter_context(recording.recording(journal, context.emit))
        comment = f"lastgood restore {run}: readable part of the damaged {point.path.name}; not complete, not verified"
        stop = interrupts.StopRequest()
        stack.enter_context(made_beside.ending_role(maintenance, target, run))
        with (
            made_beside.made(
                target,
                maintenance,
                into,
                model,
                live=target.dbname,
                kind="restore",
                run=run,
                point=point.path,
                stop=stop,
                complete=[database.comment_statement(into, comment)],
            ),
            interrupts.stop_on_signal(stop),
        ):
            part = _operators_part(maintenance, target, policy, run, into, stop)
            emit(StageStarted("build", f"load the readable part into {into}"))
            work = replace(context, emit=emit).until(stop.is_set)
            theirs = part.builder.role.target if part is not None else target.at(into)
            with cancelled_with(stop, theirs, f"lastgood restore {run}") as connection:
                loader = ReadableLoader(connection, lambda: (source.position, source.size), work, part)
                loader.load(iter(reading))
                if part is None:
                    forget_marks(connection)
            if part is not None:
                part.hand_over(maintenance, target)
                loader.commands += [Omission(each.statement.line, why, what(each)) for each, why in part.refused]
            rows = sum(table.rows for table in loader.tables.values())
            emit(StageDone("build", time.monotonic() - started, counted(rows, "row")))
            if not reading.summary.tables and not loader.tables:
                why = f": {reading.damage[0]}" if reading.damage else ""
                raise Corrupt(f'cannot read any table of "{point.path.name}"{why}', hint=ANOTHER)
    report = DamagedReport(
        run=run,
        point=str(point.path),
        into=into,
        damage=tuple(reading.damage),
        tables=_tables(point, reading, loader),
        commands=tuple(map(_left_out_line, [*reading.commands, *loader.commands])),
        not_valid=tuple(loader.not_valid),
        maker=reading.maker,
        trusted=policy.trusted,
        notes=(
            *source.notes,
            *reading.summary.remarks,
            *reading.summary.notes,
            *(f"{each}: {servers_rights.WITHDRAWN}" for each in (part.withdrawn if part is not None else ())),
        ),
        seconds={"total": round(time.monotonic() - started, 3)},
    )
    recording.write_end(journal, "done", kind="restore", report=report.document())
    return report


def _operators_part(
    maintenance: Connection, target: Target, policy: CodePolicy, run: str, into: str, stop: interrupts.StopRequest
) -> OperatorsPart | None:
    """The operator's part of the load, where a role without rights does the rest: whether a damaged file has code is
    known only at its end."""
    if policy.trusted:
        return None
    role = lent_role.role_for(maintenance, target, policy.build_as, run=run, live=target.dbname, database=into)
    return OperatorsPart(
        Builder(
            role,
            lambda purpose: cancelled_with(stop, role.target, f"lastgood {purpose} {run}"),
            lambda purpose: cancelled_with(stop, target.at(into), f"lastgood {purpose} {run}"),
        )
    )


def _source(point: RestorePoint) -> DumpSource:
    if point.remedy == NOT_SIGNED:
        raise BadPoint(point.problem, hint=point.remedy)
    try:
        return points.source_of(point)
    except Corrupt:
        # A plain dump whose beginning is destroyed is not recognized; other formats are, so it can only be a plain one.
        if point.files or not point.path.is_file():
            raise
        return DumpSource(point.path, "plain", "", None, None)


def _left_out_line(left_out: Omission) -> LeftOutLine:
    return LeftOutLine(line=left_out.line, why=left_out.why, what=left_out.what)


def _tables(point: RestorePoint, reading: ReadableReading, loader: ReadableLoader) -> tuple[DamagedTable, ...]:
    """Every table that the dump creates or has rows for, and every table in the manifest."""
    expected: dict[Relation, int] = {}
    if point.manifest is not None:
        expected = {Relation(table.schema_name, table.name): table.rows for table in point.manifest.facts.tables}
    created = {relation for relation, table in reading.summary.tables.items() if table.carries_rows}
    return tuple(
        _table(relation, reading, loader, expected.get(relation))
        for relation in sorted({*created, *loader.tables, *reading.tables, *expected})
    )


def _table(relation: Relation, reading: ReadableReading, loader: ReadableLoader, expected: int | None) -> DamagedTable:
    loaded = loader.tables.get(relation)
    damage = reading.tables.get(relation)
    reasons = [each for each in (damage.cut if damage else "", loaded.given_up if loaded else "") if each]
    if loaded is None:
        loaded = TableLoad()
        if reading.damage and expected != 0:
            reasons.append("none of its rows could be read")
        elif expected or (expected is None and reading.has_empty_sections):
            reasons.append("the dump has no rows section for it")
    left_out = loaded.refused + (damage.left_out if damage else 0)
    first = sorted([*loaded.first, *(damage.first if damage else ())], key=lambda each: each.line)[:SHOWN]
    short = left_out or reasons or (expected is not None and expected != loaded.rows)
    return DamagedTable(
        schema_name=relation.schema,
        name=relation.name,
        state="whole" if not short else "partial" if loaded.rows else "missing",
        rows=loaded.rows,
        expected=expected,
        left_out=left_out,
        first=tuple(map(_left_out_line, first)),
        why="; ".join(reasons),
    )
