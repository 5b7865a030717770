"""The steps of a rollback in place, where they differ from one by name: schemas are built next to the live ones in the
same database, and their objects are exchanged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from lastgood.dump.names import Relation
from lastgood.errors import Failed, Stopped
from lastgood.events import Caution, Note
from lastgood.in_place import marks, names
from lastgood.in_place.build import prove, staged
from lastgood.in_place.build.confined import Confined, left_to_refresh
from lastgood.in_place.build.prove import Proof
from lastgood.in_place.build.staged import Origin
from lastgood.in_place.definitions import against_facts, rewrite
from lastgood.in_place.definitions.rewrite import Rewritten
from lastgood.in_place.definitions.scratch import Confinement
from lastgood.in_place.exchange import completion, locking, move, reconnect, snapshots, switch
from lastgood.in_place.exchange.snapshots import OpenSession
from lastgood.in_place.platform import added_parents, deleted_parents
from lastgood.journal import caller
from lastgood.load.builder import Builder
from lastgood.load.rebuild import rules_for
from lastgood.load.repairs import Rules
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres.exchange import ExchangeResult
from lastgood.postgres.mark import BUILD_AS
from lastgood.postgres.roles import build_role, lent_role
from lastgood.postgres.server import Connection, quiet_event_triggers
from lastgood.postgres.transactions import ASYNCHRONOUS, OutcomeUnknown, outcome_after_loss, server_process
from lastgood.run.context import Run
from lastgood.run.steps.build import Build, Built, apart, consent_of
from lastgood.run.steps.prove import Prove, Proved
from lastgood.run.steps.reopen import Reopen, Reopened
from lastgood.run.steps.swap import Swap, Switched
from lastgood.text.units import counted

# How long the switch waits for the end of older transactions.
SNAPSHOT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltInPlace(Built):
    """The loaded staging schemas. ``rewritten``: the restore point's definitions under their names. ``proof``: theirs,
    if a role without rights built them: its login has ended; ``added``: the remarks on rows of other tables, then."""

    rewritten: Rewritten
    proof: Proof | None = None
    added: tuple[str, ...] = ()


class BuildSchemas(Build):
    """Build staging schemas in the live database. The roles of the application cannot enter them."""

    title = "build the restored schemas next to the live ones"

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan; the live schemas are only read."""
        return PlannedStep(
            name=self.name, title="Build the restored schemas next to the live ones", effect="users do not notice"
        )

    def do(self, run: Run) -> BuiltInPlace:
        plan, dump = run.plan, run.dump
        rules = _rules(run)
        with ExitStack() as stack:
            rewritten = _rewritten(run, rules, stack)
            with run.connected(plan.live, "deleted parents") as live:
                quiet_event_triggers(live)
                orphaned = deleted_parents.find(live, dump.source, dump.summary, rewritten, run.cancelled)
            deleted_parents.refuse(orphaned, dump.name)
            confined = _confined(run, rewritten, rules, stack)
            options = _options(run)
            if confined is not None and confined.builder.role.lent:
                options[BUILD_AS] = confined.builder.role.name
            origin = Origin(plan.run, str(Path(plan.point.path).absolute()), caller.host(), caller.user(), options)
            loaded = staged.build(
                dump,
                rewritten,
                origin,
                rules,
                run.context,
                connect=partial(run.connected, plan.live),
                watch=lambda: run.server.connect(application_name=f"lastgood watch {plan.run}"),
                confined=confined,
            )
            proof = None
            added: tuple[str, ...] = ()
            if confined is not None:
                proof, added = _proof(run, rewritten, loaded.same, confined)
                rewritten = left_to_refresh(confined, rewritten)
        return BuiltInPlace(
            oid=plan.live_oid,
            loaded=loaded,
            division=None,
            rewritten=rewritten,
            proof=proof,
            added=added,
            detail=f"{counted(loaded.rows, 'row')} in {plan.shadow}",
        )

    def undo(self, run: Run) -> None:
        role = build_role.name_of(run.plan.run)
        build_role.close_if_left(run.maintenance, role)
        with run.connected(run.plan.live, "revert") as live:
            staged.drop_schemas(live, run.plan.run)
        build_role.end(run.maintenance, run.server, role)

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        if apart(run):
            return False  # only the role that built them could validate their foreign keys, and its login has ended
        with run.connected(run.plan.live, "read marks") as live:
            found = marks.marked(live, run=run.plan.run, role="staging")
        return bool(found) and all(each.mark.state in ("built", "proved") for each in found)


