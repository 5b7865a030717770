"""Build and prove a new database from a restore point, without touching any other database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lastgood import points
from lastgood.checks import needs
from lastgood.checks.code import code_run, require, try_login
from lastgood.context import BACKGROUND, Context
from lastgood.dump.deferral import Deferrable, Division
from lastgood.errors import NOT_REACHED, OR_TRUST, Refused
from lastgood.events import Caution, Emit, Note, Stage, reported
from lastgood.facts import Facts
from lastgood.facts.compare import FactsComparison
from lastgood.journal import past_runs, recording
from lastgood.load import made_beside
from lastgood.load.builder import Builder
from lastgood.load.deferred import remainder
from lastgood.load.deferred.choice import choose
from lastgood.load.deferred.work import Finished, finish, in_service
from lastgood.load.hand_over import create_event_triggers, hand_over, without
from lastgood.load.loaded import Loaded
from lastgood.load.rebuild import Dump, prove, rebuild, rules_for
from lastgood.load.repairs import Repaired, Rules
from lastgood.members import MemberSurvey, untrusted
from lastgood.members.parts import EARLY
from lastgood.members.survey import limited_to, survey
from lastgood.models import Document
from lastgood.plan.plan import CONFINED, CodePolicy, CodeRun, ReopenWhen
from lastgood.points import RestorePoint, VerifiedPoint
from lastgood.postgres import database
from lastgood.postgres.mark import forget_marks
from lastgood.postgres.roles import lent_role
from lastgood.postgres.roles.build_role import BuildRole
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
    with _timed(took, context.emit, "plan", "read the restore point") as stage:
        names = [point_name] if isinstance(point_name, str) else point_name
        chosen = _read(store, names, database_name, rules, context)
        stage.detail = chosen.facts.summary
    point, live = chosen.point, live or target.dbname
    with database.connect_maintenance(target, live) as maintenance, ExitStack() as stack:
        code = _permitted(maintenance, target, chosen, rules, policy, context.emit)
        _require_trust(point, target, policy)
        model = database.describe(maintenance, target.dbname)
        run, kept = made_beside.begun(maintenance, live, into, point.path, context)
        emit = stack.enter_context(recording.recording(kept, context.emit))
        confined = code is not None and code.confined
        division = None
        if reopen_when == "usable":
            deferrable = Deferrable.of(chosen.summary.script, confined=confined)
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
            copy = _Copy(target, into, run, chosen, division, stop, work, took, policy)
            if confined:
                role = lent_role.role_for(maintenance, target, policy.build_as, run=run, live=live, database=into)
                copy.confine(role)
            copy.build(rules)
            comparison = copy.prove()
            copy.hand_over(maintenance)
    for text in comparison.not_compared:
        emit(Note(text))
    finished = None
    if division is not None:
        took["usable"] = time.monotonic() - started
        with recording.recording(kept, emit) as emit:
            finished = _finish(
                target.at(into), run, made.oid, took, replace(context, emit=emit), trusted=bool(policy.trusted)
            )
    took["total"] = time.monotonic() - started
    report = RestoreReport(
        run=run,
        point=str(point.path),
        into=into,
        tables=proved_tables(comparison),
        skipped=copy.skipped,
        repaired=tuple(copy.loaded.repaired),
        not_compared=comparison.not_compared,
        finished=finished,
        code=code,
        seconds={name: round(value, 3) for name, value in took.items()},
    )
    past = past_runs.past_fields(live=target.dbname, seconds=took["total"], bytes=point.size, point=str(point.path))
    recording.write_end(kept, "done", kind="restore", past=past, report=report.document())
    return report


@contextmanager
def _timed(took: dict[str, float], emit: Emit, name: str, title: str) -> Iterator[Stage]:
    """Report the block as a stage, and add its seconds to ``took``."""
    with reported(emit, name, title) as stage:
        yield stage
    took[name] = stage.seconds


def _read(store: Path, names: Sequence[str], of: str | None, rules: Rules, context: Context) -> VerifiedPoint:
    """Read the restore point and check that it can be restored. Raises BadPoint."""
    chosen = points.read_whole(
        points.find_by_names(store, names), database=of, skim=True, skip_rows=True, stage="plan", context=context
    )
    points.check_restorable(chosen.point, chosen.lack, () if rules.allow_orphans else chosen.orphans)
    if chosen.lack is not None:
        context.emit(Note(f"partial: {chosen.lack.message}"))
    return chosen


def _permitted(
    maintenance: Connection, target: Target, chosen: VerifiedPoint, rules: Rules, policy: CodePolicy, emit: Emit
) -> CodeRun | None:
    """Who runs code of the restore point, None without any. Raises Refused if the server does not meet a requirement of
    the restore point, or accepts no login of the role that runs its code."""
    name = chosen.point.path.name
    needs.require(maintenance, chosen.facts, chosen.summary, replace(rules, copy=True), name)
    code = code_run(maintenance, chosen.summary, policy)
    require(maintenance, chosen.summary, chosen.facts, name, code)
    if code is not None:
        if code.confined:
            try_login(maintenance, target, policy)
        emit(Note(code.summary))
    return code


@dataclass
class _Copy:
    """The new database, and how it is filled. ``context`` ends the work when ``stop`` is set; ``took`` gets the seconds
    of each stage."""

    target: Target
    into: str
    run: str
    chosen: VerifiedPoint
    division: Division | None
    stop: interrupts.StopRequest
    context: Context
    took: dict[str, float]
    policy: CodePolicy = CONFINED
    builder: Builder | None = None
    skipped: tuple[SkippedCommands, ...] = ()
    dump: Dump = field(init=False)
    rules: Rules = field(init=False)
    loaded: Loaded = field(init=False)

    def __post_init__(self) -> None:
        chosen = self.chosen
        self.dump = Dump(
            chosen.point.path.name, chosen.source, chosen.summary, chosen.facts, self._read_again, self.division
        )

    def connect(self, purpose: str) -> AbstractContextManager[Connection]:
        return self._session(self.target.at(self.into), purpose)

    def confine(self, role: BuildRole) -> None:
        """Let ``role`` run what may run code of the restore point."""
        self.builder = Builder(role, lambda purpose: self._session(role.target, purpose), self.connect)

    def build(self, rules: Rules) -> None:
        target, facts = self.target, self.dump.facts
        with self._stage("build", f"build {self.into}") as stage:
            with target.connect(application_name=f"lastgood restore {self.run}") as like:
                members = _members(self.chosen.point, facts, like, target, self.context.emit)
                confined = not self.policy.trusted
                self.rules = rules_for(like, facts, replace(rules, copy=True, members=members, confined=confined))
            self.loaded = rebuild(
                self.dump,
                self.rules,
                self.context,
                connect=self.connect,
                watch=lambda: target.connect(application_name=f"lastgood watch {self.run}"),
                builder=self.builder,
            )
            stage.detail = counted(self.loaded.rows, "row")
        self._note_skipped()
        skipped = self.skipped
        facts = copied(facts, skipped)
        self.dump = replace(self.dump, facts=facts, again=lambda: copied(self._read_again(), skipped))

    def prove(self) -> FactsComparison:
        builder = self.builder
        reading = self.connect if builder is None else builder.connect
        with self._stage("prove", "prove that it equals the restore point") as stage:
            with reading("prove") as connection:
                comparison = prove(
                    connection, self.dump, self.loaded.same, self.context, connect=reading, builder=builder
                )
            stage.detail = f"{counted(len(comparison.tables), 'table')}: all equal"
        return comparison

    def hand_over(self, maintenance: Connection) -> None:
        """Give the objects to their owners, record the deferred work, and create event triggers, which come last."""
        builder, loaded = self.builder, self.loaded
        if builder is not None:
            with self._stage("hand over", "give objects to their owners"):
                hand_over(
                    builder,
                    self.dump,
                    self.rules,
                    loaded,
                    self.context,
                    maintenance=maintenance,
                    operator=self.target,
                )
        else:
            with self.connect("removes marks") as connection:
                forget_marks(connection)
        if self.division is not None:
            with self.connect("records what is left") as connection:
                remainder.write(connection, self.run, self.division.later)
        if builder is not None:
            create_event_triggers(builder, self.dump, self.rules, loaded, self.context)
            self._note_skipped()

    def _session(self, target: Target, purpose: str) -> AbstractContextManager[Connection]:
        return cancelled_with(self.stop, target, f"lastgood {purpose} {self.run}")

    def _stage(self, name: str, title: str) -> AbstractContextManager[Stage]:
        return _timed(self.took, self.context.emit, name, title)

    def _read_again(self) -> Facts:
        chosen = self.chosen
        return points.read_whole(
            chosen.point, database=chosen.summary.database, stage="prove", context=self.context
        ).facts

    def _note_skipped(self) -> None:
        """Report the objects that the copy lacks, each once."""
        known, self.skipped = len(self.skipped), skipped_of(self.loaded.skipped)
        for each in self.skipped[known:]:
            if each.what.startswith(SUPERUSERS):
                self.context.emit(Caution(f"the copy is without {each.what}: {each.why}"))


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


def _require_trust(point: RestorePoint, target: Target, policy: CodePolicy) -> None:
    """Raise Refused for changes of a manifest that could run code as the operator: see ``untrusted``."""
    members = point.manifest.members if point.manifest is not None else None
    if members is None or not untrusted.is_strict(policy.trusted) or not untrusted.withheld(members, ()):
        return
    with target.connect(application_name="lastgood reads extensions") as like:
        withheld = untrusted.withheld(members, survey(like, target).departures)
    for name in dict.fromkeys(each.extension for each in withheld):
        raise Refused(
            f'cannot restore "{point.path.name}": {untrusted.why(withheld, name)}',
            hint=OR_TRUST,
            state=NOT_REACHED,
        )


def _division(target: Target, deferrable: Deferrable, emit: Emit, allow_orphans: bool) -> Division:
    with target.connect() as live:
        chosen = choose(live, deferrable, replaces=False, allow_orphans=allow_orphans)
    for text in chosen.remarks:
        emit(Note(text))
    return chosen.division


def _finish(target: Target, run: str, oid: int, took: dict[str, float], context: Context, *, trusted: bool) -> Finished:
    """Complete the deferred tasks. The database is in service and is kept in any case."""
    stop = interrupts.StopRequest()
    hint = f"To continue, with the URL of that database: lastgood resume {run} --db URL"
    state = f'"{target.dbname}" is restored, proved and open; only the deferred work is missing.'
    with _timed(took, context.emit, "finish", "finish the deferred work") as stage:
        with in_service(run, hint, state), interrupts.stop_on_signal(stop):
            done = finish(target, run, context.until(stop.is_set), oid=oid, trusted=trusted)
        stage.detail = str(done)
    return done
