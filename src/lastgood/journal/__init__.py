"""The append-only record of a run: one JSON object a line, fsynced before the work that it announces.

``doing`` means "maybe happened", ``done`` means "happened". No journal write, no progress: a failing write raises,
and the run stops. Nothing that the server also knows depends on it: a lost journal costs the record, not the undo.
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
from lastgood.errors import Refused, UsageError
from lastgood.process import durable

SUFFIX = ".jsonl"
# Whoever begins a journal says what it is of before anything else.
_KIND = re.compile(rb'\{"at": "[^"]*", "event": "\w+", "kind": "(\w+)"')
_BEGINNING = 200
_TO_THE_SECOND = len("20251104-143000")
# What comes of a journal that makes no sense: somebody edited it, a disk damaged it, a later version wrote it.
SENSELESS = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


class Journal:
    """One run's journal. Safe to write from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path.name.removesuffix(SUFFIX)
        self.is_ended = False  # whether this process has written how it ended
        self._lock = threading.Lock()

    @classmethod
    def create(cls, state: Path, run: str) -> Journal:
        """A new journal in ``state/runs``; the folder is made. Raises Refused when that can't be done."""
        folder = state / "runs"
        path = folder / (run + SUFFIX)
        try:
            durable.private_folder(folder)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            durable.sync_folder(folder)
        except OSError as error:
            raise Refused(
                f'cannot begin the record "{path}": {(error.strerror or str(error)).lower()}',
                hint="Name a folder that can be written to with --state: nothing is done without a record.",
            ) from error
        return cls(path)

    @classmethod
    def find(cls, state: Path, run: str) -> Journal | None:
        """The journal of ``run``, or None where another machine has it. Raises UsageError for a bad run name."""
        if not run or "/" in run or run.startswith("."):
            raise UsageError(f'cannot look up run "{run}": that is not the name of a run')
        path = state / "runs" / (run + SUFFIX)
        return cls(path) if path.exists() else None

    @staticmethod
    def all(state: Path) -> list[Journal]:
        """Every journal in ``state``, the newest run last."""
        return [Journal(path) for path in _in_order(state)]

    @staticmethod
    def newest(state: Path, *kinds: str) -> Iterator[Journal]:
        """Journals in ``state``, the newest run first; of these ``kinds`` only, when some are given."""
        for path in reversed(_in_order(state)):
            journal = Journal(path)
            if not kinds or journal.kind in kinds:
                yield journal

    @property
    def kind(self) -> str:
        """What it is a record of, by its first entry; "" where that does not say so. Reads no more than it must: a
        state folder may hold thousands of them."""
        found = _KIND.match(_begun(self.path))
        return found[1].decode() if found is not None else ""

    def write(self, event: str, **data: Any) -> None:
        """Appends one entry and makes it durable. Raises OSError (a full disk, say)."""
        self._append(event, data, durable=True)
        self.is_ended = event == "ended"

    def note(self, event: str, **data: Any) -> None:
        """Appends one entry for people to read, as cheaply as can be: it may be lost in a crash, or on a full disk."""
        with suppress(OSError):
            self._append(event, data, durable=False)

    def _append(self, event: str, data: Mapping[str, Any], *, durable: bool) -> None:
        entry = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **data}
        line = json.dumps(entry, ensure_ascii=False, default=str) + "\n"
        with self._lock, self.path.open("ab+") as file:
            # A crash or a full disk may have torn the last line: what is written now must not become a part of it.
            if file.seek(0, os.SEEK_END) and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                line = f"\n{line}"
            file.write(line.encode())
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def doing(self, step: str) -> None:
        """``step`` is about to act."""
        self.write("doing", step=step)
        fault.point("journal.after_doing")

    def done(self, step: str, **result: Any) -> None:
        """``step`` has acted; ``result`` is what later steps and a resumed run need of it."""
        fault.point("journal.before_done")
        self.write("done", step=step, result=result)

    def replay(self) -> Iterator[Mapping[str, Any]]:
        """The entries, oldest first. Left out is what a crash or a full disk has torn: steps may be taken twice, and
        ask the server what holds."""
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and (entry := entry_of(line)) is not None:
                    yield entry

    def results(self) -> dict[str, Mapping[str, Any]]:
        """Step → result of the steps that are done and were not undone since."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self.replay():
            if entry["event"] == "done":
                found[entry["step"]] = entry["result"]
            elif entry["event"] == "undone":
                found.pop(entry["step"], None)
        return found


def _in_order(state: Path) -> list[Path]:
    """The journals by the time that their names begin with; those of the same second by that of their first entries."""
    found = sorted((state / "runs").glob("*" + SUFFIX))
    seconds = Counter(path.name[:_TO_THE_SECOND] for path in found)
    if len(seconds) == len(found):
        return found

    def age(path: Path) -> tuple[str, bytes]:
        second = path.name[:_TO_THE_SECOND]
        return second, _begun(path) if seconds[second] > 1 else b""

    return sorted(found, key=age)


def _begun(path: Path) -> bytes:
    """How a journal begins: with the time, which every entry has first."""
    try:
        with path.open("rb") as file:
            return file.read(_BEGINNING)
    except OSError:
        return b""


def entry_of(line: bytes) -> Mapping[str, Any] | None:
    """The entry that a line holds: ``at`` is a time with its zone, ``event`` and ``step`` are text. None for what was
    torn, or was never written here."""
    try:
        found = json.loads(line)
        sound = isinstance(found["event"], str) and isinstance(found.get("step", ""), str)
        return found if sound and datetime.fromisoformat(found["at"]).tzinfo is not None else None
    except SENSELESS:
        return None
