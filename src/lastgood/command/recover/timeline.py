"""All restore points and then all kept databases, newest first, each with what a rollback to it would remove."""

from __future__ import annotations

from collections.abc import Mapping

from lastgood.command.recover import damage
from lastgood.command.recover.evidence import Candidate, Evidence
from lastgood.command.recover.report import Proposal, TimelinePoint
from lastgood.plan.loss import TableLoss, Totals

# Later writes are counted for this many of the newest.
MOMENTS = 12


def timeline(
    evidence: Evidence, suspects: Mapping[int, str], first: Proposal | None = None
) -> tuple[TimelinePoint, ...]:
    """Return restore points and kept databases. ``suspects``: unsuitable candidates by position, with the reason.
    ``first``: the first proposal."""
    found = [_of(evidence, place, each, suspects.get(place, "")) for place, each in enumerate(evidence.candidates)]
    for kept in evidence.server.kept:
        found.append(
            TimelinePoint(
                number=0,
                kind="kept",
                name=kept.name,
                path=kept.run,
                made_at=kept.made_at,
                time_source="mark",
                migration=None,
                rows=None,
                tables=None,
                verdict="",
                problem=f"it {kept.origin}" if kept.deployment else "",
                loss=None,
                estimated=False,
                rows_lost=None,
                rows_back=None,
                written_since=None,
                way=kept.way,
                bytes=kept.bytes,
            )
        )
    found.sort(key=lambda each: each.made_at, reverse=True)
    found.sort(key=lambda each: each.kind == "kept")
    numbered, number = [], 0
    for each in found:
        number += each.number is not None
        proposed = first is not None and each.number is not None and first.name == each.path
        place = number if each.number is not None else None
        numbered.append(each.model_copy(update={"number": place, "proposed": proposed}))
    return tuple(numbered)


def _of(evidence: Evidence, place: int, candidate: Candidate, suspect: str) -> TimelinePoint:
    facts, live = candidate.facts, evidence.live
    loss: tuple[TableLoss, ...] | None = None
    if facts is not None and live is not None:
        loss = damage.losses(live, facts, place if place < MOMENTS else None)
    known = loss is not None and all(each.live_rows is not None or each.point_rows is not None for each in loss)
    totals = Totals.of(loss) if loss is not None and known else None
    estimated = live is not None and not all(table.exact for table in live.tables.values())
    return TimelinePoint(
        number=0 if candidate.usable else None,
        kind="dump",
        name=candidate.point.path.name,
        path=str(candidate.point.path),
        made_at=candidate.point.made_at,
        time_source=candidate.point.time_source,
        migration=candidate.migration,
        rows=facts.rows if facts is not None else None,
        tables=len(facts.tables) if facts is not None else None,
        verdict=candidate.verdict.state if candidate.verdict is not None else "",
        problem=candidate.defect if not candidate.usable else suspect,
        loss=loss,
        estimated=estimated and loss is not None,
        rows_lost=totals.lost if totals is not None else None,
        rows_back=totals.returns if totals is not None else None,
        rows_changed=totals.changed if totals is not None else None,
        exact=totals is not None and totals.exact,
        bytes=candidate.point.size,
        written_since=sum(each.written_since or 0 for each in loss) if loss is not None and place < MOMENTS else None,
    )
