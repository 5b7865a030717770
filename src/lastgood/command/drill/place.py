"""Where a drill works and what it leaves, so that nothing of it stays by accident: not after Ctrl+C, not after a kill.

The folder ``drills/RUN`` below the state folder holds a lock for as long as the drill lives, and a note of the folders
that it makes elsewhere. What is found with a note and without a living owner is cleaned up by the next drill.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lastgood.command.drill.seal import FILE
from lastgood.deadman.server import keeping, sweep
from lastgood.errors import NOT_REACHED, Failed, Refused
from lastgood.events import Emit, Note
from lastgood.journal import Journal
from lastgood.journal.past_runs import DRILLS
from lastgood.process import durable
from lastgood.process.companion import NotReady

_LOCK, _NOTE = ".alive", ".work"


@dataclass(frozen=True, slots=True)
class Place:
    """``folder`` keeps the evidence. ``work`` and ``sockets`` are removed at the end: data, emergency backups and
    journals of the rehearsed runs in the one, a server's socket in the other, whose path must be short."""

    folder: Path
    work: Path
    sockets: Path

    @property
    def store(self) -> Path:
        """For the emergency backups of the rehearsed runs."""
        return self.work / "store"

    @property
    def state(self) -> Path:
        """For the journals of the rehearsed runs."""
        return self.work / "state"


def base(wanted: Path | None) -> Path:
    """The folder on whose disk a drill works. Raises Refused when it is none."""
    folder = wanted or Path(tempfile.gettempdir())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "it can't be written to" if folder.is_dir() else "there is no such folder"
        raise Refused(
            f'cannot drill in "{folder}": {why}',
            hint="Name another folder with --folder, or as folder under [drill] in lastgood.toml.",
            state=NOT_REACHED,
        )
    return folder.resolve()


@contextmanager
def place(state: Path, run: str, base: Path) -> Iterator[Place]:
    """The folders of one drill. When the block ends, only evidence stays. Raises Refused when they can't be made."""
    folder = state / DRILLS / run
    found = Place(folder, base / f"lastgood-drill-{run}", Path("/tmp") / f"lg{secrets.token_hex(5)}")
    try:
        durable.private_folder(folder.parent)
        folder.mkdir(mode=0o700)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Refused(
            f'cannot keep evidence in "{folder}": {(error.strerror or str(error)).lower()}',
            hint="Name a folder that can be written to with --state.",
            state=NOT_REACHED,
        ) from error
    made = (found.work, found.sockets)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        durable.write_private(folder / _NOTE, json.dumps([str(each) for each in made]).encode())
        with keeping(made):
            try:
                for each in made:
                    _make(each)
                yield found
            finally:
                sweep(made)
    except NotReady as error:
        raise Failed(
            f"cannot drill: the process that cleans up after a kill could not be started: {error}",
            hint="See whether this machine has memory and processes left, and run it again.",
            state=NOT_REACHED,
        ) from error
    finally:
        _let_go(folder)
        os.close(lock)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755)
    except OSError as error:  # root may write everywhere, as far as access() knows
        raise Refused(
            f'cannot drill in "{folder.parent}": {(error.strerror or str(error)).lower()}',
            hint="Name another folder with --folder, or as folder under [drill] in lastgood.toml.",
            state=NOT_REACHED,
        ) from error


def clean_up(state: Path, emit: Emit) -> None:
    """Removes what drills left here that were killed together with whatever was to clean up after them."""
    for note in sorted((state / DRILLS).glob(f"*/{_NOTE}")):
        folder = note.parent
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made = [Path(each) for each in json.loads(note.read_bytes())]
        except (OSError, ValueError):
            continue  # it is at work
        else:
            emit(Note(f"drill {folder.name} was killed: what it left is removed"))
            sweep([each for each in made if _is_ours(each)])
            with suppress(OSError):
                if (journal := Journal.find(state, folder.name)) is not None:
                    journal.write("ended", status="killed")
            _let_go(folder)
        finally:
            os.close(lock)


def _is_ours(folder: Path) -> bool:
    """A note may be damaged; what it says is removed without asking."""
    return folder.name.startswith("lastgood-drill-") or (folder.parent == Path("/tmp") and folder.name.startswith("lg"))


def _let_go(folder: Path) -> None:
    if not (folder / FILE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in (_NOTE, _LOCK):
        (folder / name).unlink(missing_ok=True)
