"""The append-only journal of a run: one JSON object per line, fsynced before the work that it announces.

``doing`` means "may have happened", ``done`` means "has happened". A failing write raises and stops the run. The undo
does not depend on the journal, because the server has the state.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lastgood import fault
from lastgood.errors import Refused, UsageError, os_reason
from lastgood.process import durable

SUFFIX = ".jsonl"
# The first entry of a journal has its kind as the first field.
_KIND = re.compile(rb'\{"at": "[^"]*", "event": "\w+", "kind": "(\w+)"')
_BEGINNING = 200
_SECOND_CHARACTERS = len("20251104-143000")
# The errors that reading a damaged, edited or newer journal may raise.
JOURNAL_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


class Journal:
    """The journal of one run. Thread-safe for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path.name.removesuffix(SUFFIX)
        self.is_ended = False  # whether this process has written the end entry
        self._lock = threading.Lock()

    @classmethod
    def create(cls, state: Path, run: str) -> Journal:
        """Create a journal in ``state/runs``, with the folder. Raises Refused if that fails."""
        folder = state / "runs"
        path = folder / (run + SUFFIX)
        try:
            durable.private_folder(folder)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            durable.sync_folder(folder)
        except OSError as error:
            raise Refused(
                f'cannot create the journal "{path}": {os_reason(error)}',
                hint="Name a writable folder with --state: lastgood changes nothing without a journal.",
            ) from error
        return cls(path)

    @classmethod
    def find(cls, state: Path, run: str) -> Journal | None:
        """Return the journal of ``run``, None if this machine has none. Raises UsageError for an invalid name."""
        if not run or "/" in run or run.startswith("."):
            raise UsageError(f'cannot look up run "{run}": not the name of a run')
        path = state / "runs" / (run + SUFFIX)
        return cls(path) if path.exists() else None

    @staticmethod
    def all(state: Path) -> list[Journal]:
        """Return every journal in ``state``, the newest run last."""
        return [Journal(path) for path in _oldest_first(state)]

    @staticmethod
    def newest(state: Path, *kinds: str) -> Iterator[Journal]:
        """Yield the journals in ``state``, the newest run first; only of these ``kinds``, if given."""
        for path in reversed(_oldest_first(state)):
            journal = Journal(path)
            if not kinds or journal.kind in kinds:
                yield journal

    @property
    def kind(self) -> str:
        """The kind of the run, from its first entry; "" if that has none. Reads only the beginning, because a state
        folder may hold thousands of journals."""
        match = _KIND.match(_beginning(self.path))
        return match[1].decode() if match is not None else ""

    def write(self, event: str, **data: Any) -> None:
        """Append one entry and make it durable. Raises OSError, for example on a full disk."""
        self._append(event, data, durable=True)
        self.is_ended = event == "ended"

    def note(self, event: str, **data: Any) -> None:
        """Append one entry without making it durable: it may be lost in a crash, or on a full disk."""
        with suppress(OSError):
            self._append(event, data, durable=False)

    def _append(self, event: str, data: Mapping[str, Any], *, durable: bool) -> None:
        entry = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **data}
        line = json.dumps(entry, ensure_ascii=False, default=str) + "\n"
        with self._lock, self.path.open("ab+") as file:
            # A crash or a full disk may have truncated the last line: begin a new one.
            if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                line = f"\n{line}"
            file.write(line.encode())
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def doing(self, step: str) -> None:
        """Record that ``step`` begins."""
        self.write("doing", step=step)
        fault.point("journal.after_doing")

    def done(self, step: str, **result: Any) -> None:
        """Record that ``step`` is done, with the ``result`` for later steps and a resumed run."""
        fault.point("journal.before_done")
        self.write("done", step=step, result=result)

    def replay(self) -> Iterator[Mapping[str, Any]]:
        """Yield the entries, oldest first, without truncated lines. A step may then run twice; it reads the state from
        the server."""
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and (entry := parse_entry(line)) is not None:
                    yield entry

    def results(self) -> dict[str, Mapping[str, Any]]:
        """Return the results by step, of the steps that are done and not undone."""
        results: dict[str, Mapping[str, Any]] = {}
        for entry in self.replay():
            if entry["event"] == "done":
                results[entry["step"]] = entry["result"]
            elif entry["event"] == "undone":
                results.pop(entry["step"], None)
        return results


def _oldest_first(state: Path) -> list[Path]:
    """Return the journals in the order of the times in their names; within a second, of their first entries."""
    paths = sorted((state / "runs").glob("*" + SUFFIX))
    seconds = Counter(path.name[:_SECOND_CHARACTERS] for path in paths)
    if len(seconds) == len(paths):
        return paths

    def age(path: Path) -> tuple[str, bytes]:
        second = path.name[:_SECOND_CHARACTERS]
        return second, _beginning(path) if seconds[second] > 1 else b""

    return sorted(paths, key=age)


def _beginning(path: Path) -> bytes:
    """Return the beginning of a journal, which has the time of its first entry."""
    try:
        with path.open("rb") as file:
            return file.read(_BEGINNING)
    except OSError:
        return b""


def parse_entry(line: bytes) -> Mapping[str, Any] | None:
    """Parse a line: ``at`` is a time with its zone, ``event`` and ``step`` are text. None for a damaged line."""
    try:
        entry = json.loads(line)
        valid = isinstance(entry["event"], str) and isinstance(entry.get("step", ""), str)
        return entry if valid and datetime.fromisoformat(entry["at"]).tzinfo is not None else None
    except JOURNAL_ERRORS:
        return None
