"""The existing restore points, newest first, read as far as the time limit allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

from lastgood import points
from lastgood.command.recover.evidence import Candidate, Goal
from lastgood.context import Context
from lastgood.errors import BadPoint, Interrupted, LastgoodError, os_reason
from lastgood.points import PointVerdict, RestorePoint
from lastgood.points.quick_check import quick_check

READING_SECONDS = 2.0
# Larger ones are only skimmed: rows are counted, but not parsed.
WHOLLY = 32 << 20
USUAL = ("backups", "backup", "dumps", "db_backups")
ENTRIES = 400
DEPTH = 2
PLACES_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StoreContent:
    """The content of the store. ``of_others``: names of points of other databases. ``problem``: why it is
    unreadable."""

    candidates: tuple[Candidate, ...] = ()
    emergency_backups: tuple[RestorePoint, ...] = ()
    of_others: tuple[str, ...] = ()
    problem: str = ""


def find(
    store: Path,
    name: str,
    goal: Goal,
    known: Mapping[Path, PointVerdict],
    unseen: list[str],
    cancelled: Callable[[], bool] = lambda: False,
) -> StoreContent:
    """Return the restore points of the database ``name``. Those with a verdict in ``known`` are not read again. Raises
    Interrupted when ``cancelled`` turned true."""
    try:
        there = points.all_points(store)
    except BadPoint as error:
        return StoreContent(problem=str(error))
    if not store.exists():
        return StoreContent(problem=f'the folder "{store}" does not exist')
    ours: list[RestorePoint] = []
    others: list[RestorePoint] = []
    for point in there:
        of = point.manifest.database if point.manifest is not None else name
        (ours if of == name else others).append(point)
    wanted = [point for point in ours if not point.is_emergency]
    read = _read(wanted, goal, known, partial(_verdict, name, cancelled, unseen))
    elsewhere = [each for each in read if each.facts is not None and each.facts.database not in (None, name)]
    return StoreContent(
        candidates=tuple(each for each in read if each not in elsewhere),
        emergency_backups=tuple(point for point in ours if point.is_emergency),
        of_others=tuple(point.path.name for point in [*others, *(each.point for each in elsewhere)]),
    )


def _read(
    wanted: Sequence[RestorePoint],
    goal: Goal,
    known: Mapping[Path, PointVerdict],
    verify: Callable[[RestorePoint, float | None], PointVerdict | None],
) -> list[Candidate]:
    # Only the rows show which migrations are in a point; for that, there is no time limit.
    wholly = goal.thorough or goal.before_migration is not None
    until = None if wholly else monotonic() + READING_SECONDS
    found: list[Candidate] = []
    enough = False
    for point in wanted:
        candidate = Candidate(point, facts=point.manifest.facts if point.manifest is not None else None)
        verdict = known.get(point.path)
        late = enough or (until is not None and monotonic() > until)
        # A point newer than the requested moment cannot be chosen, whatever its content.
        too_new = goal.before is not None and point.made_at >= goal.before
        if verdict is None and not late and not (too_new and not goal.thorough):
            verdict = verify(point, until)
        if verdict is None and not too_new and not any(each.usable for each in found):
            verdict = _at_a_glance(point)
        if verdict is not None:
            facts = candidate.facts if point.manifest is not None else verdict.facts
            candidate = replace(candidate, verdict=verdict, facts=facts)
            if goal.before_migration is not None and not goal.thorough:
                enough = enough or (
                    verdict.valid and points.predates_migration(candidate.migration, goal.before_migration)
                )
        found.append(candidate)
    return found


def _at_a_glance(point: RestorePoint) -> PointVerdict | None:
    """Check the end and the SHA-256 when there is no time to read it all. None unless the check fails."""
    try:
        quick_check(point)
    except BadPoint as error:
        return PointVerdict(points.state_of(error), str(error), error.hint)
    except (OSError, LastgoodError):
        return None
    return None


def _verdict(
    name: str, cancelled: Callable[[], bool], unseen: list[str], point: RestorePoint, until: float | None
) -> PointVerdict | None:
    """Verify the point. None when the time limit was reached, or the programs to read it are missing."""

    def over() -> bool:
        return cancelled() or (until is not None and monotonic() > until)

    # For our own points, the manifest has the content.
    skim = point.manifest is not None or (until is not None and point.size > WHOLLY)
    try:
        return points.verify(point, database=name, skim=skim, context=Context(cancelled=over))
    except Interrupted:
        if cancelled():
            raise
        return None
    except LastgoodError as error:
        unseen.append(f"{point.path.name}: {error}")
        return None


def usual_places(store: Path, configured: Iterable[Path], home: Path, here: Path) -> tuple[Path, ...]:
    """Return the existing folders, other than the store, where dumps are usually found; each once."""
    near = [store.parent, here, *(here / each for each in USUAL), Path("/var/backups"), home]
    near += [home / each for each in USUAL]
    seen = {store.resolve()}
    found = []
    for place in [*configured, *near]:
        try:
            resolved = place.resolve()
            if resolved not in seen and place.is_dir():
                found.append(place)
        except OSError:
            continue
        seen.add(resolved)
    return tuple(found)


def elsewhere(places: Sequence[Path], store: Path, here: Path, name: str, unseen: list[str]) -> tuple[Candidate, ...]:
    """Return restore points in other folders and one level below. Only the beginning of each is read. Damaged ones and
    those of another database are left out."""
    until = monotonic() + PLACES_SECONDS
    found: dict[Path, Candidate] = {}
    for near in points.points_nearby(store, here):
        if near.manifest is None or near.manifest.database == name:
            facts = near.manifest.facts if near.manifest is not None else None
            found.setdefault(near.path.resolve(), Candidate(near, facts=facts))
    inside = {store.resolve()}
    for place in places:
        for path in _entries(place, inside, unseen):
            if monotonic() > until:
                unseen.append(f'other folders, from "{place}" on: time limit reached')
                return _newest_first(found.values())
            try:
                point = points.point_at(path)
            except (OSError, LastgoodError):
                continue
            if point is None or point.problem or point.is_emergency:
                continue
            if point.manifest is None or point.manifest.database == name:
                facts = point.manifest.facts if point.manifest is not None else None
                found.setdefault(path.resolve(), Candidate(point, facts=facts))
    return _newest_first(found.values())


def _newest_first(found: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(found, key=lambda each: each.point.made_at, reverse=True))


def _entries(place: Path, inside: set[Path], unseen: list[str]) -> list[Path]:
    """Return the files in a folder, and in near subfolders whose names suggest dumps. Folders already visited are
    skipped."""
    found: list[Path] = []
    waiting = [(place, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            if folder.resolve() in inside:
                continue
            inside.add(folder.resolve())
            entries = sorted(folder.iterdir())
        except OSError as error:
            unseen.append(f'the folder "{folder}": {os_reason(error)}')
            continue
        for entry in entries[:ENTRIES]:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_file() or (entry.is_dir() and (entry / "toc.dat").exists()):
                    found.append(entry)
                elif depth < DEPTH and entry.is_dir() and any(word in entry.name.lower() for word in _DUMP_WORDS):
                    waiting.append((entry, depth + 1))
            except OSError:
                continue
    return found


_DUMP_WORDS = ("backup", "dump", "migration", "snapshot", "restore")
