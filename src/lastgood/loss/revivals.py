"""Rows and grants that a rollback brings back to life: they were removed since the restore point, perhaps on purpose.

A name only suggests what a table holds, so these are remarks for people, and no rule refuses a rollback for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lastgood.config.tables import Loss
from lastgood.loss.patterns import matches
from lastgood.plan.loss import Revival, RevivalKind, TableLoss

# Kinds where a changed row matters as much as a deleted one: a consent is revoked and work marked as done by an UPDATE.
_CHANGED: tuple[RevivalKind, ...] = ("consent", "access", "queue", "schedule")


def revivals(losses: Sequence[TableLoss], rules: Loss) -> tuple[Revival, ...]:
    """The tables that the rules name and in which something comes back, or may come back because its rows were not
    counted."""
    return tuple(_revivals(losses, rules))


def _revivals(losses: Sequence[TableLoss], rules: Loss) -> Iterator[Revival]:
    kinds: tuple[tuple[RevivalKind, tuple[str, ...]], ...] = (
        ("schedule", rules.schedules),
        ("queue", rules.queues),
        ("access", rules.access),
        ("consent", rules.consents),
        ("person", rules.people),
    )
    for loss in losses:
        kind = next((kind for kind, patterns in kinds if matches(loss.schema_name, loss.name, patterns)), None)
        if kind is None or loss.point_rows == 0 or loss.content == "equal":
            continue
        changed = loss.changed or 0 if kind in _CHANGED else 0
        if not loss.counted:
            yield Revival(kind=kind, what=loss.table)
        elif loss.returns or changed:
            yield Revival(kind=kind, what=loss.table, returns=loss.returns, changed=changed)
