"""Marks: comments that identify a staging, kept or undone schema, from any machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict, ValidationError

from lastgood.in_place.build.left_out import LeftOut
from lastgood.in_place.ties import TiedKey, Ties
from lastgood.models import Frozen
from lastgood.postgres.mark import OF_A_RUN, TRUSTED, RunName
from lastgood.postgres.server import Connection

Role = Literal["staging", "kept", "undone"]
State = Literal["building", "built", "proved"]


class Sequence(BaseModel):
    """The value of a kept sequence, for information: the sequence itself moved with its value."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_name: str
    name: str
    last_value: int | None


class Check(Frozen):
    """A check constraint of a table or a domain that is validated after a move; see ``late_checks``. ``owner``: the
    table or domain."""

    domain: bool
    schema_name: str
    owner: str
    name: str


class GeneratedColumn(Frozen):
    """A stored generated column that is compared after a move with its expression, the server's text with qualified
    names."""

    schema_name: str
    table: str
    name: str
    expression: str


class Kept(BaseModel):
    """All that a move back needs to know of a kept or undone schema's run; each of the run's schemas has it.

    ``schemas``: all live schemas of the move; ``existed``: those of them that were there before it. ``ties``: those of
    that time. What is left to do in the live schemas, empty when it was done: ``unvalidated``, the foreign keys that
    the move made again without a look at the rows; ``refresh``, the materialized views (schema, name) whose rows may be
    older; ``checks`` to validate; and generated ``columns`` to compare. ``own_checks``: the checks of what is kept that
    were not validated yet when it was moved. ``unrefreshed``: the views whose REFRESH failed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schemas: tuple[str, ...]
    existed: tuple[str, ...]
    ties: Ties
    sequences: tuple[Sequence, ...] = ()
    unvalidated: tuple[TiedKey, ...] = ()
    refresh: tuple[tuple[str, str], ...] = ()
    checks: tuple[Check, ...] = ()
    columns: tuple[GeneratedColumn, ...] = ()
    own_checks: tuple[Check, ...] = ()
    unrefreshed: tuple[tuple[str, str], ...] = ()

    def rest(self, run: str, *, trusted: bool = False) -> Rest:
        """What is left to do after the move of that run."""
        return Rest(run, self.unvalidated, self.refresh, self.checks, self.columns, trusted)

    def completed(self, unrefreshed: Iterable[tuple[str, str]] = ()) -> Kept:
        """The same with nothing left to do."""
        left = {"unvalidated": (), "refresh": (), "checks": (), "columns": (), "unrefreshed": tuple(unrefreshed)}
        return self.model_copy(update=left)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left to do after the committed move of a run; see ``Kept``. ``trusted``: its code may run with the rights
    of the operator."""

    run: str
    foreign_keys: tuple[TiedKey, ...]
    views: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]
    columns: tuple[GeneratedColumn, ...]
    trusted: bool = False

    @property
    def tasks(self) -> int:
        """The number of things to do."""
        return len(self.foreign_keys) + len(self.views) + len(self.checks) + len(self.columns)


class SchemaMark(BaseModel):
    """The mark of a schema of lastgood: JSON in its comment. Every role may read it: it holds no secret.

    ``live`` is the live schema's name. Of a staging schema: ``state``; ``manifest``, the digest of the manifest it was
    proved against; ``written``, a transaction ID (xid8) that was assigned after the last write to staging, and
    ``made_at``, a server's time after it: together they identify older snapshots (``snapshots.older``).
    ``options`` are those of the marks of databases. Later versions (``v``) only add fields, so that an old lastgood
    still recognises the schemas of a newer one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tool: Literal["lastgood"] = "lastgood"
    v: int = 1
    role: Role
    run: RunName
    live: str
    made_at: datetime
    state: State | None = None
    manifest: str | None = None
    written: int | None = None
    point: str = ""
    host: str = ""
    user: str = ""
    kept: Kept | None = None
    options: dict[str, str] = {}
    left_out: tuple[LeftOut, ...] = ()

    def text(self) -> str:
        """The schema's comment."""
        return self.model_dump_json()


_MARKED = sql.SQL("""
SELECT n.oid, n.nspname, pg_get_userbyid(n.nspowner), n.nspowner = current_user::regrole, d.description
FROM pg_namespace n
JOIN pg_description d ON d.objoid = n.oid AND d.classoid = 'pg_namespace'::regclass AND d.objsubid = 0
WHERE {} ORDER BY n.nspname
""").format(sql.SQL(OF_A_RUN))


@dataclass(frozen=True, slots=True)
class MarkedSchema:
    """A schema with a mark. ``ours``: this role itself owns it, and executes what its mark says. Each role that may
    create schemas can forge a mark; one of a role that can act neither for this role nor for the database's owner is no
    mark at all."""

    oid: int
    name: str
    owner: str
    ours: bool
    mark: SchemaMark


def read_mark(comment: str | None) -> SchemaMark | None:
    """The mark in a schema's comment; None when the comment is no mark of lastgood, or unreadable."""
    try:
        return SchemaMark.model_validate_json(comment or "")
    except ValidationError:
        return None


def comment_statement(schema: str, mark: SchemaMark) -> sql.Composed:
    """The statement that writes the mark, for use in a transaction with others."""
    return sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(mark.text()))


def write(connection: Connection, schema: str, mark: SchemaMark) -> None:
    """Write the mark of a schema. Raises psycopg.Error."""
    connection.execute(comment_statement(schema, mark))


def proved(connection: Connection, mark: SchemaMark, manifest: str) -> SchemaMark:
    """The mark of a proved staging schema: with the manifest's digest, the present time and a new transaction ID. Call
    it in the transaction that writes the mark, after the last write to staging was committed."""
    row = connection.execute("SELECT pg_current_xact_id()::text, clock_timestamp()").fetchone()
    assert row is not None
    return mark.model_copy(update={"state": "proved", "manifest": manifest, "written": int(row[0]), "made_at": row[1]})


def marked(connection: Connection, *, run: str | None = None, role: Role | None = None) -> list[MarkedSchema]:
    """All schemas of the database that carry a believed mark, by name; of one run or one role if given."""
    rows = connection.execute(_MARKED).fetchall()
    found = [
        MarkedSchema(oid, name, owner, ours, mark)
        for oid, name, owner, ours, comment in rows
        if (mark := read_mark(comment)) is not None
    ]
    return [each for each in found if run in (None, each.mark.run) and role in (None, each.mark.role)]


def rest(connection: Connection, run: str | None = None) -> list[Rest]:
    """The work that committed moves left, from any machine; of one run if given."""
    found = {}
    for each in marked(connection, run=run):
        kept = each.mark.kept
        if (
            each.ours
            and kept is not None
            and (left := kept.rest(each.mark.run, trusted=TRUSTED in each.mark.options)).tasks
        ):
            found[each.mark.run] = left
    return list(found.values())


_EMPTY = """
SELECT schemaname, matviewname FROM pg_matviews WHERE NOT ispopulated
  AND (schemaname, matviewname) IN (SELECT * FROM unnest(%s::text[], %s::text[])) ORDER BY 1, 2
"""


def empty_views(connection: Connection) -> list[tuple[str, str]]:
    """The materialized views (schema, name) that a switch left empty, and that were not refreshed since."""
    kept = [each.mark.kept for each in marked(connection) if each.mark.kept is not None]
    views = {view for each in kept for view in each.unrefreshed}
    if not views:
        return []
    return connection.execute(_EMPTY, [[schema for schema, _ in views], [name for _, name in views]]).fetchall()
