"""A database made beside all others from a restore point: on record, and removed again unless it is finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lastgood import recording
from lastgood.errors import Interrupted, LastgoodError, Refused
from lastgood.events import Emit
from lastgood.journal import Journal
from lastgood.names import new_run
from lastgood.postgres import clock, database
from lastgood.postgres.database import Database
from lastgood.postgres.mark import server_clock
from lastgood.postgres.server import Connection

UNTOUCHED = "No other database was touched."


def begun(
    maintenance: Connection, live: str, into: str, point: Path, state: Path | None, emit: Emit
) -> tuple[str, Journal | None]:
    """The run that makes ``into``, and its record in the folder ``state``, if there is to be one. Raises Refused for a
    name that no database can have."""
    if into != database.fit_name(into, ""):
        raise Refused(
            f'cannot create the database "{into}": the name has more than 63 bytes',
            hint="Give a shorter one with --into.",
            state=UNTOUCHED,
        )
    run, skew = new_run(server_clock(maintenance)), clock.skew(maintenance)
    return run, recording.attempt(state, run, "restore", emit, skew=skew, live=live, into=into, point=str(point))


@contextmanager
def made(
    maintenance: Connection, into: str, model: Database, comment: str, stop: threading.Event
) -> Iterator[Database]:
    """``into``, empty and like ``model``, for the length of a block; it stays when that ends well. Raises Interrupted
    when it ends with an error because ``stop`` was set."""
    found = database.create_like(maintenance, into, model, comment)
    try:
        yield found
    except BaseException as error:
        database.drop(maintenance, into, found.oid)
        if stop.is_set() and not isinstance(error, Refused):
            raise Interrupted(f'interrupted: "{into}" was removed again', state=UNTOUCHED) from error
        if isinstance(error, LastgoodError):
            error.state = f'"{into}" was removed again. {UNTOUCHED}'
        raise
