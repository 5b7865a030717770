"""Named fault points: places where a test kills the tool, cuts its connection or fills the disk.

``fault.point("swap.between_renames")`` does nothing unless armed. A test arms points in its own process with
``armed``, or in a child through the environment: ``LASTGOOD_FAULT=name:kill`` (also ``interrupt``, ``enospc``,
``terminate``), or ``name#3:kill`` for the third time that the point is reached. ``POINTS`` registers every name, so
that a campaign can enumerate them; an unregistered name is a defect.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POINTS: dict[str, str] = {
    "durable.before_rename": "a file is written and fsynced under its temporary name",
    "journal.after_doing": "a step is announced in the journal, nothing of it is done",
    "journal.before_done": "a step is done, the journal does not record it yet",
    "fence.after_lock": "writers are blocked, nothing else is done",
    "emergency.after_dump": "the emergency backup is written, not yet verified",
    "build.before_mark": "the shadow exists, is closed to connections, and has no mark",
    "build.after_create": "the shadow exists and is empty",
    "build.during_load": "some rows of the shadow are loaded",
    "build.after_load": "the shadow is loaded, not yet analyzed",
    "build.closed": "the role that built the shadow has no login, its objects are not verified",
    "build.verified": "the objects of the shadow are verified, none has its owner",
    "build.handed_over": "the objects of the shadow have owners and grants, the role that built it exists",
    "prove.before_verdict": "the shadow's facts are read, not yet compared",
    "carry_over.after_objects": "owners and grants are applied to the shadow",
    "swap.before_transaction": "the swap is about to begin",
    "pause.holds": "clients of PgBouncer are paused, nothing of the swap is done",
    "swap.between_renames": "the first rename is done, nothing committed",
    "swap.before_commit": "all of the swap is done, nothing committed",
    "swap.after_commit": "the swap is committed, the journal does not record it yet",
    "application.after_stop": "the application is stopped, the journal does not record it yet",
    "application.before_start": "the swap is committed, the application is about to be started again",
    "application.before_undo": "the restored database failed its checks, and is about to be replaced again",
    "application.before_start_again": "the failed swap was undone, the application is about to be started again",
    "finish.before_task": "the live database is usable, and one deferred task is about to be done",
    "finish.after_index": "an index is built, the journal does not record it yet",
    "finish.before_forget": "all deferred tasks are done, their list still exists",
    "salvage.before_write": "the rows of a salvage are chosen under locks, and none is written",
    "salvage.between_tables": "some rows of a salvage are deleted, nothing is inserted or committed",
    "salvage.before_commit": "all rows of a salvage are written and proved, nothing committed",
    "salvage.after_commit": "the salvage is committed, the journal does not record it yet",
    "inplace.in_scratch": "the scratch database has the definitions, no staging schema exists",
    "inplace.after_create": "the staging schemas exist and are empty",
    "inplace.before_proved": "the staging schemas are proved, and not yet marked as proved",
    "inplace.between_drops": "some tables of schemas that are dropped are gone, the schemas still exist",
    "inplace.after_locks": "the schemas' tables are locked, nothing is moved",
    "inplace.between_moves": "the live objects are moved out, the others not yet in",
    "inplace.before_commit": "all of the exchange in place is done, nothing committed",
    "inplace.after_commit": "the exchange in place is committed, the journal does not record it yet",
    "inplace.before_validate": "the exchange in place is committed, a foreign key to the platform is not validated yet",
    "undo.before_commit": "all of the undo is done, nothing committed",
    "undo.after_commit": "the undo is committed, the journal does not record it yet",
}

_armed: dict[str, Callable[[], None]] = {}


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _stop() -> None:
    # Until the test sends SIGCONT: meanwhile it may cut our connections. Only once.
    _armed.clear()
    os.kill(os.getpid(), signal.SIGSTOP)


def _enospc() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "interrupt": _interrupt,
    "terminate": _terminate,
    "stop": _stop,
    "enospc": _enospc,
}


def point(name: str) -> None:
    """Trigger the fault if a test armed ``name``."""
    if name not in POINTS:
        raise LookupError(f"fault point {name!r} is not registered")
    action = _armed.get(name)
    if action is not None:
        action()


@contextmanager
def armed(name: str, action: Callable[[], None]) -> Iterator[None]:
    """Arm one point of this process for the length of a ``with`` block."""
    if name not in POINTS:
        raise LookupError(f"fault point {name!r} is not registered")
    _armed[name] = action
    try:
        yield
    finally:
        del _armed[name]


def arm_from_environment() -> None:
    """Arm the point in ``LASTGOOD_FAULT``; called once by the command line."""
    spec = os.environ.get("LASTGOOD_FAULT", "")
    if spec:
        place, _, kind = spec.partition(":")
        name, _, time = place.partition("#")
        if name not in POINTS or kind not in _ACTIONS or not (time or "1").isdecimal():
            raise LookupError(f"LASTGOOD_FAULT={spec!r} has an unknown fault point or kind of fault")
        _armed[name] = _from(int(time or 1), _ACTIONS[kind])


def _from(time: int, action: Callable[[], None]) -> Callable[[], None]:
    """The action from that time on, as a full disk stays full."""
    if time == 1:
        return action
    reached = itertools.count(1)

    def strike() -> None:
        if next(reached) >= time:
            action()

    return strike
