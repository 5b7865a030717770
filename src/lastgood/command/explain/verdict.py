"""The state of the database after a restore, from its log: psql continues after errors and exits with status 0."""

from __future__ import annotations

import re
from typing import Literal

from lastgood.command.explain.case import KnownCase
from lastgood.command.explain.log import CompletedCommand, LogError
from lastgood.models import Frozen

Outcome = Literal["partially_restored", "nothing_restored", "rolled_back", "not_shown"]

_IGNORED = re.compile(r"errors ignored on restore: (\d+)")
_GO_BACK = ("lastgood points", "lastgood rollback --latest --dry-run")


class LogVerdict(Frozen):
    """The state of the database. ``partially_restored``: neither the backup nor the previous state.
    ``nothing_restored``: every command was refused. ``rolled_back``: a single transaction, rolled back as a whole.
    ``not_shown``: one error; the log does not show whether psql stopped there."""

    outcome: Outcome
    text: str
    commands: tuple[str, ...]


class RestoreCourse:
    """The course of a restore, recorded while its log is read."""

    def __init__(self) -> None:
        self._first: LogError | None = None
        self._errors = 0  # printed by psql, including minor ones and consequences
        self._real = 0  # without minor ones and consequences
        self._after = 0  # commands completed after the first real error
        self._before = 0
        self._aborted = False
        self._read_only = 0
        self._others = 0  # errors that psql did not print
        self._pg_restore = 0
        self._ignored: int | None = None
        self._empty: dict[str, None] = {}

    def completed(self, each: CompletedCommand) -> None:
        """Record a command that psql reported as completed."""
        if each.tag in ("ROLLBACK", "BEGIN", "SET"):
            return
        if self._first is None:
            self._before += 1
        elif not self._aborted:
            self._after += 1

    def failed(self, error: LogError, case: KnownCase | None) -> None:
        """Record an error, in the order of the log."""
        slug = case.slug if case is not None else ""
        if error.program == "pg_restore":
            self._pg_restore += 1
            ignored = _IGNORED.search(error.message)
            if slug == "errors-ignored":
                self._ignored = int(ignored[1]) if ignored is not None else self._pg_restore
            return
        if error.program != "psql" or not error.severe:
            self._others += 1
            return
        self._errors += 1
        if slug == "transaction-aborted":
            self._aborted = True
        if slug == "read-only":
            self._read_only += 1
        if case is None or not (case.minor or (self._first is not None and "*" in case.follows)):
            self._real += 1
            self._first = self._first or error
        if error.copying is not None and len(self._empty) < 20:
            self._empty[error.copying[0]] = None

    def verdict(self) -> LogVerdict | None:
        """Return the verdict; None if the log is not of a restore, or the error is a failed login."""
        if self._ignored is not None:
            return LogVerdict(
                outcome="partially_restored",
                text=f"pg_restore continued after {_errors(self._ignored)}: the database is partially restored. Its "
                "content is neither the backup nor the previous state.",
                commands=_GO_BACK,
            )
        if self._first is None:
            return None
        if self._aborted and not self._after:
            return LogVerdict(
                outcome="rolled_back",
                text="The restore was one transaction, and its first error rolled it back: the database is as it was "
                "before. psql still exits with status 0 unless ON_ERROR_STOP is set.",
                commands=_GO_BACK[1:],
            )
        # In a read-only database, other errors are refused commands, too.
        if self._read_only * 2 > self._real and not self._after:
            return LogVerdict(
                outcome="nothing_restored",
                text=f"The database was read-only, and psql continued through {_errors(self._errors)} to the end and "
                "exited with status 0: nothing was restored, and nothing was changed.",
                commands=_GO_BACK[1:],
            )
        if self._errors > 1 or self._after:
            executed = (
                f" and executed {self._after:,} more {'command' if self._after == 1 else 'commands'}"
                if self._after
                else ""
            )
            summary = (
                f"psql continued after the first error (line {self._first.line}){executed}: {_errors(self._errors)}"
            )
            return LogVerdict(
                outcome="partially_restored",
                text=f"{summary}, and still exits with status 0. The database is partially restored: its content is "
                f"neither the backup nor the previous state.{self._tables()}",
                commands=_GO_BACK,
            )
        if self._before or self._empty:
            return LogVerdict(
                outcome="not_shown",
                text="The log ends here. Without ON_ERROR_STOP psql exits with status 0 in this case, too: "
                f"treat the database as partially restored.{self._tables()}",
                commands=_GO_BACK,
            )
        return None

    def _tables(self) -> str:
        names = list(self._empty)
        if not names:
            return ""
        shown = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
        return f" Tables whose rows were not loaded: {shown}."


def _errors(count: int) -> str:
    return f"{count:,} error" if count == 1 else f"{count:,} errors"
