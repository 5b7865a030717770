"""What a run left and used, and where that is now: on the server by OID, on the disk by path.

Who took a run back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from lastgood import status
from lastgood.command.report.document import Holding, UndoneBy
from lastgood.config.tables import PgBouncer
from lastgood.errors import LastgoodError, first_line
from lastgood.journal import SENSELESS, Journal
from lastgood.journal.reader import SWAP, recorded
from lastgood.postgres import database
from lastgood.postgres.database import Database
from lastgood.postgres.mark import Mark, marked
from lastgood.postgres.server import Target
from lastgood.status import Status
from lastgood.text import units


@dataclass(frozen=True, slots=True)
class Server:
    """What the server shows of one live database; ``trouble`` says why nothing is known, then the rest is empty."""

    status: Status | None = None
    marks: tuple[tuple[Database, Mark], ...] = ()
    trouble: str = ""


def look(target: Target | None, live: str, server: str | None, pgbouncer: PgBouncer, state: Path) -> Server:
    """Asks it. ``server`` is where the run was, as its plan has it; another one is not asked."""
    if target is None:
        return Server(trouble="it was not asked")
    try:
        here = target.place
        if server is not None and server != here:
            return Server(trouble=f"this run was on {server or 'the default server'}, and --db leads to {here or 'it'}")
        at = target.at(live)
        with database.connect_maintenance(at, live) as maintenance:
            marks = tuple(pair for pair in marked(maintenance) if pair[1].live == live)
        return Server(status.read(at, pgbouncer, state), marks)
    except (psycopg.Error, LastgoodError, OSError) as error:
        return Server(trouble=first_line(error))


def databases(seen: Server, plan: Mapping[str, Any], restored: int | None) -> Iterator[Holding]:
    """The two databases of a rollback: what was live before it, and what it put in its place."""
    yield _database(seen, "previous database", plan.get("live_oid"), str(plan.get("kept", "")))
    yield _database(seen, "restored database", restored, str(plan.get("live", "")))


def _database(seen: Server, what: str, oid: int | None, name: str) -> Holding:
    if seen.status is None or oid is None:
        return Holding(what=what, name=name, now="not known")
    live = seen.status.live
    if live.oid == oid:
        return Holding(what=what, name=live.name, now="there", detail="it is live")
    for each in (*seen.status.kept, *seen.status.shadows):
        if each.oid == oid:
            size = f", {units.size(each.bytes)}" if each.bytes is not None else ""
            undo = f"; {each.undo_command} makes it live" if each.undo_command else ""
            return Holding(what=what, name=each.name, now="there", detail=f"{each.role}{size}{undo}")
    return Holding(what=what, name=name, now="gone", detail="the server has it no more")


def file(what: str, path: str) -> Holding:
    """A file or folder that the run names."""
    try:
        there = Path(path).exists()
        size = f"{units.size(Path(path).stat().st_size)}" if there and Path(path).is_file() else ""
    except OSError as error:
        return Holding(what=what, name=path, now="not known", detail=error.strerror or str(error))
    return Holding(what=what, name=path, now="there" if there else "gone", detail=size)


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
