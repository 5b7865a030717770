"""Standard input as a file: a dump is read more than once, first to check it and then to load it."""

from __future__ import annotations

import os
import select
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lastgood.errors import NOT_REACHED, Failed, Interrupted, UsageError
from lastgood.events import Emit, Note, Progress, StageDone, StageStarted, silent
from lastgood.process import interrupts

NAME = "standard-input"
_READ = 1 << 18
_POLL_SECONDS = 0.25


@contextmanager
def spooled(
    descriptor: int, store: Path, emit: Emit = silent, environment: Mapping[str, str] = os.environ
) -> Iterator[Path]:
    """The content of ``descriptor``, in a private file that is removed when the block ends, for whatever reason except
    SIGKILL.

    It is in TMPDIR if that is set, otherwise in ``store`` or the system's folder for temporary files, whichever has
    more space. Emits Progress of stage ``input``. Raises UsageError when it is a terminal, Failed when the folder is
    full, Interrupted."""
    if os.isatty(descriptor):
        raise UsageError(
            "cannot read a dump from standard input: it is a terminal",
            hint="Pipe a dump into it: pg_dump app | lastgood restore - --into NAME",
            state=NOT_REACHED,
        )
    place = _with_room(store, environment)
    with interrupts.raising():
        folder = Path(tempfile.mkdtemp(prefix=".lastgood-", dir=place))
        try:
            path = folder / NAME
            emit(StageStarted("input", "read standard input"))
            emit(Note(f'standard input is stored in "{folder}" until the end: a dump is read more than once'))
            size = _copy(descriptor, path, emit)
            emit(StageDone("input", 0.0, f"{size:,} bytes"))
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _with_room(store: Path, environment: Mapping[str, str]) -> Path:
    if environment.get("TMPDIR"):
        return Path(tempfile.gettempdir())
    places = [Path(tempfile.gettempdir())]
    if store.is_dir() and os.access(store, os.W_OK | os.X_OK):
        places.append(store)
    return max(places, key=lambda place: shutil.disk_usage(place).free)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy(descriptor: int, path: Path, emit: Emit) -> int:
    stop = interrupts.StopRequest()
    done = 0
    try:
        with interrupts.stopping(stop), open(path, "xb", opener=_private) as file:
            while True:
                # A pipe may be silent for long: check for an interrupt meanwhile.
                while not select.select([descriptor], [], [], _POLL_SECONDS)[0]:
                    if stop.is_set():
                        break
                if stop.is_set():
                    raise Interrupted("interrupted while standard input was read", state=NOT_REACHED)
                data = os.read(descriptor, _READ)
                if not data:
                    break
                file.write(data)
                done += len(data)
                emit(Progress("input", done, None, "bytes"))
    except OSError as error:
        raise Failed(
            f'cannot store standard input in "{path.parent}": {(error.strerror or str(error)).lower()} '
            f"after {done:,} bytes",
            hint="Free disk space there, or set TMPDIR to a folder with more space.",
            state=NOT_REACHED,
        ) from error
    return done
