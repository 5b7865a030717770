"""Choosing a restore point: by name, the newest, the newest before a time or before a migration."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from lastgood.context import BACKGROUND, Context
from lastgood.dump.files import links
from lastgood.errors import BadPoint
from lastgood.events import Caution, Emit, Event, Note
from lastgood.facts import Facts
from lastgood.points.nearby import all_points, nearby_folders, point_named
from lastgood.points.partial import MissingPart
from lastgood.points.point import RestorePoint
from lastgood.points.signature import NOT_SIGNED
from lastgood.points.store import point_at
from lastgood.points.verdict import VerifiedPoint, read_whole
from lastgood.text.quoting import argument
from lastgood.text.units import listed, moment

MOST_SHOWN = 10
MOST_FOLDERS = 3
# The names of kept databases.
_KEPT = re.compile(r"_(?:old|undone)_[0-9a-f]{8}\Z")
_SKIPPED = " was skipped: "
_LEFT_OUT = "they hold the state before a rollback, and are used only by name"


def choose(
    store: Path,
    *,
    name: str | None = None,
    before: datetime | None = None,
    before_migration: str | None = None,
    database: str | None = None,
    skim: bool = False,
    skip_rows: bool = False,
    context: Context = BACKGROUND,
) -> VerifiedPoint:
    """The chosen restore point, read from end to end. ``database`` selects one from a cluster dump; only points of that
    database are considered, unless one is named. ``skim``: the rows of a point without a manifest are only counted.
    ``skip_rows``: see ``read_whole``.

    With ``name`` (in the store, or a path): that point. Otherwise the newest valid one that was made before ``before``
    (aware) and without the migration ``before_migration``. Candidates are read from end to end, newest first. A
    candidate that is invalid, or holds only a part of a database, is skipped with a Caution. If none is complete, the
    newest that only lacks the rows of some tables is used. A point of another database than ``database`` is used only
    if it is named; so is an emergency backup, and a Note names those that are newer than the chosen point. Raises
    BadPoint that lists the available points, Interrupted.
    """

    def read(point: RestorePoint) -> VerifiedPoint:
        skimmed = skim or point.manifest is not None
        return read_whole(point, database=database, skim=skimmed, skip_rows=skip_rows, stage="plan", context=context)

    return newest(
        store,
        read,
        lambda whole: Contents(whole.facts, whole.lack),
        name=name,
        before=before,
        before_migration=before_migration,
        database=database,
        emit=context.emit,
    )


@dataclass(frozen=True, slots=True)
class Contents:
    """The known contents of a restore point: its facts, None where they are unknown, and its missing part."""

    facts: Facts | None
    lack: MissingPart | None = None


Candidate = TypeVar("Candidate")


def newest(
    store: Path,
    examine: Callable[[RestorePoint], Candidate],
    contents_of: Callable[[Candidate], Contents],
    *,
    name: str | None,
    before: datetime | None,
    before_migration: str | None,
    database: str | None,
    emit: Emit,
) -> Candidate:
    """Apply the rules of ``choose`` to points that ``examine`` reads in whole or in part. ``examine`` raises BadPoint
    for a point that is not valid."""
    if name is not None:
        return examine(find(store, name))
    points = all_points(store)
    wanted = _wanted(before, before_migration)
    if not points:
        raise _no_points(store)
    skipped: list[str] = []
    in_part: tuple[Candidate, Caution] | None = None  # the newest that only lacks rows of some tables
    of_other_databases: list[str] = []
    emergencies: list[str] = []
    for point in points:
        if before is not None and point.made_at >= before:
            continue
        if point.is_emergency:
            emergencies.append(name_in(store, point))
            continue  # it holds the state that a rollback replaced: restored by name only
        if point.manifest is not None and database not in (None, point.manifest.database):
            of_other_databases.append(f'{point.path.name} (of "{point.manifest.database}")')
            continue  # a store may be shared: a backup of another database is no restore point of this one
        if point.manifest is not None and not predates_migration(point.manifest.migration, before_migration):
            continue
        try:
            candidate = examine(point)
        except BadPoint as error:
            skipped.append(point.path.name)
            emit(Caution(f"{point.path.name}{_SKIPPED}{error}"))
            continue
        contents = contents_of(candidate)
        if contents.facts is not None and database is not None and contents.facts.database not in (None, database):
            of_other_databases.append(f'{point.path.name} (of "{contents.facts.database}")')
            continue
        migration = contents.facts.migration if contents.facts is not None else None
        fits = predates_migration(migration.version if migration is not None else None, before_migration)
        if contents.lack is not None:
            skipped.append(point.path.name)
            caution = Caution(f"{point.path.name}{_SKIPPED}it has no {contents.lack.short}")
            if fits and contents.lack.what == "rows" and in_part is None:
                in_part = candidate, caution
            else:
                emit(caution)
            continue
        if fits:
            if in_part is not None:
                emit(in_part[1])
            _note_left_out(emergencies, emit)
            return candidate
    if in_part is not None:
        _note_left_out(emergencies, emit)
        return in_part[0]
    reasons = f"; not valid: {', '.join(skipped)}" if skipped else ""
    reasons += f"; of another database: {', '.join(of_other_databases[:MOST_SHOWN])}" if of_other_databases else ""
    reasons += f"; emergency backups, used only by name: {', '.join(emergencies[:MOST_SHOWN])}" if emergencies else ""
    hint = _available(store, points)
    if emergencies and len(emergencies) == len(points):
        hint = (
            "Run lastgood recover: it searches for other copies of the data. To restore the state before a rollback: "
            f"lastgood rollback {argument(emergencies[0])}"
        )
    elif skipped and not of_other_databases and len(skipped) + len(emergencies) == len(points):
        hint = (
            "Run lastgood recover: it searches for other copies of the data. To restore what can be read of one: "
            f"lastgood restore {shlex.quote(skipped[0])} --into NEW_NAME --skip-damaged"
        )
    raise BadPoint(f'cannot find a valid restore point{wanted} in "{store}"{reasons}', hint=hint)


def _note_left_out(emergencies: Sequence[str], emit: Emit) -> None:
    if emergencies:
        emit(Note(f"newer emergency backups are left out ({listed(emergencies, MOST_FOLDERS)}): {_LEFT_OUT}"))


def collect_skipped(emit: Emit, skipped: list[str], left_out: list[str]) -> Emit:
    """Wrap ``emit`` so that each skipped point goes into ``skipped``, with its reason, and the note about emergency
    backups goes into ``left_out`` only."""

    def collect(event: Event) -> None:
        if isinstance(event, Note) and _LEFT_OUT in event.text:
            left_out.append(event.text)
            return
        if isinstance(event, Caution) and _SKIPPED in event.text:
            skipped.append(event.text.replace(_SKIPPED, ": ", 1))
        emit(event)

    return collect


def _wanted(before: datetime | None, migration: str | None) -> str:
    words = f" made before {moment(before)}" if before is not None else ""
    return words + (f' without the migration "{migration}"' if migration is not None else "")


def predates_migration(version: str | None, migration: str | None) -> bool:
    """Whether the state with the newest applied migration ``version`` predates ``migration``; True if ``migration`` is
    None, otherwise False for an unknown ``version``."""
    if migration is None:
        return True
    if version is None:
        return False
    if version.isdecimal() and migration.isdecimal():
        return int(version) < int(migration)
    return version < migration


def find(store: Path, name: str) -> RestorePoint:
    """The restore point of that name in the store or below it, or at that path; not read yet. Raises BadPoint."""
    for path in (store / name, Path(name), *([store] if name == store.name else [])):
        in_store = path == store / name and path.is_relative_to(store) and ".." not in Path(name).parts
        if in_store and links.leads_out(path, store):
            raise links.outside(path)
        if path.exists():
            point = point_at(path, within=store if in_store else None)
            # A file that does not look like a dump is still read when it is named, to report what is wrong with it.
            return point if point is not None else _unrecognized(path)
    points = all_points(store)
    if (point := point_named(points, name)) is not None:
        return point
    hint = _available(store, points, name)
    if _KEPT.search(name):
        facts = f"lastgood facts {shlex.quote(name)} shows its contents"
        hint = f"A kept database is not a restore point: lastgood status has the command for undo, {facts}. {hint}"
    # What is written as a path was looked for there first, and a name only in the store.
    where = "no such file" if os.sep in name and not points else f'it is not in "{store}"'
    raise BadPoint(f'cannot find the restore point "{name}": {where}', hint=hint)


def _no_points(store: Path) -> BadPoint:
    """The error for an empty store, with the folders nearby that have restore points."""
    others = nearby_folders(store)
    none = "there is none" if store.exists() else "the folder does not exist"
    if not others:
        return BadPoint(
            f'cannot find a restore point in "{store}": {none}',
            hint="Name another folder with --store, or make a restore point: lastgood backup. In an emergency, "
            "run lastgood recover: it searches for other copies of the data.",
        )
    numbers = ", ".join(f'{each.count} in "{display_path(each.folder)}"' for each in others[:MOST_FOLDERS])
    more = f" and in {len(others) - MOST_FOLDERS} more folders" if len(others) > MOST_FOLDERS else ""
    first = others[0]
    return BadPoint(
        f'cannot find a restore point in "{store}": {none}; found {numbers}{more}',
        hint=f"Run: lastgood rollback --store {shlex.quote(str(display_path(first.folder)))}; the newest there is "
        f"{first.newest.path.name} ({moment(first.newest.made_at)}).",
    )


def display_path(path: Path) -> Path:
    """A path for display: relative to the working folder if it is below that."""
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def find_by_names(store: Path, names: Sequence[str]) -> RestorePoint:
    """The restore point of that name, or the one that consists of several named files; not read yet. Raises
    BadPoint."""
    if len(names) == 1:
        return find(store, names[0])
    points = [find(store, name) for name in names]
    path = Path(" + ".join(point.path.name for point in points))
    newest = max(points, key=lambda point: point.made_at)
    size = sum(point.size for point in points)
    unsigned = next((point.unsigned for point in points if point.unsigned), "")
    # Only a wrong signature: what is wrong in one of the files is found when all are read.
    refused = next((point for point in points if point.remedy == NOT_SIGNED), None)
    together = RestorePoint(path, newest.made_at, newest.time_source, size, unsigned=unsigned)
    together = replace(together, files=tuple(point.path for point in points))
    return together if refused is None else replace(together, problem=refused.problem, remedy=NOT_SIGNED)


def _unrecognized(path: Path) -> RestorePoint:
    status = path.stat()
    return RestorePoint(path, datetime.fromtimestamp(status.st_mtime).astimezone(), "file time", status.st_size)


def _available(store: Path, points: Sequence[RestorePoint], name: str = "") -> str:
    """The available restore points, as a hint; the one with a name similar to ``name`` comes first."""
    if not points:
        others = nearby_folders(store) if name else ()
        near = [f'"{display_path(each.folder)}"' for each in others[:MOST_FOLDERS]]
        elsewhere = f" Restore points exist in {', '.join(near)}." if near else ""
        return f"The store is empty; name another folder with --store.{elsewhere}"
    by_name = {name_in(store, point): point for point in points}
    close = _near(name, list(by_name)) or _near(Path(name).name, [point.path.name for point in points])
    suggestion = f"Did you mean {close}? " if close else ""
    names = (f"{name_in(store, point)} ({moment(point.made_at)})" for point in points)
    return f"{suggestion}Available: {listed(names, MOST_SHOWN)}."


def _near(name: str, names: Sequence[str]) -> str | None:
    """The most similar name; otherwise the first, which is the newest, that contains what was typed."""
    close = difflib.get_close_matches(name, names, 1, 0.7)
    part = [each for each in names if name and name in each]
    return next(iter([*close, *part]), None)


def name_in(store: Path, point: RestorePoint) -> str:
    """The name of a restore point on the command line: its path in the store."""
    path = point.path
    return str(path.relative_to(store)) if path != store and path.is_relative_to(store) else path.name
