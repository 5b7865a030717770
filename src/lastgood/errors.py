"""The tree of our errors: each class owns its code, its exit status and, with each instance, the hint.

Message grammar: ``cannot <do what>: <why>``, lower case, no full stop, names in double quotes. The hint is a
sentence with the next command to run. ``state`` is one sentence about the live database and claims only what was
verified: an error without a query of the server has none, or ``NOT_REACHED`` if its class implies that nothing was
changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

NOT_REACHED = "Nothing was changed."
UNKNOWN_STATE = "The state of the live database is unknown."
# The end of hints that first name the other ways.
OR_TRUST = "If you trust the code: --trust-code REASON"
SHOW_STATE = "To show the state of the live database: lastgood status"


class LastgoodError(Exception):
    """The base class of our errors. ``str(error)`` is the message, without hint and state.

    ``exit_status`` follows the table in docs/reference; 1 means a defect in lastgood.
    """

    code: ClassVar[str] = "defect"
    exit_status: ClassVar[int] = 1
    # The state line of the class, valid without a query of the server.
    claim: ClassVar[str] = ""
    # Further fields of the error's JSON document.
    details: Mapping[str, Any] = {}
    # Whether the message may have several lines. Names in it must then be made ``visible``.
    lines: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", state: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.state = state or self.claim


class UsageError(LastgoodError):
    """Wrong usage or configuration: nothing was read yet."""

    code = "usage"
    exit_status = 2
    claim = NOT_REACHED


class Refused(LastgoodError):
    """Refused before anything changed: a check failed, or consent was not given."""

    code = "refused"
    exit_status = 3
    claim = NOT_REACHED


class BadPoint(LastgoodError):
    """The restore point is missing, incomplete, corrupt or unsafe.

    ``line`` (from 1) and ``offset`` (bytes from 0, of the decompressed text) give the place, if known.
    """

    code = "bad_point"
    exit_status = 4

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        state: str = "",
        line: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint, state=state)
        self.line = line
        self.offset = offset


class Incomplete(BadPoint):
    """The restore point is truncated, or pg_dump was interrupted."""

    code = "incomplete_point"


class Corrupt(BadPoint):
    """The restore point is damaged, or not a dump."""

    code = "corrupt_point"


class Unsafe(BadPoint):
    """The restore point contains a command that a restore must never execute."""

    code = "unsafe_point"


class Foreign(BadPoint):
    """The file was not written by pg_dump alone: an export of another program, or with commands that pg_dump never
    writes."""

    code = "foreign_point"


class Failed(LastgoodError):
    """Failed; the live database is as it was, and open."""

    code = "failed"
    exit_status = 5


class ChecksFailedAfterSwap(LastgoodError):
    """The new state failed its checks after the swap, and the swap was undone."""

    code = "undone"
    exit_status = 6


class TakenBack(LastgoodError):
    """A deployment failed, and the live database was rolled back to the restore point from before it."""

    code = "taken_back"
    exit_status = 6


class Stopped(LastgoodError):
    """The run is unfinished: `lastgood resume` continues it, `lastgood abort` reverts it."""

    code = "stopped"
    exit_status = 7


class Blocked(LastgoodError):
    """A database or schemas of a run could not be removed in time, because the server waited for another session. They
    are marked; `lastgood abort` or `lastgood prune` removes them."""

    code = "blocked"
    exit_status = 7


class ChecksFailed(Stopped):
    """The restored database is in service, but the application's checks failed.

    `lastgood undo RUN` restores the previous database; `lastgood resume RUN` runs the checks again."""

    code = "checks_failed"

    def __init__(self, message: str, *, hint: str, state: str, run: str, problem: str, in_place: bool = False) -> None:
        super().__init__(message, hint=hint, state=state)
        self.run = run
        self.problem = problem
        self.in_place = in_place


class NotTakenBack(Stopped):
    """A deployment failed and could not be rolled back: the live database is as the migration left it;
    `lastgood recover` continues from there."""

    code = "not_taken_back"


class NotStarted(Stopped):
    """The application was stopped and could not be started again: `lastgood maintenance off` tries again."""

    code = "not_started"


class Interrupted(LastgoodError):
    """Interrupted by the user; any changes were reverted."""

    code = "interrupted"
    exit_status = 130


def untouched(live: str, *, is_open: bool) -> str:
    """Return the state line of an unchanged live database. ``is_open``: verified on the server."""
    return f'"{live}" was not touched' + (" and is open." if is_open else ".")


def restored(live: str, kept: str = "", *, in_place: bool, detail: str = "") -> str:
    """Return the state line after the switch. ``kept``: the kept database or schemas, empty if there are none."""
    now = f'"{live}" has the restored objects' if in_place else f'"{live}" is the restored database'
    previous = (
        f'the previous ones are kept in the schemas "{kept}"' if in_place else f'the previous one is kept as "{kept}"'
    )
    return now + detail + (f"; {previous}." if kept else ".")


def switched_back(live: str, run: str = "", *, in_place: bool) -> str:
    """Return the state line after the undo of a switch. ``run``: the undone run, if the reader has to know which."""
    before = f"before run {run}" if run else "before the run"
    if in_place:
        return f'"{live}" has its objects from {before} again.'
    return f'"{live}" is again the database from {before}, and open.'


@contextmanager
def reporting_state(live: str, *, is_open: bool) -> Iterator[None]:
    """Add the verified state of the live database to errors without one, for the length of a ``with`` block."""
    try:
        yield
    except LastgoodError as error:
        if error.state in ("", NOT_REACHED):
            error.state = untouched(live, is_open=is_open)
        raise


def os_reason(error: OSError) -> str:
    """The reason of the operating system, for a message: ``permission denied``."""
    return (error.strerror or str(error)).lower()


def continued(hint: str, sentence: str) -> str:
    """Return ``hint`` with a further ``sentence``."""
    return f"{hint.rstrip('.')}. {sentence}" if hint else sentence


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
