"""Are the platform's own commands there, and does what judges the application after the switch answer?

A hook is never run here. An application that is down does not stop its rollback: what does not answer is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lastgood.application import HOOKS
from lastgood.application import health as asking
from lastgood.checklist import Finding, Seen
from lastgood.checks.subject import Subject
from lastgood.postgres.pgbouncer.judge import findings

# A health check is asked once, and not for long: the checklist is to be done in seconds.
PATIENCE = 2.0


def hooks(s: Subject) -> Iterator[Finding | Seen]:
    """Each program is there, and may be run; what else can be seen to be wrong without running anything."""
    application = s.request.application
    for problem in application.problems():
        yield Finding(
            level="refusal" if problem.stops else "caution",
            code="application",
            text=problem.text,
            hint=problem.hint,
            final=problem.stops,
        )
    given = [hook for hook in HOOKS if application.command(hook) is not None]
    if given:
        yield Seen(text=f"configured: {', '.join(given)}; none of them was run")
    else:
        yield Seen(text="no [hooks] in lastgood.toml: the application is not told, and meets the fence")


def health(s: Subject) -> Iterator[Finding | Seen]:
    """Asked once. What it answers before a rollback is no measure of what it will answer after it."""
    application = s.request.application
    if application.health is None:
        return
    once = application.health.model_copy(
        update={"deadline": 0.0, "time_limit": min(PATIENCE, application.health.time_limit)}
    )
    answer = asking.ask(replace(application, health=once))
    if answer.problem:
        yield Finding(
            level="caution",
            code="health",
            text=f'the health check "{answer.url}" is not well: {answer.problem}',
            hint="If that is more than what the rollback is to cure, correct [health] in lastgood.toml: after the "
            "switch it is the judge.",
            known="tried",
        )
    else:
        yield Seen(text=f'the health check "{answer.url}" is well', known="tried")


def poolers(s: Subject) -> Iterator[Finding | Seen]:
    """The console of each PgBouncer was asked: may we hold its clients back, and which?"""
    fence_now = s.request.fence == "now"
    for risk in findings(s.pools, s.request.pgbouncer, s.database.name, fence_now=fence_now):
        yield Finding(level=risk.level, code=risk.code, text=risk.text, hint=risk.hint, known="tried")
    for pool in s.pools:
        if not pool.trouble:
            names = ", ".join(f'"{each.name}"' for each in pool.databases) or "no database"
            yield Seen(text=f"{pool.place} answers: {names} of it leads to the live database", known="tried")
