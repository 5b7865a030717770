"""The unfinished runs of a live database, and the commands that finish them.

``status``, ``resume``, ``abort`` and ``prune`` all use this, so they cannot disagree. The server's marks decide; this
machine's record of the application adds the runs that stopped it and have no database.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lastgood.application import record
from lastgood.errors import NOT_REACHED, Refused, restored
from lastgood.in_place.kept import left_by_runs
from lastgood.journal import Journal
from lastgood.journal.reader import entries
from lastgood.postgres import database, lock
from lastgood.postgres.database import Database
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.leftover import Leftover, leftovers
from lastgood.postgres.mark import OVERRIDE, REFERENCE, TRUSTED, Mark, can_act, read_mark
from lastgood.postgres.server import Connection, Target

if TYPE_CHECKING:
    from lastgood.plan.plan import Plan

_STATUS = "To show the current state: lastgood status"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that is active or was stopped. ``database`` is what it left on the server; None where only this
    machine's record of the application knows the run. ``switched``: the kept database of the run exists. ``obstacle``:
    why it cannot be resumed; empty when it can."""

    mark: Mark
    database: Database | None
    switched: bool = False
    obstacle: str = ""

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.mark.run

    @property
    def abortable(self) -> bool:
        """Whether ``abort`` can revert the run. After the switch, ``undo`` does."""
        return self.database is not None or not self.switched

    @property
    def not_here(self) -> str:
        """The reason why it can be resumed only on another machine; empty where it can be resumed here."""
        if self.obstacle or self.switched or Path(self.mark.point).exists():
            return ""
        return f'the restore point "{self.mark.point}" is not on this machine'

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that finish the run, on this machine."""
        resume = () if self.obstacle or self.not_here else (f"lastgood resume {self.run}",)
        return (*resume, f"lastgood {'abort' if self.abortable else 'undo'} {self.run}")


def unfinished(maintenance: Connection, target: Target, state: Path | None) -> list[Unfinished]:
    """Return every unfinished run of ``target``'s database, the oldest first. ``state``: this machine's folder; None to
    read only the marks on the server."""
    live = target.dbname
    ours = left_by_runs(maintenance, target)
    switched = {mark.run for _, mark in ours if mark.role == "kept"}
    now = database.find(maintenance, live)
    found = [
        Unfinished(mark, each, mark.run in switched, _obstacle(mark, each, now, mark.run in switched))
        for each, mark in ours
        if mark.role != "kept" and not (_is_reference(mark) and lock.copy_holder(maintenance, each.name))
    ]
    by_record = _by_record(target, state) if state is not None else None
    if by_record is not None and by_record.run not in {each.run for each in found}:
        found.append(Unfinished(by_record, None, by_record.run in switched))
    return sorted(found, key=lambda each: each.mark.started)


def _is_reference(mark: Mark) -> bool:
    """Whether the database is a reference for extensions' scripts. While one exists, no run is unfinished."""
    return mark.options.get("kind") == REFERENCE


def _obstacle(mark: Mark, found: Database, now: Database | None, switched: bool) -> str:
    live = mark.live
    if mark.role == "copy":
        return f"a {mark.options.get('kind', 'restore')} cannot be resumed; run it again"
    if switched:
        return f'the run has switched already; another session of the run left "{found.name}"'
    its_own = now is not None and (inside := read_mark(now.comment)) is not None and inside.run == mark.run
    if now is not None and now.oid != mark.live_oid and not its_own:
        return f'"{live}" was replaced by another database since the run began'
    return ""


