"""``lastgood deploy``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli import lengths
from lastgood.cli.application import command
from lastgood.cli.parameters import PACE, Overrides, Reasons
from lastgood.errors import Failed, LastgoodError, UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.deploy.deploy import DeployReport, Wish
    from lastgood.config.tables import Deploy

DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Migrate a clone, show what that changes, and remove it again.")
]


@command("deploy", 3, 4, 5, 6, 7, options=("format", *PACE))
def deploy_(
    session: Session,
    migration: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND…", help="The migration: a program and its arguments, behind two dashes."),
    ] = None,
    label: Annotated[str, typer.Option("--label", help="A word of your own in the restore point's name.")] = "",
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="LENGTH", help="How long the migration may take: 30s, 10min.")
    ] = None,
    override: Overrides = None,
    reason: Reasons = None,
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="RUN", help="Declare the database of an unfinished deployment good as it is."),
    ] = None,
    allow_errors: Annotated[
        str | None,
        typer.Option(
            "--allow-errors",
            metavar="REASON",
            help="Accept errors that the migration prints and ignores; the reason is recorded.",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int | None:
    """Run a migration, and take it back when it fails.

    Makes a restore point, looks at the data, runs your own migration command, looks again. When the command fails, runs
    out of time or is killed, when the data is worse than before, or the application does not work, the live database is
    put back to the restore point, proved; a migration that failed and left nothing behind is only shown to have done
    so. An error that psql prints counts, though without ON_ERROR_STOP it goes on and ends with status 0. The command
    finds the database in libpq's variables (PGHOST, PGDATABASE, ...), LASTGOOD_DB and DATABASE_URL.

    Ends with 5 when the migration failed and left nothing, with 6 when it was taken back, and with 7 when it could not
    be taken back: then `lastgood recover` goes on. A dry run ends with 5 when the migration would be taken back.
    """
    from lastgood.cli.choice import answers
    from lastgood.command.deploy import deploy, news
    from lastgood.command.deploy import show as shown

    if accept is not None:
        if migration or dry_run:
            raise UsageError(
                "cannot accept and deploy at once: --accept takes no migration",
                hint="Run: lastgood deploy --accept RUN",
                state=config.NOTHING_LOOKED_AT,
            )
        found = deploy.accept(session.target, accept)
        session.result(
            {"run": found.run, "status": "accepted", "live": found.live},
            lambda: session.screen.say(f'Done: "{found.live}" is taken as good; nothing of {found.run} is unfinished.'),
        )
        return None
    settings = session.settings
    overrides, attestations = answers(override, reason, None, settings.tables.check.attested)
    wish = deploy.Wish(
        request=replace(session.request, overrides=overrides, attestations=attestations),
        command=tuple(migration or ()),
        label=label,
        settings=_limited(settings.tables.deploy, time_limit),
        validation=settings.tables.validation,
        form=settings.format,
        allow_errors=_reason(allow_errors),
    )
    if dry_run:
        return _tried(session, wish)
    ended: list[DeployReport] = []
    with session.news.telling("deploy", session.target, unattended=True) as telling:
        try:
            with session.events() as emit:
                begins = partial(news.begun, session.target, label, wish.command)
                report = deploy.deploy(wish, telling.on_work(emit, "", begins), ended.append)
        except LastgoodError as error:
            if ended:
                telling.failed(error, partial(news.failed, error, ended[0]), ended[0].run)
                if not settings.json:
                    shown.show_failed(session.screen, ended[0])
            raise
        telling.ended(partial(news.deployed, report), report.run)
    session.result(report.document(), lambda: shown.show(session.screen, report))
    return None


def _reason(text: str | None) -> str:
    if text is not None and not text.strip():
        raise UsageError(
            "cannot accept errors: the reason of --allow-errors is empty",
            hint="Give the reason why they are harmless: --allow-errors REASON. It is recorded.",
            state=config.NOTHING_LOOKED_AT,
        )
    return (text or "").strip()


def _tried(session: Session, wish: Wish) -> int:
    from lastgood.command.deploy import deploy
    from lastgood.command.deploy import show as shown

    with session.events() as emit:
        report = deploy.trial(wish, emit)
    session.result(report.document(), lambda: shown.show_trial(session.screen, report))
    return Failed.exit_status if report.problem else 0


def _limited(settings: Deploy, time_limit: str | None) -> Deploy:
    if time_limit is None:
        return settings
    seconds = lengths.seconds("--time-limit", time_limit)
    if not seconds:
        raise UsageError(
            f'cannot use --time-limit "{time_limit}": it must be longer than 0',
            hint="Run it again with a length like 30s or 10min, or without --time-limit.",
            state=config.NOTHING_LOOKED_AT,
        )
    return settings.model_copy(update={"time_limit": seconds})
