"""One hook of an application at a time, on one machine.

The hook of a lastgood that was killed may take some seconds to be ended; whoever goes on must not start the application
while it still stops it. What is held is a lock of the system: it is gone with the last process that has it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lastgood.application import record
from lastgood.errors import Interrupted
from lastgood.events import Emit, Note
from lastgood.postgres.server import Target
from lastgood.process import durable

POLL_SECONDS = 0.05


@contextmanager
def turn(state: Path, target: Target, emit: Emit, cancelled: Callable[[], bool]) -> Iterator[int | None]:
    """Waits until no other hook of the application of ``target``'s database is at work, and keeps others away for the
    length of the block: the descriptor of the lock. None where there can be none (a state folder that can't be written
    to, a file system without locks): that is no reason not to start an application. Raises Interrupted.
    """
    place = record.place(state, target).with_suffix(".lock")
    try:
        durable.private_folder(place.parent)
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield lock if _taken(lock, emit, cancelled) else None
    finally:
        os.close(lock)


def _taken(lock: int, emit: Emit, cancelled: Callable[[], bool]) -> bool:
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                emit(Note("another hook of this application is still at work: waiting for its end"))
                told = True
            if cancelled():
                raise Interrupted("interrupted while another hook of the application was waited for") from None
            time.sleep(POLL_SECONDS)  # the system tells nobody when a lock is free
        except OSError:
            return False
        else:
            return True
