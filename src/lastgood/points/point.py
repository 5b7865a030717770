"""One restore point, and how to open it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from lastgood.dump.files.file_set import FileSet, open_any
from lastgood.dump.files.formats import DumpSource
from lastgood.errors import BadPoint, LastgoodError, os_reason
from lastgood.points.manifest import Manifest
from lastgood.postgres import binaries

TimeSource = Literal["manifest", "header", "archive", "name", "file time"]


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A state that the live database can be rolled back to.

    ``made_at`` is aware; ``time_source`` is where it comes from. ``size`` is in bytes on disk. ``manifest`` is None for
    a foreign point. ``problem``: damage that is visible without reading the file whole, empty otherwise; ``remedy`` is
    the hint for it. ``files``: files that were named one by one as one dump; ``path`` then shows their names and is no
    path. ``unsigned``: why its origin is not proved, if a key is configured and the operator trusts it without.
    """

    path: Path
    made_at: datetime
    time_source: TimeSource
    size: int
    manifest: Manifest | None = None
    problem: str = ""
    files: tuple[Path, ...] = ()
    remedy: str = "Choose another restore point: lastgood points"
    unsigned: str = ""

    @property
    def is_emergency(self) -> bool:
        """Whether it was made to save a broken state before a rollback, by lastgood or by a script that uses this
        name."""
        if self.manifest is not None:
            return self.manifest.purpose == "emergency"
        # Our emergency backups have this name. They may lack the manifest, which is written last.
        return re.search(r"(^|_)emergency", self.path.name) is not None

    @property
    def time_zone(self) -> str | None:
        """The time zone of its time stamps, None where it is unknown."""
        return self.manifest.facts.rules.time_zone if self.manifest is not None else None


def source_of(point: RestorePoint) -> DumpSource:
    """The dump, opened for reading. Raises BadPoint when the file is missing or is no dump."""
    if point.files:
        return FileSet(point.path, point.files, pg_restore_for)
    return open_any(point.path, pg_restore=pg_restore_for)


def pg_restore_for(version: tuple[int, int, int]) -> Path:
    """A pg_restore that reads archives of that format version. Raises Refused when none is installed.

    Archive format 1.14 and older is PostgreSQL 15's, 1.15 is 16's, 1.16 is 17's and 18's; later formats need newer
    programs.
    """
    major, minor, _ = version
    newest = 18 + max(0, minor - 16) if major == 1 else 18
    at_least = {15: 16, 16: 17}.get(minor, 15 if minor < 15 else newest) if major == 1 else newest
    return binaries.find("pg_restore", at_least=at_least).path


class Unreadable(BadPoint):
    """Reading the restore point failed because of a defect in lastgood. Other restore points can still be read."""

    code = "unreadable_point"


@contextmanager
def confine_errors(path: Path) -> Iterator[None]:
    """Turn every exception of the block into an error about the restore point at ``path``.

    Raises BadPoint for an OSError and Unreadable for a defect, with the place in lastgood's source where it occurred; a
    LastgoodError passes unchanged.
    """
    try:
        yield
    except LastgoodError:
        raise
    except OSError as error:
        raise BadPoint(
            f'cannot read "{path}": {os_reason(error)}',
            hint="Choose another restore point: lastgood points",
        ) from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise Unreadable(
            f'cannot read "{path}": a defect in lastgood ({type(error).__name__} in {Path(last.filename).name}, line '
            f"{last.lineno})",
            hint="Report it with this message, and choose another restore point: lastgood points",
        ) from error
