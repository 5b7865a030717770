"""Stop an embedded server and remove its folders if lastgood is killed.

The server runs in its own session, so it survives a kill of lastgood. The switch receives the folders before they are
created.
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

import psutil

from lastgood.deadman import switch
from lastgood.deadman.switch import Action

# The limit of an immediate shutdown; remaining processes are then killed.
PATIENCE_SECONDS = 10.0


@contextmanager
def removal_switch(folders: Sequence[Path]) -> Iterator[None]:
    """Ensure for the length of a block that these folders, and servers with data in them, do not outlive this process.
    They need not exist yet. After a regular end of the block, the caller removes them. Raises NotReady."""
    with switch.armed("server", json.dumps([str(folder) for folder in folders])) as armed:
        yield
        armed.dismiss()


def sweep(folders: Sequence[Path]) -> None:
    """Stop the servers with data in these folders, and remove the folders. Missing ones are ignored."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    number = signal.SIGQUIT
    while servers := list(_servers(folders)):
        for pid in servers:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
            if time.monotonic() > deadline + PATIENCE_SECONDS:
                break
        time.sleep(0.05)  # the end of a process that is not our child can only be polled
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _servers(folders: Sequence[Path]) -> Iterator[int]:
    """Yield the processes with a data folder in one of these on their command line: ``postgres -D DATA``,
    ``initdb``."""
    for process in psutil.process_iter():
        # It may have ended, or belong to another user.
        with suppress(psutil.Error):
            words = process.cmdline() if process.pid != os.getpid() else []
            if any(word == "-D" and _within(Path(after), folders) for word, after in pairwise(words)):
                yield process.pid


def _within(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _prepare(order: str) -> tuple[Action, None]:
    folders = [Path(each) for each in json.loads(order)]
    return (lambda words: sweep(folders)), None


if __name__ == "__main__":
    sys.exit(switch.stand_by(_prepare))
