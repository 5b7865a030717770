"""Objects that depend on the live database, beyond its sessions."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding, Seen
from lastgood.checks.subject import Subject
from lastgood.plan.unfinished import unfinished as unfinished_runs
from lastgood.postgres.holders import holders as held_by


def holders(s: Subject) -> Iterator[Finding | Seen]:
    """Prepared transactions, slots, subscriptions, publications, standbys, schedulers, workers of extensions."""
    holders = held_by(s.maintenance, s.database.name, s.live)
    for holder in holders:
        yield Finding(
            level="refusal" if holder.blocking else "caution",
            code="holder",
            text=f"{holder.kind} {holder.what}: {holder.explanation.rstrip('.')}",
            hint=holder.command,
            known="not known" if holder.what == "unknown" else "looked up",
            final=holder.fatal,
        )
    if not holders:
        yield Seen(
            text="no prepared transaction, logical slot, subscription, publication, standby, or extension with workers"
        )


def unfinished(s: Subject) -> Iterator[Finding]:
    """Another run of this database that is unfinished or still running."""
    for each in unfinished_runs(s.maintenance, s.request.target, s.request.state):
        if each.mark.role != "shadow" or each.run == s.request.run or (each.switched and each.database is None):
            continue
        left = f', its database "{each.database.name}" exists' if each.database is not None else ""
        abort = f"lastgood abort {each.run} removes its remains"
        yield Finding(
            level="caution",
            code="unfinished",
            text=f"run {each.run} is unfinished{left}"
            + ("" if each.obstacle else "; it cannot be resumed after the switch of this rollback"),
            hint=f"{abort}." if each.obstacle else f"Continue it: lastgood resume {each.run}. Or discard it: {abort}.",
        )
