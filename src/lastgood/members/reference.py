"""The original state of extensions, read from an empty scratch database, which is dropped again.

The live database is not touched. If the scratch database, or the extension in it, cannot be created, the extension is
``UnknownOriginal``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.errors import LastgoodError
from lastgood.journal import caller
from lastgood.journal.run_names import new_run
from lastgood.members.parts import Part, parts
from lastgood.members.tables import hashes, member_tables
from lastgood.postgres import clock, database, lock, pg_cron
from lastgood.postgres.errors import message_of, one_line
from lastgood.postgres.mark import REFERENCE, Mark, marked
from lastgood.postgres.server import Connection, Target, quiet_event_triggers
from lastgood.postgres.transactions import ASYNCHRONOUS

PREFIX = "lastgood_reference_"


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed extension with its version and schema."""

    name: str
    version: str
    schema: str


@dataclass(frozen=True, slots=True)
class Reference:
    """The original state: ``parts`` and ``rows`` as the scripts create them; ``unknown``: extension → why it could not
    be determined."""

    parts: Mapping[tuple[str, str], Part] = field(default_factory=dict)
    rows: Mapping[Relation, frozenset[bytes]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


# By place, live database and extensions: a run needs the state for its plan and for its emergency backup.
_cached: dict[tuple[str, str, tuple[Installed, ...]], Reference] = {}


def installed(connection: Connection) -> tuple[Installed, ...]:
    """The extensions of a database except the built-in ones, in the order of creation."""
    rows = connection.execute(
        "SELECT extname, extversion, extnamespace::regnamespace::text FROM pg_catalog.pg_extension"
        " WHERE oid >= 16384 ORDER BY oid"
    )
    return tuple(Installed(*row) for row in rows)


def reference(target: Target, live: str, extensions: Sequence[Installed]) -> Reference:
    """The state of ``extensions`` if they were created now on the server of ``target``, in a database like ``live``."""
    key = (target.place, live, tuple(extensions))
    if key not in _cached:
        try:
            with scratch(target, live, PREFIX) as connection:
                _cached[key] = _original_state(connection, extensions)
        except (psycopg.Error, LastgoodError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
            why = one_line(cause)
            return Reference(unknown={each.name: why for each in extensions})
    return _cached[key]


def _original_state(connection: Connection, extensions: Sequence[Installed]) -> Reference:
    unknown = {}
    for each in extensions:
        schema = sql.SQL(each.schema)
        make = (
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema),
            sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} VERSION {} CASCADE").format(
                sql.Identifier(each.name), schema, sql.Literal(each.version)
            ),
        )
        try:
            try:
                _run(connection, make)
            except psycopg.Error as error:
                if not pg_cron.is_refused(each.name, error):
                    raise
                before, after = pg_cron.around_creation(each.name)
                _run(connection, (*before, *make, *after))
        except psycopg.Error as error:
            unknown[each.name] = message_of(error)
    with connection.transaction():
        rows = {table.relation: hashes(connection, table) for table in member_tables(connection)}
        return Reference(parts(connection), rows, unknown)


def _run(connection: Connection, commands: Iterable[sql.Composed | sql.SQL]) -> None:
    with connection.transaction():
        for command in commands:
            connection.execute(command)


@contextmanager
def scratch(target: Target, live: str, prefix: str) -> Iterator[Connection]:
    """Create an empty database like ``live`` for a block, with a name that begins with ``prefix``, and connect to it.

    If this process is killed, the next call drops the database. Raises Failed, Refused.
    """
    with database.connect_maintenance(target, live) as maintenance:
        _drop_stale(maintenance, live)
        model = database.describe(maintenance, live)
        started = clock.now(maintenance)
        name = f"{prefix}{os.getpid()}_{secrets.token_hex(4)}"
        lock.claim_copy(maintenance, name)
        mark = Mark(
            role="copy",
            run=new_run(started),
            live=live,
            live_oid=model.oid,
            point="",
            host=caller.host(),
            pid=os.getpid(),
            user=caller.user(),
            started=started,
            options={"kind": REFERENCE},
        )
        created = database.create_like(maintenance, name, model, mark.text(), live=live)
        try:
            with target.at(name).connect(application_name="lastgood reference") as connection:
                quiet_event_triggers(connection)
                connection.execute(ASYNCHRONOUS)
                yield connection
        finally:
            database.drop(maintenance, name, created.oid)


def _drop_stale(maintenance: Connection, live: str) -> None:
    """Drop the scratch databases of killed processes; until then ``status`` and ``prune`` list them."""
    for each, mark in marked(maintenance):
        if mark.live != live or mark.options.get("kind") != REFERENCE or lock.copy_holder(maintenance, each.name):
            continue
        with suppress(psycopg.Error, LastgoodError):
            database.drop(maintenance, each.name, each.oid)
