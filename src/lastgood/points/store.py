"""A folder in which restore points lie, ours and others'."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from lastgood.dump import links
from lastgood.dump.file_set import files_of_set, open_any
from lastgood.dump.formats import DumpSource
from lastgood.dump.recognize import HEAD
from lastgood.errors import BadPoint, LastgoodError
from lastgood.points.contained import contained
from lastgood.points.foreign_time import made_at, named_or_written
from lastgood.points.manifest import SUFFIX, Manifest, has_manifest, manifest_of
from lastgood.points.point import RestorePoint, pg_restore_for

# What the text of a dump begins with, after comments: a script or a page of documentation does not.
_SQL = re.compile(rb"(?:^|\n)(?:SET [a-z_]+ = |SELECT pg_catalog\.|COPY \S+ |CREATE [A-Z]+ |INSERT INTO |\\restrict )")
_HEADER = b"-- PostgreSQL database "
# What a file is called that is meant to be a dump, and what a damaged one still shows.
_NAMED_SO = re.compile(r"\.(?:sql|dump|backup|pgdump)(?:\.(?:gz|zst|lz4|xz|bz2))?\Z", re.IGNORECASE)
# What archives of pg_dump begin with: custom ones, and tar's first member.
_ARCHIVES = (b"PGDMP", b"toc.dat\0")
_COMPRESSED = (".gz", ".zst", ".lz4", ".xz", ".bz2")
_MARKS = re.compile(
    rb"(?m)^-- (?:Name|Data for Name): .*; Type: |^COPY \S.* FROM stdin;\r?$|^-- PostgreSQL database (?:cluster )?dump"
)


def listing(store: Path) -> list[RestorePoint]:
    """The restore points in a folder, the newest first: those with a manifest, and foreign ones told by their
    content. Only the beginning of each is read. Unfinished ones (``.….partial``), manifests and other files are left
    out; what is named like a dump and is damaged, or none, is told by its ``problem``. A folder with the files of a
    set (``schema.sql``, ``data.sql`` …) is one point, the store itself too. A store that does not exist holds none;
    raises BadPoint when it can't be read.
    """
    try:
        entries = sorted(store.iterdir())
        together = files_of_set(store)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadPoint(
            f'cannot look for restore points in "{store}": {(error.strerror or str(error)).lower()}',
            hint="Name the folder with --store.",
        ) from error
    found = [point for point in [look_at(store)] if point is not None] if together else []
    for path in entries:
        if path not in together and not path.name.startswith(".") and not path.name.endswith((SUFFIX, ".partial")):
            point = look_at(path, within=store)
            if point is not None:
                found.append(point)
    return newest_first(found)


def newest_first(found: Iterable[RestorePoint]) -> list[RestorePoint]:
    """In the order in which they are shown and chosen."""
    return sorted(found, key=lambda point: (point.made_at, point.path.name), reverse=True)


def plainly_a_dump(path: Path) -> bool:
    """Whether a file is one of ours, or is named like a dump and begins like one: an archive, a compressed file, or SQL
    with the header that pg_dump writes."""
    if has_manifest(path):
        return True
    if _NAMED_SO.search(path.name) is None:
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return _HEADER in head or head.startswith(_ARCHIVES) or path.suffix.lower() in _COMPRESSED


def look_at(path: Path, *, within: Path | None = None) -> RestorePoint | None:
    """The restore point at ``path``, None when it is something else. Reads its beginning and its manifest only.

    ``within``: the store that it lies in. What a symbolic link there leads to elsewhere is not looked at.
    """
    try:
        if within is not None and links.leads_out(path, within):
            raise links.outside(path)
        with contained(path):
            return _look_at(path)
    except LastgoodError as error:
        return _damaged(path, str(error)) if _NAMED_SO.search(path.name) else None


def _look_at(path: Path) -> RestorePoint | None:
    problem = remedy = ""
    manifest: Manifest | None = None
    beside = has_manifest(path)
    try:
        manifest = manifest_of(path)
    except BadPoint as error:
        problem = str(error)
        # Its manifest can't be read, which says nothing of the dump.
        remedy = f"{error.hint} Or choose another restore point: lastgood points." if error.hint else ""
    try:
        source = open_any(path, pg_restore=pg_restore_for)
        head = _head(source)
    except LastgoodError as error:
        if manifest is None:
            return _damaged(path, str(error)) if _NAMED_SO.search(path.name) else None
        # One of ours that is no dump any more: it must be seen, not passed over.
        return RestorePoint(path, manifest.made_at, "manifest", _size(path), manifest, str(error))
    if manifest is not None:
        if source.size != manifest.size:
            problem = f'cannot use "{path}": it has {source.size} bytes, and had {manifest.size} when it was made'
        return RestorePoint(path, manifest.made_at, "manifest", source.size, manifest, problem)
    if source.kind == "plain" and not beside and _HEADER not in head and not _SQL.search(head):
        whole = _head(source, 1 << 18) + _tail(path)
        if not _NAMED_SO.search(path.name) or _MARKS.search(whole) is None:
            return None
        return _damaged(path, f'cannot use "{path}": its beginning is not that of a dump')
    moment, where = made_at(source, head)
    point = RestorePoint(path, moment, where, source.size, None, problem)
    return replace(point, remedy=remedy) if remedy else point


def _damaged(path: Path, problem: str) -> RestorePoint | None:
    """None where it is no file, or vanished meanwhile."""
    try:
        if path.is_symlink() or not path.is_file():
            return _linked(path, problem) if path.is_symlink() else None
        moment, where = named_or_written(path.name, path)
        return RestorePoint(path, moment, where, path.stat().st_size, None, problem)
    except (OSError, OverflowError, ValueError):
        return None


def _linked(path: Path, problem: str) -> RestorePoint:
    """A link, of which nothing but itself is looked at."""
    status = path.lstat()
    moment = datetime.fromtimestamp(status.st_mtime).astimezone()
    return RestorePoint(path, moment, "file time", status.st_size, None, problem)


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        return file.read()


def _head(source: DumpSource, size: int = HEAD) -> bytes:
    """The beginning of a plain dump's text, or of an archive's bytes."""
    if source.kind == "set":
        return b""
    if source.kind == "plain":
        chunks = source.chunks()
        try:
            return next(chunks, b"")[:size]
        finally:
            # Closes the file: a generator that is left alone does so when it is collected.
            if isinstance(chunks, Generator):
                chunks.close()
    if source.compression:
        return b""
    file = source.path / "toc.dat" if source.kind == "directory" else source.path
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    # A tar's first member is its table of contents.
    return head[512:] if head.startswith(b"toc.dat\0") else head


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
