"""Rows into a table, and out of it again, to see that they are the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import psycopg
from psycopg import sql
from xxhash import xxh3_128

from lastgood.dump.names import Relation
from lastgood.dump.script import Section
from lastgood.engine.session import Session
from lastgood.facts.row_stream import StreamDigest, digest_stream

# Below that, a file of its own for the frozen rows costs more than it saves.
FREEZE_FROM = 1 << 18


@dataclass(frozen=True, slots=True)
class Sent:
    """What went into a table: ``rows`` as the server counted them, and the digest of the text."""

    rows: int
    digest: str


def send(
    session: Session, section: Section, blocks: Iterator[bytes], *, fresh: bool, progress: Callable[[int], None]
) -> Sent:
    """Loads a section in one transaction. ``fresh``: the table is ordinary, ours alone and empty, so its rows may be
    stored frozen: VACUUM need not come for them, nor hint bits be set, and all its pages are visible to all.

    ``progress`` gets the bytes of each block that was sent. Raises Failed.
    """
    connection, copy = session.connection, section.start.copy
    named = f"rows of {section.start.relation}"
    digest = xxh3_128()
    try:
        with connection.transaction() if fresh else nullcontext():  # COPY by itself is a transaction
            if fresh:
                # Emptied in this transaction: a condition for FREEZE; nor need it be logged where wal_level is minimal.
                connection.execute(sql.SQL("TRUNCATE ONLY {}").format(identifier(section.start.relation)))
                copy += b" WITH (FREEZE)"
            with connection.cursor() as cursor:
                with cursor.copy(copy) as stream:
                    for block in blocks:
                        stream.write(block)
                        digest.update(block)
                        progress(len(block))
                return Sent(cursor.rowcount, digest.hexdigest())
    except psycopg.Error as error:
        raise session.failed(error, section.start.line + _row_in(error), named, "copy") from error


def read_back(session: Session, section: Section, cancelled: Callable[[], bool]) -> StreamDigest:
    """The digest of a table's rows as the server gives them, in the order in which they lie. Raises Failed."""
    relation, columns = section.start.relation, section.start.columns or ()
    copy = sql.SQL("COPY {} ({}) TO STDOUT").format(
        identifier(relation), sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    )
    with session.telling(0, f"reading back {relation}"):
        return digest_stream(session.connection, copy.as_bytes(session.connection), cancelled=cancelled)


def identifier(relation: Relation) -> sql.Identifier:
    """A relation's name as SQL."""
    return sql.Identifier(relation.schema, relation.name) if relation.schema else sql.Identifier(relation.name)


def _row_in(error: psycopg.Error) -> int:
    """Which row of the section the server complains of, from its context ``COPY t, line 7, column x``; 0 if none."""
    found = re.search(r"line (\d+)", error.diag.context or "")
    return int(found[1]) if found else 0
