"""One hook of an application at a time, on one machine.

After lastgood was killed, its hook may live on for some seconds; the next run must not start the application while
that hook still stops it. The lock is a file lock of the operating system: the end of the last process that has it
releases it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lastgood.application import record
from lastgood.context import Context
from lastgood.errors import Interrupted
from lastgood.events import Note
from lastgood.postgres.server import Target
from lastgood.process import durable

POLL_SECONDS = 0.05


@contextmanager
def turn(target: Target, context: Context) -> Iterator[int | None]:
    """Wait until no other hook of the application of ``target``'s database runs, and block others for the length of the
    block: the descriptor of the lock. None where no lock is possible (a state folder without write permission, a file
    system without locks): that must not prevent the start of an application. Raises Interrupted.
    """
    place = record.place(context.records, target).with_suffix(".lock")
    try:
        durable.private_folder(place.parent)
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield lock if _taken(lock, context) else None
    finally:
        os.close(lock)


def _taken(lock: int, context: Context) -> bool:
    announced = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not announced:
                context.emit(Note("waiting for another hook of this application to end"))
                announced = True
            if context.cancelled():
                raise Interrupted("interrupted while waiting for another hook of the application") from None
            time.sleep(POLL_SECONDS)  # no event announces that a lock is free
        except OSError:
            return False
        else:
            return True
