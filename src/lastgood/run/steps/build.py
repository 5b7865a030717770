"""The build of the shadow: a new database next to the live one, loaded from the restore point."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lastgood import fault
from lastgood.checklist import EXTENSIONS
from lastgood.dump.deferral import Division
from lastgood.errors import Refused
from lastgood.facts.compare import FactsComparison
from lastgood.journal import caller
from lastgood.journal.reader import BUILD
from lastgood.load.builder import Builder
from lastgood.load.hand_over import hand_over
from lastgood.load.loaded import Loaded
from lastgood.load.rebuild import prove, rebuild, rules_for
from lastgood.load.repairs import Rules
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres import clock, database
from lastgood.postgres.leftover import drop_leftover, leftovers
from lastgood.postgres.mark import OVERRIDE, TRUSTED, Mark, marked
from lastgood.postgres.roles import build_role, lent_role
from lastgood.postgres.server import Connection
from lastgood.run.context import Run
from lastgood.run.runner import Result
from lastgood.text.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Built(Result):
    """The loaded shadow. ``division``: the work deferred until after the reopening; None if there is none.
    ``comparison``: its proof, where ``builder`` built and read it by ``rules``; then it has its owners and grants too,
    but no event triggers."""

    oid: int
    loaded: Loaded
    division: Division | None
    comparison: FactsComparison | None = None
    builder: Builder | None = None
    rules: Rules | None = None

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"oid": self.oid, "rows": self.loaded.rows}


class Build:
    """Build the shadow, with a mark that has its run and its progress, for other processes and machines."""

    name = BUILD
    title = "build the restored database next to the live one"
    commits = False
    tidies = True

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan; the live database is only read."""
        return PlannedStep(
            name=self.name, title="Build the restored database next to the live one", effect="users do not notice"
        )

    def do(self, run: Run) -> Built:
        plan = run.plan
        with run.connected(plan.maintenance, "build") as connection:
            self._drop_leftover(run)
            model = database.describe(connection, plan.live)
            mark = mark_of(run, "shadow", stage="created").text()
            made = database.create_like(connection, plan.shadow, model, mark, owner=model.owner)
            fault.point("build.after_create")
            with run.connected(plan.live, "reads extensions") as live:
                request = run.prepared.request
                wishes = Rules(
                    strict=request.strict,
                    allow_orphans=request.allow_orphans,
                    members=run.prepared.members,
                    lenient=any(each.item == EXTENSIONS for each in request.overrides),
                    confined=not request.code.trusted,
                )
                rules = rules_for(live, run.prepared.facts, wishes)
            builder = _builder(run, connection)
            loaded = rebuild(
                run.dump,
                rules,
                run.context,
                connect=partial(run.connected, plan.shadow),
                watch=lambda: run.server.connect(application_name=f"lastgood watch {plan.run}"),
                live=partial(run.connected, plan.live, "reads rows of extensions"),
                builder=builder,
            )
            fault.point("build.after_load")
            comparison = None
            if builder is not None:
                with builder.connect("prove") as shadow:
                    comparison = prove(
                        shadow, run.dump, loaded.same, run.context, connect=builder.connect, builder=builder
                    )
                hand_over(
                    builder,
                    run.dump,
                    rules,
                    loaded,
                    run.context,
                    maintenance=connection,
                    operator=run.server,
                )
            database.comment(connection, plan.shadow, mark_of(run, "shadow", stage="loaded").text())
        return Built(
            oid=made.oid,
            loaded=loaded,
            division=run.prepared.division,
            comparison=comparison,
            builder=builder,
            rules=rules,
            detail=f"{counted(loaded.rows, 'row')} in {plan.shadow}",
        )

    def _drop_leftover(self, run: Run) -> None:
        """Drop the incomplete shadow of a stopped process of this run, so that it is built again."""
        for found, mark in marked(run.maintenance):
            if found.name == run.plan.shadow:
                if mark.run != run.plan.run or mark.role != "shadow":
                    raise Refused(
                        f'cannot build "{found.name}": a database of that name exists and belongs to another run',
                        hint="To show the current state: lastgood status",
                    )
                database.drop(run.maintenance, found.name, found.oid)

    def undo(self, run: Run) -> None:
        for found, mark in marked(run.maintenance):
            # By name, mark and role together: never a database that a swap has made live.
            if found.name == run.plan.shadow and mark.run == run.plan.run and mark.role == "shadow":
                loaded = mark.options.get("stage") == "loaded" and not found.invalid
                if run.prepared.request.keep_shadow and loaded and not run.interrupted:
                    run.shadow_kept = True
                else:
                    database.drop(run.maintenance, found.name, found.oid)
        build_role.end(run.maintenance, run.server, build_role.name_of(run.plan.run))
        for left in leftovers(run.maintenance, run.plan.live):
            if left.name == run.plan.shadow:  # created, but the connection was lost before it was marked
                drop_leftover(run.maintenance, run.target, left, run.plan.live)

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        if apart(run):
            return False  # only the role that built it could prove it again, and its login has ended
        return any(
            found.name == run.plan.shadow and not found.invalid and mark.options.get("stage") == "loaded"
            for found, mark in marked(run.maintenance)
        )


def apart(run: Run) -> bool:
    """Whether a role without rights builds the shadow: code of the restore point runs then."""
    return run.plan.code is not None and run.plan.code.confined


def _builder(run: Run, maintenance: Connection) -> Builder | None:
    if not apart(run):
        return None
    plan = run.plan
    build_as = run.prepared.request.code.build_as
    role = lent_role.role_for(maintenance, run.server, build_as, run=plan.run, live=plan.live, database=plan.shadow)
    return Builder(role, partial(run.connected_to, role.target), partial(run.connected, plan.shadow))


def consent_of(run: Run) -> dict[str, str]:
    """Return the options and overrides of the operator, for a resumed run."""
    request = run.prepared.request
    given = {"strict": request.strict, "allow_orphans": request.allow_orphans}
    trusted = {TRUSTED: request.code.trusted} if request.code.trusted else {}
    overridden = {OVERRIDE + each.item: each.reason for each in run.plan.checklist.overrides}
    return {**{name: "yes" for name, value in given.items() if value}, **trusted, **overridden}


def mark_of(run: Run, role: Literal["shadow", "kept"], *, stage: str = "", original_comment: str | None = None) -> Mark:
    """Return the mark of a database of this run, sufficient to resume, abort or undo it from another machine."""
    plan = run.plan
    return Mark(
        role=role,
        run=plan.run,
        live=plan.live,
        live_oid=plan.live_oid,
        point=str(Path(plan.point.path).absolute()),  # a resume may start in another folder
        host=caller.host(),
        pid=os.getpid(),
        user=caller.user(),
        started=clock.now(run.maintenance),
        original_comment=original_comment,
        options={
            "kind": "rollback",
            "stage": stage,
            "fence": plan.fence,
            "kept": plan.kept,
            "reopen_when": plan.reopen_when,
            **({"hooks": "yes"} if run.application.stops else {}),
            **consent_of(run),
        },
    )
