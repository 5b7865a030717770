"""The record of an application that lastgood stopped on this machine: a small file in the state folder, one for each
live database. It is written before the first hook runs, and removed when the application runs again and has passed its
checks.

A run also has its journal; this file is for the next operator, whichever command stopped the application.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from psycopg import pq
from pydantic import BaseModel, ConfigDict, ValidationError
from xxhash import xxh3_64_hexdigest

from lastgood.journal import caller
from lastgood.postgres.server import Target
from lastgood.process import durable

FOLDER = "application"
BY_HAND = "lastgood maintenance"


class StopRecord(BaseModel):
    """An application that was stopped, or started again and not yet verified. ``by`` is a run, or ``lastgood
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


def new_record(live: str, by: str) -> StopRecord:
    """A new record of an application that is about to be stopped, by this user on this machine."""
    return StopRecord(
        live=live,
        by=by,
        state="stopped",
        hooks=(),
        since=datetime.now(UTC),
        host=caller.host(),
        user=caller.user(),
    )


def record_path(state: Path, target: Target) -> Path:
    """The file for ``target``'s database. Its name comes from the database and the connection keywords, so that it is
    known even when the server does not answer."""
    defaults = {each.keyword.decode(): each.val.decode() for each in pq.Conninfo.get_defaults() if each.val}
    keywords = {**defaults, **target.keywords}
    where = "\0".join(keywords.get(name, "") for name in ("service", "host", "hostaddr", "port"))
    live = target.dbname
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", live)[:40]
    return state / FOLDER / f"{readable}_{xxh3_64_hexdigest(f'{where}{chr(0)}{live}'.encode())}.json"


def read(state: Path, target: Target) -> StopRecord | None:
    """The record; None if it is missing or unreadable."""
    try:
        return StopRecord.model_validate_json(record_path(state, target).read_bytes())
    except (OSError, ValidationError):
        return None


def write(state: Path, target: Target, record: StopRecord) -> None:
    """Replace the record; durable on return. Raises OSError."""
    durable.write_private(record_path(state, target), record.model_dump_json(indent=1).encode() + b"\n")


def forget(state: Path, target: Target) -> None:
    """Remove the record: the application runs and is healthy. Raises OSError."""
    record_path(state, target).unlink(missing_ok=True)
