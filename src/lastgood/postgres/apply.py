"""Many small statements that may fail one by one: tried for real and taken back, or done, with a list of failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import psycopg
from psycopg import sql

from lastgood.postgres.errors import rule
from lastgood.postgres.server import Connection

BATCH = 200  # statements a transaction
# Warnings by which a GRANT or a REVOKE says that it did not, or not all: privilege_not_revoked, privilege_not_granted.
# A REVOKE in the name of a role that never granted it "succeeds".
WITHOUT_EFFECT = ("01006", "01007")


@dataclass(frozen=True, slots=True)
class NotApplied:
    """A statement that the server refused. ``repr`` does not show it: a setting's value may be a secret."""

    statement: sql.Composed = field(repr=False)
    sqlstate: str
    message: str


def apply(connection: Connection, statements: Iterable[sql.Composed]) -> list[NotApplied]:
    """Runs each statement; what the server refuses is left out and returned, and so is a GRANT or a REVOKE that had
    no effect.

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


@contextmanager
def without_effect(connection: Connection) -> Iterator[list[tuple[str, str]]]:
    """SQLSTATE and text of the warning of each GRANT and REVOKE in the block that had no effect, or not all of it."""
    warnings: list[tuple[str, str]] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        # Read at once: what it reads from is gone after this call.
        if notice.sqlstate in WITHOUT_EFFECT:
            warnings.append((notice.sqlstate, notice.message_primary or ""))

    connection.add_notice_handler(note)
    try:
        yield warnings
    finally:
        connection.remove_notice_handler(note)


def _attempt(connection: Connection, statement: sql.Composed) -> NotApplied | None:
    try:
        with without_effect(connection) as warnings, connection.transaction():
            connection.execute(statement)
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise
        return NotApplied(statement, error.sqlstate, _said(error, error.sqlstate))
    return NotApplied(statement, *warnings[0]) if warnings else None


def _said(error: psycopg.Error, sqlstate: str) -> str:
    # Class 22 quotes the value that it did not like.
    return rule(sqlstate, "privileges").cause if sqlstate.startswith("22") else error.diag.message_primary or ""
