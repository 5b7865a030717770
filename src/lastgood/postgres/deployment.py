"""The mark of an unfinished deployment: the comment of the live database, until the deployment ends.

After a killed deployment, the next operator finds it on the server, from any machine. It belongs to the migrated
database: when a rollback swaps that database, the mark moves with it in the same transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lastgood.postgres import database
from lastgood.postgres.mark import RunName
from lastgood.postgres.server import Connection

Stage = Literal["migrating", "checking", "rolling back"]
# "It stopped while …"
ACTIVITY: dict[Stage, str] = {
    "migrating": "the migration ran",
    "checking": "the migrated database was validated",
    "rolling back": "the rollback ran",
}


class DeploymentMark(BaseModel):
    """The mark in the live database's comment, as JSON. Every role may read it: it holds no secret.

    ``started`` is the server's clock; ``point`` the restore point from before the deployment; ``original_comment`` the
    comment before and after it. Later versions (``v``) only add fields.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tool: Literal["lastgood"] = "lastgood"
    v: int = 1
    role: Literal["deployment"] = "deployment"
    run: RunName
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
    """The mark in a live database's comment; None when the comment is no mark of lastgood."""
    try:
        return DeploymentMark.model_validate_json(comment or "")
    except ValidationError:
        return None


def own_comment(comment: str | None) -> str | None:
    """The own comment of a live database, with or without a deployment."""
    mark = read_deployment(comment)
    return mark.original_comment if mark is not None else comment


def find_deployment(connection: Connection, live: str) -> DeploymentMark | None:
    """The unfinished deployment of the database of that name. A mark that came with a copy of a marked database does
    not count."""
    current = database.find(connection, live)
    mark = read_deployment(current.comment) if current is not None else None
    return mark if current is not None and mark is not None and mark.live_oid == current.oid else None


def mark_deployment(connection: Connection, mark: DeploymentMark) -> None:
    """Write the mark. Raises the errors of ``lastgood.postgres.errors.failed``."""
    database.comment(connection, mark.live, mark.text())


def clear_deployment(connection: Connection, mark: DeploymentMark) -> bool:
    """Restore the database's own comment if it still has this deployment's mark; return whether it had. The caller must
    hold the lock of the live database."""
    current = find_deployment(connection, mark.live)
    if current is None or current.run != mark.run:
        return False
    database.comment(connection, mark.live, current.original_comment)
    return True
