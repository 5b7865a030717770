"""``lastgood recover``: gather evidence, diagnose the emergency, give the reasons, propose the way out.

One module per source gathers evidence, as far as its privileges allow; ``diagnosis`` derives the diagnosis from the
evidence alone. Nothing is changed: the proposals are carried out by ``rollback``, ``undo`` and ``reinstate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import psycopg

from lastgood.command.recover import audit, candidates, live, physical, platform, server, siblings
from lastgood.command.recover.diagnosis import diagnose
from lastgood.command.recover.evidence import Evidence, Goal, Key
from lastgood.command.recover.report import Diagnosis, Proposal, TimelinePoint
from lastgood.command.recover.timeline import MOMENTS
from lastgood.config.tables import Tables
from lastgood.context import BACKGROUND, Context, never
from lastgood.errors import NOT_REACHED
from lastgood.events import reported
from lastgood.loss import Comparing
from lastgood.points import PointVerdict
from lastgood.postgres.errors import failed
from lastgood.postgres.server import Target

__all__ = ["Diagnosis", "Goal", "Proposal", "RecoverInquiry", "TimelinePoint", "gather", "inspect"]


@dataclass(frozen=True, slots=True)
class RecoverInquiry:
    """The database to diagnose and the sources to use. ``known``: verdicts from restore points that were read whole
    before. ``home`` and ``here``: folders near which dumps are usually found."""

    target: Target
    store: Path
    tables: Tables = field(default_factory=Tables)
    goal: Goal = field(default_factory=Goal)
    known: Mapping[Path, PointVerdict] = field(default_factory=dict)
    home: Path = field(default_factory=Path.home)
    here: Path = field(default_factory=Path.cwd)


def inspect(inquiry: RecoverInquiry, context: Context = BACKGROUND) -> Diagnosis:
    """Diagnose the database. Raises Failed when the name of the database cannot be determined, Interrupted."""
    started = monotonic()
    with reported(context.emit, "recover", "gather evidence") as stage:
        found = diagnose(gather(inquiry, context.cancelled), monotonic() - started)
        stage.detail = found.title
    return found


def gather(inquiry: RecoverInquiry, cancelled: Callable[[], bool] = never) -> Evidence:
    """Gather all evidence. Changes nothing; waits for no lock."""
    target, store, goal, recover = inquiry.target, inquiry.store, inquiry.goal, inquiry.tables.recover
    unseen: list[str] = []
    try:
        name = target.dbname
    except (OSError, psycopg.Error) as error:
        about = error if isinstance(error, psycopg.Error) else psycopg.OperationalError(str(error))
        raise failed(about, "determine the name of the database", context="connect", state=NOT_REACHED) from error
    state = server.inspect(target, name, inquiry.tables.pgbouncer)
    clock = state.clock or datetime.now(UTC)
    points = candidates.find(store, name, goal, inquiry.known, unseen, cancelled)
    evidence = Evidence(
        name=name,
        clock=clock,
        goal=goal,
        server=state,
        store=store,
        target=target.at(name),
        candidates=points.candidates,
        emergency_backups=points.emergency_backups,
        of_others=points.of_others,
        store_problem=points.problem,
    )
    # With a usable restore point, no other source is needed.
    needed = not any(each.usable for each in points.candidates) or goal.thorough
    inspection = None
    if not state.error and state.access == "open":
        try:
            inspection = live.open_inspection(lambda: server.connect(target, name))
        except psycopg.Error as error:
            unseen.append(f'"{name}": {server.message_of(error)}')
    if inspection is not None:
        inspection.unseen = unseen
        with inspection.connection:
            seconds = inquiry.tables.check.compare_limit
            if not goal.thorough:
                seconds = min(seconds, live.COMPARING_SECONDS)
            comparing = Comparing(goal.compare, seconds, inquiry.tables.loss)
            seen = live.inspect(
                inspection,
                target.at(name),
                points.candidates[:MOMENTS],
                comparing,
                Context(cancelled=cancelled),
                thorough=goal.thorough,
            )
            evidence = replace(evidence, live=seen)
            if needed or goal.since is not None:
                since = goal.since or max((each.point.made_at for each in points.candidates), default=None)
                seconds = live.THOROUGH_SECONDS if goal.thorough else audit.SECONDS
                evidence = replace(
                    evidence,
                    audit=audit.count_changes(inspection, recover.audit, since, seconds),
                    counters=audit.counters(inspection),
                    last_commit=audit.last_commit(inspection),
                )
    if needed:
        places = candidates.usual_places(store, recover.folders, inquiry.home, inquiry.here)
        folders = [*recover.physical, *recover.wal, *places, *(Path(each) for each in physical.USUAL)]
        evidence = replace(
            evidence,
            places=places,
            elsewhere=candidates.elsewhere(places, store, inquiry.here, name, unseen),
            physical=physical.find(folders, unseen),
            siblings=() if state.error else siblings.find(target, name, _expected(evidence), unseen),
            platform=platform.recognise(
                recover.platform, target.keywords, state.platform_roles, goal.before or goal.since
            ),
        )
    return replace(evidence, unseen=tuple(unseen))


def _expected(evidence: Evidence) -> Sequence[Key]:
    """Return the tables that a copy of the database would have."""
    keys: set[Key] = set(evidence.live.tables) if evidence.live is not None else set()
    for candidate in evidence.candidates:
        if candidate.facts is not None:
            keys |= {(table.schema_name, table.name) for table in candidate.facts.tables}
            break
    return sorted(keys)
