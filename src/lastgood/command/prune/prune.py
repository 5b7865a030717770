"""Plan and run the removal of kept databases and restore points: by policy, by age and number, or by name.

Never removed: the last valid restore point, a restore point that is still needed (``needed``), and the kept database of
the last run unless it is named. Incomplete copies of killed restores and trials are removed when named, leftovers of a
killed run when named and empty. No other command removes a kept database or a finished restore point.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from lastgood import points
from lastgood.config.tables import Keep, RecordSettings, Retention
from lastgood.context import BACKGROUND, Context
from lastgood.errors import NOT_REACHED, Blocked, LastgoodError, Refused, UsageError, continued
from lastgood.events import Emit, Note, StageDone, StageStarted
from lastgood.in_place.kept import left_by_runs, remove_schemas
from lastgood.journal import recording
from lastgood.journal.run_names import new_run
from lastgood.models import Document, Frozen
from lastgood.points import RestorePoint, pins
from lastgood.points.in_use import Need, needs
from lastgood.points.manifest import has_manifest, manifest_path
from lastgood.points.retention import rules_keeping
from lastgood.postgres import clock, database, lock
from lastgood.postgres.database import Database
from lastgood.postgres.leftover import drop_leftover, leftovers
from lastgood.postgres.lock import holder, lock_live
from lastgood.postgres.mark import Mark, marked
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection, Target
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
    """What is removed and what is kept, newest first. ``timezone``: the zone of the days and weeks in the reasons, null
    where no policy decided."""

    live: str
    timezone: str | None = None
    candidates: tuple[PruneCandidate, ...]

    @property
    def going(self) -> tuple[PruneCandidate, ...]:
        """The candidates that are removed."""
        return tuple(each for each in self.candidates if each.remove)


@dataclass(frozen=True, slots=True)
class Criteria:
    """What to remove: everything older than ``older_than`` and beyond the ``keep`` newest of its kind (both if both are
    given), or only what is ``named`` (databases by name, restore points by file name). If none of the three is given,
    what no rule of ``retention`` keeps."""

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
    found = list(_kept(ours, criteria, now))
    for point, (remove, why) in zip(stored, _verdicts(stored, criteria, now), strict=True):
        need = needed.get(str(point.path))
        if need is not None and point.path.name in named and need.unconditional:
            raise Refused(
                f'cannot prune "{point.path.name}": {need.why}',
                hint=f"Unpin it first: lastgood points unpin {point.path.name}"
                if pins.pin_of(point.path) is not None
                else "Run lastgood status to see which unfinished run needs it.",
                state="Nothing was removed.",
            )
        if need is not None and remove and point.path.name not in named:
            remove, why = False, need.why
        # The journal of the rollback may be on another machine.
        if remove and point.is_emergency and not named and (now - point.made_at).total_seconds() < post_mortem_within:
            remove, why = False, f"emergency backup of the last {span(post_mortem_within)}"
        found.append(
            PruneCandidate(
                kind="restore point",
                name=point.path.name,
                path=str(point.path),
                made_at=point.made_at,
                bytes=point.size,
                remove=remove,
                why=why,
            )
        )
    found = _keep_a_valid_one(found, stored, valid)
    found += _copies(ours, criteria)
    for unmarked in left:
        remove = unmarked.name in named
        found.append(
            PruneCandidate(
                kind="leftover",
                name=unmarked.name,
                oid=unmarked.oid,
                made_at=None,
                bytes=unmarked.bytes or 0,
                remove=remove,
                why=NAMED if remove else "not marked by the run that created it; name it to remove it",
            )
        )
    for role in roles:
        remove = not named or role.name in named
        why = "left by a killed run" if remove else "not named"
        found.append(
            PruneCandidate(
                kind="role", name=role.name, run=role.mark.run, made_at=None, bytes=0, remove=remove, why=why
            )
        )
    missing = set(named) - {each.name for each in found}
    if missing:
        raise Refused(
            f'cannot prune "{sorted(missing)[0]}": no kept database or restore point has that name',
            hint="Run lastgood status and lastgood points to list them.",
            state="Nothing was removed.",
        )
    return PrunePlan(
        live=live, timezone=criteria.retention.timezone if criteria.by_policy else None, candidates=tuple(found)
    )


def _kept(ours: Sequence[tuple[Database, Mark]], criteria: Criteria, now: datetime) -> Iterator[PruneCandidate]:
    """The kept databases, newest first. The newest is kept unless it is named."""
    every = sorted((pair for pair in ours if pair[1].role == "kept"), key=lambda pair: pair[1].started, reverse=True)
    kept = [pair for pair in every if not pair[0].invalid]
    verdicts = [_verdict(each.name, place, mark.started, now, criteria) for place, (each, mark) in enumerate(kept)]
    if criteria.by_policy:
        verdicts = _by_policy(
            criteria.retention.kept, [mark.started for _, mark in kept], criteria, now, "kept databases"
        )
    for place, ((each, mark), (remove, why)) in enumerate(zip(kept, verdicts, strict=True)):
        if place == 0 and remove and each.name not in criteria.named:
            remove, why = False, "the undo of the last run; name it to remove it"
        in_place = mark.options.get("way") == "in-place"
        yield _database("kept schemas" if in_place else "kept database", each, mark, remove, why)
    for each, mark in every:
        if each.invalid:
            # After an interrupted DROP DATABASE, the database no longer accepts connections.
            remove = not criteria.named or each.name in criteria.named
            yield _database("kept database", each, mark, remove, INVALID if remove else "not named")


def _copies(ours: Sequence[tuple[Database, Mark]], criteria: Criteria) -> Iterator[PruneCandidate]:
    """The copies that killed restores and trials left, and those being created now."""
    for each, mark in ours:
        if mark.role == "copy":
            remove = each.name in criteria.named
            what = f"incomplete {mark.options.get('kind', 'restore')} {mark.run}; name it to remove it"
            yield _database("incomplete copy", each, mark, remove, NAMED if remove else what)


def _database(
    kind: Literal["kept database", "kept schemas", "incomplete copy"],
    found: Database,
    mark: Mark,
    remove: bool,
    why: str,
) -> PruneCandidate:
    return PruneCandidate(
        kind=kind,
        name=found.name,
        oid=found.oid or None,
        run=mark.run,
        made_at=mark.started,
        bytes=found.size_bytes or 0,
        remove=remove,
        why=why,
    )


def _verdicts(stored: Sequence[RestorePoint], criteria: Criteria, now: datetime) -> list[tuple[bool, str]]:
    """Decide for each restore point whether it is removed, with the reason."""
    if not criteria.by_policy:
        return [_verdict(each.path.name, place, each.made_at, now, criteria) for place, each in enumerate(stored)]
    verdicts: dict[Path, tuple[bool, str]] = {}
    backups = [point for point in stored if not any(_kind(point))]
    # Each kind separately: an emergency, damaged or foreign restore point must not take the place of a backup.
    for _, group in groupby(sorted(stored, key=_kind), key=_kind):
        together = list(group)
        if together[0].manifest is None and not criteria.retention.foreign:
            group_verdicts = [(False, FOREIGN_STAYS)] * len(together)
        else:
            moments = [point.made_at for point in together]
            reference = _newest(backups or together, now)
            group_verdicts = _by_policy(criteria.retention.keep, moments, criteria, reference, "restore points")
        verdicts |= {point.path: each for point, each in zip(together, group_verdicts, strict=True)}
    return [verdicts[point.path] for point in stored]


def _newest(points: Sequence[RestorePoint], now: datetime) -> datetime:
    """The moment from which "within" counts back: the newest restore point, so that existing ones are kept when backups
    stop. Time stamps in the future are ignored."""
    return max((point.made_at for point in points if point.made_at <= now), default=now)


def _kind(point: RestorePoint) -> tuple[bool, bool, bool]:
    return bool(point.problem), point.manifest is None, point.is_emergency


def _by_policy(
    keep: Keep | None, moments: Sequence[datetime], criteria: Criteria, reference: datetime, what: str
) -> list[tuple[bool, str]]:
    if keep is None:
        return [(False, f"[retention] has no rule for {what}")] * len(moments)
    rules = rules_keeping(keep, moments, zone=ZoneInfo(criteria.retention.timezone), reference=reference)
    return [(not by, ", ".join(by) or "no rule of [retention] keeps it") for by in rules]


def _concerns(point: RestorePoint, live: str) -> bool:
    """Whether a restore point belongs to this database. A store may be shared: restore points of other databases are
    neither removed nor counted, and neither are files that only have the name of a dump.
    """
    return not point.problem if point.manifest is None else point.manifest.database == live


def _verdict(name: str, place: int, made_at: datetime, now: datetime, criteria: Criteria) -> tuple[bool, str]:
    if criteria.named:
        return (True, NAMED) if name in criteria.named else (False, "not named")
    if criteria.keep is not None and place < criteria.keep:
        return False, f"among the {criteria.keep} newest"
    if criteria.older_than is not None and now - made_at <= criteria.older_than:
        return False, "not old enough"
    return True, "old enough" if criteria.older_than is not None else f"beyond the {criteria.keep} newest"


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


def run(
    target: Target,
    plan: PrunePlan,
    context: Context = BACKGROUND,
    *,
    post_mortem_within: float = POST_MORTEM_WITHIN,
) -> dict[str, Any]:
    """Remove what the plan lists, one after another. OIDs, marks and needs are checked again, because an operator may
    confirm the plan long after it was made."""
    with database.connect_maintenance(target, plan.live) as maintenance:
        lock_live(maintenance, plan.live, lambda held: _as_planned(held, target.at(plan.live), plan))
        going = [each.name for each in plan.going]
        kept = recording.begin_if_possible(
            context,
            new_run(clock.now(maintenance)),
            "prune",
            skew=clock.skew(maintenance),
            live=plan.live,
            going=going,
        )
        with recording.recording(kept, context.emit) as emit:
            paths = [Path(each.path) for each in plan.going if each.path is not None]
            needed = needs(
                maintenance,
                plan.live,
                paths,
                context.state,
                post_mortems=bool(post_mortem_within),
                leftovers=left_by_runs(maintenance, target),
            )
            document = _removed(maintenance, target, plan, needed, emit)
            recording.write_end(kept, "done", removed=document["removed"])
    return document


def _as_planned(maintenance: Connection, target: Target, plan: PrunePlan) -> None:
    """Check under the lock that everything the plan keeps still exists: another operator may have removed it since.
    Raises Refused."""
    oids = {each.oid for each in database.all_databases(maintenance)}
    runs = {mark.run for _, mark in left_by_runs(maintenance, target)}
    roles = {each.name for each in build_role.left(maintenance)}
    for each in plan.candidates:
        if each.kind == "kept schemas":
            there = each.run in runs
        elif each.kind == "role":
            there = each.name in roles
        else:
            there = Path(each.path).exists() if each.path is not None else each.oid in oids
        if not each.remove and not there:
            raise Refused(
                f'cannot prune: "{each.name}", which the plan keeps, was removed since the plan was made',
                hint="Run lastgood prune again to make a new plan.",
                state="Nothing was removed.",
            )


def _removed(
    maintenance: Connection, target: Target, plan: PrunePlan, needed: Mapping[str, Need], emit: Emit
) -> dict[str, Any]:
    removed: list[str] = []
    for each in plan.going:
        emit(StageStarted("prune", f"remove {each.name}"))
        try:
            gone = _remove(maintenance, target, plan.live, each, needed.get(each.path or ""), emit)
        except LastgoodError as error:
            error.state = already_removed(removed, error.state)
            raise
        if gone:
            removed.append(each.name)
            emit(StageDone("prune", 0.0, each.name))
    return {"format": 1, "live": plan.live, "status": "done", "removed": removed}


def already_removed(removed: Sequence[str], state: str) -> str:
    """Return the state line of an error after these items were removed. ``state``: the line of the failed item."""
    if not removed:
        return state
    names = ", ".join(f'"{name}"' for name in removed)
    return f"Removed before the error: {names}." + (f" {state}" if state not in ("", NOT_REACHED) else "")


def _remove(
    maintenance: Connection, target: Target, live: str, each: PruneCandidate, need: Need | None, emit: Emit
) -> bool:
    """Remove one item. Returns False, after a note, for an item that is now needed or no longer of its kind."""
    if each.kind == "leftover":
        unmarked = next((one for one in leftovers(maintenance, live) if one.oid == each.oid), None)
        if unmarked is None:
            emit(Note(f'"{each.name}" is no longer a leftover; skipped'))
            return False
        drop_leftover(maintenance, target, unmarked, live)
    elif each.kind == "role":
        build_role.end(maintenance, target.at(live), each.name)
    elif each.kind == "kept schemas":
        remove_schemas(target.at(live), each.run, "kept", "undone")
    elif each.oid is not None:
        role = "kept" if each.kind == "kept database" else "copy"
        if each.oid not in {found.oid for found, mark in marked(maintenance) if mark.role == role}:
            emit(Note(f'"{each.name}" is no longer a {each.kind}; skipped'))
            return False
        if role == "copy":
            lock.take_over_copy(maintenance, each.name)
        try:
            database.drop(maintenance, each.name, each.oid)
        except Blocked as error:
            error.hint = continued(error.hint, f"Then run: lastgood prune {shlex.quote(each.name)}")
            raise
    elif each.path is not None:
        path = Path(each.path)
        if need is not None and (need.unconditional or each.why != NAMED):
            emit(Note(f'"{each.name}" is now needed and was not removed: {need.why}'))
            return False
        # The manifest first: a dump without a manifest is still a restore point, a manifest alone is useless.
        if has_manifest(path):
            manifest_path(path).unlink()
        if path.is_symlink():
            path.unlink()
        elif path.is_dir() and (files := points.files_of_set(path)):
            # Other files in the folder are not part of the restore point.
            for file in files:
                file.unlink(missing_ok=True)
            with suppress(OSError):
                path.rmdir()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return True
