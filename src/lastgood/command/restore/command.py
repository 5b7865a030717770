"""``lastgood restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.operands import DATABASE, SHOWN, STDIN, operands
from lastgood.cli.parameters import CODE, PACE
from lastgood.config import NOTHING_READ
from lastgood.errors import Corrupt, Incomplete, UsageError, continued

if TYPE_CHECKING:
    from lastgood.cli.session import Session


@command("restore", 3, 4, 5, 7, options=("reopen_when", "strict", "allow_orphans", *CODE, *PACE))
def restore_(
    session: Session,
    point: Annotated[
        list[str],
        typer.Argument(
            metavar="POINT",
            help="Its name in the store, or a path; the several files of one dump; - for standard input.",
            autocompletion=points,
        ),
    ],
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="The database to create; it must not exist.")],
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE", help=DATABASE)] = None,
    no_owner: Annotated[
        bool, typer.Option("--no-owner", help="Skip ownership: the restoring role owns all objects.")
    ] = False,
    no_acl: Annotated[
        bool, typer.Option("--no-acl", help="Skip privileges: GRANT, REVOKE, ALTER DEFAULT PRIVILEGES.")
    ] = False,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Load what can be read of a damaged dump and list what is missing."),
    ] = False,
) -> None:
    """Restore into a new database and prove the result.

    Touches no other database. If the restore fails or is interrupted, the new database is removed. With
    --reopen-when usable it remains once it is usable.

    With --skip-damaged nothing is proved. Damaged rows and commands are left out and listed table by table, and the
    exit status is 0 however much is missing. Read the report, or each table's `state` with --json.
    """
    from lastgood.load.repairs import Rules

    if skip_damaged and (no_owner or no_acl):
        raise UsageError(
            f"cannot combine --skip-damaged with {'--no-owner' if no_owner else '--no-acl'}: it already "
            "skips and lists what the server rejects",
            hint="Leave that option out.",
            state=NOTHING_READ,
        )
    settings, store = session.settings, session.settings.store
    named = {"point": SHOWN} if STDIN in point else {}
    with session.events() as emit, operands(point, store, emit) as names:
        if skip_damaged:
            from lastgood.damaged import restore as restore_readable

            left = restore_readable.restore_readable(
                session.target,
                store,
                names,
                into,
                session.context(emit),
                database_name=database,
                policy=session.code_policy,
            ).model_copy(update=named)
        else:
            from lastgood import restore

            try:
                report = restore.restore(
                    session.target,
                    store,
                    names,
                    into,
                    session.context(emit),
                    reopen_when=settings.reopen_when,
                    rules=Rules(settings.strict, settings.allow_orphans, no_owner, no_acl),
                    database_name=database,
                    policy=session.code_policy,
                )
            except (Corrupt, Incomplete) as error:
                error.hint = continued(error.hint, "To restore what can be read of it, add --skip-damaged.")
                raise
            report = report.model_copy(update=named)
    if skip_damaged:
        from lastgood.command.restore import show_damaged

        session.result(left.document(), lambda: show_damaged.show(session.screen, left))
    else:
        from lastgood.command.rollback import show as shown

        session.result(report.document(), lambda: shown.show_restore(session.screen, report))
