"""Rows into a table, and out of it again, to see that they are the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from xxhash import xxh3_128

from lastgood.dump.names import Relation
from lastgood.dump.script import Section
from lastgood.facts.digest import RowsDigest, whole_lines
from lastgood.facts.row_stream import digest_rows, digest_stream
from lastgood.load import apart
from lastgood.load.session import Session
from lastgood.load.supply import BLOCK
from lastgood.postgres.errors import row_in
from lastgood.postgres.server import Connection

# Below that, a file of its own for the frozen rows costs more than it saves.
FREEZE_FROM = 1 << 18
# Block numbers have 32 bits, and the greatest one means none.
LAST_PAGE = (1 << 32) - 2


@dataclass(slots=True)
class Sent:
    """What went into a table, or came out: ``rows`` as the server counted them; ``digest`` of the text as a whole,
    where one session loaded it, otherwise ``lines``, whose order says nothing."""

    rows: int = 0
    digest: str = ""
    lines: RowsDigest | None = None

    def add(self, other: Sent) -> None:
        """Adds what another session, or another section, brought."""
        self.rows += other.rows
        if self.lines is not None and other.lines is not None:
            self.lines.rows += other.lines.rows
            self.lines.total += other.lines.total

    def same(self, other: Sent) -> bool:
        """Whether the texts are the same, both digested as a whole or both by their lines."""
        if self.lines is None or other.lines is None:
            return self.lines is other.lines and self.digest == other.digest
        return self.lines.rows == other.lines.rows and self.lines.hexdigest() == other.lines.hexdigest()


class Shared:
    """A section's rows for several sessions: each gets the next lines that nobody has."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._lines = whole_lines(blocks)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._lock:
                lines = next(self._lines, b"")
            if not lines:
                return
            yield lines


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
    """Load a section, or a part of it, in one transaction. ``lines``: they are digested one by one.

    ``fresh``: the table is ordinary and ours alone, so where it is empty its rows may be stored frozen: VACUUM need not
    come for them, nor hint bits be set, and all its pages are visible to all.

    ``progress`` gets the bytes of each block that was sent. ``byte`` maps a row, counted from 1, to its place in the
    dump, for the message about it. Raises Failed.
    """
    connection, copy = session.connection, section.start.copy
    digest = xxh3_128()
    by_line = RowsDigest() if lines else None
    try:
        with connection.transaction() if fresh else nullcontext():  # COPY by itself is a transaction
            if fresh and untouched(connection, section.start.relation):
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
        offset = byte(row) if row else None
        raise session.failed(error, section.start.line + row, _named(section), "copy", offset) from error


_UNTOUCHED = """
SELECT pg_catalog.pg_relation_size(c.oid) = 0 AND NOT c.relhastriggers
FROM pg_catalog.pg_class c WHERE c.oid = %s::regclass
"""


def untouched(connection: Connection, relation: Relation) -> bool:
    """Whether to empty a table changes nothing: other parts of the dump may have put rows there (INSERTs, those of a
    partitioned table), and keys and triggers have a say. Locks it until the transaction ends."""
    connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(identifier(relation)))
    row = connection.execute(_UNTOUCHED, [identifier(relation).as_string(connection)]).fetchone()
    return row is not None and bool(row[0])


def send_apart(
    session: Session,
    section: Section,
    path: Path,
    span: range,
    *,
    cancelled: Callable[[], bool],
    progress: Callable[[int], None],
) -> Sent:
    """Loads the bytes ``span`` of the file in a process of its own, each line digested. Raises Failed, Interrupted, and
    ``apart.Unable`` when this session has to do it."""
    with session.telling(section.start.line, _named(section), "copy"):
        done = apart.load(session.connection, section.start.copy, path, span, cancelled=cancelled, moved=progress)
    return Sent(done["rows"], lines=RowsDigest(done["lines"], int(done["total"], 16)))


def read_back(
    session: Session,
    section: Section,
    pages: range | None,
    *,
    whole: bool,
    beside: bool,
    cancelled: Callable[[], bool],
    progress: Callable[[int], None],
) -> Sent:
    """Reads a table, or some of its pages, as the dump's text: digested as a ``whole``, where one session loaded it and
    its rows lie in the dump's order, otherwise line by line. ``beside``: in a process of its own, if that can be.
    ``progress`` gets the bytes of what came, a block or more. Raises Failed, Interrupted."""
    relation, columns = section.start.relation, section.start.columns or ()
    named = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    if pages is None:
        command = sql.SQL("COPY {} ({}) TO STDOUT").format(identifier(relation), named)
    else:
        command = sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE ctid >= {}::tid AND ctid < {}::tid) TO STDOUT").format(
            named, identifier(relation), sql.Literal(f"({pages.start},0)"), sql.Literal(f"({pages.stop},0)")
        )
    copy = command.as_bytes(session.connection)
    before = 0

    def came(size: int) -> None:
        nonlocal before
        if size - before >= BLOCK:
            progress(size - before)
            before = size

    with session.telling(0, f"reading back {relation}"):
        if beside:
            with suppress(apart.Unable):
                done = apart.read(session.connection, copy, whole=whole, cancelled=cancelled, moved=progress)
                if whole:
                    return Sent(digest=done["digest"])
                return Sent(lines=RowsDigest(done["lines"], int(done["total"], 16)))
        if whole:
            found = digest_stream(session.connection, copy, cancelled=cancelled, progress=came)
            return Sent(digest=found.digest)
        return Sent(
            lines=digest_rows(session.connection, copy, cancelled=cancelled, progress=lambda _, size: came(size))
        )


def pages_of(connection: Connection, relation: Relation, part: int, parts: int) -> range:
    """The pages of one part of a table; the last one has all that follow, too."""
    row = connection.execute(
        "SELECT pg_catalog.pg_relation_size(%s::regclass) / pg_catalog.current_setting('block_size')::int8",
        [identifier(relation).as_string(connection)],
    ).fetchone()
    count = int(row[0]) if row is not None else 0
    return range(count * part // parts, LAST_PAGE if part == parts - 1 else count * (part + 1) // parts)


def _named(section: Section) -> str:
    return f"rows of {section.start.relation}"


def identifier(relation: Relation) -> sql.Identifier:
    """A relation's name as SQL."""
    return sql.Identifier(relation.schema, relation.name) if relation.schema else sql.Identifier(relation.name)