def requested_run(
    maintenance: Connection, target: Target, state: Path, run: str | None, *, to_resume: bool
) -> Unfinished | None:
    """Return the requested run: the named one, or the only one that can be resumed (aborted). A named run may have
    switched and left nothing: then ``database`` is None. Returns None for an unmarked database (``leftover_of``).
    Raises Refused."""
    live, verb = target.dbname, "resume" if to_resume else "abort"
    every = unfinished(maintenance, target, state)
    if run is not None:
        requested = [each for each in every if each.run == run]
        if not requested and (kept := _kept(maintenance, target, run)) is not None:
            requested = [Unfinished(kept[1], None, switched=True)]
        if not requested and not to_resume and leftover_of(maintenance, target, state, run) is not None:
            return None
        if not requested:
            raise Refused(
                f'cannot find run "{run}": no database or schema of this run exists on the server',
                hint=f"A reverted run cannot be resumed or aborted. {_STATUS}",
                state=NOT_REACHED,
            )
        return requested[0]
    if not to_resume and not any(each.database for each in every) and leftover_of(maintenance, target, state, None):
        return None
    if not every:
        raise _nothing(maintenance, live)
    wanted = [each for each in every if not each.obstacle] if to_resume else every
    wanted = [each for each in wanted or every if not _is_reference(each.mark)] or every
    if len({each.run for each in wanted}) != 1:
        names = ", ".join(sorted({each.run for each in wanted}))
        raise Refused(
            f'cannot choose a run of "{live}": unfinished runs are {names}',
            hint=f"Name it: lastgood {verb} RUN",
            state=NOT_REACHED,
        )
    return wanted[0]


def _nothing(maintenance: Connection, live: str) -> Refused:
    deployment = find_deployment(maintenance, live)
    hint = f"No action needed. {_STATUS}"
    if deployment is not None:
        run = deployment.run
        hint = (
            f"The deployment {run} is unfinished: lastgood recover rolls it back, lastgood deploy --accept {run} "
            "accepts the database as it is."
        )
    return Refused(f'cannot resume or abort: no run of "{live}" is unfinished', hint=hint, state=NOT_REACHED)


def refuse_resume(requested: Unfinished) -> None:
    """Raise Refused when the run cannot be resumed."""
    if requested.obstacle:
        raise Refused(
            f'cannot resume run "{requested.run}": {requested.obstacle}',
            hint=f"To remove what it left: lastgood abort {requested.run}",
            state=NOT_REACHED,
        )


def refuse_abort(requested: Unfinished, maintenance: Connection, target: Target) -> None:
    """Raise Refused when the run has nothing to revert."""
    if not requested.abortable:
        kept = _kept(maintenance, target, requested.run)
        raise Refused(
            f'cannot abort run "{requested.run}": it has switched already',
            hint=f"Run: lastgood undo {requested.run}",
            state=restored(
                requested.mark.live,
                kept[0].name if kept is not None else "",
                in_place=(kept[1] if kept is not None else requested.mark).options.get("way") == "in-place",
            ),
        )


def reread(maintenance: Connection, target: Target, state: Path, before: Unfinished) -> Unfinished:
    """The run as it is now, under the lock; ``before`` was read without it. Raises Refused when another session has
    finished or aborted it meanwhile."""
    run = before.run
    try:
        now = requested_run(maintenance, target, state, run, to_resume=True)
    except Refused as error:
        raise Refused(
            f'cannot resume run "{run}": another session aborted it while the restore point was read',
            hint=f"Nothing is left of the run. {_STATUS}",
            state=NOT_REACHED,
        ) from error
    assert now is not None
    if now.switched and not before.switched:
        raise Refused(
            f'cannot resume run "{run}": another session finished it while the restore point was read',
            hint=f"There is nothing left to do. {_STATUS} To roll back: lastgood undo {run}",
            state=restored(target.dbname, in_place=now.mark.options.get("way") == "in-place"),
        )
    refuse_resume(now)
    return now


def as_planned(maintenance: Connection, plan: Plan) -> None:
    """Under the lock, before a new run begins: the live database is the one that the plan was made for. Raises
    Refused."""
    now = database.find(maintenance, plan.live)
    if now is None or now.oid != plan.live_oid:
        what = "was replaced by another database" if now is not None else "was removed or renamed"
        raise Refused(
            f'cannot roll back "{plan.live}": it {what} since the plan was made',
            hint="Run lastgood status, then lastgood rollback again, which makes a new plan.",
            state=NOT_REACHED,
        )


