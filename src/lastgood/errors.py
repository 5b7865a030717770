"""The tree of our errors: each class owns its code, its exit status and, with each instance, the hint.

Message grammar: ``cannot <do what>: <why>``, lower case, no full stop, names in double quotes. The hint is a
sentence with the next command to run. ``state`` is one sentence about the live database and claims only what was
looked at: an error that never asked the server has none, or ``NOT_REACHED`` where its class means that nothing was
changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

NOT_REACHED = "Nothing was changed."
UNKNOWN_STATE = "Run `lastgood status` to see in what state the live database is."


class LastgoodError(Exception):
    """What every error of ours is. ``str(error)`` is the message alone, without hint and state.

    ``exit_status`` follows the table in docs/reference; 1 means a defect in lastgood.
    """

    code: ClassVar[str] = "defect"
    exit_status: ClassVar[int] = 1
    # What every error of the class may claim without a look at the server.
    claim: ClassVar[str] = ""
    # What the JSON document of the error has beside code, message, hint and state.
    details: Mapping[str, Any] = {}
    # Whether its message has several lines. What it names must be made ``visible`` before it is put into one.
    lines: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", state: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.state = state or self.claim


class UsageError(LastgoodError):
    """Wrong usage or configuration: nothing was looked at yet."""

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

    ``line`` (from 1) and ``offset`` (bytes from 0, of the decompressed text) say where, when known.
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
    """The restore point ends before its end: cut off, or its maker was killed."""

    code = "incomplete_point"


class Corrupt(BadPoint):
    """The restore point's bytes are not what was written: damaged, or not a dump at all."""

    code = "corrupt_point"


class Unsafe(BadPoint):
    """The restore point asks for something that a restore must never do."""

    code = "unsafe_point"


class Foreign(BadPoint):
    """The file is not pg_dump's alone: another program's export, or one with commands that pg_dump never writes."""

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
    """Stopped in between: `lastgood resume` or `lastgood abort` goes on from here."""

    code = "stopped"
    exit_status = 7


class Blocked(LastgoodError):
    """A database could not be removed in time: the server waited for another session. What is left is marked;
    `lastgood abort` or `lastgood prune` removes it."""

    code = "blocked"
    exit_status = 7


class ChecksFailed(Stopped):
    """The restored database is in service, and the application's checks failed: `lastgood undo RUN` goes back,
    `lastgood resume RUN` runs them again."""

    code = "checks_failed"

    def __init__(self, message: str, *, hint: str, state: str, run: str, problem: str) -> None:
        super().__init__(message, hint=hint, state=state)
        self.run = run
        self.problem = problem


class NotTakenBack(Stopped):
    """A deployment failed and could not be rolled back: the live database is as the migration left it;
    `lastgood recover` goes on from there."""

    code = "not_taken_back"


class NotStarted(Stopped):
    """The application was stopped and could not be started again: `lastgood maintenance off` tries it once more."""

    code = "not_started"


class Interrupted(LastgoodError):
    """Interrupted by the user, walked back."""

    code = "interrupted"
    exit_status = 130


def untouched(live: str, *, is_open: bool) -> str:
    """The state of a live database that we did not change. ``is_open``: the server has just shown that it is."""
    return f'"{live}" was not touched' + (" and is open." if is_open else ".")


@contextmanager
def looked_at(live: str, *, is_open: bool) -> Iterator[None]:
    """After a look at the live database: errors that claim nothing of it get its state."""
    try:
        yield
    except LastgoodError as error:
        if error.state in ("", NOT_REACHED):
            error.state = untouched(live, is_open=is_open)
        raise


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that a server or a program adds; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
