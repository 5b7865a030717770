"""Other sources when restore points fail: other copies, recorded changes, and a statement of the permanent loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lastgood.command.recover.evidence import Candidate, Counter, Evidence
from lastgood.command.recover.report import COUNTERS, LossScope, OtherSource, Proposal
from lastgood.plan.plan import KEPT
from lastgood.text.units import ago, counted, moment

UNSEEN_COPIES = (
    "another server, a delayed standby, a colleague's machine or a bucket may have a copy that lastgood cannot see"
)
NAMED = 5


def left(evidence: Evidence, *, needed: bool) -> Iterator[OtherSource]:
    """Yield other useful sources than the timeline. ``needed``: there is no usable restore point."""
    for point in evidence.emergency_backups[:NAMED] if needed else ():
        yield OtherSource(
            kind="emergency backup",
            what=point.path.name,
            detail=f"made {ago(point.made_at, evidence.clock)} of the state that a rollback replaced; used only by "
            "name",
            steps=(),
            commands=(f"lastgood rollback {point.path.name} --dry-run",),
        )
    for kept in evidence.server.kept:
        if kept.deployment and kept.undo_command:
            yield OtherSource(
                kind=KEPT[kept.way],
                what=kept.name,
                detail=f"it {kept.origin}, {ago(kept.made_at, evidence.clock)}; it has the replaced rows, but also "
                "the damage"
                if kept.way == "by-name"
                else f"their content {kept.origin}, {ago(kept.made_at, evidence.clock)}; they have the replaced rows, "
                "but also the damage",
                steps=(),
                commands=(kept.undo_command,),
            )
    for sibling in evidence.siblings:
        newest = f", newest row {moment(sibling.newest)}" if sibling.newest is not None else ""
        migration = f", migration {sibling.migration}" if sibling.migration else ""
        yield OtherSource(
            kind="database of the same server",
            what=sibling.name,
            detail=f"{sibling.common} of {sibling.expected} tables{migration}{newest}",
            steps=(),
            commands=(),
        )
    for found in evidence.elsewhere:
        point = found.point
        yield OtherSource(
            kind="dump elsewhere",
            what=str(point.path),
            detail=f"made {ago(point.made_at, evidence.clock)}, by its {point.time_source}",
            steps=(),
            commands=(),
        )
    for physical in evidence.physical:
        span = ""
        if physical.first is not None and physical.last is not None:
            span = f"; {moment(physical.first)}"
            span += f" to {moment(physical.last)}" if physical.last != physical.first else ""
        yield OtherSource(
            kind=physical.kind,
            what=str(physical.path),
            detail=physical.detail + span,
            steps=(physical.next_step,),
            commands=(),
        )
    if evidence.platform is not None:
        platform = evidence.platform
        yield OtherSource(
            kind="platform",
            what=f"{platform.title} ({platform.why})",
            detail=f"keeps {platform.keeps}",
            steps=tuple(say for say, _ in platform.steps),
            commands=tuple(run for _, run in platform.steps if run),
        )
    dead = [counter for counter in evidence.counters if counter.dead]
    if dead and needed:
        yield _dead(dead)


def _dead(dead: Sequence[Counter]) -> OtherSource:
    rows = ", ".join(f"{each.dead:,} in {each.table}" for each in dead[:NAMED])
    return OtherSource(
        kind="deleted rows",
        what=rows,
        detail="by the server's counters: old versions of deleted or changed rows that may still be in the files",
        steps=(
            "Stop the application, do not run VACUUM on these tables, and turn autovacuum off for them: VACUUM removes "
            "the rows, and so does page pruning at any read or UPDATE.",
            "Recovering them needs pg_dirtyread or pageinspect and may fail. lastgood cannot do it.",
        ),
        commands=tuple(f"ALTER TABLE {each.table} SET (autovacuum_enabled = false)" for each in dead[:NAMED]),
    )


def scope(evidence: Evidence) -> tuple[LossScope, ...]:
    """Return the changes per table and operation, from the audit table and from the server's counters."""
    found = []
    if evidence.audit is not None:
        found = [
            LossScope(
                table=change.table,
                operation=change.operation,
                count=change.count,
                first=change.first,
                last=change.last,
                source=evidence.audit.table,
            )
            for change in evidence.audit.changes
        ]
    for counter in evidence.counters:
        found.append(
            LossScope(
                table=counter.table,
                operation="DELETE",
                count=counter.deleted,
                first=counter.since,
                last=None,
                source=COUNTERS,
            )
        )
    return tuple(found)


