"""Marks: the comments by which a shadow, a kept database or an incomplete copy is recognised, from any machine."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lastgood.postgres import database
from lastgood.postgres.database import Database
from lastgood.postgres.server import Connection

# An option of this name and an item of the checklist: that item was overridden, and why.
OVERRIDE = "override "
# Option ``kind`` of a copy: an empty database in which the scripts of extensions are looked up, for a second or two.
REFERENCE = "reference"
# Option of a kept database: the deployment that had changed it when it was taken out of service.
DEPLOYMENT = "deployment"


class Mark(BaseModel):
    """The mark of a database of ours: JSON in its comment. Everybody may read it: it holds no secret.

    A ``copy`` is what a restore, a salvage or a trial makes, as long as it is not complete; the option ``kind`` is
    which. ``started`` is the server's clock. ``original_comment`` is the comment that the live database had. Later
    versions (``v``) only add fields, so that an old lastgood still recognises a newer one's databases.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tool: Literal["lastgood"] = "lastgood"
    v: int = 1
    role: Literal["shadow", "kept", "copy"]
    run: str
    live: str
    live_oid: int
    point: str
    host: str
    pid: int
    user: str
    started: datetime
    original_comment: str | None = None
    options: dict[str, str] = {}

    def text(self) -> str:
        """The database's comment."""
        return self.model_dump_json()


def read_mark(comment: str | None) -> Mark | None:
    """The mark in a database's comment; None when it is a comment of somebody else's, or has become unreadable."""
    try:
        return Mark.model_validate_json(comment or "")
    except ValidationError:
        return None


def marked(connection: Connection) -> list[tuple[Database, Mark]]:
    """All databases of the server that carry a mark, invalid ones too, by name, with their sizes."""
    found = []
    for each in database.every(connection):
        if read_mark(each.comment) is None:
            continue
        # Once more with its size, which costs a look at all its files; it may have gone, or changed, meanwhile.
        current = database.by_oid(connection, each.oid)
        mark = read_mark(current.comment) if current is not None else None
        if current is not None and mark is not None:
            found.append((current, mark))
    return found


def server_clock(connection: Connection) -> datetime:
    """The server's present time, for ``Mark.started`` and for names: clocks of machines differ."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
