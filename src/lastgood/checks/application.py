"""Are the platform's own commands there, and does what judges the application after the switch answer?

A hook is never run here. An application that is down does not stop its rollback: what does not answer is told.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from lastgood.checklist import Finding, Seen
from lastgood.checks.subject import Subject
from lastgood.config.tables import Tables
from lastgood.postgres import pgbouncer

HOOKS = ("maintenance_on", "maintenance_off", "stop", "start", "smoke")

Probe = Callable[[Tables], Iterator[Finding | Seen]]
# Each asks one outsider of the run (the health URL, a pooler's console), once and not for long.
PROBES: tuple[Probe, ...] = ()


def hooks(s: Subject) -> Iterator[Finding | Seen]:
    """Each program is there, and may be run."""
    given = {name: command for name in HOOKS if (command := getattr(s.request.tables.hooks, name)) is not None}
    for name, command in given.items():
        if trouble := _trouble(command[0]):
            yield Finding(
                level="refusal",
                code="missing_hook",
                text=f'the hook "{name}" can\'t be run: {trouble}',
                hint="Correct [hooks] in lastgood.toml; a hook is a list of a program and its arguments.",
                known="tried",
            )
        else:
            yield Seen(text=f'the hook "{name}" is there: {shutil.which(command[0])}; it was not run')
    if not given:
        yield Seen(text="no [hooks] in lastgood.toml: the application is not told, and meets the fence")


def _trouble(program: str) -> str:
    """Why a program can't be run, in words; empty when it can."""
    if shutil.which(program) is not None:
        return ""
    path = Path(program)
    if os.sep not in program:
        return f'there is no "{program}" on PATH'
    if not path.exists():
        return f'there is no "{program}"'
    return f'"{program}" is no file' if not path.is_file() else f'"{program}" is not executable'


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