def scope_note(evidence: Evidence) -> str:
    """State how reliable ``scope`` is."""
    audit = evidence.audit
    sentences = []
    if audit is not None and audit.why_not:
        sentences.append(f"The audit table {audit.table} could not be counted: {audit.why_not}.")
    elif audit is not None:
        since = f"since {moment(audit.since)}" if audit.since is not None else "since its first entry"
        sentences.append(
            f"{audit.table} ({audit.recognised}) records changes {since}; it has only what the application writes into "
            "it."
        )
    if evidence.counters:
        sentences.append("The server's counters have no times and do not count TRUNCATE and DROP.")
    if evidence.last_commit is not None:
        sentences.append(f"The last commit on this server was at {moment(evidence.last_commit)}.")
    return " ".join(sentences)


def statement(
    evidence: Evidence, chosen: Candidate | None, proposals: Sequence[Proposal], *, rights_lost: bool = False
) -> str:
    """State what cannot be recovered, and why; empty if the proposed restore point is the newest. ``rights_lost``:
    neither it nor the live database has the privileges of the application's roles."""
    name, server = evidence.name, evidence.server
    if server.error:
        points = f'"{evidence.store}" has {counted(len(evidence.candidates), "restore point")} of "{name}"'
        return f'The state of "{name}" is unknown while the server is unreachable. {points}.'
    if server.standby or server.working or server.unfinished or server.access in ("closed", "refused"):
        return ""
    if chosen is not None:
        return " ".join(_beyond(evidence, chosen, rights_lost))
    sentences = [_no_point(evidence)]
    if server.kept:
        kept = server.kept[0]
        sentences.append(
            f"Writes after {moment(kept.made_at)}, when the {KEPT[kept.way]} "
            f"{'was' if kept.way == 'by-name' else 'were'} taken out of service, cannot be recovered."
        )
    elif not proposals:
        sentences.append(
            "The server has no kept database and no other database with the same tables, and the other folders "
            "contain no dump."
        )
        sentences.append(f'lastgood cannot recover "{name}".')
    sentences.append(_remaining_sources(evidence))
    return " ".join(sentences)


def _beyond(evidence: Evidence, chosen: Candidate, rights_lost: bool) -> Iterator[str]:
    broken = [each for each in evidence.candidates if each.point.made_at > chosen.point.made_at and not each.usable]
    if broken:
        yield (
            f"Writes between {moment(chosen.point.made_at)} and {moment(broken[0].point.made_at)} are in no valid "
            "restore point. Those that the live database still has remain in the kept database and in the emergency "
            "backup."
        )
    if rights_lost:
        yield (
            f"{chosen.point.path.name} was made without privileges (--no-acl), and the live database has lost its own. "
            "Grant them again after the rollback, before the application starts."
        )


def _no_point(evidence: Evidence) -> str:
    if evidence.store_problem:
        return f"No restore point was found: {evidence.store_problem}."
    if not evidence.candidates:
        return f'There is no restore point of "{evidence.name}" in "{evidence.store}".'
    if all(not each.usable for each in evidence.candidates):
        return f'Not one of {len(evidence.candidates)} restore points of "{evidence.name}" is valid.'
    goal = evidence.goal
    words = f"made before {moment(goal.before)}" if goal.before is not None else ""
    if goal.before_migration is not None:
        words += (" and " if words else "") + f'known to lack the migration "{goal.before_migration}"'
    return f'Of {len(evidence.candidates)} restore points of "{evidence.name}" no valid one was {words or "chosen"}.'


def _remaining_sources(evidence: Evidence) -> str:
    helps = []
    if evidence.platform is not None:
        helps.append(f"{evidence.platform.title} has its own backups")
    if evidence.physical:
        helps.append("a physical backup or archived WAL was found")
    if evidence.audit is not None and evidence.audit.changes:
        total = sum(change.count for change in evidence.audit.changes)
        helps.append(
            f"{evidence.audit.table} records {total:,} changes; rows can be re-entered as far as it contains them"
        )
    words = f"Remaining sources: {'; '.join(helps)}. " if helps else ""
    return f"{words}In addition, {UNSEEN_COPIES}." if helps else f"Remaining sources: {UNSEEN_COPIES}."
