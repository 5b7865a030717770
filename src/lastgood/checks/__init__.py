"""The checks behind the checklist's items, made before anything is changed. One module per item, one function per
check; each yields its results: a ``Finding`` against a rollback, or a ``Passed`` for a check that passed.

A refusal: the run would fail, or lose something that the operator did not agree to lose. A caution: a fact that the
operator must know. To add a check, write a function and list it under its item in ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from lastgood.checklist import BACKUP, EXTENSIONS, Finding, Passed
from lastgood.checks import (
    application,
    backup,
    code,
    extensions,
    in_place,
    point,
    privileges,
    rehearsal,
    room,
    sessions,
    settings,
    versions,
)
from lastgood.checks.subject import PointReading, Subject, way_of
from lastgood.plan.plan import Way

__all__ = ["CHECKS", "Check", "PointReading", "Subject", "findings", "results", "way_of"]

Check = Callable[[Subject], Iterator[Finding | Passed]]

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
        code.second_login,
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
    "in_place": (
        in_place.able,
        in_place.objects,
        in_place.outside,
        in_place.keys_with_code,
        in_place.late_views,
        in_place.left_behind,
        in_place.scope,
    ),
    EXTENSIONS: (extensions.members, extensions.rows),
    "holders": (sessions.holders, sessions.unfinished),
    "sessions": (sessions.terminable, sessions.locked_tables, sessions.locks, sessions.connections),
    "application": (application.hooks, application.health, application.poolers),
    "rehearsal": (rehearsal.rehearsed, rehearsal.expected),
}

# Checks that only an exchange of names needs.
BY_NAME: frozenset[Check] = frozenset(
    {
        privileges.databases,
        privileges.fence,
        privileges.owners,
        privileges.signals,
        settings.carried_over,
        versions.tablespaces,
        sessions.holders,
        sessions.terminable,
    }
)

# What the rights of this role decide, for each way.
RIGHTS: Mapping[Way, frozenset[Check]] = {
    "by-name": frozenset(
        {privileges.databases, privileges.fence, privileges.owners, settings.carried_over, sessions.terminable}
    ),
    "in-place": frozenset({in_place.able, in_place.objects, in_place.left_behind}),
}


def results(subject: Subject) -> tuple[Finding | Passed, ...]:
    """Run all checks: their results, item by item. If this role's rights refuse one way to switch, the last result is
    about the other one."""
    found = [
        (check, result.model_copy(update={"item": item}))
        for item, checks in CHECKS.items()
        for check in checks
        if subject.in_place is None or check not in BY_NAME
        for result in check(subject)
    ]
    own = RIGHTS["by-name" if subject.in_place is None else "in-place"]
    refused = any(check in own and isinstance(each, Finding) and each.level == "refusal" for check, each in found)
    return *(result for _, result in found), *(in_place.other_way(subject) if refused else ())


def findings(results: Iterable[Finding | Passed]) -> tuple[Finding, ...]:
    """The findings among the results, refusals first."""
    order = {"refusal": 0, "caution": 1, "note": 2}
    unsorted = [each for each in results if isinstance(each, Finding)]
    return tuple(sorted(unsorted, key=lambda finding: order[finding.level]))