class ProveSchemas(Prove):
    """Prove the staging schemas, and mark them: the switch refuses others."""

    def do(self, run: Run) -> Proved:
        plan, built = run.plan, run.result(BuiltInPlace)
        proof, added = (built.proof, built.added) if built is not None else (None, ())
        if proof is None:
            same = built.loaded.same if built is not None else {}
            with ExitStack() as removal:
                rewritten = _rewritten(run, _rules(run), removal)
                proof, added = _proof(run, rewritten, same, None)
        live = {names.staging(plan.run, schema): schema for schema in plan.schemas}
        tables = tuple(
            each.model_copy(update={"schema_name": live.get(each.schema_name, each.schema_name)})
            for each in proof.comparison.tables
        )
        comparison = proof.comparison.model_copy(update={"tables": tables})
        for text in comparison.not_compared:
            run.emit(Note(text))
        for text in added:
            run.emit(Caution(text))
        rows = counted(sum(table.rows for table in tables), "row")
        return Proved(comparison=comparison, detail=f"{counted(len(tables), 'table')}, {rows}: all equal")


class Move(Swap):
    """One transaction moves the live objects out and the restored ones in."""

    title = "exchange the objects of the schemas (sessions continue)"

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan: the wait of readers and writers."""
        return PlannedStep(
            name=self.name,
            title="Exchange the objects of the schemas",
            effect="readers and writers wait, usually for less than a second; while a lock is busy, up to 1.2 s at "
            "each of 10 attempts; no session is terminated",
        )

    def do(self, run: Run) -> Switched:
        plan = run.plan
        with ExitStack() as removal:
            rewritten = _rewritten(run, _rules(run), removal)
        run.at_swap = True

        with run.connected(plan.live, "switch") as live:
            self._wait_for_snapshots(run, live)
            process = server_process(live)
            try:
                moved = switch.swap(
                    live,
                    plan.run,
                    schemas=plan.schemas,
                    wished=rewritten.ties,
                    manifest=prove.manifest_digest(run.prepared.facts),
                    after=rewritten,
                    waiting=lambda attempt, sessions: run.emit(Caution(locking.blocked_by(attempt, sessions))),
                    cancelled=run.cancelled,
                )
            except psycopg.Error as error:
                if not live.broken:
                    raise
                moved = None
                if not self._after_loss(run, process):
                    raise Failed(
                        f'cannot switch "{plan.live}": the connection was lost before the commit: {error}',
                        hint="When the server accepts connections again, run the rollback again.",
                    ) from error
            at = time.monotonic()
            if moved is None:
                return _switched(run, 0.0, 1, at, "the connection was lost, the switch is committed")
        for note in moved.notes:
            run.emit(Caution(note))
        return _switched(
            run, moved.outage, moved.tries, at, f"{moved.outage * 1000:.0f} ms, {counted(moved.moved, 'object')}"
        )

    def _wait_for_snapshots(self, run: Run, live: Connection) -> None:
        """Wait for older snapshots: they would find the restored tables empty, in a nightly dump say."""

        def waiting(sessions: Sequence[OpenSession]) -> None:
            run.emit(Note(f"waiting for transactions from before the build: {'; '.join(map(str, sessions))}"))

        staged = [each.mark for each in marks.marked(live, run=run.plan.run, role="staging")]
        snapshots.wait(live, staged, seconds=SNAPSHOT_SECONDS, waiting=waiting, cancelled=run.cancelled)

    def _after_loss(self, run: Run, process: int) -> bool:
        """Return whether the switch was committed. Raises Stopped if the outcome is unknown."""
        try:
            return outcome_after_loss(run.target, process, lambda live: move.committed(live, run.plan.run, "kept"))
        except OutcomeUnknown as error:
            raise Stopped(
                "cannot verify the switch: the connection was lost during the commit",
                hint=f"When the server answers again, run: lastgood resume {run.plan.run}",
                state="The live schemas are either as they were or fully switched; never in between.",
            ) from error

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        """By the marks of the kept schemas, which the same transaction writes."""
        with run.target.connect() as live:
            return move.committed(live, run.plan.run, "kept")

    def switched(self, run: Run) -> bool | None:
        """Whether the switch is committed; None when the server cannot be asked."""
        try:
            return self.holds(run, {})
        except psycopg.Error:
            return None


class Answer(Reopen):
    """Verify that the kept schemas of the run are there, on a new connection."""

    title = "verify that the live schemas answer"

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan."""
        return PlannedStep(name=self.name, title="Verify that the live schemas answer", effect="undo stays possible")

    def do(self, run: Run) -> Reopened:
        plan = run.plan
        with run.connected(plan.live, "verify") as live:
            if not move.committed(live, plan.run, "kept"):
                raise Stopped(
                    f'cannot confirm the switch: "{plan.live}" has no kept schemas of the run',
                    hint="Run lastgood status, then lastgood undo if the data is not what you expect.",
                    state=f'The schemas of "{plan.live}" may be the restored ones.',
                )
            left = []
            for note in completion.complete(live, plan.run):
                run.emit(Caution(note))
                left.append(note)
            self._report_sessions(run, live)
        return Reopened(oid=plan.live_oid, fence=None, left=tuple(left), detail=f'"{plan.live}" answers')

    def _report_sessions(self, run: Run, live: Connection) -> None:
        """Sessions continue, with what they have prepared; ``--reconnect`` ends them."""
        (mark, *_) = [each.mark for each in marks.marked(live, run=run.plan.run, role="kept")]
        found = [each for each in reconnect.sessions(live, mark.made_at) if not each.application.startswith("lastgood")]
        if run.prepared.request.reconnect:
            ended = reconnect.terminate(live, found)
            run.emit(Note(f"{counted(ended, 'session')} from before the switch terminated, to reconnect"))
        elif found:
            run.emit(
                Note(
                    f"{counted(len(found), 'session')} from before the switch: a prepared statement whose result "
                    'columns changed fails with "cached plan must not change result type" until the client prepares it '
                    "again or reconnects; to terminate these sessions: --reconnect"
                )
            )


