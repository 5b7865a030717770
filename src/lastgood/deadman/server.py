"""The keeper: a process of its own that ends an embedded server and removes its folders when we can't.

A server runs in a session of its own, so whoever kills lastgood leaves it running. The keeper is told the folders
before they are made, and reads from us: ``done`` is the end of it. When its input ends without that word, we are gone;
then it ends what runs in those folders, and removes them.

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
# An immediate shutdown takes no longer; what is still there then is killed.
PATIENCE_SECONDS = 10.0
_PROC = Path("/proc")


@contextmanager
def keeping(folders: Sequence[Path]) -> Iterator[None]:
    """For the length of a block these folders, and servers whose data lie in them, do not outlive us, however we end.
    They need not exist yet. When the block itself ends, removing them is the caller's. Raises NotReady."""
    order = json.dumps([str(folder) for folder in folders])
    with companion.standing_by("lastgood.deadman.server", order) as keeper:
        yield
        with suppress(OSError):  # it is gone already
            keeper.write(DONE)


def sweep(folders: Sequence[Path]) -> None:
    """Ends the servers whose data lie in these folders, and removes the folders. One that is gone is as good."""
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
        # Nothing tells when somebody else's child has ended but looking.
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _servers(folders: Sequence[Path]) -> Iterator[int]:
    """The processes whose command line names a folder of data in one of these: ``postgres -D DATA``, ``initdb``."""
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
            continue  # it has ended meanwhile, or is not ours to look at
        if any(word == b"-D" and _within(after, wanted) for word, after in pairwise(words)):
            yield int(entry.name)


def _within(path: bytes, folders: Sequence[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)


def _by_their_files(folders: Sequence[Path]) -> Iterator[int]:
    """Where there is no /proc: what the servers wrote into their folders."""
    for folder in folders:
        for file in (folder / "postmaster.pid", folder / "data" / "postmaster.pid"):
            with suppress(OSError, ValueError, IndexError):
                pid = int(file.read_text(encoding="ascii", errors="replace").splitlines()[0])
                os.kill(pid, 0)
                yield pid


def main() -> int:
    """The keeper itself."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # what ends us ends its input, and that is what it goes by
    folders = [Path(each) for each in json.loads(sys.stdin.readline())]
    print(READY, flush=True)
    if sys.stdin.readline().strip() != DONE:
        sweep(folders)
    return 0


if __name__ == "__main__":
    sys.exit(main())
