"""``lastgood recover``: which emergency this is, and the way out of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lastgood.cli.application import command
from lastgood.cli.parameters import PACE, Attested, Before, BeforeMigration, DryRun, Overrides, Reasons, Yes
from lastgood.errors import BadPoint, Interrupted, Refused
from lastgood.events import Caution

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.recover.recover import Diagnosis, Proposal
    from lastgood.points import Verdict


@command("recover", 3, 4, 5, 6, 7, options=("fence", "reopen_when", "on_failure", "strict", "allow_orphans", *PACE))
def recover_(
    session: Session,
    latest: Annotated[bool, typer.Option("--latest", help="Go back to the newest valid restore point.")] = False,
    before: Before = None,
    before_migration: BeforeMigration = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Count what the audit table and counters tell since this time."),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every restore point, count every row, look everywhere.")
    ] = False,
    override: Overrides = None,
    reason: Reasons = None,
    attest: Attested = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int | None:
    """Say which emergency this is, and go back.

    Looks at the server, the live database and the restore points, says which emergency this is, why it thinks so and
    what it proposes, and does that after consent: rollback, undo, or a restore of a database that is gone. Looking
    changes nothing and takes seconds. Use it when you don't know what happened, when the backup is damaged, or when
    there is none.

    Ends with 4 when there is nothing to go back to, and with 3 when what is to be done is not for it to do.
    """
    from lastgood.cli.choice import choice_of, moment
    from lastgood.command.recover import recover
    from lastgood.command.recover import show as shown
    from lastgood.command.recover.recover import Inquiry, Wish

    choice = choice_of(None, latest, before, before_migration)
    wish = Wish(
        before=choice.before,
        before_migration=choice.before_migration,
        latest=latest,
        since=moment(since) if since is not None else None,
        thorough=thorough,
    )
    settings = session.settings
    inquiry = Inquiry(session.target, settings.store, settings.tables, wish)
    while True:
        with session.work() as (emit, cancelled):
            found = recover.look(inquiry, emit, cancelled)
            if cancelled():
                raise Interrupted("interrupted: the diagnosis is incomplete", state="Nothing was changed.")
        if found.emergency in ("server_unreachable", "database_missing") and not session.names_a_database:
            raise session.unnamed(found.reasons[0].text if found.reasons else found.title)
        if not settings.json and not (yes and settings.quiet):
            shown.show(session.screen, found)
        if found.hopeless or dry_run:
            session.result({"diagnosis": found.document(), "report": None}, lambda: None)
            return 4 if found.hopeless else None
        proposal = _choose(session, found, yes, asked=wish.chosen)
        answers = {"override": override, "reason": reason, "attest": attest}
        try:
            with session.framed(partial(_framed, found)):
                return _carry_out(session, found, proposal, yes, answers)
        except BadPoint as error:
            path = Path(proposal.name)
            if path in inquiry.known or wish.thorough:
                raise
            # Reading it to its end has shown what the quick look could not: once more, knowing that.
            with session.events() as emit:
                emit(Caution(f"{path.name} is no good after all: {error}"))
            inquiry = replace(inquiry, known={**inquiry.known, path: _verdict(error)})


def _framed(found: Diagnosis, report: dict[str, Any]) -> dict[str, Any]:
    return {"diagnosis": found.document(), "report": report}


def _choose(session: Session, found: Diagnosis, yes: bool, *, asked: bool) -> Proposal:
    """The proposal to carry out: with ``--yes``, and when it was ``asked`` for, the first one; at a terminal the one
    that is chosen by number. Raises Refused when it is not for us to do."""
    from lastgood.command.recover.recover import Proposal

    first = found.proposals[0]
    numbered = {str(each.number): each for each in found.timeline if each.number is not None}
    choosing = found.emergency in ("older_state", "unknown_state", "corrupt_backup")
    if choosing and not yes and not asked and session.interactive:
        proposed = next((str(each.number) for each in found.timeline if each.proposed), "")
        ask = f"a number, or Enter for {proposed}" if proposed else "its number, or Enter to leave everything as it is"
        session.screen.say(f"Which one? Type {ask}:", stderr=True, style="bold")
        answer = session.answer() or proposed
        if answer not in numbered:
            raise Refused(
                "cannot go on: no number of the list was typed" if answer else "nothing was chosen",
                hint="Run lastgood recover again to be asked again.",
            )
        each = numbered[answer]
        kind: Literal["undo", "rollback"] = "undo" if each.kind == "kept" else "rollback"
        matching = (p for p in found.proposals if p.kind == kind and p.name == each.path)
        chosen = Proposal(kind=kind, title="", detail="", name=each.path, commands=(), automatic=True)
        return next(matching, chosen).model_copy(update={"automatic": True})
    if first.kind == "by_hand":
        raise Refused(
            f"cannot go on by itself: {first.title}",
            hint=f"Run: {first.commands[0]}" if first.commands else first.detail,
            state=_state(found),
        )
    if not first.automatic:
        listed = any(each.path == first.name and each.kind == "dump" for each in found.timeline)
        raise Refused(
            f'cannot choose for you: nothing shows that "{found.live}" is damaged'
            if listed or first.kind == "undo"
            else f"cannot choose for you: only you can tell whether to {first.title}",
            hint="Say what you want: lastgood recover --latest, --before TIME or --before-migration VERSION."
            if listed
            else f"Run: {first.commands[0]}",
            state=_state(found),
        )
    return first


def _carry_out(
    session: Session, found: Diagnosis, proposal: Proposal, yes: bool, answers: dict[str, list[str] | None]
) -> int | None:
    """What the commands ``undo`` and ``rollback`` do, with their plans, questions and reports. ``answers``: to what
    rollback checks."""
    from lastgood.command.recover import news
    from lastgood.command.recover import show as shown
    from lastgood.command.recover.reinstate import reinstate
    from lastgood.command.rollback.command import roll_back
    from lastgood.command.rollback.undo import undo_

    if proposal.kind == "undo":
        undo_(session, run=proposal.name, yes=yes)
        return None
    if proposal.kind == "rollback":
        return roll_back(session, point=proposal.name, yes=yes, **answers)
    settings = session.settings
    session.confirm(f"restore {Path(proposal.name).name} as a new database of that name", found.live, yes)
    with session.news.telling("rollback", session.target, unattended=yes) as telling, session.events() as emit:
        done = reinstate(
            session.target.at(found.live),
            settings.store,
            proposal.name,
            telling.on_work(emit, "", partial(news.reinstating, found.live, proposal.name)),
            session.pace,
            strict=settings.strict,
            allow_orphans=settings.allow_orphans,
            state=settings.state,
        )
        telling.ended(partial(news.reinstated, done), done.run)
    session.result(done.document(), lambda: shown.show_reinstated(session.screen, done))
    return None


def _verdict(error: BadPoint) -> Verdict:
    from lastgood.points import Verdict, state_of

    return Verdict(state_of(error), str(error), error.hint, error.line, error.offset)


def _state(found: Diagnosis) -> str:
    return f'"{found.live}" is as it was: nothing was changed.'
