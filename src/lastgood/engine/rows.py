"""Rows into a table, and out of it again, to see that they are the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import psycopg
from psycopg import sql
from xxhash import xxh3_128

from lastgood.dump.names import Relation
from lastgood.dump.script import Section
from lastgood.engine.session import Session
from lastgood.engine.supply import BLOCK
from lastgood.facts.digest import RowsDigest
from lastgood.facts.row_stream import digest_rows, digest_stream
from lastgood.postgres.errors import row_in

# Below that, a file of its own for the frozen rows costs more than it saves.
FREEZE_FROM = 1 << 18


@dataclass(slots=True)
class Sent:
    """What went into a table: ``rows`` as the server counted them; ``digest`` of the text as a whole, where one session
    loaded it, otherwise ``lines``, whose order says nothing."""

    rows: int = 0
    digest: str = ""
    lines: RowsDigest | None = None

    def add(self, other: Sent) -> None:
        """Adds what another session, or another section, brought."""
        self.rows += other.rows
        if self.lines is not None and other.lines is not None:
            self.lines.rows += other.lines.rows
            self.lines.total += other.lines.total


class Shared:
    """A section's rows for several sessions: each gets the next lines that nobody has."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._lock:
                lines = self._next()
            if not lines:
                return
            yield lines

    def _next(self) -> bytes:
        for block in self._blocks:
            end = block.rfind(b"\n") + 1
            if not end:
                self._rest += block
                continue
            lines, self._rest = self._rest + block[:end], block[end:]
            return lines
        lines, self._rest = self._rest, b""
        return lines


def send(
    session: Session,
    section: Section,
    blocks: Iterable[bytes],
    *,
    fresh: bool,
    lines: bool,
    progress: Callable[[int], None],
    byte: Callable[[int], int | None],
) -> Sent:
    """Loads a section, or a part of it, in one transaction. ``lines``: they are digested one by one.

    ``fresh``: the table is ordinary, ours alone and empty, so its rows may be stored frozen: VACUUM need not come for
    them, nor hint bits be set, and all its pages are visible to all.

    ``progress`` gets the bytes of each block that was sent. ``byte`` tells where a row, counted from 1, stands in the
    dump, for the message about it. Raises Failed.
    """
    connection, copy = session.connection, section.start.copy
    named = f"rows of {section.start.relation}"
    digest = xxh3_128()
    by_line = RowsDigest() if lines else None
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
                        if by_line is None:
                            digest.update(block)
                        else:
                            by_line.add(block)
                        progress(len(block))
                return Sent(cursor.rowcount, digest.hexdigest() if by_line is None else "", by_line)
    except psycopg.Error as error:
        # The server counts the rows that this session sent; where several share a section, that says nothing.
        row = 0 if lines else row_in(error)
        raise session.failed(error, section.start.line + row, named, "copy", byte(row) if row else None) from error


def is_there(
    session: Session, section: Section, sent: Sent, cancelled: Callable[[], bool], progress: Callable[[int], None]
) -> bool:
    """Reads a table back: are its rows those that were sent? Where one session loaded it they lie in the dump's order,
    and the whole text is compared; otherwise each line is. ``progress`` gets the bytes of what came, a block
    or more. Raises Failed, Interrupted."""
    relation, columns = section.start.relation, section.start.columns or ()
    copy = (
        sql.SQL("COPY {} ({}) TO STDOUT")
        .format(identifier(relation), sql.SQL(", ").join(sql.Identifier(column) for column in columns))
        .as_bytes(session.connection)
    )
    before = 0

    def came(size: int) -> None:
        nonlocal before
        if size - before >= BLOCK:
            progress(size - before)
            before = size

    with session.telling(0, f"reading back {relation}"):
        if sent.lines is None:
            return digest_stream(session.connection, copy, cancelled=cancelled, progress=came).digest == sent.digest
        digest = digest_rows(session.connection, copy, cancelled=cancelled, progress=lambda _, size: came(size))
        return digest.hexdigest() == sent.lines.hexdigest()


def identifier(relation: Relation) -> sql.Identifier:
    """A relation's name as SQL."""
    return sql.Identifier(relation.schema, relation.name) if relation.schema else sql.Identifier(relation.name)
