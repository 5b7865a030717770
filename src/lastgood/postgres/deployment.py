"""The mark of a deployment that is not finished: the comment of the live database itself, for as long as it lasts.

Whoever comes after a killed deployment finds it on the server, from any machine. It belongs to the database that was
migrated: when a rollback exchanges that one, the mark goes with it in the same transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lastgood.postgres import database
from lastgood.postgres.server import Connection

Stage = Literal["migrating", "checking", "going back"]
# "It stopped while …"
SAID: dict[Stage, str] = {
    "migrating": "its migration ran",
    "checking": "the migrated database was looked at",
    "going back": "it was taken back",
}


class DeploymentMark(BaseModel):
    """What the live database says of its deployment, as JSON. Everybody may read it: it holds no secret.

    ``started`` is the server's clock; ``point`` the restore point that was made before; ``original_comment`` what the
    comment was, and will be again. Later versions (``v``) only add fields.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tool: Literal["lastgood"] = "lastgood"
    v: int = 1
    role: Literal["deployment"] = "deployment"
    run: str
    stage: Stage = "migrating"
    live: str
    live_oid: int
    point: str
    label: str = ""
    program: str
    host: str
    pid: int
    user: str
    started: datetime
    original_comment: str | None = None

    def text(self) -> str:
        """The database's comment."""
        return self.model_dump_json()


def read_deployment(comment: str | None) -> DeploymentMark | None:
    """The mark in a live database's comment; None when it is a comment of somebody else's."""
    try:
        return DeploymentMark.model_validate_json(comment or "")
    except ValidationError:
        return None


def own_comment(comment: str | None) -> str | None:
    """The comment that a live database has of its own, with or without a deployment."""
    mark = read_deployment(comment)
    return mark.original_comment if mark is not None else comment


def find_deployment(connection: Connection, live: str) -> DeploymentMark | None:
    """The deployment of the database of that name that is not finished. A mark that came with a copy of a marked
    database is none."""
    found = database.find(connection, live)
    mark = read_deployment(found.comment) if found is not None else None
    return mark if found is not None and mark is not None and mark.live_oid == found.oid else None


def mark_deployment(connection: Connection, mark: DeploymentMark) -> None:
    """Writes it. Raises what ``lastgood.postgres.errors.failed`` makes of a server's error."""
    database.comment(connection, mark.live, mark.text())


def clear_deployment(connection: Connection, mark: DeploymentMark) -> bool:
    """Gives the database its own comment again, if it still bears this deployment's mark: whether it did. For whoever
    holds the lock of the live database."""
    found = find_deployment(connection, mark.live)
    if found is None or found.run != mark.run:
        return False
    database.comment(connection, mark.live, found.original_comment)
    return True
