"""Do the programs of the hooks exist, and does the health check answer?

No hook is run here. An application that is down does not stop its rollback: a failed check is only a caution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lastgood.application import HOOKS
from lastgood.application import health as asking
from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.postgres.pgbouncer.obstacles import findings

# The time limit of the one request: the checklist takes seconds.
PATIENCE = 2.0


def hooks(s: Subject) -> Iterator[Finding | Passed]:
    """Each program exists and is executable; other faults that are visible without running anything."""
    application = s.request.application
    for problem in application.problems():
        yield Finding(
            level="refusal" if problem.stops else "caution",
            code="application",
            text=problem.text,
            hint=problem.hint,
            final=problem.stops,
        )
    configured = [hook for hook in HOOKS if application.command(hook) is not None]
    if configured:
        yield Passed(text=f"configured: {', '.join(configured)}; none of them was run")
    else:
        writes = "its writes wait at the switch" if s.in_place is not None else "its writes fail at the fence"
        yield Passed(text=f"no [hooks] in lastgood.toml: the application is not stopped, and {writes}")


def health(s: Subject) -> Iterator[Finding | Passed]:
    """The health check, tried once. Its result before a rollback does not predict the result after it."""
    application = s.request.application
    if application.health is None:
        return
    once = application.health.model_copy(
        update={"deadline": 0.0, "time_limit": min(PATIENCE, application.health.time_limit)}
    )
    response = asking.check_health(replace(application, health=once))
    if response.problem:
        yield Finding(
            level="caution",
            code="health",
            text=f'health check "{response.url}" failed: {response.problem}',
            hint="If the rollback cannot fix this, correct [health] in lastgood.toml: the same check decides "
            "after the switch.",
            known="tried",
        )
    else:
        yield Passed(text=f'health check "{response.url}" passed', known="tried")


def poolers(s: Subject) -> Iterator[Finding | Passed]:
    """The databases of each PgBouncer that lead to the live database, and the right to pause them."""
    fence_now = s.request.fence == "now"
    for risk in findings(s.pools, s.request.pgbouncer, s.database.name, fence_now=fence_now):
        yield Finding(level=risk.level, code=risk.code, text=risk.text, hint=risk.hint, known="tried")
    for pool in s.pools:
        if not pool.problem:
            names = ", ".join(f'"{each.name}"' for each in pool.databases)
            verb = "lead" if len(pool.databases) > 1 else "leads"
            text = f"its {names} {verb} to the live database" if names else "no database of it leads to the live one"
            yield Passed(text=f"{pool.place} answers: {text}", known="tried")
