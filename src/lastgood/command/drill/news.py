"""Notifications about a drill."""

from __future__ import annotations

from pathlib import Path

from lastgood.command.drill.drill import DrillEvidence, Sealed, StoreEvidence
from lastgood.screen.news import Story
from lastgood.text import units

NAMED = 3


def begun(live: str) -> Story:
    """The notification at the start."""
    return Story(
        events=frozenset({"start"}),
        title="drill started",
        event=f'A rollback of "{live}" is being rehearsed on a scratch server.',
        state=f'"{live}" is not touched.',
        next="No action needed.",
    )


def ended(sealed: Sealed) -> Story:
    """The notification at the end."""
    found = sealed.evidence
    return _drill(found, sealed) if isinstance(found, DrillEvidence) else _store(found, sealed)


def _drill(found: DrillEvidence, sealed: Sealed) -> Story:
    point = Path(found.point.path).name
    passed = found.status == "passed"
    failed = [proof.title for proof in found.proofs if not proof.holds]
    if found.failure is not None:
        failed = [found.failure.message, *failed]
    return Story(
        events=frozenset({"success" if passed else "failure"}),
        title="drill passed" if passed else "drill FAILED",
        event=f'The rollback of "{found.live}" to {point} was rehearsed'
        + (" in all phases, and every table was verified." if passed else f", and failed: {'; '.join(failed)}."),
        state=f'"{found.live}" was not touched.',
        next=_next(sealed)
        if passed
        else "Find the cause, then drill again. Until then, do not rely on this procedure.",
        figures=(
            ("Duration", units.duration(found.seconds)),
            ("Real rollback", units.roughly(found.expected.seconds) if found.expected is not None else ""),
            ("Last drill", found.compared.summary if found.compared is not None else ""),
        ),
    )


def _store(found: StoreEvidence, sealed: Sealed) -> Story:
    bad = [each for each in found.points if not each.proved]
    named = units.listed((f"{each.name} ({each.verdict})" for each in bad), NAMED, "; ")
    return Story(
        events=frozenset({"failure" if bad else "success"}),
        title=f"{len(found.points) - len(bad)} of {units.counted(len(found.points), 'restore point')} proved",
        event=f"Every restore point of {found.store} was restored on a scratch server. "
        + (f"Not proved: {named}." if bad else "Each one is proved equal."),
        state=f'"{found.live}" was not touched.',
        next="Make a new restore point: lastgood backup" if bad else _next(sealed),
        figures=(("Duration", units.duration(found.seconds)),),
    )


def _next(sealed: Sealed) -> str:
    if sealed.signatures:
        return "No action needed."
    return f"Sign off the evidence: lastgood drill --sign {sealed.evidence.run} --by NAME"
