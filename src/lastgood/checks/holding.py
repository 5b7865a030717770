"""What holds on to the live database beyond its sessions."""

from __future__ import annotations

from collections.abc import Iterator

from lastgood.checklist import Finding, Seen
from lastgood.checks.subject import Subject
from lastgood.postgres import database
from lastgood.postgres.holders import holders as held_by
from lastgood.postgres.mark import read_mark


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
    for each in database.every(s.maintenance):
        mark = read_mark(each.comment)
        if mark is None or mark.role != "shadow" or mark.live != s.database.name or mark.run == s.request.run:
            continue
        yield Finding(
            level="caution",
            code="unfinished",
            text=f'run {mark.run} is not finished: its database "{each.name}" is there',
            hint=f"lastgood resume {mark.run} goes on with it; lastgood abort {mark.run} removes it.",
        )
