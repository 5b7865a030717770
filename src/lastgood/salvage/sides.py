"""The sides of a salvage: what was restored, and what was written after it.

They come from the marks of kept databases and kept schemas on the server; or they are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from lastgood import points
from lastgood.difference import DatabaseSide, NewNames, PointSide, RenamedSide, Side
from lastgood.errors import BadPoint, Refused
from lastgood.in_place import kept
from lastgood.models import Frozen
from lastgood.points import RestorePoint
from lastgood.postgres.mark import BASE, DEPLOYMENT, Mark, unbelieved
from lastgood.postgres.server import Connection, Target


class Theirs(Frozen):
    """Where rows are brought back from. ``kind``: a kept database or kept schemas, or a restore point. ``run``: the run
    that kept it; ``deployment``: the failed deployment that had changed it. Both are empty otherwise."""

    kind: str
    name: str
    since: datetime
    run: str = ""
    deployment: str = ""


class Base(Frozen):
    """The restore point from which both sides differ."""

    path: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Sides:
    """``theirs`` is read as ``their_side``; ``target``: its database, None for a restore point; ``schemas``: the names
    of its schemas there, by the live names, if they differ. ``new_names``: what was renamed in it."""

    base: Base
    point: RestorePoint
    base_side: Side
    theirs: Theirs
    their_side: Side
    target: Target | None
    schemas: Mapping[str, str]
    new_names: NewNames = field(default_factory=NewNames)

    def renamed(self, names: NewNames) -> Sides:
        """The same sides, the other one with its tables and columns under their old names."""
        return replace(self, their_side=RenamedSide(self.their_side, names), new_names=names) if names else self

    @property
    def source(self) -> str:
        """What identifies the other side: its run, or the name of the restore point."""
        return self.theirs.run or self.theirs.name


@dataclass(frozen=True, slots=True)
class Names:
    """What the user named: the ``run`` whose kept database is meant, or the restore point that has the rows; and the
    restore point from which both sides differ."""

    run: str | None = None
    source: str | None = None
    base: str | None = None


def find(maintenance: Connection, live: Target, store: Path, names: Names) -> Sides:
    """The sides for a live database. Raises Refused and BadPoint."""
    found = _kept(maintenance, live, names.run)
    if names.source is not None:
        source = points.find(store, names.source)
        base = names.base or (found.base if found is not None else None)
        if base is None:
            raise Refused(
                "cannot salvage rows: the restore point that was rolled back to is unknown",
                hint="Name it: lastgood salvage --from POINT --base POINT",
            )
        point = _point(store, base)
        return Sides(
            base=Base(path=str(point.path), made_at=point.made_at),
            point=point,
            base_side=PointSide(point, point.path.name, live.dbname),
            theirs=Theirs(kind="restore point", name=source.path.name, since=source.made_at),
            their_side=PointSide(source, source.path.name, live.dbname),
            target=None,
            schemas={},
        )
    if found is None:
        raise Refused(
            f'cannot salvage rows: "{live.dbname}" has no kept database or kept schemas'
            + (f' from run "{names.run}"' if names.run else ""),
            hint=unbelieved(maintenance, live.dbname)
            or "Name a restore point that has the rows: lastgood salvage --from POINT --base POINT",
        )
    point = _point(store, names.base or found.base)
    target = live if found.schemas else live.at(found.name)
    return Sides(
        base=Base(path=str(point.path), made_at=point.made_at),
        point=point,
        base_side=PointSide(point, point.path.name, live.dbname),
        theirs=Theirs(
            kind="kept schemas" if found.schemas else "kept database",
            name=found.name,
            since=found.since,
            run=found.run,
            deployment=found.deployment,
        ),
        their_side=DatabaseSide(target, found.name, schemas=found.schemas or None),
        target=target,
        schemas={shown: stored for stored, shown in found.schemas.items()},
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """``schemas``: the stored names of kept schemas, with their live names; empty for a kept database."""

    run: str
    name: str
    base: str
    since: datetime
    deployment: str
    schemas: Mapping[str, str]


def _kept(maintenance: Connection, live: Target, run: str | None) -> _Found | None:
    """The newest kept database or schemas, or those of ``run``."""
    every = [
        (found, mark)
        for found, mark in kept.left_by_runs(maintenance, live)
        if mark.role == "kept" and not found.invalid and run in (None, mark.run)
    ]
    if not every:
        return None
    database, mark = max(every, key=lambda pair: pair[1].started)
    schemas = _schemas(live, mark) if mark.options.get("way") == "in-place" else {}
    return _Found(
        run=mark.run,
        name=database.name,
        base=mark.options.get(BASE) or mark.point,
        since=mark.started,
        deployment=mark.options.get(DEPLOYMENT, ""),
        schemas=schemas,
    )


def _schemas(live: Target, mark: Mark) -> dict[str, str]:
    return {
        stored: shown
        for each in kept.schemas_in(live)
        if each.run == mark.run and each.role != "staging"
        for stored, shown in zip(each.schemas, each.lives, strict=True)
    }


def _point(store: Path, name: str) -> RestorePoint:
    try:
        path = Path(name)
        return points.find(store, name if path.exists() or not path.is_absolute() else path.name)
    except BadPoint as error:
        error.hint = f"Name the restore point of the rollback: --base POINT. {error.hint}"
        raise
