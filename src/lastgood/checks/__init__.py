"""What the checklist's items are made of, measured before anything is changed. One module an item, one function a
check; each yields what it found: a ``Finding`` that speaks against a rollback, or that something is well (``Seen``).

A refusal is a thing that would make the run fail, or lose something that nobody asked to lose. A caution is a thing
that the operator has to know. To add a check, write a function and list it under its item in ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from lastgood.checklist import BACKUP, EXTENSIONS, Finding, Seen
from lastgood.checks import (
    application,
    backup,
    extensions,
    holding,
    point,
    privileges,
    rehearsal,
    room,
    sessions,
    settings,
    versions,
)
from lastgood.checks.subject import Reading, Subject

__all__ = ["CHECKS", "Check", "Reading", "Subject", "found", "look"]

Check = Callable[[Subject], Iterator[Finding | Seen]]

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "restore_point": (point.made, point.age, point.same_database, point.changed, point.partial),
    "room": (room.data, room.wal),
    BACKUP: (backup.program, backup.room, backup.checksums, backup.readable),
    "privileges": (
        privileges.standby,
        privileges.pooler,
        privileges.read_only,
        privileges.databases,
        privileges.fence,
        privileges.owners,
        privileges.signals,
        settings.carried_over,
    ),
    "versions": (
        versions.server,
        versions.point,
        versions.encoding,
        versions.roles,
        versions.extensions,
        versions.tablespaces,
    ),
    EXTENSIONS: (extensions.members, extensions.rows),
    "holders": (holding.holders, holding.unfinished),
    "sessions": (sessions.killable, sessions.shut, sessions.locks, sessions.connections),
    "application": (application.hooks, application.health, application.poolers),
    "rehearsal": (rehearsal.rehearsed, rehearsal.expected),
}


def look(subject: Subject) -> tuple[Finding | Seen, ...]:
    """All that is found, item by item."""
    return tuple(
        one.model_copy(update={"item": item})
        for item, checks in CHECKS.items()
        for check in checks
        for one in check(subject)
    )


def found(looked: Iterable[Finding | Seen]) -> tuple[Finding, ...]:
    """The findings alone, refusals first."""
    order = {"refusal": 0, "caution": 1, "note": 2}
    findings = [each for each in looked if isinstance(each, Finding)]
    return tuple(sorted(findings, key=lambda finding: order[finding.level]))
