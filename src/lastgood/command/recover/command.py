"""``lastgood recover``: diagnose an emergency and roll back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lastgood.cli.application import command
from lastgood.cli.parameters import (
    CODE,
    PACE,
    Attested,
    Before,
    BeforeMigration,
    Comparing,
    DryRun,
    Overrides,
    Reasons,
    Yes,
)
from lastgood.errors import BadPoint, Refused
from lastgood.events import Caution

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.recover.recover import Diagnosis, Proposal
    from lastgood.points import PointVerdict

NOTHING_CHANGED = "Nothing was changed."


@command(
    "recover",
    3,
    4,
    5,
    6,
    7,
    options=("fence", "reopen_when", "on_failure", "strict", "allow_orphans", *CODE, *PACE),
)
def recover_(
    session: Session,
    latest: Annotated[bool, typer.Option("--latest", help="Roll back to the newest valid restore point.")] = False,
    before: Before = None,
    before_migration: BeforeMigration = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Count changes in the audit table since this time."),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every restore point, count every row, search all sources.")
    ] = False,
    compare: Comparing = None,
    override: Overrides = None,
    reason: Reasons = None,
    attest: Attested = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int | None:
    """Diagnose the emergency and roll back.

    Examines the server, the live database and the restore points, and prints the emergency, its reasons and a proposal.
    After confirmation it carries out the proposal: a rollback, an undo, or the restore of a missing database. The
    diagnosis takes seconds and changes nothing. Use it when the cause is unknown, or when the backup is damaged or
    missing.

    Exits with 4 if there is nothing to roll back to, and with 3 if the next step must be done by hand.
    """
    from lastgood.cli.choice import choice_of, compare_of, moment
    from lastgood.command.recover import recover
    from lastgood.command.recover import show as shown
    from lastgood.command.recover.recover import Goal, RecoverInquiry

    choice = choice_of(None, latest, before, before_migration)
    goal = Goal(
        before=choice.before,
        before_migration=choice.before_migration,
        latest=latest,
        since=moment(since) if since is not None else None,
        thorough=thorough,
        compare=compare_of(compare),
    )
    settings = session.settings
    inquiry = RecoverInquiry(session.target, settings.store, settings.tables, goal)
    while True:
        with session.work() as context:
            found = recover.inspect(inquiry, context)
            context.check("interrupted: the diagnosis is incomplete", state=NOTHING_CHANGED)
        if found.emergency in ("server_unreachable", "database_missing") and not session.names_a_database:
            raise session.unnamed(found.reasons[0].text if found.reasons else found.title)
        if not settings.json and not (yes and settings.quiet):
            shown.show(session.screen, found)
        if found.unrecoverable or dry_run:
            session.result({"diagnosis": found.document(), "report": None}, lambda: None)
            return 4 if found.unrecoverable else None
        proposal = _choose(session, found, yes, asked=goal.chosen)
        answers = {"override": override, "reason": reason, "attest": attest, "compare": compare}
        try:
            with session.framed(partial(_framed, found)):
                return _carry_out(session, found, proposal, yes, answers)
        except BadPoint as error:
            path = Path(proposal.name)
            if path in inquiry.known or goal.thorough:
                raise
            # Reading it to its end has shown damage that the quick check missed: diagnose again with that verdict.
            with session.events() as emit:
                emit(Caution(f"restore point {path.name} failed verification: {error}"))
            inquiry = replace(inquiry, known={**inquiry.known, path: _verdict(error)})


def _framed(found: Diagnosis, report: dict[str, Any]) -> dict[str, Any]:
    return {"diagnosis": found.document(), "report": report}


def _choose(session: Session, found: Diagnosis, yes: bool, *, asked: bool) -> Proposal:
    """Return the proposal to carry out: the first one with ``--yes`` or when it was ``asked`` for, at a terminal the
    one chosen by number. Raises Refused when it must be done by hand."""
    from lastgood.command.recover.recover import Proposal

    first = next(each for each in found.proposals if each.kind != "leave")
    numbered = {str(each.number): each for each in found.timeline if each.number is not None}
    choosing = found.emergency in ("older_state", "unknown_state", "corrupt_backup")
    if choosing and not yes and not asked and session.interactive:
        proposed = next((str(each.number) for each in found.timeline if each.proposed), "")
        ask = (
            f"a number, or Enter to continue with {proposed}" if proposed else "its number, or Enter to change nothing"
        )
        session.screen.say(f"Which one? Type {ask}:", stderr=True, style="bold")
        answer = session.answer() or proposed
        if answer not in numbered:
            raise Refused(
                "cannot continue: the answer is not a number of the list"
                if answer
                else "cannot continue: nothing was chosen",
                hint="To repeat the diagnosis: lastgood recover",
            )
        each = numbered[answer]
        kind: Literal["undo", "rollback"] = "undo" if each.kind == "kept" else "rollback"
        matching = (p for p in found.proposals if p.kind == kind and p.name == each.path)
        chosen = Proposal(kind=kind, title="", detail="", name=each.path, automatic=True)
        return next(matching, chosen).model_copy(update={"automatic": True})
    if first.kind == "by_hand":
        raise Refused(
            f"cannot continue automatically: {first.title}",
            hint=f"Run: {first.commands[0]}" if first.commands else first.detail,
            state=NOTHING_CHANGED,
        )
    if not first.automatic:
        listed = any(each.path == first.name and each.kind == "dump" for each in found.timeline)
        raise Refused(
            f'cannot choose automatically: "{found.live}" shows no damage'
            if listed or first.kind == "undo"
            else f"cannot choose automatically: decide yourself whether to {first.title}",
            hint="Select a state: lastgood recover --latest, --before TIME or --before-migration VERSION."
            if listed
            else f"Run: {first.commands[0]}",
            state=NOTHING_CHANGED,
        )
    return first


def _carry_out(
    session: Session, found: Diagnosis, proposal: Proposal, yes: bool, answers: dict[str, Any]
) -> int | None:
    """Run the commands ``undo`` or ``rollback`` with their plans, questions and reports. ``answers``: the overrides and
    attestations for the checklist, and how rows are compared."""
    from lastgood.command.recover import show
    from lastgood.command.recover import show as shown
    from lastgood.command.recover.reinstate import reinstate
    from lastgood.command.rollback.command import roll_back
    from lastgood.command.rollback.undo import undo_
    from lastgood.load.repairs import Rules

    if proposal.kind == "undo":
        undo_(session, run=proposal.name, yes=yes)
        return None
    if proposal.kind == "rollback":
        return roll_back(session, point=proposal.name, yes=yes, **answers)
    settings = session.settings
    session.confirm(f"restore {Path(proposal.name).name} as a new database with the live name", found.live, yes)
    with session.news.notifying("rollback", session.target, unattended=yes) as notifier, session.events() as emit:
        emit = notifier.on_work(emit, "", partial(show.reinstating, found.live, proposal.name))
        done = reinstate(
            session.target.at(found.live),
            settings.store,
            proposal.name,
            session.context(emit),
            rules=Rules(strict=settings.strict, allow_orphans=settings.allow_orphans),
            policy=session.code_policy,
        )
        notifier.ended(partial(show.reinstated, done), done.run)
    session.result(done.document(), lambda: shown.show_reinstated(session.screen, done))
    return None


def _verdict(error: BadPoint) -> PointVerdict:
    from lastgood.points import PointVerdict, state_of

    return PointVerdict(state_of(error), str(error), error.hint, error.line, error.offset)
