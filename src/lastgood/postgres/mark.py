"""Marks: comments that identify a shadow, a kept database or an incomplete copy, from any machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal, LiteralString

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from lastgood.postgres import database
from lastgood.postgres.database import Database
from lastgood.postgres.server import Connection
from lastgood.text.quoting import identifier

# An option with this prefix and an item of the checklist: the item was overridden, for the given reason.
OVERRIDE = "override "
# Option of a run: the reason why code of its restore point runs with the operator's rights.
TRUSTED = "trust_code"
# Option of staging schemas: the existing role that builds them, which looks up names in other schemas meanwhile.
BUILD_AS = "build_as"
# Option ``kind`` of a copy: an empty database in which extensions are created for reference, for a second or two.
REFERENCE = "reference"
# Option of a kept database: the deployment that had changed it before it was replaced.
DEPLOYMENT = "deployment"
# Option of what an undo kept: the deployment whose changes became live again.
BROUGHT_BACK = "brought_back"
# Option of a database that an undo kept: the restore point from which it and the live database differ.
BASE = "base"
# Runs are names of files, and parts of commands that operators copy.
RunName = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z-]*$")]


class Mark(BaseModel):
    """The mark of a database of lastgood: JSON in its comment. Every role may read it: it holds no secret.

    A ``copy`` is the incomplete result of a restore or a trial; its option ``kind`` has which. ``started`` is the
    server's clock. ``original_comment`` is the previous comment of the live database. Later versions (``v``) only add
    fields, so that an old lastgood still recognises the databases of a newer one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tool: Literal["lastgood"] = "lastgood"
    v: int = 1
    role: Literal["shadow", "kept", "copy"]
    run: RunName
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
    """The mark in a database's comment; None when the comment is no mark of lastgood, or unreadable."""
    try:
        return Mark.model_validate_json(comment or "")
    except ValidationError:
        return None


# Each owner of a database can write a mark in its comment, which would make it the one that an undo puts into service.
_BELIEVED = """
SELECT d.oid::int8 FROM unnest(%s::oid[], %s::text[]) AS mark (oid, live)
JOIN pg_catalog.pg_database d ON d.oid = mark.oid
LEFT JOIN pg_catalog.pg_database l ON l.datname = mark.live
WHERE pg_catalog.pg_has_role(d.datdba, current_user, 'MEMBER') OR pg_catalog.pg_has_role(d.datdba, l.datdba, 'MEMBER')
"""
_CAN_ACT = "SELECT pg_catalog.pg_has_role(oid, current_user, 'MEMBER') FROM pg_catalog.pg_roles WHERE rolname = %s"


def marked(connection: Connection) -> list[tuple[Database, Mark]]:
    """All databases of the server that carry a believed mark, invalid ones too, by name, with their sizes: their owner
    can act for this role or for the owner of the live database, as a superuser can."""
    return _marked(connection)[0]


def unbelieved(connection: Connection, live: str) -> str:
    """A hint that names a database with a mark for ``live`` that is not believed; empty without one."""
    now = database.find(connection, live)
    owner = now.owner if now is not None else connection.info.user
    for each, mark in _marked(connection)[1]:
        if mark.live == live:
            return (
                f'The mark of "{each.name}" is ignored, because its owner "{each.owner}" could have written it. To use '
                f"it, run: ALTER DATABASE {identifier(each.name)} OWNER TO {identifier(owner)}"
            )
    return ""


def can_act(connection: Connection, owner: str) -> bool:
    """Whether a role can act for the session's role. What it could write is then as good as the operator's word."""
    return connection.execute(_CAN_ACT, [owner]).fetchone() == (True,)


_Marked = list[tuple[Database, Mark]]


def _marked(connection: Connection) -> tuple[_Marked, _Marked]:
    """The databases with a mark: those whose mark is believed, and the others."""
    found: _Marked = []
    for each in database.all_databases(connection):
        if read_mark(each.comment) is None:
            continue
        # Read it again with its size, which needs all its files; it may be dropped or changed meanwhile.
        current = database.by_oid(connection, each.oid)
        mark = read_mark(current.comment) if current is not None else None
        if current is not None and mark is not None:
            found.append((current, mark))
    if not found:
        return [], []
    parameters = [[each.oid for each, _ in found], [mark.live for _, mark in found]]
    believed = {oid for (oid,) in connection.execute(_BELIEVED, parameters)}
    return (
        [pair for pair in found if pair[0].oid in believed],
        [pair for pair in found if pair[0].oid not in believed],
    )


def of_undo(brought_back: Mapping[str, str]) -> dict[str, str]:
    """The options of what an undo keeps about a failed deployment, from the options of what it brings back."""
    found = {BROUGHT_BACK: brought_back.get(DEPLOYMENT, ""), DEPLOYMENT: brought_back.get(BROUGHT_BACK, "")}
    return {name: run for name, run in found.items() if run}


# Whether the owner of the schema ``n`` can act for the database's owner or for this role, as a superuser can. Only then
# is a mark in its comment believed: each role that may create schemas can write one, and would keep its schema out of
# every backup.
OWNER_TRUSTED: LiteralString = """
  (SELECT pg_catalog.pg_has_role(n.nspowner, d.datdba, 'MEMBER')
          OR pg_catalog.pg_has_role(n.nspowner, current_user, 'MEMBER')
   FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
"""
# Whether the schema ``n`` was made by a run in place: a staging, kept or undone one, by its name and by the comment
# that ``lastgood.in_place.marks`` writes. Such a schema belongs to its run, as the databases of runs do, and not to the
# content of the database: no backup, comparison or validation has it.
OF_A_RUN: LiteralString = (
    """
  n.nspname ~ '^lastgood_((new|kept|undone)_|guard$)'
  AND coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') ~ '^."tool":"lastgood"' AND """
    + OWNER_TRUSTED
)
_WITH_MARK = """
SELECT n.nspname::text FROM pg_catalog.pg_namespace n
WHERE pg_catalog.obj_description(n.oid, 'pg_namespace') ~ '^."tool":"lastgood"'
"""
_SCHEMAS_OF_RUNS = sql.SQL("SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE {}").format(sql.SQL(OF_A_RUN))


def schemas_of_runs(connection: Connection) -> frozenset[str]:
    """The names of the schemas that runs in place made in the database of ``connection``, as far as their marks are
    believed."""
    return frozenset(str(name) for (name,) in connection.execute(_SCHEMAS_OF_RUNS))


def forget_marks(connection: Connection) -> None:
    """Remove the marks of schemas from a database that was restored: they came with the restore point, or its code made
    them, and would be believed. Those of other roles remain, which are not. Raises psycopg.Error."""
    for (name,) in connection.execute(_WITH_MARK).fetchall():
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS NULL").format(sql.Identifier(name)))
