"""A dump in several files: the three of ``supabase db dump``, or the sections of a pg_dump."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from lastgood.dump.files import links
from lastgood.dump.files.formats import DumpSource, PgRestore, open_dump
from lastgood.dump.files.parts import PartFile
from lastgood.errors import BadPoint, Incomplete, os_reason

_ENDING = r"\.sql(?:\.(?:gz|zst|lz4|xz|bz2))?"
# The names in Supabase's guide, in the order for reading.
_NAMES = ("roles", "schema", "history_schema", "data", "history_data")
_ROLES, _SCHEMA, _DATA, _POST_DATA = range(4)
# The first command that is not a setting shows a file's purpose.
_FIRST = re.compile(
    rb"^(?:(?P<roles>(?:CREATE|ALTER) ROLE )"
    rb"|(?P<data>COPY |INSERT INTO |SELECT pg_catalog\.(?:setval|lo_)|SET session_replication_role = replica)"
    rb"|(?P<post>ALTER TABLE (?:ONLY )?(?!IF EXISTS|ONLY )[^\n;]+\n +ADD CONSTRAINT |CREATE (?:UNIQUE )?INDEX )"
    rb"|(?:CREATE|ALTER|COMMENT|DROP|GRANT|REVOKE) )",
    re.MULTILINE,
)


class FileSet(DumpSource):
    """Several files that form one dump. ``kind`` is ``set``; ``parts`` must be read in sequence."""

    def __init__(self, path: Path, files: Sequence[Path], pg_restore: PgRestore | None) -> None:
        opened = [open_dump(file, pg_restore=pg_restore) for file in files]
        purposes = [_purpose(source) for source in opened]
        order = sorted(range(len(opened)), key=lambda i: purposes[i])
        self.sources = tuple(opened[i] for i in order)
        self.parts = tuple(PartFile(opened[i].path.name, purposes[i] == _ROLES, opened[i]) for i in order)
        super().__init__(path, "set", "", None, pg_restore)

    @property
    def position(self) -> int:
        return sum(source.position for source in self.sources)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{source.path.name}: {note}" for source in self.sources for note in source.notes)

    def fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        return tuple(line for source in self.sources for line in source.fingerprint())

    def sha256(self, cancelled: Callable[[], bool] = lambda: False) -> str:
        """The digest of the lines ``name NUL digest LF`` of its files, in their order; empty when cancelled."""
        digest_of_all = hashlib.sha256()
        for source in self.sources:
            name, digest = source.path.name.encode("utf-8", "surrogateescape"), source.sha256(cancelled).encode()
            digest_of_all.update(name + b"\0" + digest + b"\n")
        return "" if cancelled() else digest_of_all.hexdigest()

    def chunks(self, *options: str, damage: list[BadPoint] | None = None) -> Iterator[bytes]:
        """The text of all files. To read them as SQL use ``parts``: each is a text of its own."""
        for source in self.sources:
            yield from source.chunks(*options, damage=damage)
            yield b"\n"


def files_of_set(folder: Path) -> list[Path]:
    """The files in ``folder`` that form a set, in their order: schema.sql and data.sql, optionally roles.sql and those
    of the migration history, compressed or not; empty unless both exist. Raises OSError.
    """
    if (folder / "toc.dat").exists():
        return []
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = re.fullmatch(rf"({'|'.join(_NAMES)}){_ENDING}", path.name)
        if name is not None and not links.leads_out(path, folder) and path.is_file():
            files.setdefault(name[1], path)
    return [files[name] for name in _NAMES if name in files] if {"schema", "data"} <= files.keys() else []


def open_any(path: Path, *, pg_restore: PgRestore | None = None) -> DumpSource:
    """The dump at ``path``: a file, an archive's folder, or a folder with a set. Raises BadPoint."""
    if path.is_dir():
        try:
            files = files_of_set(path)
        except OSError as error:
            raise BadPoint(
                f'cannot read "{path}": {os_reason(error)}',
                hint="Fix the cause, or choose another restore point.",
            ) from error
        if files:
            return FileSet(path, files, pg_restore)
    return open_dump(path, pg_restore=pg_restore)


def _purpose(source: DumpSource) -> int:
    chunks = source.chunks()
    try:
        head = next(chunks, b"")
    except Incomplete:
        head = b""  # a complete read will report it
    finally:
        if isinstance(chunks, Generator):
            chunks.close()
    match = _FIRST.search(head.replace(b"\r\n", b"\n"))
    kind = match.lastgroup if match is not None else None
    return {"roles": _ROLES, "data": _DATA, "post": _POST_DATA, None: _SCHEMA}[kind]
