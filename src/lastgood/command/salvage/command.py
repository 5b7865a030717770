"""``lastgood salvage``: bring rows back that were written after the restore point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command, group
from lastgood.cli.complete import points, runs
from lastgood.cli.parameters import DryRun, Yes

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.salvage.salvage import Request

Tables = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="NAME", help="Only this table, or a pattern of names; can be repeated."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="NAME", help="Without this table, or a pattern of names; can be repeated."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="TABLE:CONDITION",
        help="Of this table, only rows that meet the SQL condition: \"contacts: owner = 'kim'\"; can be repeated.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only rows with a changed time stamp from this time on."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only rows with a changed time stamp before this time.")
]
Deletes = Annotated[bool, typer.Option("--deletes", help="Also delete rows that were deleted after the restore point.")]
OfMigration = Annotated[
    bool, typer.Option("--with-migration", help="Also take rows that the migration wrote, which are left out.")
]
Transactions = Annotated[
    list[int] | None,
    typer.Option("--transaction", metavar="NUMBER", help="Take the rows of this transaction; can be repeated."),
]
WithoutTransactions = Annotated[
    list[int] | None,
    typer.Option(
        "--without-transaction", metavar="NUMBER", help="Leave out the rows of this transaction; can be repeated."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="TABLE.COLUMN",
        help="Take all values of this column in rows written again after the migration; can be repeated.",
    ),
]
Renamed = Annotated[
    list[str] | None,
    typer.Option(
        "--renamed",
        metavar="NEW=OLD",
        help="What the migration renamed: people=contacts (a table), contacts.mail=email (a column); can be repeated.",
    ),
]
Parents = Annotated[bool, typer.Option("--with-parents", help="Also insert new rows to which chosen rows refer.")]
On = Annotated[
    list[str] | None,
    typer.Option(
        "--on",
        metavar="COLLISION=CHOICE",
        help="What to do about a collision: insert_exists=renumber, update_origin_differs=theirs; can be repeated.",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="POINT",
        help="The restore point that has the rows, such as an emergency backup (default: the kept database).",
        autocompletion=points,
    ),
]
BasePoint = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="POINT",
        help="The restore point from which both sides differ (default: the one of the rollback).",
        autocompletion=points,
    ),
]
OfRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="The rollback whose kept database is meant.", autocompletion=runs),
]


def show_default(
    session: Session,
    table: Tables = None,
    exclude: Exclude = None,
    renamed: Renamed = None,
    from_: Source = None,
    base: BasePoint = None,
    run: OfRun = None,
) -> int | None:
    """Show what can be brought back, without changing anything."""
    from lastgood.command.salvage import show as shown
    from lastgood.salvage import salvage

    request = _request(session, tables=table, exclude=exclude, renamed=renamed, source=from_, base=base, run=run)
    with session.work() as context, salvage.planned(request, context) as ready:
        plan = ready.plan
    session.result(plan.document(), lambda: shown.show_plan(session.screen, plan, proposing=True))
    return None


group_ = group(
    "salvage",
    "Bring back rows written after the restore point. Without a command: show what there is to bring back.",
    show_default,
    3,
    4,
    5,
)


def _request(
    session: Session,
    *,
    file: Path | None = None,
    tables: list[str] | None = None,
    exclude: list[str] | None = None,
    where: list[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    transactions: list[int] | None = None,
    without_transactions: list[int] | None = None,
    deletes: bool = False,
    migration: bool = False,
    columns: list[str] | None = None,
    renamed: list[str] | None = None,
    with_parents: bool = False,
    on: list[str] | None = None,
    source: str | None = None,
    base: str | None = None,
    run: str | None = None,
) -> Request:
    """The request: that of the plan file, if there is one, and the options."""
    from lastgood.command.salvage import plan_file
    from lastgood.salvage.plan import Chosen
    from lastgood.salvage.salvage import Request
    from lastgood.salvage.sides import Names

    begun = plan_file.read(file) if file is not None else plan_file.PlanFile()
    chosen = begun.chosen
    policies = plan_file.parse_policies(on or [], chosen.policies)
    return Request(
        target=session.target,
        store=session.settings.store,
        state=session.settings.state,
        names=Names(run=run or begun.run, source=source or begun.source, base=base or begun.base),
        chosen=Chosen(
            tables=tuple(tables or chosen.tables),
            exclude=tuple(exclude or chosen.exclude),
            where={**chosen.where, **plan_file.parse_conditions(where or [])},
            since=plan_file.moment("--since", since) or chosen.since,
            until=plan_file.moment("--until", until) or chosen.until,
            transactions=tuple(transactions or chosen.transactions),
            without_transactions=tuple(without_transactions or chosen.without_transactions),
            deletes=deletes or chosen.deletes,
            migration=migration or chosen.migration,
            columns=tuple(columns or chosen.columns),
            renamed=tuple(renamed or chosen.renamed),
            with_parents=with_parents or chosen.with_parents,
            policies=policies,
        ),
    )


@command("plan", 3, 4, 5, into=group_)
def plan_(
    session: Session,
    table: Tables = None,
    exclude: Exclude = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    transaction: Transactions = None,
    without_transaction: WithoutTransactions = None,
    deletes: Deletes = False,
    with_migration: OfMigration = False,
    column: Columns = None,
    renamed: Renamed = None,
    with_parents: Parents = False,
    on: On = None,
    from_: Source = None,
    base: BasePoint = None,
    run: OfRun = None,
) -> None:
    """Write the choice of rows as a plan file, to be edited and applied.

    The file has each table with rows that differ, and the numbers of rows in comments. Example:

    lastgood salvage plan > salvage.toml, then lastgood salvage apply salvage.toml
    """
    from lastgood.command.salvage import plan_file
    from lastgood.salvage import salvage

    request = _request(
        session,
        tables=table,
        exclude=exclude,
        where=where,
        since=since,
        until=until,
        transactions=transaction,
        without_transactions=without_transaction,
        deletes=deletes,
        migration=with_migration,
        columns=column,
        renamed=renamed,
        with_parents=with_parents,
        on=on,
        source=from_,
        base=base,
        run=run,
    )
    with session.work() as context, salvage.planned(request, context) as ready:
        plan = ready.plan
    session.result(plan.document(), lambda: print_(session, plan_file.text(plan, request.names)))


def print_(session: Session, text: str) -> None:
    """Print a file as it is."""
    session.screen.out.file.write(text)


@command("apply", 3, 4, 5, 7, into=group_)
def apply_(
    session: Session,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A plan file that `lastgood salvage plan` wrote.")
    ] = None,
    table: Tables = None,
    exclude: Exclude = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    transaction: Transactions = None,
    without_transaction: WithoutTransactions = None,
    deletes: Deletes = False,
    with_migration: OfMigration = False,
    column: Columns = None,
    renamed: Renamed = None,
    with_parents: Parents = False,
    on: On = None,
    from_: Source = None,
    base: BasePoint = None,
    run: OfRun = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Bring the chosen rows back, in one transaction.

    Compares the restore point with the kept database, and merges its changes into the live database by column. What
    the live database has changed since stays. Rows that the migration wrote, and deletions, are left out unless they
    are chosen. Triggers do not fire; foreign keys are checked. Examples:

    lastgood salvage apply --table contacts --since 2026-01-12T09:00Z

    lastgood salvage apply --on insert_exists=renumber --with-parents --dry-run
    """
    from lastgood.command.salvage import show as shown
    from lastgood.salvage import salvage

    request = _request(
        session,
        file=file,
        tables=table,
        exclude=exclude,
        where=where,
        since=since,
        until=until,
        transactions=transaction,
        without_transactions=without_transaction,
        deletes=deletes,
        migration=with_migration,
        columns=column,
        renamed=renamed,
        with_parents=with_parents,
        on=on,
        source=from_,
        base=base,
        run=run,
    )
    screen = session.screen
    with session.work() as context, salvage.planned(request, context) as ready:
        plan = ready.plan
        if dry_run:
            session.result(plan.document(), lambda: shown.show_plan(screen, plan))
            return
        if not plan.written:
            report = salvage.nothing_to_do(ready)
        else:
            if not session.settings.json and not (yes and session.settings.quiet):
                shown.show_plan(screen, plan)
            session.confirm("bring the rows back", plan.live, yes)
            report = salvage.salvage(ready, context)
    session.result(report.document(), lambda: shown.show_report(screen, report))


@command("undo", 3, 5, 7, into=group_)
def undo_(
    session: Session,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The salvage to undo (default: the newest).", autocompletion=runs),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Undo a salvage, as long as its rows are unchanged.

    Takes one transaction. It needs the state folder of the machine that the salvage ran on. An undo can be undone.
    """
    from lastgood.command.salvage import show as shown
    from lastgood.salvage import undo

    ready = undo.plan(session.target, session.settings.state, run)
    if dry_run:
        session.result(ready.plan.document(), lambda: shown.show_undo_plan(session.screen, ready.plan))
        return
    if not session.settings.json and not (yes and session.settings.quiet):
        shown.show_undo_plan(session.screen, ready.plan)
    session.confirm("undo the salvage", ready.plan.live, yes)
    with session.work() as context:
        report = undo.undo(ready, context)
    session.result(report.document(), lambda: shown.show_report(session.screen, report))
