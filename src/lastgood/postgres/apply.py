"""Many small statements that may fail one by one: executed, or rehearsed and rolled back, with a list of failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import psycopg
from psycopg import sql

from lastgood.postgres.errors import rule
from lastgood.postgres.server import Connection

BATCH = 200  # statements per transaction
# Warnings of a GRANT or a REVOKE without effect, or with less: privilege_not_revoked, privilege_not_granted.
# A REVOKE in the name of a role that never granted it "succeeds".
WITHOUT_EFFECT = ("01006", "01007")


@dataclass(frozen=True, slots=True)
class NotApplied:
    """A statement that the server refused. ``repr`` does not show it: a setting's value may be a secret."""

    statement: sql.Composed = field(repr=False)
    sqlstate: str
    message: str


def apply(connection: Connection, statements: Iterable[sql.Composed]) -> list[NotApplied]:
    """Run each statement; those that the server refuses are skipped and returned, and so is a GRANT or a REVOKE that
    had no effect.

    Each transaction has at most ``BATCH`` statements: a single one would need a lock for each object, and the server's
    lock table is small. After an interruption, compute the statements again from the new state. Raises
    psycopg.OperationalError when the connection breaks.
    """
    refused = []
    remaining = iter(statements)
    while batch := list(islice(remaining, BATCH)):
        with connection.transaction():
            refused += [failure for statement in batch if (failure := _attempt(connection, statement)) is not None]
    return refused


def rehearse(connection: Connection, statements: Iterable[sql.Composed]) -> list[NotApplied]:
    """Run the statements in one transaction, roll it back, and return those that were refused. Its locks are held until
    the rollback."""
    with connection.transaction(force_rollback=True):
        return apply(connection, statements)


@contextmanager
def without_effect(connection: Connection) -> Iterator[list[tuple[str, str]]]:
    """Collect SQLSTATE and text of the warning of each GRANT and REVOKE in the block that had no effect, or only a part
    of it."""
    warnings: list[tuple[str, str]] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        # Read it now: the underlying result is freed after this call.
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
        return NotApplied(statement, error.sqlstate, _message(error, error.sqlstate))
    return NotApplied(statement, *warnings[0]) if warnings else None


def _message(error: psycopg.Error, sqlstate: str) -> str:
    # Messages of class 22 quote the rejected value.
    return rule(sqlstate, "privileges").cause if sqlstate.startswith("22") else error.diag.message_primary or ""
