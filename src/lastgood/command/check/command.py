"""``lastgood check``: the checklist before a rollback."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command
from lastgood.cli.parameters import (
    CODE,
    PACE,
    Attested,
    Before,
    BeforeMigration,
    InPlace,
    Latest,
    Overrides,
    Point,
    Reasons,
)

if TYPE_CHECKING:
    from lastgood.checklist import Attestation
    from lastgood.cli.session import Session


@command("check", 3, 5, options=("fence", *CODE, *PACE))
def check(
    session: Session,
    point: Point = None,
    latest: Latest = False,
    before: Before = None,
    before_migration: BeforeMigration = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read the restore point from end to end, as a rollback does.")
    ] = False,
    in_place: InPlace = None,
    capabilities: Annotated[
        bool,
        typer.Option(
            "--capabilities", help="Show only what this role may do for an exchange in place. Each right is tried."
        ),
    ] = False,
    override: Overrides = None,
    reason: Reasons = None,
    attest: Attested = None,
) -> int | None:
    """Run the checklist before a rollback.

    Checks the restore point, disk space, privileges, versions, dependencies on the database, sessions and hooks, and
    estimates the duration. Changes nothing. The verdict is GO, GO WITH WARNINGS or NO-GO; NO-GO exits with 3.
    `lastgood rollback` runs the same checklist first.
    """
    from lastgood.cli.choice import answers, choice_of, way_of
    from lastgood.command.check import show as shown
    from lastgood.command.check.check import check as run_check
    from lastgood.command.check.check import rights

    settings = session.settings
    people = settings.tables.check.attested
    overrides, attestations = answers(override, reason, attest, people)
    request = replace(
        session.request,
        choice=choice_of(point, latest, before, before_migration),
        fence=settings.fence,
        way=way_of(in_place),
        overrides=overrides,
        attestations=(*attestations, *_asked(session, people, {each.item for each in attestations})),
    )
    if capabilities:
        able = rights(request.target)
        session.result(able.document(), lambda: shown.show_rights(session.screen, able))
        return None
    with session.events() as emit:
        report = run_check(request, thorough=thorough, emit=emit)
    session.result(report.document(), lambda: shown.show(session.screen, report))
    return 3 if report.checklist.verdict == "NO-GO" else None


def _asked(session: Session, people: tuple[str, ...], answered: set[str]) -> list[Attestation]:
    """Ask at a terminal who confirms the items that cannot be measured. An empty answer means that the item stays
    unconfirmed."""
    from lastgood.checklist import Attestation

    attestations = []
    for item in people:
        if item in answered or not session.interactive:
            continue
        session.screen.say(f'Who confirms "{item}"? Enter a name, or leave it empty:', stderr=True, style="bold")
        try:
            name = session.answer()
        except EOFError:
            break
        if name:
            attestations.append(Attestation(item=item, name=name, at=datetime.now(UTC)))
    return attestations
