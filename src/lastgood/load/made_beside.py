"""A new database created from a restore point: recorded, and removed again unless it is completed.

Until it is complete it carries a mark, and only its owner and superusers may connect. The process that creates it
shares the lock of its name (``postgres.lock``). ``status``, ``abort`` and ``prune`` therefore recognize the remains
of a killed process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from lastgood.context import Context
from lastgood.errors import Blocked, Failed, Interrupted, LastgoodError, Refused, Stopped
from lastgood.journal import Journal, caller, recording
from lastgood.journal.run_names import new_run
from lastgood.postgres import clock, database, lock
from lastgood.postgres import errors as server_errors
from lastgood.postgres.database import Database
from lastgood.postgres.mark import Mark
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection, Target

UNTOUCHED = "No other database was touched."


def begun(maintenance: Connection, live: str, into: str, point: Path, context: Context) -> tuple[str, Journal | None]:
    """Begin the run that creates ``into``, and its record, None without a folder for it. Raises
    Refused for a name that is too long."""
    if into != database.fit_name(into, ""):
        raise Refused(
            f'cannot create the database "{into}": the name has more than 63 bytes',
            hint="Choose a shorter name with --into.",
            state=UNTOUCHED,
        )
    run, skew = new_run(clock.now(maintenance)), clock.skew(maintenance)
    return run, recording.begin_if_possible(context, run, "restore", skew=skew, live=live, into=into, point=str(point))


def opened(into: str) -> list[sql.Composed]:
    """The statements that turn a complete copy into an ordinary database: no mark, and CONNECT for PUBLIC."""
    return [
        database.comment_statement(into, None),
        sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(sql.Identifier(into)),
    ]


@contextmanager
def ending_role(maintenance: Connection, target: Target, run: str) -> Iterator[None]:
    """Drop the role of the run at the end of a block, if it exists then."""
    try:
        yield
    finally:
        with suppress(psycopg.Error, LastgoodError):
            build_role.end(maintenance, target, build_role.name_of(run))


@contextmanager
def made(
    target: Target,
    maintenance: Connection,
    into: str,
    model: Database,
    *,
    live: str,
    kind: str,
    run: str,
    point: Path,
    stop: threading.Event,
    complete: Sequence[sql.Composed],
) -> Iterator[Database]:
    """Create ``into``, empty and like ``model``, for a block. When the block succeeds, the statements ``complete`` are
    executed in one transaction; without any, the database stays marked. When the block fails, ``into`` is removed.

    ``live``: the live database whose ``status`` lists it; ``kind``: what the copy is for, in one word. Raises
    Interrupted when the block ends with an error because ``stop`` was set, Stopped when ``into`` could not be removed.
    """
    lock.claim_copy(maintenance, into)
    mark = Mark(
        role="copy",
        run=run,
        live=live,
        live_oid=model.oid,
        point=str(point.absolute()),
        host=caller.host(),
        pid=os.getpid(),
        user=caller.user(),
        started=clock.now(maintenance),
        options={"kind": kind},
    )
    found = database.create_like(maintenance, into, model, mark.text(), live=live)
    try:
        yield found
        if stop.is_set():
            raise Interrupted("interrupted")
        _complete(maintenance, into, complete)
    except BaseException as error:
        _removed(target, maintenance, found, run, error)
        if stop.is_set() and not isinstance(error, Refused):
            raise Interrupted(f'interrupted: "{into}" was removed again', state=UNTOUCHED) from error
        if isinstance(error, LastgoodError):
            error.state = f'"{into}" was removed again. {UNTOUCHED}'
        raise


def _complete(maintenance: Connection, into: str, statements: Sequence[sql.Composed]) -> None:
    # The commit point: before it the copy is marked as incomplete; after it, it is an ordinary database.
    try:
        with maintenance.transaction():
            for statement in statements:
                maintenance.execute(statement)
    except psycopg.Error as error:
        raise server_errors.failed(error, f'open the database "{into}"', state=UNTOUCHED) from error


def _removed(target: Target, maintenance: Connection, found: Database, run: str, error: BaseException) -> None:
    """Remove the database, in a new session if the old one was lost. Raises Stopped."""
    try:
        try:
            database.drop(maintenance, found.name, found.oid)
        except Failed:
            with target.at(maintenance.info.dbname).connect() as again:
                database.drop(again, found.name, found.oid)
    except (LastgoodError, psycopg.Error) as left:
        hint = f"{left.hint} Then run" if isinstance(left, Blocked) else "Run"
        why = str(error).strip() or "interrupted"
        raise Stopped(
            f'cannot remove the incomplete database "{found.name}": {server_errors.one_line(left)}; building it '
            f"failed: {why}",
            hint=f"{hint}: lastgood abort {run}",
            state=f'"{found.name}" is incomplete, and marked so. {UNTOUCHED}',
        ) from error
