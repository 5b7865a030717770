"""Restore points in folders below the store and below the working folder: scripts make folders of their own, such as
``backups/migrations``.

Only files that look like dumps count there, because folders of migrations contain other SQL files.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from lastgood.dump.files.file_set import files_of_set
from lastgood.errors import LastgoodError
from lastgood.points.point import RestorePoint
from lastgood.points.store import list_points, looks_like_dump, newest_first, point_at

DEPTH = 2
FOLDERS = 400
FILES = 4000
SECONDS = 2.0
# Large folders without dumps.
_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "site-packages", "target", "dist"})
# The working folder of an attempt by the guide, in the store. It holds parts of a restore point.
_BY_HAND = re.compile(r"by-hand-\d+")


@dataclass(frozen=True, slots=True)
class NearbyFolder:
    """A folder other than the store that holds restore points: how many, and the newest."""

    folder: Path
    count: int
    newest: RestorePoint


def all_points(store: Path) -> list[RestorePoint]:
    """The restore points in the store and in the folders below it, two levels deep, newest first. Symbolic links are
    not followed; the search ends at a limit of files and of time. Raises BadPoint when the store can't be read."""
    listed = list_points(store)
    seen = {each.path for each in listed}
    return newest_first([*listed, *(each for each in _below(store, skip=[store]) if each.path not in seen)])


def nearby_folders(store: Path) -> tuple[NearbyFolder, ...]:
    """Folders with restore points at and below the working folder, but not at or below the store;
    the folder with the newest point first."""
    by_folder: dict[Path, list[RestorePoint]] = {}
    for point in points_nearby(store, Path.cwd()):
        by_folder.setdefault(point.path.parent, []).append(point)
    folders = [NearbyFolder(folder, len(points), newest_first(points)[0]) for folder, points in by_folder.items()]
    return tuple(sorted(folders, key=lambda each: each.newest.made_at, reverse=True))


def points_nearby(store: Path, folder: Path) -> list[RestorePoint]:
    """The restore points at and below ``folder``, but not at or below the store; without emergency backups and without
    those whose first bytes show damage."""
    points = _below(folder, skip=[], without=store)
    return [point for point in points if not point.is_emergency and not point.problem]


def point_named(points: Sequence[RestorePoint], name: str) -> RestorePoint | None:
    """The only restore point whose path ends with ``name``; None if there is none, or more than one."""
    wanted = Path(name).parts
    matching = [each for each in points if wanted and each.path.parts[-len(wanted) :] == wanted]
    return matching[0] if len(matching) == 1 else None


def _below(top: Path, *, skip: Sequence[Path], without: Path | None = None) -> Iterator[RestorePoint]:
    """The restore points in ``top`` and below it; not directly in the folders of ``skip``, nor at or below
    ``without``."""
    until, files = monotonic() + SECONDS, 0
    waiting = deque([(top, 0)])
    excluded = without.resolve() if without is not None else None
    folders = 0
    while waiting and folders < FOLDERS:
        folder, depth = waiting.popleft()
        folders += 1
        try:
            if excluded is not None and folder.resolve() == excluded:
                continue
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda each: each.name)
            together = files_of_set(folder) if depth and folder not in skip else ()
        except OSError:
            continue
        if together and (point := _readable_point(folder)) is not None:
            yield point
        for entry in entries:
            if entry.name.startswith(".") or monotonic() > until or files > FILES:
                continue
            path = folder / entry.name
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    if (path / "toc.dat").exists():
                        if folder not in skip and (point := _readable_point(path)) is not None:
                            yield point
                    elif depth < DEPTH and entry.name not in _SKIPPED_FOLDERS and not _BY_HAND.fullmatch(entry.name):
                        waiting.append((path, depth + 1))
                elif entry.is_file(follow_symlinks=False) and folder not in skip and path not in together:
                    files += 1
                    if looks_like_dump(path) and (point := _readable_point(path)) is not None:
                        yield point


def _readable_point(path: Path) -> RestorePoint | None:
    with suppress(OSError, LastgoodError):
        return point_at(path)
    return None
