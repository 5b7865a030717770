"""Who took a run back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from lastgood.command.report.document import UndoneBy
from lastgood.command.report.holdings import Server
from lastgood.journal import SENSELESS, Journal


def undone_by(state: Path, run: str, seen: Server) -> Iterator[UndoneBy]:
    """From the journals of this machine, and from the marks of the server."""
    known = set()
    for journal in Journal.newest(state, "undo"):
        if journal.run <= run:
            break  # names begin with the time
        with suppress(*SENSELESS, StopIteration):
            entries = journal.replay()
            begun = next(entries)
            if begun.get("kind") != "undo" or begun["plan"]["undoes"] != run:
                continue
            done = next((e for e in entries if e["event"] == "done" and e["step"] == "swap"), None)
            if done is not None:
                known.add(journal.run)
                at = datetime.fromisoformat(done["at"]) + timedelta(seconds=begun.get("skew", 0.0))
                yield UndoneBy(run=journal.run, at=at, by=str(begun.get("by", "")), host=str(begun.get("host", "")))
    for _, mark in seen.marks:
        if mark.options.get("undoes") == run and mark.run not in known:
            yield UndoneBy(run=mark.run, at=mark.started, by=mark.user, host=mark.host)