def _confined(run: Run, rewritten: Rewritten, rules: Rules, stack: ExitStack) -> Confined | None:
    """The role without rights that builds; None if the operator does."""
    if not apart(run):
        return None
    plan = run.plan
    maintenance = stack.enter_context(run.connected(plan.maintenance, "build"))
    maintenance.execute(ASYNCHRONOUS)
    build_as = run.prepared.request.code.build_as
    role = lent_role.role_for(
        maintenance, run.server, build_as, run=plan.run, live=plan.live, database=plan.live, staged=True
    )
    if not role.lent:
        build_role.quiet_event_triggers(maintenance, role.name)
    builder = Builder(
        role,
        partial(run.connected_to, role.target),
        staged.quietly(partial(run.connected, plan.live)),
        within=tuple(rewritten.schemas.values()),
    )
    return Confined(builder, maintenance, run.server, rules)


def _proof(
    run: Run, rewritten: Rewritten, same: Mapping[Relation, int], confined: Confined | None
) -> tuple[Proof, tuple[str, ...]]:
    """The proof, and remarks on rows of tables that stay, users above all, which the live schemas know and the restored
    ones do not: they are counted at the same time."""
    plan = run.plan
    with run.connected(plan.live, "count rows") as live, ThreadPoolExecutor(1, "lastgood-count") as pool:
        # The proof, which lasts longer, needs the processors more.
        live.execute("SET max_parallel_workers_per_gather = 0")
        # Policies would run with the rights of this session.
        live.execute("SET row_security = off")
        counting: list[Future[tuple[str, ...]]] = []

        def count() -> None:
            counting.append(pool.submit(lambda: tuple(added_parents.remarks(live, plan.run, plan.schemas))))

        try:
            proof = prove.prove(
                run.dump,
                rewritten,
                plan.run,
                run.target,
                run.context,
                connect=partial(run.connected, plan.live),
                same=same,
                allow_orphans=plan.allow_orphans,
                confined=confined,
                closed=count,
            )
            return proof, counting[0].result()
        except BaseException:
            with suppress(psycopg.Error):  # it may have just ended
                live.cancel_safe(timeout=5)
            raise


def _options(run: Run) -> dict[str, str]:
    hooks = {"hooks": "yes"} if run.application.stops else {}
    return {"kind": "rollback", "fence": run.plan.fence, **hooks, **consent_of(run)}


def _rules(run: Run) -> Rules:
    with run.connected(run.plan.live, "reads extensions") as live:
        request = run.prepared.request
        # Extensions and their members stay: to restore these would change the live database before the switch.
        wishes = Rules(strict=request.strict, allow_orphans=request.allow_orphans, confined=not request.code.trusted)
        return rules_for(live, run.prepared.facts, wishes)


def _rewritten(run: Run, rules: Rules, removal: ExitStack) -> Rewritten:
    """The rewritten definitions: those of the build, or made again by a process that resumes the run. ``removal``: with
    its end the scratch database is dropped at the latest."""
    built, dump = run.result(BuiltInPlace), run.dump
    if built is not None:
        return built.rewritten
    there = against_facts.schemas_of(dump.facts)
    schemas = {schema: names.staging(run.plan.run, schema) for schema in run.plan.schemas if schema in there}
    code = run.plan.code
    confined = code is not None and code.confined
    confinement = Confinement(run.plan.run, run.prepared.request.code.build_as) if confined else None
    return rewrite.rewrite(
        run.target, dump.summary, dump.facts, dump.name, schemas, rules, run.context, confinement, removal=removal
    )


def _switched(run: Run, outage: float, tries: int, at: float, detail: str) -> Switched:
    return Switched(
        oid=run.plan.live_oid,
        exchanged=ExchangeResult(outage, 0, tries),
        at=at,
        settings=0,
        fence=None,
        pause=None,
        detail=detail,
    )
