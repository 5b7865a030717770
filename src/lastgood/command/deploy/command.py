"""``lastgood deploy``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli import lengths
from lastgood.cli.application import command
from lastgood.cli.parameters import CODE, PACE, Comparing, InPlace, Overrides, Reasons
from lastgood.errors import Failed, LastgoodError, UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.deploy.deploy import DeployReport, DeployRequest
    from lastgood.config.tables import Deploy

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Run the migration on a clone, show what it changes, and remove the clone."),
]


@command("deploy", 3, 4, 5, 6, 7, options=("format", *CODE, *PACE))
def deploy_(
    session: Session,
    migration: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND…", help="The migration: a program and its arguments, after two dashes."),
    ] = None,
    label: Annotated[str, typer.Option("--label", help="A word to add to the name of the restore point.")] = "",
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="LENGTH", help="Time limit of the migration: 30s, 10min.")
    ] = None,
    override: Overrides = None,
    reason: Reasons = None,
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="RUN", help="Accept the database of an unfinished deployment as it is."),
    ] = None,
    allow_errors: Annotated[
        str | None,
        typer.Option(
            "--allow-errors",
            metavar="REASON",
            help="Accept errors that the migration prints but ignores; the reason is recorded.",
        ),
    ] = None,
    expect_version: Annotated[
        str,
        typer.Option(
            "--expect-version",
            metavar="VERSION",
            help="Roll back unless this is the newest version in the table of the migration tool.",
        ),
    ] = "",
    in_place: InPlace = None,
    compare: Comparing = None,
    dry_run: DryRun = False,
) -> int | None:
    """Run a migration, and roll it back if it fails.

    Makes a restore point, validates the data, runs your migration command, and validates again. If the command fails,
    exceeds its time limit or is killed, if the data is worse than before, or if the application does not work, the live
    database is rolled back to the restore point and proved. If the database still equals the restore point, no rollback
    is needed. Errors that psql prints count as failure, even if it exits with status 0 for lack of ON_ERROR_STOP. The
    command finds the database in libpq's variables (PGHOST, PGDATABASE, ...), LASTGOOD_DB and DATABASE_URL.

    Exits with 5 if the migration failed and left no change, with 6 if it was rolled back, and with 7 if the rollback
    failed; then run `lastgood recover`. A dry run exits with 5 if the migration would be rolled back.
    """
    from lastgood.cli.choice import answers, compare_of, way_of
    from lastgood.command.deploy import deploy, show
    from lastgood.command.deploy import show as shown

    if accept is not None:
        if migration or dry_run:
            raise UsageError(
                "cannot accept and deploy at once: --accept takes no migration",
                hint="Run: lastgood deploy --accept RUN",
                state=config.NOTHING_READ,
            )
        found = deploy.accept(session.target, accept)
        session.result(
            {"run": found.run, "status": "accepted", "live": found.live},
            lambda: session.screen.say(
                f'Done: "{found.live}" is accepted as it is; deployment {found.run} is finished.'
            ),
        )
        return None
    settings = session.settings
    overrides, attestations = answers(override, reason, None, settings.tables.check.attested)
    request = deploy.DeployRequest(
        base=replace(
            session.request,
            overrides=overrides,
            attestations=attestations,
            way=way_of(in_place),
            compare=compare_of(compare),
        ),
        command=tuple(migration or ()),
        label=label,
        settings=_limited(settings.tables.deploy, time_limit),
        validation=settings.tables.validation,
        form=settings.format,
        allow_errors=_reason(allow_errors),
        expect_version=expect_version.strip(),
    )
    if dry_run:
        return _tried(session, request)
    ended: list[DeployReport] = []
    with session.news.notifying("deploy", session.target, unattended=True) as notifier:
        try:
            with session.events() as emit:
                begins = partial(show.begun, session.target, label, request.command)
                report = deploy.deploy(request, notifier.on_work(emit, "", begins), ended.append)
        except LastgoodError as error:
            if ended:
                notifier.failed(error, partial(show.failed, error, ended[0]), ended[0].run)
                if not settings.json:
                    shown.show_failed(session.screen, ended[0])
            raise
        notifier.ended(partial(show.deployed, report), report.run)
    session.result(report.document(), lambda: shown.show(session.screen, report))
    return None


def _reason(text: str | None) -> str:
    if text is not None and not text.strip():
        raise UsageError(
            "cannot accept errors: --allow-errors needs a reason",
            hint="State why they are harmless: --allow-errors REASON. The reason is recorded.",
            state=config.NOTHING_READ,
        )
    return (text or "").strip()


def _tried(session: Session, request: DeployRequest) -> int:
    from lastgood.command.deploy import deploy
    from lastgood.command.deploy import show as shown

    with session.events() as emit:
        report = deploy.trial(request, emit)
    session.result(report.document(), lambda: shown.show_trial(session.screen, report))
    return Failed.exit_status if report.problem else 0


def _limited(settings: Deploy, time_limit: str | None) -> Deploy:
    if time_limit is None:
        return settings
    seconds = lengths.seconds("--time-limit", time_limit)
    if not seconds:
        raise UsageError(
            f'cannot use --time-limit "{time_limit}": it must be longer than 0',
            hint="Give a duration like 30s or 10min, or leave --time-limit out.",
            state=config.NOTHING_READ,
        )
    return settings.model_copy(update={"time_limit": seconds})
