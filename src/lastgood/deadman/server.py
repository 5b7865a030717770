"""The keeper: a separate process that stops an embedded server and removes its folders if lastgood is killed.

The server runs in its own session, so it survives a kill of lastgood. The keeper receives the folders before they are
created. Its input is ``done`` at the regular end. If the input ends without ``done``, lastgood was killed: the keeper
stops the servers in those folders and removes the folders.

    python -m lastgood.deadman.server < order
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from lastgood.process import companion
from lastgood.process.companion import READY

DONE = "done"
# The limit of an immediate shutdown; remaining processes are then killed.
PATIENCE_SECONDS = 10.0
_PROC = Path("/proc")


@contextmanager
def keeping(folders: Sequence[Path]) -> Iterator[None]:
    """Ensure for the length of a block that these folders, and servers with data in them, do not outlive this process.
    They need not exist yet. At the regular end of the block, the caller removes them. Raises NotReady."""
    order = json.dumps([str(folder) for folder in folders])
    with companion.standing_by("lastgood.deadman.server", order) as keeper:
        yield
        with suppress(OSError):  # the keeper has already exited
            keeper.write(DONE)


def sweep(folders: Sequence[Path]) -> None:
    """Stop the servers with data in these folders, and remove the folders. Missing ones are ignored."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    how = signal.SIGQUIT
    while left := list(_servers(folders)):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, how)
        if time.monotonic() > deadline:
            how = signal.SIGKILL
            if time.monotonic() > deadline + PATIENCE_SECONDS:
                break
        # The end of a process that is not our child can only be polled.
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _servers(folders: Sequence[Path]) -> Iterator[int]:
    """Yield the processes with a data folder in one of these on their command line: ``postgres -D DATA``,
    ``initdb``."""
    wanted = [os.fsencode(folder) for folder in folders]
    if not _PROC.is_dir():
        yield from _by_their_files(folders)
        return
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is not readable for us
        if any(word == b"-D" and _within(after, wanted) for word, after in pairwise(words)):
            yield int(entry.name)


def _within(path: bytes, folders: Sequence[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)


def _by_their_files(folders: Sequence[Path]) -> Iterator[int]:
    """Without /proc, read the process ids from the postmaster.pid files."""
    for folder in folders:
        for file in (folder / "postmaster.pid", folder / "data" / "postmaster.pid"):
            with suppress(OSError, ValueError, IndexError):
                pid = int(file.read_text(encoding="ascii", errors="replace").splitlines()[0])
                os.kill(pid, 0)
                yield pid


def main() -> int:
    """Run the keeper."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # it reacts only to the end of its input
    folders = [Path(each) for each in json.loads(sys.stdin.readline())]
    print(READY, flush=True)
    if sys.stdin.readline().strip() != DONE:
        sweep(folders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
