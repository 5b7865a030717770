"""``lastgood rollback``, and ``resume`` and ``abort`` for a run that stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lastgood.cli import lengths
from lastgood.cli.application import command
from lastgood.cli.parameters import (
    CODE,
    PACE,
    Attested,
    Before,
    BeforeMigration,
    Comparing,
    DryRun,
    From,
    InPlace,
    Latest,
    Overrides,
    Point,
    Reasons,
    RunName,
    Yes,
)
from lastgood.errors import ChecksFailed, ChecksFailedAfterSwap
from lastgood.events import Caution, Emit, reported

if TYPE_CHECKING:
    from lastgood.application import Application
    from lastgood.cli.news import Notifier
    from lastgood.cli.session import Session
    from lastgood.plan.plan import Plan, Request

WatchFor = Annotated[
    str | None,
    typer.Option(
        "--watch",
        metavar="LENGTH",
        help="Watch the server after the switch for this long (60s; 0: do not watch).",
    ),
]
T = TypeVar("T")


@command(
    "rollback",
    3,
    4,
    5,
    6,
    7,
    options=("fence", "reopen_when", "on_failure", "strict", "allow_orphans", *CODE, *PACE),
)
def roll_back(
    session: Session,
    point: Point = None,
    latest: Latest = False,
    before: Before = None,
    before_migration: BeforeMigration = None,
    from_: From = None,
    override: Overrides = None,
    reason: Reasons = None,
    attest: Attested = None,
    keep_shadow: Annotated[
        bool, typer.Option("--keep-shadow", help="Keep a restored database that fails its proof, for inspection.")
    ] = False,
    watch: WatchFor = None,
    in_place: InPlace = None,
    compare: Comparing = None,
    reconnect: Annotated[
        bool,
        typer.Option(
            "--reconnect",
            help="After an exchange in place, terminate the sessions from before, so that they reconnect.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int | None:
    """Roll the live database back to a restore point.

    Restores into a new database, proves that it equals the restore point, and switches the names in one transaction.
    The live database is not touched before the switch. Afterwards it is kept, and `lastgood undo` switches back to it.
    Where the role cannot replace the whole database, as on a hosted platform, the schemas that it owns are rolled back
    in place. The checklist of `lastgood check` runs first: a failed item refuses the rollback unless it is overridden
    with a reason.

    [hooks], [health] and [watch] in lastgood.toml define how the application is stopped before the switch, and started,
    checked and watched after it.
    """
    from lastgood import rollback
    from lastgood.cli.choice import answers, choice_of, compare_of, way_of
    from lastgood.command.rollback import show as shown_report
    from lastgood.command.rollback import show_plan as shown_plan
    from lastgood.screen import news

    choice = choice_of(point, latest, before, before_migration, from_)
    settings, screen = session.settings, session.screen
    overrides, attestations = answers(override, reason, attest, settings.tables.check.attested)
    if from_ is not None:
        choice = replace(choice, point=_dumped(session, from_))
    request = replace(
        session.request,
        choice=choice,
        fence=settings.fence,
        reopen_when=settings.reopen_when,
        keep_shadow=keep_shadow,
        strict=settings.strict,
        allow_orphans=settings.allow_orphans,
        overrides=overrides,
        attestations=attestations,
        application=_application(session, watch),
        way=way_of(in_place),
        reconnect=reconnect,
        compare=compare_of(compare),
    )
    with session.news.notifying("rollback", session.target, unattended=yes and not dry_run) as notifier:
        with session.events() as emit:
            prepared = rollback.plan(request, emit)
        plan = prepared.plan
        if dry_run:
            session.result(plan.document(), lambda: shown_plan.show(screen, plan))
            if from_ is not None and not settings.json:
                name = Path(plan.point.path).name
                screen.command("The dump stays in the store. To use it:", session.rollback_command(name))
            return 3 if plan.refusals else 0
        if not settings.json and not (yes and settings.quiet):
            shown_plan.show(screen, plan, asks=not (yes or plan.refusals) and session.interactive)
        if not plan.refusals:
            if (other := _resumed_instead(session, request, plan, yes)) is not None:
                resume(session, other, watch, True)
                return None
            notifier.began(plan.run, lambda: news.rollback_begun(plan))
        report = _run_or_ask(session, request, notifier, lambda emit: rollback.run(prepared, emit))
        notifier.ended(lambda: news.rolled_back(report, plan))
    session.result(report.document(), lambda: shown_report.show(screen, report))
    return None


def _dumped(session: Session, url: str) -> str:
    """Dump another running database into the store, and return the name of the restore point. Raises UsageError, and
    as a backup does."""
    from lastgood.config import connection_string
    from lastgood.points import other_database

    session.scrub.learn_from(url, {})
    connection_string.check(url, "--from")
    with session.work() as context, reported(context.emit, "backup", "back up the other database") as stage:
        made = other_database.take(url, session.target, session.settings.store, session.settings.format, context)
        stage.detail = made.path.name
    return made.path.name


def _resumed_instead(session: Session, request: Request, plan: Plan, yes: bool) -> str | None:
    """Ask for consent to a rollback. Where another run could be resumed, show that, and return that run when the
    operator chooses to resume it."""
    from lastgood import rollback
    from lastgood.command.rollback import show_losses

    live, decision, style = plan.live, show_losses.decision(plan), show_losses.style(plan)
    other = rollback.resumable(request)
    if not other:
        session.confirm("roll back", live, yes, decision=decision, style=style)
        return None
    if yes:
        with session.events() as emit:
            emit(
                Caution(
                    f"run {other} is unfinished, and cannot be resumed once this rollback has switched; to continue "
                    f"it instead: lastgood resume {other}"
                )
            )
    instead = {"resume": f"resume the unfinished run {other} instead"}
    answer = session.confirm("roll back", live, yes, instead=instead, decision=decision, style=style)
    return None if answer == live else other


@command("resume", 3, 4, 5, 6, 7, options=("on_failure", *CODE, *PACE))
def resume(session: Session, run: RunName = None, watch: WatchFor = None, yes: Yes = False) -> None:
    """Continue an unfinished rollback.

    Works on any machine that reaches the server and the restore point. Completed steps are not repeated. After the
    switch only the server is needed: the work that --reopen-when usable deferred is completed, and the application is
    started if the run did not start it, and checked again.
    """
    from lastgood import rollback
    from lastgood.command.rollback import show as shown_report
    from lastgood.run.report import FinishReport
    from lastgood.screen import news

    request = replace(session.request, run=run, application=_application(session, watch))
    if not yes:
        rollback.ensure_unfinished(request, to_resume=True)
    session.confirm("continue", request.target.dbname, yes)
    with session.news.notifying("rollback", request.target, unattended=yes) as notifier:
        begins = partial(news.rollback_resumed, request.target.dbname)
        report = _run_or_ask(
            session,
            request,
            notifier,
            lambda emit: rollback.resume(request, notifier.on_work(emit, run or "", begins)),
        )
        notifier.ended(partial(news.resumed, report), report.run)

    def show() -> None:
        if isinstance(report, FinishReport):
            shown_report.show_finish(session.screen, report)
        else:
            shown_report.show(session.screen, report)

    session.result(report.document(), show)


@command("abort", 3, 5, 7)
def abort(session: Session, run: RunName = None, yes: Yes = False) -> None:
    """Give up an unfinished run and remove what it was building.

    Removes the new database of a rollback, or what a killed restore, trial or recover left, and starts the application
    if the run stopped it. The live database is not touched: it has not been switched. For a rollback that has switched,
    use `lastgood undo`.
    """
    from lastgood import rollback
    from lastgood.screen import news

    request = replace(session.request, run=run)
    if not yes:
        found = rollback.ensure_unfinished(request, to_resume=False)
        live, left = request.target.dbname, found.database.name if found is not None and found.database else ""
        if found is not None and left not in ("", live) and not session.settings.json:  # in place, schemas of "live" go
            text = f'Plan: abort run {found.run}: "{left}" is removed; "{live}" remains as it is.'
            session.screen.say(text, stderr=True, style="bold")
    session.confirm("abort", request.target.dbname, yes)
    with session.news.notifying("rollback", request.target, unattended=yes) as notifier:
        with session.events() as emit:
            document = rollback.abort(request, emit)
        notifier.ended(partial(news.aborted, document), document["run"])
    removed = ", ".join(f'"{name}"' for name in document["removed"]) or "nothing"
    text = f"Done: run {document['run']} was aborted; {removed} was removed."
    if document["application"] == "started":
        text += " The application was started again."
    session.result(document, lambda: session.screen.say(text))


def _application(session: Session, watch: str | None) -> Application:
    """Return the configured application, with the watch of the command line."""
    from lastgood.config.tables import WatchSettings

    found = session.application
    if watch is None:
        return found
    length = lengths.seconds("--watch", watch)
    if not length:
        return replace(found, watch=None)
    return replace(found, watch=(found.watch or WatchSettings()).model_copy(update={"length": length}))


def _run_or_ask(session: Session, request: Request, notifier: Notifier, work: Callable[[Emit], T]) -> T:
    """Run ``work``. If the application's checks fail after the switch, ask whether to undo it, unless that is
    configured."""
    from lastgood import rollback
    from lastgood.screen import application as shown_application

    try:
        with session.events() as emit:
            return work(emit)
    except ChecksFailedAfterSwap as undone:
        _show_application(session, undone)
        raise
    except ChecksFailed as failed:
        _show_application(session, failed)
        if request.application.on_failure != "ask" or not session.interactive:
            raise
        notifier.failed(failed)  # before the question, which may remain unanswered for long
        shown_application.failed(session.screen, failed, request.target.dbname)
        try:
            while (answer := session.answer().lower()) not in ("undo", "keep"):
                session.screen.say('Type "undo" or "keep":', stderr=True, style="bold")
        except (EOFError, KeyboardInterrupt):
            answer = "keep"
        if answer == "keep":
            raise
        with session.events() as emit:
            raise rollback.undo_switch(request, failed, emit) from failed


def _show_application(session: Session, error: ChecksFailed | ChecksFailedAfterSwap) -> None:
    """Show the hooks, health check and watch that the error does not contain."""
    from lastgood.application.results import ApplicationReport
    from lastgood.screen import application as shown_application

    if not session.settings.json and error.details.get("application"):
        found = ApplicationReport.model_validate(error.details["application"])
        shown_application.show(session.screen, found)
        session.screen.out.print()
