"""The databases and files of a run and whether they exist: on the server by OID, on the disk by path; and the runs that
undid it."""

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
from lastgood.in_place.kept import left_by_runs
from lastgood.journal import JOURNAL_ERRORS, Journal
from lastgood.journal.reader import SWAP, read_run
from lastgood.postgres import database
from lastgood.postgres.database import Database
from lastgood.postgres.mark import Mark
from lastgood.postgres.server import Target
from lastgood.status import Status
from lastgood.text import units


@dataclass(frozen=True, slots=True)
class ServerMarks:
    """The status and marks of one live database; ``problem``: why they are unknown, then the rest is empty."""

    status: Status | None = None
    marks: tuple[tuple[Database, Mark], ...] = ()
    problem: str = ""


def inspect(target: Target | None, live: str, server: str | None, pgbouncer: PgBouncer, state: Path) -> ServerMarks:
    """Query the server. ``server``: the server of the run, from its plan; any other is not queried."""
    if target is None:
        return ServerMarks(problem="the server was not queried")
    try:
        place = target.place
        if server is not None and server != place:
            name = "the default server"
            return ServerMarks(problem=f"the run was on {server or name}, and --db names {place or name}")
        live_target = target.at(live)
        with database.connect_maintenance(live_target, live) as maintenance:
            marks = tuple(left_by_runs(maintenance, live_target))
        return ServerMarks(status.read(live_target, pgbouncer, state), marks)
    except (psycopg.Error, LastgoodError, OSError) as error:
        return ServerMarks(problem=first_line(error))


def databases(seen: ServerMarks, plan: Mapping[str, Any], restored: int | None) -> Iterator[Holding]:
    """Yield the two databases of a rollback: the previous and the restored one. In place, the previous one is the kept
    schemas in the same database."""
    if plan.get("way") == "in-place":
        yield _schemas(seen, "previous database", str(plan.get("kept", "")))
        yield _database(seen, "restored database", plan.get("live_oid"), str(plan.get("live", "")))
        return
    yield _database(seen, "previous database", plan.get("live_oid"), str(plan.get("kept", "")))
    yield _database(seen, "restored database", restored, str(plan.get("live", "")))


def _database(seen: ServerMarks, what: str, oid: int | None, name: str) -> Holding:
    if seen.status is None or oid is None:
        return Holding(what=what, name=name, now="unknown")
    live = seen.status.live
    if live.oid == oid:
        return Holding(what=what, name=live.name, now="present", detail="live")
    for each in (*seen.status.kept, *seen.status.shadows):
        if each.oid == oid:
            size = f", {units.size(each.bytes)}" if each.bytes is not None else ""
            undo = f"; {each.undo_command} makes it live" if each.undo_command else ""
            return Holding(what=what, name=each.name, now="present", detail=f"{each.role}{size}{undo}")
    return Holding(what=what, name=name, now="missing", detail="dropped from the server")


def _schemas(seen: ServerMarks, what: str, name: str) -> Holding:
    if seen.status is None:
        return Holding(what=what, name=name, now="unknown")
    for each in seen.status.kept:
        if each.name == name:
            size = f", {units.size(each.bytes)}" if each.bytes is not None else ""
            undo = f"; {each.undo_command} makes them live"
            return Holding(what=what, name=name, now="present", detail=f"kept schemas{size}{undo}")
    return Holding(what=what, name=name, now="missing", detail="dropped, or live again")


def file(what: str, path: str) -> Holding:
    """Return a file or folder that the run names."""
    try:
        exists = Path(path).exists()
        size = f"{units.size(Path(path).stat().st_size)}" if exists and Path(path).is_file() else ""
    except OSError as error:
        return Holding(what=what, name=path, now="unknown", detail=error.strerror or str(error))
    return Holding(what=what, name=path, now="present" if exists else "missing", detail=size)


def undone_by(state: Path, run: str, seen: ServerMarks) -> Iterator[UndoneBy]:
    """Yield the runs that undid ``run``, from the journals of this machine and the marks on the server."""
    runs = set()
    for journal in Journal.newest(state, "undo"):
        if journal.run <= run:
            break  # names begin with the time
        with suppress(*JOURNAL_ERRORS):
            history = read_run(journal)
            if history is None or history.first.kind != "undo" or history.plan["undoes"] != run:
                continue
            swapped = next((each for each in history.of("done") if each.step == SWAP), None)
            if swapped is not None:
                runs.add(journal.run)
                at = swapped.at + timedelta(seconds=history.first.skew or 0.0)
                yield UndoneBy(run=journal.run, at=at, by=history.first.by, host=history.first.host)
    for _, mark in seen.marks:
        if mark.options.get("undoes") == run and mark.run not in runs:
            yield UndoneBy(run=mark.run, at=mark.started, by=mark.user, host=mark.host)
