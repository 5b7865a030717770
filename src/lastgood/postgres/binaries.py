"""Client programs of the right major version: pg_dump, pg_restore and psql, never older than the server.

The search covers ``LASTGOOD_PG_BIN``, ``PATH``, the folders of the distributions' packages, and last the Python wheels
that carry a whole PostgreSQL. Wheels come last because some are built without zstd or lz4.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastgood.errors import Refused
from lastgood.postgres import embedded
from lastgood.process import run

ProgramName = Literal["pg_dump", "pg_restore", "psql"]

PROBE_SECONDS = 20.0
# Folders of packages: Debian, Red Hat (PGDG), Homebrew on both kinds of Mac, Postgres.app.
_PACKAGED = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "opt/homebrew/opt/libpq/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/local/opt/libpq/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True, slots=True)
class Program:
    """A client program that was run once to learn its ``version`` (``15.18``, ``18beta1``)."""

    path: Path
    major: int
    version: str


def find(program: ProgramName, *, at_least: int, search: Sequence[Path] | None = None) -> Program:
    """The program whose major version is ``at_least`` or, when there is none, the next newer one.

    ``search`` is a list of ``bin`` folders, best first (default: ``places()``). A program in ``LASTGOOD_PG_BIN`` has
    precedence over all others when it is new enough. Raises Refused, with the package to install.
    """
    own = _configured_folder() if search is None else None
    best: Program | None = None
    too_old: Program | None = None
    for folder in places() if search is None else search:
        found = _probe(folder / program)
        if found is None:
            continue
        if found.major < at_least:
            too_old = too_old or found
        elif found.major == at_least or folder == own:
            return found
        elif best is None or found.major < best.major:
            best = found
    if best is not None:
        return best
    reason = "it is not installed" if too_old is None else f'"{too_old.path}" is version {too_old.version}'
    raise Refused(
        f"cannot find {program} {at_least} or newer: {reason}",
        hint=(
            f"Install postgresql-client-{at_least} (Debian, Ubuntu), postgresql{at_least} (Red Hat) or"
            f" postgresql@{at_least} (Homebrew), or set LASTGOOD_PG_BIN to the folder that holds {program}."
        ),
    )


def places(root: Path = Path("/")) -> list[Path]:
    """The ``bin`` folders to search, best first, each once; a package's newer versions before its older ones."""
    own = _configured_folder()
    listed = [own] if own is not None else []
    listed += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for pattern in _PACKAGED:
        listed += sorted(root.glob(pattern), key=_number, reverse=True)
    listed += _wheels()
    return list(dict.fromkeys(listed))


def _configured_folder() -> Path | None:
    given = os.environ.get("LASTGOOD_PG_BIN", "")
    return Path(given) if given else None


def _wheels() -> Iterator[Path]:
    for major in reversed(embedded.available()):
        folder = embedded.programs(major)
        if folder is not None:
            yield folder


def _number(folder: Path) -> int:
    digits = re.findall(r"\d+", str(folder))
    return int(digits[-1]) if digits else 0


def _probe(path: Path) -> Program | None:
    """The program at ``path``, or None when there is none that runs.

    Debian's /usr/bin/pg_dump is a script that picks a version by the clusters of this machine, not by the server of the
    connection: the real programs are in /usr/lib/postgresql.
    """
    if not os.access(path, os.X_OK) or path.resolve().name == "pg_wrapper":
        return None
    status = path.stat()
    return _version(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _version(path: Path, modified: int, size: int) -> Program | None:
    try:
        output = run.run([path, "--version"], seconds=PROBE_SECONDS).output.decode("ascii", "replace")
    except (run.ChildFailed, OSError):
        return None
    # pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    match = re.search(r"\(PostgreSQL\) ((\d+)\S*)", output)
    return Program(path, int(match[2]), match[1]) if match else None
