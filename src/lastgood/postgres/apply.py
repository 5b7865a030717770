"""Many small statements that may fail one by one: tried for real and taken back, or done, with a list of failures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import psycopg
from psycopg import sql

from lastgood.postgres.errors import rule
from lastgood.postgres.server import Connection

BATCH = 200  # statements a transaction


@dataclass(frozen=True, slots=True)
class NotApplied:
    """A statement that the server refused. ``repr`` does not show it: a setting's value may be a secret."""

    statement: sql.Composed = field(repr=False)
    sqlstate: str
    message: str


def apply(connection: Connection, statements: Iterable[sql.Composed]) -> list[NotApplied]:
    """Runs each statement; what the server refuses is left out and returned.

    Some hundred go into one transaction: all in one would need a lock for each object, and the server's lock table
    is small. Cut off in between, it is to be done again from what is there then. Raises psycopg.OperationalError when
    the connection breaks.
    """
    refused = []
    remaining = iter(statements)
    while batch := list(islice(remaining, BATCH)):
        with connection.transaction():
            refused += [failure for statement in batch if (failure := _attempt(connection, statement)) is not None]
    return refused


def rehearse(connection: Connection, statements: Iterable[sql.Composed]) -> list[NotApplied]:
    """The same in one transaction, with everything taken back: what would be refused? Locks are held for its length."""
    with connection.transaction(force_rollback=True):
        return apply(connection, statements)


def _attempt(connection: Connection, statement: sql.Composed) -> NotApplied | None:
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise
        return NotApplied(statement, error.sqlstate, _said(error, error.sqlstate))
    return None


def _said(error: psycopg.Error, sqlstate: str) -> str:
    # Class 22 quotes the value that it did not like.
    return rule(sqlstate, "privileges").cause if sqlstate.startswith("22") else error.diag.message_primary or ""
