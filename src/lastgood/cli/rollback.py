"""``lastgood rollback``, and ``resume`` and ``abort`` for a run that stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from lastgood import rollback
from lastgood.cli.application import command
from lastgood.cli.choice import (
    Attested,
    Before,
    BeforeMigration,
    Latest,
    Overrides,
    Point,
    Reasons,
    answers,
    choice_of,
)
from lastgood.cli.complete import runs
from lastgood.cli.session import PACE, Session
from lastgood.plan import Request
from lastgood.present import plan as shown_plan
from lastgood.present import report as shown_report
from lastgood.report import FinishReport

RunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="The run; the only unfinished one.", autocompletion=runs)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show the plan and change nothing.")]


@command("rollback", 3, 4, 5, 6, 7, options=("fence", "reopen_when", "strict", "allow_orphans", *PACE))
def roll_back(
    session: Session,
    point: Point = None,
    latest: Latest = False,
    before: Before = None,
    before_migration: BeforeMigration = None,
    override: Overrides = None,
    reason: Reasons = None,
    attest: Attested = None,
    keep_shadow: Annotated[
        bool, typer.Option("--keep-shadow", help="Keep a restored database that fails its proof, to look at it.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int | None:
    """Put the live database back to a restore point.

    Restores beside the live database, proves the result, and switches the names in one transaction. The live
    database is not touched before that; afterwards it is kept, and `lastgood undo` brings it back. What `lastgood
    check` looks at is looked at first: a failed item refuses the rollback unless it is overridden with a reason.
    """
    choice = choice_of(point, latest, before, before_migration)
    settings, screen = session.settings, session.screen
    overrides, attestations = answers(override, reason, attest, settings.tables.check.attested)
    request = Request(
        target=session.target,
        store=settings.store,
        state=settings.state,
        choice=choice,
        fence=settings.fence,
        reopen_when=settings.reopen_when,
        keep_shadow=keep_shadow,
        strict=settings.strict,
        allow_orphans=settings.allow_orphans,
        pace=session.pace,
        tables=settings.tables,
        overrides=overrides,
        attestations=attestations,
        pgbouncer=settings.tables.pgbouncer,
    )
    with session.events() as emit:
        prepared = rollback.plan(request, emit)
    plan = prepared.plan
    if dry_run:
        session.result(plan.model_dump(mode="json"), lambda: shown_plan.show(screen, plan))
        return 3 if plan.refusals else 0
    if not settings.json and not (yes and settings.quiet):
        shown_plan.show(screen, plan)
    if not plan.refusals:
        session.confirm("do this", plan.live, yes)
    with session.events() as emit:
        report = rollback.run(prepared, emit)
    session.result(report.document(), lambda: shown_report.show(screen, report))
    return None


@command("resume", 3, 4, 5, 6, 7, options=PACE)
def resume(session: Session, run: RunName = None, yes: Yes = False) -> None:
    """Go on with a rollback that stopped in between.

    Works on any machine that reaches the server and the restore point; what holds already is not done again. After
    the switch it finishes what --reopen-when usable left for later, and needs nothing but the server.
    """
    request = _request(session, run)
    session.confirm("go on", request.target.dbname, yes)
    with session.events() as emit:
        report = rollback.resume(request, emit)

    def show() -> None:
        if isinstance(report, FinishReport):
            shown_report.show_finish(session.screen, report)
        else:
            shown_report.show(session.screen, report)

    session.result(report.document(), show)


@command("abort", 3, 5, 7)
def abort(session: Session, run: RunName = None, yes: Yes = False) -> None:
    """Walk a rollback that stopped in between back to where it began.

    Removes the database that it was building. The live database is not touched.
    """
    request = _request(session, run)
    session.confirm("abort", request.target.dbname, yes)
    with session.events() as emit:
        document = rollback.abort(request, emit)
    removed = ", ".join(f'"{name}"' for name in document["removed"]) or "nothing"
    session.result(
        document, lambda: session.screen.say(f"Done: run {document['run']} is aborted; {removed} was removed.")
    )


def _request(session: Session, run: str | None) -> Request:
    settings = session.settings
    return Request(
        target=session.target,
        store=settings.store,
        state=settings.state,
        run=run,
        pace=session.pace,
        tables=settings.tables,
        pgbouncer=settings.tables.pgbouncer,
    )
