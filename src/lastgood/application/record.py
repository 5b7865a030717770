"""What this machine remembers of an application that it has stopped: a small file of the state folder, one for each
live database. Written before the first hook runs, and gone when the application runs again and its checks are passed.

A run has its journal beside it; this is for whoever comes next, whatever stopped the application.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from psycopg import pq
from pydantic import BaseModel, ConfigDict, ValidationError
from xxhash import xxh3_64_hexdigest

from lastgood.journal import person
from lastgood.postgres.server import Target
from lastgood.process import durable

FOLDER = "application"
BY_HAND = "lastgood maintenance"


class Record(BaseModel):
    """An application that was stopped, or started again and not found well yet. ``by`` is a run, or ``lastgood
    maintenance``; ``hooks`` are those that were begun."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    live: str
    by: str
    state: Literal["stopped", "started"]
    hooks: tuple[str, ...]
    since: datetime
    host: str
    user: str


def begin(live: str, by: str) -> Record:
    """A record of something that is about to be done, here and now."""
    return Record(
        live=live,
        by=by,
        state="stopped",
        hooks=(),
        since=datetime.now(UTC),
        host=person.host(),
        user=person.user(),
    )


def place(state: Path, target: Target) -> Path:
    """The file for ``target``'s database: by its name and by where the server is said to be, so that a server that does
    not answer is no obstacle."""
    known = {each.keyword.decode(): each.val.decode() for each in pq.Conninfo.get_defaults() if each.val}
    keywords = {**known, **target.keywords}
    where = "\0".join(keywords.get(name, "") for name in ("service", "host", "hostaddr", "port"))
    live = target.dbname
    shown = re.sub(r"[^A-Za-z0-9_-]", "_", live)[:40]
    return state / FOLDER / f"{shown}_{xxh3_64_hexdigest(f'{where}{chr(0)}{live}'.encode())}.json"


def read(state: Path, target: Target) -> Record | None:
    """The record, or None where there is none that makes sense."""
    try:
        return Record.model_validate_json(place(state, target).read_bytes())
    except (OSError, ValidationError):
        return None


def write(state: Path, target: Target, record: Record) -> None:
    """Replaces the record; durable when it returns. Raises OSError."""
    durable.write_private(place(state, target), record.model_dump_json(indent=1).encode() + b"\n")


def forget(state: Path, target: Target) -> None:
    """The application runs, and is well. Raises OSError."""
    place(state, target).unlink(missing_ok=True)