def leftover_of(maintenance: Connection, target: Target, state: Path, run: str | None) -> Leftover | None:
    """The unmarked database of the run that is named, or the only one there is."""
    found = [
        each
        for each in leftovers(maintenance, target.dbname)
        if run is None or run == run_of(each, state) or (each.number and run.endswith(each.number))
    ]
    return found[0] if len(found) == 1 else None


def run_of(left: Leftover, state: Path) -> str:
    """The name of the run that left it, where this machine has its journal; otherwise the end of that name."""
    named = (each.run for each in Journal.all(state) if left.number and each.run.endswith("-" + left.number))
    return next(named, left.number or left.name)


def _kept(maintenance: Connection, target: Target, run: str) -> tuple[Database, Mark] | None:
    """The kept database or schemas of a run, with the mark."""
    every = left_by_runs(maintenance, target)
    return next((each for each in every if (each[1].role, each[1].run) == ("kept", run)), None)


def _by_record(target: Target, state: Path) -> Mark | None:
    """The mark of a run that stopped the application and has no database (any more). Only the machine with its journal
    has a record of it."""
    stopped = record.read(state, target)
    journal = Journal.find(state, stopped.by) if stopped is not None and stopped.by != record.BY_HAND else None
    if journal is None or stopped is None:
        return None
    plan = _recorded_plan(journal)
    if plan is None:
        return None
    return Mark(
        role="shadow",
        run=stopped.by,
        live=plan.live,
        live_oid=plan.live_oid,
        point=plan.point.path,
        host=stopped.host,
        pid=0,
        user=stopped.user,
        started=stopped.since,
        options={
            "kind": "rollback",
            "fence": plan.fence,
            "reopen_when": plan.reopen_when,
            **_consents(plan),
        },
    )


def _recorded_plan(journal: Journal) -> Plan | None:
    plans = [each.plan for each in entries(journal, "begun", "resumed") if each.plan]
    if not plans or "point" not in plans[-1]:
        return None
    # Here, because few machines have such a run: the classes of plans take longer to load than the rest of this.
    from lastgood.plan.plan import Plan

    return Plan.model_validate(plans[-1])


def _consents(plan: Plan) -> dict[str, str]:
    given = {"strict": plan.strict, "allow_orphans": plan.allow_orphans}
    return {
        **{name: "yes" for name, value in given.items() if value},
        **({TRUSTED: plan.code.trusted} if plan.code is not None and plan.code.trusted else {}),
        **{OVERRIDE + each.item: each.reason for each in plan.checklist.overrides},
    }


def as_recorded(requested: Unfinished, maintenance: Connection, state: Path, store: Path) -> Mark:
    """The mark of a run that is resumed, with its restore point and the operator's consents. The owner of the marked
    database can write both: if that role cannot act for this one, they come from this machine's journal; without one,
    the consents have to be given again, and the restore point must be in the store. Raises Refused."""
    mark, found = requested.mark, requested.database
    if found is None or can_act(maintenance, found.owner):
        return mark
    options = {
        name: value
        for name, value in mark.options.items()
        if name not in ("strict", "allow_orphans", TRUSTED) and not name.startswith(OVERRIDE)
    }
    journal = Journal.find(state, mark.run)
    plan = _recorded_plan(journal) if journal is not None else None
    if plan is not None:
        point = str(Path(plan.point.path).absolute())
        return mark.model_copy(update={"point": point, "options": {**options, **_consents(plan)}})
    if Path(mark.point).resolve().parent != store.resolve():
        raise Refused(
            f'cannot resume run "{mark.run}": its mark names the restore point "{mark.point}", which is not in the '
            f'store; role "{found.owner}", which owns "{found.name}", could have written that',
            hint=f"Run: lastgood abort {mark.run}, then: lastgood rollback POINT",
            state=NOT_REACHED,
        )
    return mark.model_copy(update={"options": options})
