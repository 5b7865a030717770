"""Standard input as a file: a dump is read more than once, first to check it and then to load it."""

from __future__ import annotations

import os
import select
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lastgood.errors import NOT_REACHED, Failed, Interrupted, UsageError, os_reason
from lastgood.events import Emit, Note, Progress, StageDone, StageStarted, silent
from lastgood.process import interrupts

NAME = "standard-input"
_READ = 1 << 18
_POLL_SECONDS = 0.25


@contextmanager
def spool_input(
    descriptor: int, store: Path, emit: Emit = silent, environment: Mapping[str, str] = os.environ
) -> Iterator[Path]:
    """Copy ``descriptor`` to a private file, which is removed when the block ends for any reason except SIGKILL.

    The file is in TMPDIR if that is set, otherwise in ``store`` or the system's folder for temporary files, whichever
    has more space. Emits Progress of stage ``input``. Raises UsageError for a terminal, Failed when the file cannot be
    written, Interrupted."""
    if os.isatty(descriptor):
        raise UsageError(
            "cannot read a dump from standard input: it is a terminal",
            hint="Pipe a dump into it: pg_dump app | lastgood restore - --into NAME",
            state=NOT_REACHED,
        )
    place = _roomiest_folder(store, environment)
    with interrupts.raise_on_signal():
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


def _roomiest_folder(store: Path, environment: Mapping[str, str]) -> Path:
    if environment.get("TMPDIR"):
        return Path(tempfile.gettempdir())
    places = [Path(tempfile.gettempdir())]
    if store.is_dir() and os.access(store, os.W_OK | os.X_OK):
        places.append(store)
    return max(places, key=lambda place: shutil.disk_usage(place).free)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy(descriptor: int, path: Path, emit: Emit) -> int:
    stop = interrupts.StopRequest()
    size = 0
    try:
        with interrupts.stop_on_signal(stop), open(path, "xb", opener=_open_private) as file:
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
                size += len(data)
                emit(Progress("input", size, None, "bytes"))
    except OSError as error:
        raise Failed(
            f'cannot store standard input in "{path.parent}": {os_reason(error)} after {size:,} bytes',
            hint="Free disk space there, or set TMPDIR to a folder with more space.",
            state=NOT_REACHED,
        ) from error
    return size
