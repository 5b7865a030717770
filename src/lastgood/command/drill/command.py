"""``lastgood drill``: rehearsals and their evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli import complete
from lastgood.cli.application import command
from lastgood.cli.parameters import PACE, Before, BeforeMigration, Latest, Point
from lastgood.errors import BadPoint, Failed, UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.drill.drill import DrillRequest, Sealed, StoredEvidence, UnreadableEvidence


@command("drill", 3, 4, 5, options=("strict", "allow_orphans", "trust_code", *PACE))
def drill(
    session: Session,
    point: Point = None,
    latest: Latest = False,
    before: Before = None,
    before_migration: BeforeMigration = None,
    every_point: Annotated[
        bool, typer.Option("--all", help="Instead, restore and prove every restore point of the store.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="Use this scratch server, never the live one, instead of creating one."
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="FOLDER", help="Data folder of the scratch server that is created."),
    ] = None,
    signed_off_by: Annotated[
        str | None, typer.Option("--signed-off-by", metavar="NAME", help="The person who signs off the evidence.")
    ] = None,
    history: Annotated[bool, typer.Option("--list", help="Only list the drills of this machine.")] = False,
    show: Annotated[
        str | None,
        typer.Option(
            "--show",
            metavar="RUN",
            help="Only show this drill, and whether its evidence was changed.",
            autocompletion=complete.drills,
        ),
    ] = None,
    sign: Annotated[
        str | None,
        typer.Option(
            "--sign", metavar="RUN", help="Only sign this drill off; with --by.", autocompletion=complete.drills
        ),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who signs.")] = None,
    due: Annotated[
        bool, typer.Option("--due", help="Only show when the next drill is due; exits with 3 if it is overdue.")
    ] = False,
) -> int | None:
    """Rehearse the whole procedure on a scratch server.

    Creates a server with a copy of the live database from the newest restore point, and damages this copy. Then runs
    the real procedure: rollback with fence, emergency backup, build, proof and switch; validation; undo; and the
    commands of the guide. The live database is not touched. Each phase is timed and compared with the last drill. The
    evidence is kept for sign-off, protected by checksums.

    Exits with 4 if the restore point (with --all, one of them) is not valid, and with 5 if the drill failed.
    """
    from lastgood.cli.choice import choice_of
    from lastgood.command.drill import drill as rehearsal
    from lastgood.command.drill import news
    from lastgood.command.drill import show as shown
    from lastgood.command.drill.pages import files
    from lastgood.journal.past_runs import DRILLS

    only = {
        "--list": history,
        "--show": show is not None,
        "--sign": sign is not None,
        "--due": due,
        "--all": every_point,
    }
    _check(only, point, latest, before, before_migration, server, folder, signed_off_by, by)
    state = session.settings.state
    if due:
        return _due(session)
    if history:
        found = list(rehearsal.every(state))
        session.result({"drills": [_listed(each) for each in found]}, lambda: shown.show_list(session.screen, found))
        return None
    if show is not None:
        return _show(session, rehearsal.read(state, show))
    if sign is not None:
        return _show(session, rehearsal.sign(state, sign, by or "", files))
    request = _request(session, server, folder, signed_off_by)
    request = replace(request, live=replace(request.live, choice=choice_of(point, latest, before, before_migration)))
    doing = rehearsal.prove_all if every_point else rehearsal.drill
    # Drills often run unattended, so notifications are sent.
    with session.news.notifying("drill", session.target, unattended=True) as notifier:
        with session.work() as context:
            emit = notifier.on_work(context.emit, "", news.begun(session.target.dbname))
            sealed = doing(request, files, replace(context, emit=emit))
        notifier.ended(news.ended(sealed), sealed.evidence.run)
    place = state / DRILLS / sealed.evidence.run
    session.result(sealed.document(), lambda: shown.show(session.screen, sealed, place))
    return _status(sealed)


def _status(sealed: Sealed) -> int | None:
    from lastgood.command.drill.drill import DrillEvidence

    found = sealed.evidence
    if found.status == "passed":
        return None
    if isinstance(found, DrillEvidence):
        return BadPoint.exit_status if found.failure and found.failure.exit_status == 4 else Failed.exit_status
    # A damaged point takes precedence over one that could not be restored here.
    return (
        Failed.exit_status if all(p.proved or p.verdict == "unproved" for p in found.points) else BadPoint.exit_status
    )


def _show(session: Session, found: StoredEvidence) -> int | None:
    from lastgood.command.drill import show as shown

    session.result(_document(found), lambda: shown.show_found(session.screen, found))
    return 3 if found.problems else None


def _document(found: StoredEvidence) -> dict[str, object]:
    return {
        **found.sealed.document(),
        "folder": str(found.folder),
        "changed": list(found.problems),
        "remarks": list(found.remarks),
    }


def _listed(found: StoredEvidence | UnreadableEvidence) -> dict[str, object]:
    from lastgood.command.drill.drill import StoredEvidence

    return _document(found) if isinstance(found, StoredEvidence) else {"run": found.run, "unreadable": found.why}


def _due(session: Session) -> int | None:
    from lastgood.command.status.show import drill_due
    from lastgood.journal import past_runs

    settings = session.settings
    live = session.target.dbname
    found = past_runs.drill_due(settings.state, live, settings.tables.drill.every, datetime.now(UTC))
    body = {"live": live, "due": found.model_dump(mode="json")}
    session.result(body, lambda: session.screen.say(f'"{live}": {drill_due(found)}'))
    return 3 if found.overdue else None


def _request(session: Session, server: str | None, folder: Path | None, signed_off_by: str | None) -> DrillRequest:
    from lastgood.command.drill.drill import DrillRequest
    from lastgood.config import connection_string
    from lastgood.postgres.server import Target

    settings = session.settings
    target = None
    if server is not None:
        connection_string.check(server, "--server")
        session.scrub.learn_from(server, {})
        target = Target.parse(server)
    return DrillRequest(
        live=replace(session.request, strict=settings.strict, allow_orphans=settings.allow_orphans),
        server=target,
        folder=folder or settings.tables.drill.folder,
        validation=settings.tables.validation,
        signed_off_by=signed_off_by,
    )


def _check(
    only: dict[str, bool],
    point: str | None,
    latest: bool,
    before: str | None,
    before_migration: str | None,
    server: str | None,
    folder: Path | None,
    signed_off_by: str | None,
    by: str | None,
) -> None:
    """Refuse options that are mutually exclusive. Raises UsageError."""
    given = [name for name, value in only.items() if value]
    if len(given) > 1:
        raise _contradiction(" and ".join(given), "Give only one of them.")
    which = {"POINT": point, "--latest": latest, "--before": before, "--before-migration": before_migration}
    how = {"--server": server, "--folder": folder, "--signed-off-by": signed_off_by}
    others = which if given == ["--all"] else {**which, **how} if given else {}
    for name, value in others.items():
        if value:
            raise _contradiction(f"{given[0]} and {name}", f"Give {given[0]} alone.")
    if (by is not None) != only["--sign"]:
        raise UsageError(
            "cannot sign: --sign RUN and --by NAME are required together",
            hint="Run lastgood drill --sign RUN --by NAME with a run of lastgood drill --list.",
            state=config.NOTHING_READ,
        )
    if server is not None and folder is not None:
        raise _contradiction("--server and --folder", "Leave --folder out: an existing server has its own folder.")
    if signed_off_by is not None and not signed_off_by.strip():
        raise UsageError(
            "cannot sign off: --signed-off-by is empty",
            hint="Give the name of the person who signs off the evidence.",
            state=config.NOTHING_READ,
        )


def _contradiction(what: str, hint: str) -> UsageError:
    return UsageError(f"cannot drill: {what} are mutually exclusive", hint=hint, state=config.NOTHING_READ)
