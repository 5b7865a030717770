"""Are the platform's own commands there, and does what judges the application after the switch answer?

A hook is never run here. An application that is down does not stop its rollback: what does not answer is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lastgood.application import HOOKS
from lastgood.checklist import Finding, Seen
from lastgood.checks.subject import Subject
from lastgood.config.tables import Tables
from lastgood.postgres import pgbouncer

Probe = Callable[[Tables], Iterator[Finding | Seen]]
# Each asks one outsider of the run (the health URL, a pooler's console), once and not for long.
PROBES: tuple[Probe, ...] = ()


def hooks(s: Subject) -> Iterator[Finding | Seen]:
    """Each program is there, and may be run; what is stopped is started again; variables that are named are set."""
    application = s.request.application
    for each in application.problems():
        yield Finding(
            level="refusal" if each.stops else "caution",
            code="application",
            text=each.text,
            hint=each.hint,
            known="tried",
            final=each.stops,  # the run would only fail at it later
        )
    given = [name for name in HOOKS if application.command(name) is not None]
    for name in given:
        if found := application.found(name):
            yield Seen(text=f'the hook "{name}" is there: {found}; it was not run')
    if not given:
        yield Seen(text="no [hooks] in lastgood.toml: the application is not told, and meets the fence")


def health(s: Subject) -> Iterator[Finding | Seen]:
    """Everybody outside who will be asked."""
    for probe in PROBES:
        yield from probe(s.request.tables)


def poolers(s: Subject) -> Iterator[Finding | Seen]:
    """The console of each PgBouncer was asked: may we hold its clients back, and which?"""
    fence_now = s.request.fence == "now"
    for risk in pgbouncer.findings(s.pools, s.request.pgbouncer, s.database.name, fence_now=fence_now):
        yield Finding(level=risk.level, code=risk.code, text=risk.text, hint=risk.hint, known="tried")
    for pool in s.pools:
        if not pool.trouble:
            names = ", ".join(f'"{each.name}"' for each in pool.databases) or "no database"
            yield Seen(text=f"{pool.place} answers: {names} of it leads to the live database", known="tried")
