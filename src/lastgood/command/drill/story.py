"""THE STORY of a drill: a restore point, a scratch server, a damaged stand-in, and the real procedure on it.

read ─ serve ─ stand in ─ break ─ ROLLBACK ─ validate ─ UNDO ─ compare ─ guide ─ clean up
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from lastgood import restore, rollback, undo
from lastgood.application import Application
from lastgood.command.drill import by_hand, stand_in
from lastgood.command.drill.evidence import DrillProof, Failure, Outages
from lastgood.command.drill.phases import Phases
from lastgood.command.drill.place import Place
from lastgood.command.drill.scratch import DrillServer, LiveServer
from lastgood.command.validate import validate
from lastgood.command.validate.validate import ValidationSummary
from lastgood.config.tables import Validate
from lastgood.context import Context
from lastgood.errors import Failed, Interrupted, LastgoodError, Stopped, os_reason
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_database import facts_at
from lastgood.plan.plan import Choice, CodePolicy, Prepared, Request
from lastgood.points import VerifiedPoint
from lastgood.postgres import database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Target
from lastgood.run.report import Report
from lastgood.text import units

SCRATCH_ONLY = "Only the scratch server was used. The live database was not touched."


@dataclass(slots=True)
class Rehearsal:
    """The rehearsal: its inputs and its results."""

    request: Request
    validation: Validate
    whole: VerifiedPoint
    live: LiveServer | None
    scratch: DrillServer
    place: Place
    phases: Phases
    context: Context
    broken: tuple[str, ...] = ()
    proofs: list[DrillProof] = field(default_factory=list)
    prepared: Prepared | None = None
    report: Report | None = None
    validated: ValidationSummary | None = None
    failure: Failure | None = None
    stand_in_bytes: int = 0
    no_guide: str = ""
    phase: str = ""

    @property
    def target(self) -> Target:
        """The stand-in database."""
        return self.scratch.target.at(self.scratch.name)

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schemas that are exchanged in place, as in the live database; none if databases exchange their names."""
        return self.request.schemas

    @property
    def policy(self) -> CodePolicy:
        """The role that runs code on the scratch server: that of --build-as exists on the live server only."""
        return CodePolicy(self.request.code.trusted)

    def _own(self, facts: Facts) -> Facts:
        """The facts of what goes back."""
        if not self.schemas:
            return facts
        return facts.model_copy(
            update={"tables": tuple(each for each in facts.tables if each.schema_name in self.schemas)}
        )

    def run(self) -> None:
        """Run all phases in order, until the first failure. Raises Interrupted."""
        try:
            self._make_stand_in()
            before = self._break()
            self._roll_back()
            self._validate()
            self._undo(before)
            self._by_hand()
        except Interrupted as error:
            error.state = SCRATCH_ONLY
            raise
        except (LastgoodError, psycopg.Error, OSError) as error:
            failed = _as_failure(error, self.phase)
            # It cannot be resumed: the databases are removed.
            gone = "Find the cause of the failure, then drill again. The databases of this drill were removed."
            self.failure = Failure(
                phase=self.phase,
                code=failed.code,
                message=failed.message,
                hint=gone if isinstance(failed, Stopped) else failed.hint,
                exit_status=failed.exit_status,
            )

    @contextmanager
    def _doing(self, name: str, title: str) -> Iterator[None]:
        self.context.check("interrupted", state=SCRATCH_ONLY)
        self.phase = name
        with self.phases.phase(name, title):
            yield

    def _make_stand_in(self) -> None:
        point, scratch = self.whole.point, self.scratch
        with self._doing("stand_in", "restore a stand-in for the live database"):
            model = scratch.model(self.live.database if self.live is not None else None, self.whole.summary)
            with self.phases.nested("stand_in") as emit:
                restored = restore.restore(
                    scratch.target.at(model),
                    self.place.store,
                    str(point.path.absolute()),
                    scratch.name,
                    Context(emit, self.context.cancelled, self.request.pace),
                    database_name=self.whole.summary.database,
                    policy=self.policy,
                )
            if restored.code is not None:
                self.phases.cautions.append(f"{restored.code.summary}, on the scratch server")
            database.comment(scratch.maintenance, scratch.name, scratch.comment)
            scratch.drop(model)
            self.stand_in_bytes = database.describe(scratch.maintenance, scratch.name).size_bytes or 0
        self.phases.add("stand_in", bytes=self.stand_in_bytes, rows=self.whole.facts.rows)

    def _break(self) -> Facts:
        with self._doing("break", "damage it like a failed deployment"):
            trusted = bool(self.policy.trusted) or not self.whole.summary.code
            self.broken = stand_in.break_it(
                self.target, self._own(self.whole.facts), setting=not self.schemas, trusted=trusted
            )
            return self._facts("break")

    def _facts(self, stage: str, *, like: Facts | None = None) -> Facts:
        """Return the exact facts of the stand-in."""
        return facts_at(self.target, like=like, context=self.context, stage=stage)

    def _roll_back(self) -> None:
        with self._doing("rollback", "roll back"):
            request = Request(
                target=self.target,
                store=self.place.store,
                state=self.place.state,
                choice=Choice(point=str(self.whole.point.path.absolute())),
                fence="now",
                strict=self.request.strict,
                allow_orphans=self.request.allow_orphans,
                code=self.policy,
                pace=self.request.pace,
                check=self.request.check.model_copy(update={"free_space": None, "attested": ()}),
                application=Application(),
                database=self.whole.summary.database or self.request.target.dbname,
                way="in-place" if self.schemas else "by-name",
                schemas=self.schemas,
            )
            with self.phases.nested("rollback") as emit:
                self.prepared = rollback.plan(request, emit)
                self.report = rollback.run(self.prepared, emit)
        self._add_proofs(self.report)

    def _add_proofs(self, report: Report) -> None:
        facts, size = self.whole.facts, self.whole.source.size
        self.phases.add("rollback", bytes=size, rows=facts.rows)
        self.phases.add("rollback.build", bytes=size, rows=facts.rows)
        self.phases.add("rollback.prove", rows=facts.rows)
        fence = report.fence
        if not self.schemas:  # in place, writers continue until the switch, and their rows are kept
            self._prove(
                "fence",
                "Writes were blocked",
                fence.kind == "table locks" and fence.writes_after in (0, None),
                fence.proof,
            )
        backup = Path(report.emergency_backup) if report.emergency_backup else None
        taken = (
            sum(each.stat().st_size for each in backup.rglob("*"))
            if backup and backup.is_dir()
            else (backup.stat().st_size if backup is not None else 0)
        )
        self.phases.add("rollback.emergency", bytes=taken)
        self._prove(
            "emergency_backup",
            "The emergency backup was made and read back",
            backup is not None,
            f"{units.size(taken)}, read back and equal to the stand-in"
            if backup is not None
            else "no emergency backup was made",
        )
        equal = sum(table.equal is True for table in report.tables)
        counted = sum(table.equal is None for table in report.tables)
        self._prove(
            "content",
            "The restored schemas equal the restore point"
            if self.schemas
            else "The restored database equals the restore point",
            equal + counted == len(report.tables),
            f"{units.number(equal)} of {units.counted(len(report.tables), 'table')} with "
            f"{units.counted(sum(table.rows for table in report.tables), 'row')} are equal in every row"
            + (f"; for {units.number(counted)}, only row counts could be compared" if counted else ""),
        )
        if self.schemas:
            return  # the database is the same
        with self.target.connect(application_name="lastgood drill") as connection:
            kept = stand_in.kept_its_setting(connection)
        self._prove(
            "settings",
            "Properties of the database itself were carried over",
            kept,
            f"setting {stand_in.SETTING}, which no restore point contains, {'was' if kept else 'was NOT'} carried over",
        )

    def _validate(self) -> None:
        with self._doing("validate", "validate the restored database"):
            found = validate.validate(self.target, self.validation, "quick", Context(cancelled=self.context.cancelled))
        self.validated = found.summary
        named = f": {', '.join(found.blockers[:5])}" if found.blockers else ""
        self._prove(
            "validation",
            "The restored data is valid",
            found.verdict == "GO",
            f"{found.verdict} by {units.counted(len(found.rules), 'rule')}{named}",
        )

    def _undo(self, before: Facts) -> None:
        assert self.report is not None
        with self._doing("undo", "undo the rollback"), self.phases.nested("undo") as emit:
            planned = undo.plan(self.target, self.scratch.name, self.report.run)
            done = undo.undo(self.target, planned, Context(emit, state=self.place.state))
        with self._doing("compare", "compare with the state before"):
            found = compare(before, self._facts("compare"))
        differences = found.differences
        self._prove(
            "undo",
            "The undo restored the previous state",
            not differences,
            f"{units.counted(len(found.tables), 'table')} equal to the state before the rollback; read outage "
            f"{units.duration(done.seconds['read_outage'])}"
            if not differences
            else f"{differences[0].what}: expected {differences[0].expected}, found {differences[0].found}",
        )
        # Its content is proved; its disk space is needed for the next phase.
        self.scratch.drop(done.kept)

    def _by_hand(self) -> None:
        self.no_guide = by_hand.impossible(self.whole.source, self.whole.summary, self.scratch.major)
        if not self.no_guide and self.whole.summary.code and not self.policy.trusted:
            self.no_guide = self.scratch.exposed()
        if self.schemas and not self.no_guide:
            self.no_guide = by_hand.not_the_owner(self.target, self.schemas)
        if self.no_guide:
            return
        assert self.prepared is not None
        point, facts = self.whole.point.path.absolute(), self.prepared.facts
        with self._doing(by_hand.STAGE, "run the commands of the guide, and undo"):
            arguments = (self.scratch, point, self.place.store, self.schemas)
            commands = by_hand.follow(*arguments, False, self.context)
            found = compare(facts, self._facts(by_hand.STAGE, like=facts))
            commands += by_hand.follow(*arguments, True, self.context)
        own = [each for each in found.tables if not self.schemas or each.schema_name in self.schemas]
        different = [each for each in own if each.equal is False]
        self._prove(
            "guide",
            "The commands of the guide give the same result",
            not different,
            f"{units.counted(commands, 'block')} of commands run with psql, pg_dump and pg_restore; "
            + (
                f"{units.counted(len(own), 'table')} equal the restore point"
                if not different
                else f"{different[0].schema_name}.{different[0].name} does not equal the restore point"
            ),
        )

    def _prove(self, name: str, title: str, holds: bool, evidence: str) -> None:
        self.proofs.append(DrillProof(name=name, title=title, holds=holds, evidence=evidence))

    def outages(self) -> Outages | None:
        """Return the outages that users would have noticed."""
        if self.report is None:
            return None
        took = self.report.seconds
        return Outages(write=took.write_outage, read=took.read_outage, fence=self.report.fence.proof)


def _as_failure(error: LastgoodError | psycopg.Error | OSError, phase: str) -> LastgoodError:
    """Convert an error to a LastgoodError."""
    if isinstance(error, LastgoodError):
        return error
    if isinstance(error, psycopg.Error):
        return server_errors.failed(error, f"rehearse phase {phase}", state=SCRATCH_ONLY)
    return Failed(
        f"cannot rehearse phase {phase}: {os_reason(error)}",
        hint="Check whether the disk of the drill is full. To use another one: --folder FOLDER",
        state=SCRATCH_ONLY,
    )
