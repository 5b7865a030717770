"""``lastgood rollback``, and ``resume`` and ``abort`` for a run that stopped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from lastgood import config, rollback
from lastgood.cli.application import command
from lastgood.cli.complete import points, runs
from lastgood.cli.session import PACE, Session
from lastgood.errors import UsageError
from lastgood.plan import Choice, Request
from lastgood.present import plan as shown_plan
from lastgood.present import report as shown_report
from lastgood.report import FinishReport

Point = Annotated[
    str | None, typer.Argument(metavar="POINT", help="Its name in the store, or a path.", autocompletion=points)
]
RunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="The run; the only unfinished one.", autocompletion=runs)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show the plan and change nothing.")]


@command("rollback", 3, 4, 5, 6, 7, options=("fence", "reopen_when", "strict", "allow_orphans", *PACE))
def roll_back(
    session: Session,
    point: Point = None,
    latest: Annotated[bool, typer.Option("--latest", help="The newest valid restore point (the default).")] = False,
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="TIME",
            help="The newest one made before this time, in ISO 8601; UTC unless it has a zone.",
        ),
    ] = None,
    before_migration: Annotated[
        str | None,
        typer.Option("--before-migration", metavar="VERSION", help="The newest one without this migration."),
    ] = None,
    keep_shadow: Annotated[
        bool, typer.Option("--keep-shadow", help="Keep a restored database that fails its proof, to look at it.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int | None:
    """Put the live database back to a restore point.

    Restores beside the live database, proves the result, and switches the names in one transaction. The live
    database is not touched before that; afterwards it is kept, and `lastgood undo` brings it back.
    """
    given = [name for name, value in _ways(point, latest, before, before_migration).items() if value]
    if len(given) > 1:
        raise UsageError(
            f"cannot choose a restore point: {' and '.join(given)} contradict each other",
            hint="Give one of them.",
            state=config.NOTHING_LOOKED_AT,
        )
    choice = Choice(
        point=point, before=moment(before) if before is not None else None, before_migration=before_migration
    )
    settings, screen = session.settings, session.screen
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
        pgbouncer=settings.tables.pgbouncer,
    )


def _ways(point: str | None, latest: bool, before: str | None, before_migration: str | None) -> dict[str, object]:
    return {"POINT": point, "--latest": latest, "--before": before, "--before-migration": before_migration}


def moment(text: str) -> datetime:
    """A time in ISO 8601 (a date alone is its midnight), UTC unless it names a zone. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    except ValueError as error:
        raise UsageError(
            f'cannot read the time "{text}": it is not in ISO 8601',
            hint="Write it like 2025-11-04T14:30 (UTC) or 2025-11-04T14:30+01:00.",
            state=config.NOTHING_LOOKED_AT,
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
