"""Build and prove a new database from a restore point, without touching any other database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lastgood import points
from lastgood.checks import needs
from lastgood.checks.code import code_run, require
from lastgood.context import BACKGROUND, Context
from lastgood.dump.deferral import Deferrable, Division
from lastgood.events import Caution, Emit, Note, reported
from lastgood.facts import Facts
from lastgood.journal import past_runs, recording
from lastgood.load import made_beside
from lastgood.load.builder import Builder
from lastgood.load.deferred import remainder
from lastgood.load.deferred.choice import choose
from lastgood.load.deferred.work import Finished, finish, in_service
from lastgood.load.hand_over import create_event_triggers, hand_over, without
from lastgood.load.rebuild import Dump, prove, rebuild, rules_for
from lastgood.load.repairs import Repaired, Rules
from lastgood.members import MemberSurvey
from lastgood.members.parts import EARLY
from lastgood.members.survey import limited_to, survey
from lastgood.models import Document
from lastgood.plan.plan import CONFINED, CodePolicy, CodeRun, ReopenWhen
from lastgood.points import RestorePoint
from lastgood.postgres import database
from lastgood.postgres.roles import lent_role
from lastgood.postgres.server import Connection, Target, cancelled_with
from lastgood.process import interrupts
from lastgood.run.report import (
    ProvedTable,
    SkippedCommands,
    proved_tables,
    skipped_of,
)
from lastgood.text.units import counted

AS_DUMPED = Rules()
# Objects that a copy may lack where this role may not create them.
SUPERUSERS = ("event trigger ", "publication ")


class RestoreReport(Document):
    """The report of a completed and proved restore."""

    run: str
    status: Literal["done"] = "done"
    point: str
    into: str
    tables: tuple[ProvedTable, ...]
    skipped: tuple[SkippedCommands, ...]
    repaired: tuple[Repaired, ...]
    not_compared: tuple[str, ...]
    finished: Finished | None = None
    code: CodeRun | None = None
    seconds: dict[str, float]


def restore(
    target: Target,
    store: Path,
    point_name: str | Sequence[str],
    into: str,
    context: Context = BACKGROUND,
    *,
    reopen_when: ReopenWhen = "full",
    rules: Rules = AS_DUMPED,
    database_name: str | None = None,
    live: str | None = None,
    kind: str = "restore",
    policy: CodePolicy = CONFINED,
) -> RestoreReport:
    """Create the database ``into`` (which must not exist) on ``target``'s server, with the encoding and locale of
    ``target``'s database. When it fails or is interrupted, ``into`` is removed again. ``rules``: what may be left out
    or repaired. A requirement of the restore point that the server does not meet is refused before anything is built.

    With ``usable`` it is opened before the indexes that ``target``'s database does not use are built, and these follow
    afterwards; from then on ``into`` is kept in any case. Several names are the files of one dump; ``database_name``
    chooses one database from a cluster dump. ``live``: the live database that it is made for, if that is not
    ``target``'s. ``policy``: who runs code of the restore point. A ``kind`` other than ``restore`` leaves the mark of
    an incomplete copy, which the caller removes.

    Raises BadPoint, Refused, Failed, Interrupted, Stopped.
    """
    started = time.monotonic()
    took: dict[str, float] = {}
    emit = context.emit
    with reported(emit, "plan", "read the restore point") as stage:
        names = [point_name] if isinstance(point_name, str) else point_name
        chosen = points.read_whole(
            points.find_by_names(store, names),
            database=database_name,
            skim=True,
            skip_rows=True,
            stage="plan",
            context=context,
        )
        point, source, facts, summary = chosen.point, chosen.source, chosen.facts, chosen.summary
        points.check_restorable(point, chosen.lack, () if rules.allow_orphans else chosen.orphans)
        if chosen.lack is not None:
            emit(Note(f"partial: {chosen.lack.message}"))
        stage.detail = facts.summary
    took["plan"] = stage.seconds
    live = live or target.dbname
    with database.connect_maintenance(target, live) as maintenance, ExitStack() as stack:
        wishes = replace(rules, copy=True)
        needs.require(maintenance, facts, summary, wishes, point.path.name)
        code = code_run(maintenance, summary, policy)
        require(maintenance, summary, facts, point.path.name, code)
        if code is not None:
            emit(Note(code.summary))
        model = database.describe(maintenance, target.dbname)
        run, kept = made_beside.begun(maintenance, live, into, point.path, context)
        emit = stack.enter_context(recording.recording(kept, emit))
        division = None
        if reopen_when == "usable":
            deferrable = Deferrable.of(summary.script, confined=code is not None and code.confined)
            division = _division(target, deferrable, emit, rules.allow_orphans)
        stop = interrupts.StopRequest()
        stack.enter_context(made_beside.ending_role(maintenance, target, run))
        work = replace(context, emit=emit).until(stop.is_set)
        with (
            made_beside.made(
                target,
                maintenance,
                into,
                model,
                live=live,
                kind=kind,
                run=run,
                point=point.path,
                stop=stop,
                complete=made_beside.opened(into) if kind == "restore" else (),
            ) as made,
            interrupts.stop_on_signal(stop),
        ):

            def again() -> Facts:
                return points.read_whole(point, database=summary.database, stage="prove", context=work).facts

            def connect(purpose: str) -> AbstractContextManager[Connection]:
                return cancelled_with(stop, target.at(into), f"lastgood {purpose} {run}")

            builder = None
            if code is not None and code.confined:
                role = lent_role.role_for(maintenance, target, policy.build_as, run=run, live=live, database=into)
                builder = Builder(
                    role, lambda purpose: cancelled_with(stop, role.target, f"lastgood {purpose} {run}"), connect
                )
            dump = Dump(point.path.name, source, summary, facts, again, division)
            with reported(emit, "build", f"build {into}") as stage:
                with target.connect(application_name=f"lastgood restore {run}") as like:
                    wishes = replace(wishes, members=_members(point, facts, like, target, emit))
                    rules = rules_for(like, facts, wishes)
                loaded = rebuild(
                    dump,
                    rules,
                    work,
                    connect=connect,
                    watch=lambda: target.connect(application_name=f"lastgood watch {run}"),
                    builder=builder,
                )
                stage.detail = counted(loaded.rows, "row")
            took["build"] = stage.seconds
            skipped = skipped_of(loaded.skipped)
            _caution(skipped, emit)
            dump = replace(dump, facts=copied(facts, skipped), again=lambda: copied(again(), skipped))
            with reported(emit, "prove", "prove that it equals the restore point") as stage:
                reading = connect if builder is None else builder.connect
                with reading("prove") as connection:
                    comparison = prove(connection, dump, loaded.same, work, connect=reading, builder=builder)
                stage.detail = f"{counted(len(comparison.tables), 'table')}: all equal"
            took["prove"] = stage.seconds
            if builder is not None:
                with reported(emit, "hand over", "give objects to their owners") as stage:
                    hand_over(builder, dump, rules, loaded, work, maintenance=maintenance, operator=target)
                took["hand over"] = stage.seconds
            if division is not None:
                with connect("records what is left") as connection:
                    remainder.write(connection, run, division.later)
            if builder is not None:
                create_event_triggers(builder, dump, rules, loaded, work)
                _caution(skipped_of(loaded.skipped)[len(skipped) :], emit)
                skipped = skipped_of(loaded.skipped)
    for text in comparison.not_compared:
        emit(Note(text))
    finished = None
    if division is not None:
        took["usable"] = time.monotonic() - started
        began = time.monotonic()
        with recording.recording(kept, emit) as emit:
            finished = _finish(target.at(into), run, made.oid, replace(context, emit=emit))
        took["finish"] = time.monotonic() - began
    took["total"] = time.monotonic() - started
    report = RestoreReport(
        run=run,
        point=str(point.path),
        into=into,
        tables=proved_tables(comparison),
        skipped=skipped,
        repaired=tuple(loaded.repaired),
        not_compared=comparison.not_compared,
        finished=finished,
        code=code,
        seconds={name: round(value, 3) for name, value in took.items()},
    )
    past = past_runs.past_fields(live=target.dbname, seconds=took["total"], bytes=point.size, point=str(point.path))
    recording.write_end(kept, "done", kind="restore", past=past, report=report.document())
    return report


def _caution(skipped: Sequence[SkippedCommands], emit: Emit) -> None:
    for each in skipped:
        if each.what.startswith(SUPERUSERS):
            emit(Caution(f"the copy is without {each.what}: {each.why}"))


def copied(facts: Facts, skipped: Sequence[SkippedCommands]) -> Facts:
    """Return the facts of a copy by a role that may not create what only superusers can: without what was left out."""
    return without(facts, {each.what for each in skipped if each.what.startswith(SUPERUSERS)})


def _members(point: RestorePoint, facts: Facts, like: Connection, target: Target, emit: Emit) -> MemberSurvey:
    """Changes to extensions that the dump does not hold: from its manifest; otherwise those of ``target``'s database
    that its commands may need."""
    if point.manifest is not None and point.manifest.members is not None:
        members = point.manifest.members
        for each in members.rows:
            emit(Caution(f'no dump holds rows of extension "{each.extension}": {each}; they are not restored'))
        return members
    members = limited_to(survey(like, target), [each.name for each in facts.extensions])
    return MemberSurvey(departures=tuple(each for each in members.departures if each.kind in EARLY and each.commands))


def _division(target: Target, deferrable: Deferrable, emit: Emit, allow_orphans: bool) -> Division:
    with target.connect() as live:
        chosen = choose(live, deferrable, replaces=False, allow_orphans=allow_orphans)
    for text in chosen.remarks:
        emit(Note(text))
    return chosen.division


def _finish(target: Target, run: str, oid: int, context: Context) -> Finished:
    """Complete the deferred tasks. The database is in service and is kept in any case."""
    stop = interrupts.StopRequest()
    hint = f"To continue, with the URL of that database: lastgood resume {run} --db URL"
    state = f'"{target.dbname}" is restored, proved and open; only the deferred work is missing.'
    with reported(context.emit, "finish", "finish the deferred work") as stage:
        with in_service(run, hint, state), interrupts.stop_on_signal(stop):
            done = finish(target, run, context.until(stop.is_set), oid=oid)
        stage.detail = str(done)
    return done
