"""``lastgood salvage``: bring rows back that were written after the restore point."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command, group
from lastgood.cli.complete import points, runs
from lastgood.cli.parameters import DryRun, Yes

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.salvage.salvage import SalvageRequest


@dataclass(frozen=True, slots=True)
class Scope:
    """The options of the listing: tables, and the sides."""

    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only this table, or a pattern of names; can be repeated."),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="NAME", help="Without this table, or a pattern of names; can be repeated."),
    ] = None
    renamed: Annotated[
        list[str] | None,
        typer.Option(
            "--renamed",
            metavar="NEW=OLD",
            help="What the migration renamed, people=contacts (a table) or contacts.mail=email (a column); "
            "can be repeated.",
        ),
    ] = None
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="POINT",
            help="The restore point that has the rows, such as an emergency backup (default: the kept database).",
            autocompletion=points,
        ),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="POINT",
            help="The restore point from which both sides differ (default: the one of the rollback).",
            autocompletion=points,
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="The rollback whose kept database is meant.", autocompletion=runs),
    ] = None


@dataclass(frozen=True, slots=True)
class RowChoice(Scope):
    """The options that choose rows."""

    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="TABLE:CONDITION",
            help="Of this table, only rows that meet the SQL condition: \"contacts: owner = 'kim'\"; can be repeated.",
        ),
    ] = None
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only rows with a changed time stamp from this time on."),
    ] = None
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Only rows with a changed time stamp before this time."),
    ] = None
    transaction: Annotated[
        list[int] | None,
        typer.Option("--transaction", metavar="NUMBER", help="Take the rows of this transaction; can be repeated."),
    ] = None
    without_transaction: Annotated[
        list[int] | None,
        typer.Option(
            "--without-transaction", metavar="NUMBER", help="Leave out the rows of this transaction; can be repeated."
        ),
    ] = None
    by_user: Annotated[
        list[str] | None,
        typer.Option(
            "--by-user", metavar="NAME", help="Only rows that this user wrote, by the audit table; can be repeated."
        ),
    ] = None
    by_transaction: Annotated[
        list[int] | None,
        typer.Option(
            "--by-transaction",
            metavar="NUMBER",
            help="Only rows that this transaction wrote, by the audit table; can be repeated.",
        ),
    ] = None
    deletes: Annotated[
        bool, typer.Option("--deletes", help="Also delete rows that were deleted after the restore point.")
    ] = False
    with_migration: Annotated[
        bool, typer.Option("--with-migration", help="Also take rows that the migration wrote, which are left out.")
    ] = False
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="TABLE.COLUMN",
            help="Take all values of this column in rows written again after the migration; can be repeated.",
        ),
    ] = None
    merge_json: Annotated[
        list[str] | None,
        typer.Option(
            "--merge-json",
            metavar="TABLE.COLUMN",
            help="Merge the JSON objects of this column by their top-level keys; can be repeated.",
        ),
    ] = None
    with_parents: Annotated[
        bool, typer.Option("--with-parents", help="Also insert new rows to which chosen rows refer.")
    ] = False
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="COLLISION=CHOICE",
            help="What to do about a collision: insert_exists=renumber, update_origin_differs=theirs; can be repeated.",
        ),
    ] = None


def show_default(session: Session, scope: Scope) -> int | None:
    """Show what can be brought back, without changing anything."""
    from lastgood.command.salvage import show as shown
    from lastgood.salvage import salvage

    with session.work() as context, salvage.planned(_request(session, scope), context) as ready:
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


def _request(session: Session, scope: Scope, file: Path | None = None, *, to_be_edited: bool = False) -> SalvageRequest:
    """The request: that of the plan file, if there is one, and the options. ``to_be_edited``: rows may be named before
    it is applied."""
    from lastgood.cli import combinations
    from lastgood.command.salvage import plan_file
    from lastgood.salvage.salvage import SalvageRequest
    from lastgood.salvage.sides import Names

    begun = plan_file.read(file) if file is not None else plan_file.PlanFile()
    names = Names(run=scope.run or begun.run, source=scope.from_ or begun.source, base=scope.base or begun.base)
    chosen = plan_file.with_options(begun.chosen, asdict(scope))
    combinations.refuse("salvage", plan_file.as_options(names, chosen, to_be_edited=to_be_edited))
    return SalvageRequest(
        target=session.target,
        store=session.settings.store,
        state=session.settings.state,
        names=names,
        chosen=chosen,
        audit=session.settings.tables.recover.audit,
    )


@command("plan", 3, 4, 5, into=group_)
def plan_(session: Session, choice: RowChoice) -> None:
    """Write the choice of rows as a plan file, to be edited and applied.

    The file has each table with rows that differ, and the numbers of rows in comments. Example:

    lastgood salvage plan > salvage.toml, then lastgood salvage apply salvage.toml
    """
    from lastgood.command.salvage import plan_file
    from lastgood.salvage import salvage

    request = _request(session, choice, to_be_edited=True)
    with session.work() as context, salvage.planned(request, context) as ready:
        plan = ready.plan
    session.result(plan.document(), lambda: print_(session, plan_file.text(plan, request.names)))


@command("choose", 3, 4, 5, into=group_)
def choose_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The plan file to write.")] = Path("salvage.toml"),
    *,
    choice: RowChoice,
) -> None:
    """Choose tables and rows on the terminal, and write them as a plan file.

    Lists the tables with rows that differ, and the rows of a table. Those that `lastgood salvage apply` would bring
    back are ticked; numbers, ranges, "all" and "none" tick or clear. The options decide what is ticked at first.
    """
    from lastgood.command.salvage import choose
    from lastgood.errors import Refused, UsageError
    from lastgood.salvage import salvage
    from lastgood.salvage.listing import Listing

    if file.exists():
        raise UsageError(f'cannot write "{file}": it exists', hint="Name another file: lastgood salvage choose FILE")
    if not session.interactive:
        raise Refused(
            "cannot choose rows: this needs a terminal" + (", without --json" if session.settings.json else ""),
            hint="To choose without one: lastgood salvage plan > salvage.toml, then edit it.",
        )
    request = _request(session, choice, to_be_edited=True)
    hidden = session.settings.tables.diff.hidden
    with Listing(choose.page_size(session.screen), hidden) as listing:
        with session.work() as context, salvage.planned(request, context, listing.read) as ready:
            plan = ready.plan
        choose.choose(session.screen, session.answer, plan, request.names, listing, file)


def print_(session: Session, text: str) -> None:
    """Print a file as it is."""
    session.screen.out.file.write(text)


@command("apply", 3, 4, 5, 7, into=group_)
def apply_(
    session: Session,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A plan file that `lastgood salvage plan` wrote.")
    ] = None,
    *,
    choice: RowChoice,
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

    screen = session.screen
    with session.work() as context, salvage.planned(_request(session, choice, file), context) as ready:
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
