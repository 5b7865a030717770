"""The chosen restore point, the overrides and the attestations, from the parameters in ``parameters``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from lastgood import config
from lastgood.checklist import Attestation, Override, check_names
from lastgood.cli.parameters import Level
from lastgood.errors import UsageError
from lastgood.journal import caller
from lastgood.plan.loss import Compare
from lastgood.plan.plan import Choice, Way

_LEVELS: dict[Level, Compare] = {Level.count: "count", Level.digest: "digest", Level.none: "none"}


def choice_of(
    point: str | None, latest: bool, before: str | None, before_migration: str | None, elsewhere: str | None = None
) -> Choice:
    """Return the choice; ``elsewhere`` is the URL of ``--from``. Raises UsageError for contradicting options."""
    ways = {
        "POINT": point,
        "--latest": latest,
        "--before": before,
        "--before-migration": before_migration,
        "--from": elsewhere,
    }
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise UsageError(
            f"cannot choose a restore point: {' and '.join(given)} contradict each other",
            hint="Give one of them.",
            state=config.NOTHING_READ,
        )
    return Choice(point=point, before=moment(before) if before is not None else None, before_migration=before_migration)


def way_of(in_place: bool | None) -> Way | None:
    """Return the way to switch that ``--in-place`` or ``--by-name`` asks for; None without them."""
    return None if in_place is None else "in-place" if in_place else "by-name"


def compare_of(level: Level | None) -> Compare:
    """Return how the plan compares rows: it counts them by default."""
    return _LEVELS[level or Level.count]


def moment(text: str) -> datetime:
    """Parse a time in ISO 8601 (a date is its midnight), in UTC unless it has a zone. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    except ValueError as error:
        raise UsageError(
            f'cannot read the time "{text}": not in ISO 8601',
            hint="Use a format like 2025-11-04T14:30 (UTC) or 2025-11-04T14:30+01:00.",
            state=config.NOTHING_READ,
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def answers(
    overrides: Sequence[str] | None,
    reasons: Sequence[str] | None,
    attested: Iterable[str] | None,
    people: Sequence[str],
) -> tuple[tuple[Override, ...], tuple[Attestation, ...]]:
    """Return the overrides and attestations, with their authors and times. ``people``: items that only people attest.

    Raises UsageError.
    """
    overrides, reasons = overrides or (), [each.strip() for each in reasons or ()]
    if not all(reasons):
        raise UsageError(
            "cannot override: a --reason is empty",
            hint="Each --override ITEM needs a --reason TEXT, which is recorded.",
            state=config.NOTHING_READ,
        )
    if len(reasons) not in ({0} if not overrides else {1, len(overrides)}):
        raise UsageError(
            f"cannot override: {len(overrides)} --override and {len(reasons)} --reason do not match"
            if reasons
            else f'cannot override "{overrides[0]}": no reason is given',
            hint="Each --override ITEM needs a --reason TEXT, which is recorded.",
            state=config.NOTHING_READ,
        )
    now, me = datetime.now(UTC), caller.user()
    given = [
        Override(item=item, reason=reasons[number if len(reasons) > 1 else 0], by=me, at=now)
        for number, item in enumerate(overrides)
    ]
    words = []
    for each in attested or ():
        item, _, name = (part.strip() for part in each.rpartition("="))
        if not item or not name:
            raise UsageError(
                f'cannot read --attest "{each}": not of the form ITEM=NAME',
                hint='For example: --attest "the team is informed=Ann"',
                state=config.NOTHING_READ,
            )
        words.append(Attestation(item=item, name=name, at=now))
    check_names(given, words, people)
    return tuple(given), tuple(words)
