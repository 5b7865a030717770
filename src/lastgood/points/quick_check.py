"""A quick check of a restore point without reading it whole: its manifest, its beginning and its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lastgood.context import BACKGROUND, Context
from lastgood.dump.files.file_set import FileSet
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.files.makers import maker_of_comment
from lastgood.dump.files.recognize import HEAD
from lastgood.dump.signs.ending import INSPECT
from lastgood.errors import Foreign, Incomplete
from lastgood.facts import Facts
from lastgood.points.choosing import Contents, newest
from lastgood.points.point import RestorePoint, confine_errors, source_of
from lastgood.points.verdict import Differs, read_whole

_TAIL = 4096
# Up to this size a SHA-256 takes less than a second.
MOST_DIGESTED_BYTES = 256 << 20
# pg_dump's own last comment, also of a cluster dump; and the last command in files of supabase db dump.
_ENDED = re.compile(rb"-- PostgreSQL database (?:cluster )?dump complete\s*\n--|(?i:\breset\s+all\s*;)")


@dataclass(frozen=True, slots=True)
class QuickCheck:
    """A restore point that passed the quick check. ``facts`` are those of its manifest; None without one. ``evidence``:
    what was checked, in words."""

    point: RestorePoint
    source: DumpSource
    facts: Facts | None
    evidence: str


def quick_check(point: RestorePoint) -> QuickCheck:
    """Check the size and the end; with a manifest also the SHA-256, unless the file is large. Raises BadPoint for
    damage that this shows."""
    with confine_errors(point.path):
        return _quick_check(point)


def _quick_check(point: RestorePoint) -> QuickCheck:
    source = source_of(point)
    if point.problem:
        raise _changed(point, point.problem, point.remedy)
    files = [each.path for each in source.sources] if isinstance(source, FileSet) else [point.path]
    plain = source.kind in ("plain", "set") and not source.compression
    if plain and not all(_has_footer(file) for file in files if file.suffix == ".sql" or len(files) == 1):
        if maker := _maker(files[0]):
            raise Foreign(f'cannot use "{point.path}": it is an export of {maker}, not of pg_dump', hint=INSPECT)
        raise Incomplete(
            f'cannot use "{point.path}": it ends without the line "-- PostgreSQL database dump complete"',
            hint="See which part of it is readable: lastgood points verify",
        )
    end = "its end is complete" if plain else "its end cannot be checked without reading it"
    if point.manifest is None:
        return QuickCheck(
            point, source, None, f"not read, because it has no manifest: it begins like a dump, and {end}"
        )
    evidence = f"not read: its size matches its manifest, and {end}; its content was verified when it was made"
    if point.size <= MOST_DIGESTED_BYTES:
        if source.sha256() != point.manifest.sha256:
            raise _changed(point, f'cannot use "{point.path}": its SHA-256 differs from that in its manifest')
        evidence = "its SHA-256 matches its manifest: its content was verified when it was made"
    return QuickCheck(point, source, point.manifest.facts, evidence)


def _changed(point: RestorePoint, why: str, hint: str = "Choose another restore point: lastgood points") -> Differs:
    facts = point.manifest.facts if point.manifest is not None else Facts(origin="dump")
    return Differs(why, hint=hint, facts=facts)


def _has_footer(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL))
        return _ENDED.search(stream.read()) is not None


def _maker(file: Path) -> str:
    """The program that wrote a plain file, from the comments at its beginning; empty for pg_dump and where no comment
    names a program."""
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    block = head[: head.find(b"*/")] if head.startswith(b"/*") else b""
    return next((maker for text in (block, *head.splitlines()) if (maker := maker_of_comment(text))), "")


def choose_quickly(
    store: Path,
    *,
    name: str | None = None,
    before: datetime | None = None,
    before_migration: str | None = None,
    database: str | None = None,
    context: Context = BACKGROUND,
) -> QuickCheck:
    """The restore point that ``choose`` would try first, unread. It is read if ``before_migration`` is set and no
    manifest has its migrations. Raises BadPoint that lists the available points."""

    def examine(point: RestorePoint) -> QuickCheck:
        checked = quick_check(point)
        if before_migration is None or checked.facts is not None:
            return checked
        verified = read_whole(point, database=database, skim=True, stage="plan", context=context)
        return QuickCheck(
            point, verified.source, verified.facts, "read for its migration version; its rows were only counted"
        )

    return newest(
        store,
        examine,
        lambda checked: Contents(checked.facts),
        name=name,
        before=before,
        before_migration=before_migration,
        database=database,
        emit=context.emit,
    )
