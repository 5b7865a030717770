"""The folders of a drill, and their removal even after Ctrl+C or a kill.

The folder ``drills/RUN`` below the state folder holds a lock while the drill runs, and a note of the folders created
elsewhere. The next drill cleans up folders with a note but without a running owner.
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
from lastgood.context import Context
from lastgood.deadman.server import removal_switch, sweep
from lastgood.errors import NOT_REACHED, Failed, Refused, os_reason
from lastgood.events import Note
from lastgood.journal import Journal
from lastgood.journal.past_runs import DRILLS
from lastgood.process import durable
from lastgood.process.companion import NotReady

_LOCK, _NOTE = ".alive", ".work"


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of a drill. ``folder`` keeps the evidence. ``work`` (data, emergency backups and journals of the
    rehearsed runs) and ``sockets`` (the server's socket, whose path must be short) are removed at the end."""

    folder: Path
    work: Path
    sockets: Path

    @property
    def store(self) -> Path:
        """The folder for the emergency backups of the rehearsed runs."""
        return self.work / "store"

    @property
    def state(self) -> Path:
        """The folder for the journals of the rehearsed runs."""
        return self.work / "state"


def base(wanted: Path | None) -> Path:
    """Return the folder on whose disk a drill works. Raises Refused when it is not usable."""
    folder = wanted or Path(tempfile.gettempdir())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "it is not writable" if folder.is_dir() else "the folder does not exist"
        raise Refused(
            f'cannot drill in "{folder}": {why}',
            hint="Give another folder with --folder, or set folder in [drill] of lastgood.toml.",
            state=NOT_REACHED,
        )
    return folder.resolve()


@contextmanager
def place(state: Path, run: str, base: Path) -> Iterator[Place]:
    """Create the folders of one drill. When the block ends, only evidence remains. Raises Refused, Failed."""
    folder = state / DRILLS / run
    found = Place(folder, base / f"lastgood-drill-{run}", Path("/tmp") / f"lg{secrets.token_hex(5)}")
    try:
        durable.private_folder(folder.parent)
        folder.mkdir(mode=0o700)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Refused(
            f'cannot keep evidence in "{folder}": {os_reason(error)}',
            hint="Give a writable folder with --state.",
            state=NOT_REACHED,
        ) from error
    made = (found.work, found.sockets)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        durable.write_private(folder / _NOTE, json.dumps([str(each) for each in made]).encode())
        with removal_switch(made):
            try:
                for each in made:
                    _make(each)
                yield found
            finally:
                sweep(made)
    except NotReady as error:
        raise Failed(
            f"cannot drill: the process that cleans up after a kill did not start: {error}",
            hint="Check memory and process limits of this machine, then try again.",
            state=NOT_REACHED,
        ) from error
    finally:
        _release(folder)
        os.close(lock)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755)
    except OSError as error:  # access() reports every folder as writable for root
        raise Refused(
            f'cannot drill in "{folder.parent}": {os_reason(error)}',
            hint="Give another folder with --folder, or set folder in [drill] of lastgood.toml.",
            state=NOT_REACHED,
        ) from error


def clean_up(context: Context) -> None:
    """Remove what drills left here that were killed together with their keepers."""
    state = context.records
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
            continue  # that drill is in progress
        else:
            context.emit(Note(f"drill {folder.name} was killed; removing what it left"))
            sweep([each for each in made if _is_ours(each)])
            with suppress(OSError):
                if (journal := Journal.find(state, folder.name)) is not None:
                    journal.write("ended", status="killed")
            _release(folder)
        finally:
            os.close(lock)


def _is_ours(folder: Path) -> bool:
    """Check a folder of a note before it is removed: the note may be damaged."""
    return folder.name.startswith("lastgood-drill-") or (folder.parent == Path("/tmp") and folder.name.startswith("lg"))


def _release(folder: Path) -> None:
    if not (folder / FILE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in (_NOTE, _LOCK):
        (folder / name).unlink(missing_ok=True)
