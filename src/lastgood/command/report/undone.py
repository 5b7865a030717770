"""Who took a run back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from lastgood.command.report.document import UndoneBy
from lastgood.command.report.holdings import Server
from lastgood.journal import SENSELESS, Journal
from lastgood.journal.reader import SWAP, recorded


def undone_by(state: Path, run: str, seen: Server) -> Iterator[UndoneBy]:
    """From the journals of this machine, and from the marks of the server."""
    known = set()
    for journal in Journal.newest(state, "undo"):
        if journal.run <= run:
            break  # names begin with the time
        with suppress(*SENSELESS):
            found = recorded(journal)
            if found is None or found.first.kind != "undo" or found.plan["undoes"] != run:
                continue
            done = next((each for each in found.of("done") if each.step == SWAP), None)
            if done is not None:
                known.add(journal.run)
                at = done.at + timedelta(seconds=found.first.skew or 0.0)
                yield UndoneBy(run=journal.run, at=at, by=found.first.by, host=found.first.host)
    for _, mark in seen.marks:
        if mark.options.get("undoes") == run and mark.run not in known:
            yield UndoneBy(run=mark.run, at=mark.started, by=mark.user, host=mark.host)
