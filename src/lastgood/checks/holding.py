"""What holds on to the live database beyond its sessions."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding, Seen
from lastgood.checks.subject import Subject
from lastgood.plan.unfinished import unfinished as unfinished_runs
from lastgood.postgres.holders import holders as held_by


def holders(s: Subject) -> Iterator[Finding | Seen]:
    """Prepared transactions, slots, subscriptions, publications, standbys, schedulers, workers of extensions."""
    found = held_by(s.maintenance, s.database.name, s.live)
    for holder in found:
        yield Finding(
            level="refusal" if holder.blocking else "caution",
            code="holder",
            text=f"{holder.kind} {holder.what}: {holder.explanation.rstrip('.')}",
            hint=holder.command,
            known="not known" if holder.what == "unknown" else "looked up",
            final=holder.fatal,
        )
    if not found:
        yield Seen(
            text="no prepared transaction, logical slot, subscription, publication, standby, or extension with workers"
        )


def unfinished(s: Subject) -> Iterator[Finding]:
    """Another run of this database that stopped in between, or is at work."""
    for each in unfinished_runs(s.maintenance, s.request.target, s.request.state):
        if each.mark.role != "shadow" or each.run == s.request.run or (each.switched and each.database is None):
            continue
        left = f', its database "{each.database.name}" exists' if each.database is not None else ""
        abort = f"lastgood abort {each.run} removes what it left"
        yield Finding(
            level="caution",
            code="unfinished",
            text=f"run {each.run} is unfinished{left}"
            + ("" if each.obstacle else "; once this rollback has switched, it can no longer be resumed"),
            hint=f"{abort}." if each.obstacle else f"Continue it with lastgood resume {each.run}; {abort}.",
        )
