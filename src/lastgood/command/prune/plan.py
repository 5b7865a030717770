"""The plan of a removal of kept databases and restore points: by policy, by age and number, or by name.

Never removed: the last valid restore point, a restore point that is still needed (``needed``), and the kept database of
the last run unless it is named. Incomplete copies of killed restores and trials are removed when named, leftovers of a
killed run when named and empty. No other command removes a kept database or a finished restore point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from lastgood import points
from lastgood.config.tables import Keep, RecordSettings, Retention
from lastgood.errors import Refused, UsageError
from lastgood.in_place.kept import left_by_runs
from lastgood.models import Document, Frozen
from lastgood.points import RestorePoint, pins
from lastgood.points.in_use import Need, needs
from lastgood.points.retention import rules_keeping
from lastgood.postgres import clock, database
from lastgood.postgres.database import Database
from lastgood.postgres.leftover import Leftover, leftovers
from lastgood.postgres.lock import holder
from lastgood.postgres.mark import Mark
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.build_role import LeftRole
from lastgood.postgres.server import Target
from lastgood.text.units import span

FOREIGN_STAYS = "not made by lastgood: remove it by name, or set foreign = true in [retention]"
NAMED = "named"
INVALID = "invalid: DROP DATABASE was interrupted"
POST_MORTEM_WITHIN = RecordSettings().post_mortem_within
NO_POLICY = Retention()
NO_SELECTION = "cannot prune: no age, number, name or retention rule is given"
SELECT = "Run lastgood prune with --older-than 30d, --keep 5 or NAME, or add a [retention] table to lastgood.toml."


class PruneCandidate(Frozen):
    """A kept database or the kept schemas of a ``run``, a restore point, the incomplete copy of a killed restore or
    trial, or an unmarked database or a role that a killed run left. ``remove``: whether it is removed, and ``why``.
    ``made_at`` is null for leftovers and roles."""

    kind: Literal["kept database", "kept schemas", "restore point", "incomplete copy", "leftover", "role"]
    name: str
    path: str | None = None
    oid: int | None = None
    run: str = ""
    made_at: datetime | None
    bytes: int
    remove: bool
    why: str


class PrunePlan(Document):
    """The items that are removed and those that are kept, newest first. ``timezone``: the zone of the days and weeks in
    the reasons, null where no policy decided."""

    live: str
    timezone: str | None = None
    candidates: tuple[PruneCandidate, ...]

    @property
    def going(self) -> tuple[PruneCandidate, ...]:
        """The candidates that are removed."""
        return tuple(each for each in self.candidates if each.remove)


@dataclass(frozen=True, slots=True)
class Criteria:
    """The selection of what to remove: everything older than ``older_than`` and beyond the ``keep`` newest of its kind
    (both if both are given), or only what is ``named`` (databases by name, restore points by file name). If none of the
    three is given, what no rule of ``retention`` keeps."""

    older_than: timedelta | None = None
    keep: int | None = None
    named: tuple[str, ...] = ()
    retention: Retention = NO_POLICY

    @property
    def by_policy(self) -> bool:
        """Whether the retention rules decide."""
        return self.older_than is None and self.keep is None and not self.named


def plan(
    target: Target,
    store: Path,
    criteria: Criteria,
    state: Path | None = None,
    *,
    post_mortem_within: float = POST_MORTEM_WITHIN,
    valid: Path | None = None,
) -> PrunePlan:
    """Plan what is removed and what is kept. ``state``: the folder with this machine's journals.
    ``post_mortem_within``: the number of seconds after a rollback when its post-mortem is due, 0 if none is written.
    ``valid``: a restore point that was verified immediately before.

    Raises UsageError when nothing selects candidates, Refused for a name that does not exist or must be kept.
    """
    if criteria.by_policy and criteria.retention.keep is None and criteria.retention.kept is None:
        raise UsageError(NO_SELECTION, hint=SELECT)
    live, named = target.dbname, criteria.named
    with database.connect_maintenance(target, live) as maintenance:
        now = clock.now(maintenance)
        ours = left_by_runs(maintenance, target)
        working = holder(maintenance, live)
        left = [] if working else leftovers(maintenance, live)
        roles = [] if working else build_role.orphaned(maintenance, live)
        # If the files of the store itself form one dump, it must not be removed as a whole.
        there = [point for point in points.list_points(store) if point.path != store]
        stored = [point for point in there if _concerns(point, live) or point.path.name in named]
        paths = [point.path for point in stored]
        needed = needs(maintenance, live, paths, state, post_mortems=bool(post_mortem_within), leftovers=ours)
    stored_points = _points(stored, criteria, now, needed, post_mortem_within)
    found = (
        *_kept(ours, criteria, now),
        *_keep_a_valid_one(stored_points, stored, valid),
        *_copies(ours, criteria),
        *_leftovers(left, criteria),
        *_roles(roles, criteria),
    )
    missing = set(named) - {each.name for each in found}
    if missing:
        raise Refused(
            f'cannot prune "{sorted(missing)[0]}": no kept database or restore point has that name',
            hint="Run lastgood status and lastgood points to list them.",
            state="Nothing was removed.",
        )
    return PrunePlan(live=live, timezone=criteria.retention.timezone if criteria.by_policy else None, candidates=found)


@dataclass(frozen=True, slots=True)
class _Decision:
    remove: bool
    why: str


def _points(
    stored: Sequence[RestorePoint],
    criteria: Criteria,
    now: datetime,
    needed: Mapping[str, Need],
    post_mortem_within: float,
) -> list[PruneCandidate]:
    """The restore points, in the order of the store. Raises Refused for a named one that must be kept."""
    found = []
    for point, decision in zip(stored, _decisions(stored, criteria, now), strict=True):
        need, by_name = needed.get(str(point.path)), point.path.name in criteria.named
        if need is not None and by_name and need.unconditional:
            raise Refused(
                f'cannot prune "{point.path.name}": {need.why}',
                hint=f"Unpin it first: lastgood points unpin {point.path.name}"
                if pins.pin_of(point.path) is not None
                else "Run lastgood status to see which unfinished run needs it.",
                state="Nothing was removed.",
            )
        recent = point.is_emergency and (now - point.made_at).total_seconds() < post_mortem_within
        if decision.remove and need is not None and not by_name:
            decision = _Decision(False, need.why)
        elif decision.remove and recent and not criteria.named:
            # The journal of the rollback may be on another machine.
            decision = _Decision(False, f"emergency backup of the last {span(post_mortem_within)}")
        found.append(
            PruneCandidate(
                kind="restore point",
                name=point.path.name,
                path=str(point.path),
                made_at=point.made_at,
                bytes=point.size,
                remove=decision.remove,
                why=decision.why,
            )
        )
    return found


def _leftovers(left: Iterable[Leftover], criteria: Criteria) -> Iterator[PruneCandidate]:
    for each in left:
        remove = each.name in criteria.named
        yield PruneCandidate(
            kind="leftover",
            name=each.name,
            oid=each.oid,
            made_at=None,
            bytes=each.bytes or 0,
            remove=remove,
            why=NAMED if remove else "not marked by the run that created it; name it to remove it",
        )


def _roles(roles: Iterable[LeftRole], criteria: Criteria) -> Iterator[PruneCandidate]:
    for each in roles:
        remove = not criteria.named or each.name in criteria.named
        why = "left by a killed run" if remove else "not named"
        yield PruneCandidate(
            kind="role", name=each.name, run=each.mark.run, made_at=None, bytes=0, remove=remove, why=why
        )


def _kept(ours: Sequence[tuple[Database, Mark]], criteria: Criteria, now: datetime) -> Iterator[PruneCandidate]:
    """The kept databases, newest first. The newest is kept unless it is named."""
    every = sorted((pair for pair in ours if pair[1].role == "kept"), key=lambda pair: pair[1].started, reverse=True)
    kept = [pair for pair in every if not pair[0].invalid]
    if criteria.by_policy:
        moments = [mark.started for _, mark in kept]
        decisions = _by_policy(criteria.retention.kept, moments, criteria, now, "kept databases")
    else:
        decisions = [
            _decision(each.name, place, mark.started, now, criteria) for place, (each, mark) in enumerate(kept)
        ]
    for place, ((each, mark), decision) in enumerate(zip(kept, decisions, strict=True)):
        if place == 0 and decision.remove and each.name not in criteria.named:
            decision = _Decision(False, "the undo of the last run; name it to remove it")
        in_place = mark.options.get("way") == "in-place"
        yield _database("kept schemas" if in_place else "kept database", each, mark, decision)
    for each, mark in every:
        if each.invalid:
            # After an interrupted DROP DATABASE, the database no longer accepts connections.
            remove = not criteria.named or each.name in criteria.named
            yield _database("kept database", each, mark, _Decision(remove, INVALID if remove else "not named"))


def _copies(ours: Sequence[tuple[Database, Mark]], criteria: Criteria) -> Iterator[PruneCandidate]:
    """The copies that killed restores and trials left, and those being created now."""
    for each, mark in ours:
        if mark.role == "copy":
            remove = each.name in criteria.named
            what = f"incomplete {mark.options.get('kind', 'restore')} {mark.run}; name it to remove it"
            yield _database("incomplete copy", each, mark, _Decision(remove, NAMED if remove else what))


def _database(
    kind: Literal["kept database", "kept schemas", "incomplete copy"],
    found: Database,
    mark: Mark,
    decision: _Decision,
) -> PruneCandidate:
    return PruneCandidate(
        kind=kind,
        name=found.name,
        oid=found.oid or None,
        run=mark.run,
        made_at=mark.started,
        bytes=found.size_bytes or 0,
        remove=decision.remove,
        why=decision.why,
    )


def _decisions(stored: Sequence[RestorePoint], criteria: Criteria, now: datetime) -> list[_Decision]:
    """Decide for each restore point whether it is removed, with the reason."""
    if not criteria.by_policy:
        return [_decision(each.path.name, place, each.made_at, now, criteria) for place, each in enumerate(stored)]
    decisions: dict[Path, _Decision] = {}
    backups = [point for point in stored if not any(_kind(point))]
    # Each kind separately: an emergency, damaged or foreign restore point must not take the place of a backup.
    for _, group in groupby(sorted(stored, key=_kind), key=_kind):
        together = list(group)
        if together[0].manifest is None and not criteria.retention.foreign:
            of_kind = [_Decision(False, FOREIGN_STAYS)] * len(together)
        else:
            moments = [point.made_at for point in together]
            reference = _newest(backups or together, now)
            of_kind = _by_policy(criteria.retention.keep, moments, criteria, reference, "restore points")
        decisions |= {point.path: each for point, each in zip(together, of_kind, strict=True)}
    return [decisions[point.path] for point in stored]


def _newest(points: Sequence[RestorePoint], now: datetime) -> datetime:
    """The moment from which "within" counts back: the newest restore point, so that existing ones are kept when backups
    stop. Time stamps in the future are ignored."""
    return max((point.made_at for point in points if point.made_at <= now), default=now)


def _kind(point: RestorePoint) -> tuple[bool, bool, bool]:
    return bool(point.problem), point.manifest is None, point.is_emergency


def _by_policy(
    keep: Keep | None, moments: Sequence[datetime], criteria: Criteria, reference: datetime, what: str
) -> list[_Decision]:
    if keep is None:
        return [_Decision(False, f"[retention] has no rule for {what}")] * len(moments)
    rules = rules_keeping(keep, moments, zone=ZoneInfo(criteria.retention.timezone), reference=reference)
    return [_Decision(not by, ", ".join(by) or "no rule of [retention] keeps it") for by in rules]


def _concerns(point: RestorePoint, live: str) -> bool:
    """Whether a restore point belongs to this database. A store may be shared: restore points of other databases are
    neither removed nor counted, and neither are files that only have the name of a dump.
    """
    return not point.problem if point.manifest is None else point.manifest.database == live


def _decision(name: str, place: int, made_at: datetime, now: datetime, criteria: Criteria) -> _Decision:
    if criteria.named:
        return _Decision(True, NAMED) if name in criteria.named else _Decision(False, "not named")
    if criteria.keep is not None and place < criteria.keep:
        return _Decision(False, f"among the {criteria.keep} newest")
    if criteria.older_than is not None and now - made_at <= criteria.older_than:
        return _Decision(False, "not old enough")
    return _Decision(True, "old enough" if criteria.older_than is not None else f"beyond the {criteria.keep} newest")


def _keep_a_valid_one(
    found: Iterable[PruneCandidate], stored: Sequence[RestorePoint], valid: Path | None
) -> list[PruneCandidate]:
    """Keep the newest valid restore point if the plan would leave none. Reads the restore points to verify them.

    Three kinds do not count as the valid one: emergency backups, because they hold the state that a rollback replaced;
    those without a manifest in place of those with one; links to a file that is removed.
    """
    stored = [point for point in stored if not point.is_emergency]
    result = list(found)
    by_path = {each.path: index for index, each in enumerate(result) if each.path is not None}
    leaving = {point.path for point in stored if result[by_path[str(point.path)]].remove}
    files = {path.resolve() for path in leaving if not path.is_symlink()}
    stored = [point for point in stored if not (point.path.is_symlink() and point.path.resolve() in files)]
    ours = [point for point in stored if point.manifest is not None]
    for among in (ours, stored) if leaving else ():
        going = [point for point in among if point.path in leaving]
        staying = [point for point in among if point.path not in leaving]
        if any(point.path == valid or points.verify(point).valid for point in staying):
            return result
        for point in going:
            if points.verify(point).valid:
                index = by_path[str(point.path)]
                result[index] = result[index].model_copy(
                    update={"remove": False, "why": "the last valid restore point"}
                )
                return result
    return result
