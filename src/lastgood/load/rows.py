"""Transfer of rows into a table, and back out of it for verification."""

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
from lastgood.load.session import LoadSession
from lastgood.load.supply import BLOCK
from lastgood.postgres.errors import row_in
from lastgood.postgres.server import Connection

# Below this size, the new file for frozen rows costs more than it saves.
FREEZE_FROM = 1 << 18
# Block numbers have 32 bits; the greatest value is InvalidBlockNumber.
LAST_PAGE = (1 << 32) - 2


@dataclass(slots=True)
class Sent:
    """Rows that were loaded or read: ``rows`` as the server counted them; ``digest`` of the text as a whole if one
    session loaded it, otherwise ``lines``, a digest that ignores their order."""

    rows: int = 0
    digest: str = ""
    lines: RowsDigest | None = None

    def add(self, other: Sent) -> None:
        """Add the rows of another session or section."""
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
    """A section's rows, shared by several sessions: each gets the next lines that are left."""

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
    session: LoadSession,
    section: Section,
    blocks: Iterable[bytes],
    *,
    fresh: bool,
    lines: bool,
    progress: Callable[[int], None],
    byte: Callable[[int], int | None],
) -> Sent:
    """Load a section, or a part of it, in one transaction. ``lines``: each line is digested by itself.

    ``fresh``: the table is ordinary and no other session uses it, so if it is empty its rows are stored frozen: they
    need no VACUUM and no hint bits, and all its pages are all-visible.

    ``progress`` gets the bytes of each block that was sent. ``byte`` maps a row, counted from 1, to its place in the
    dump, for the message about it. Raises Failed.
    """
    connection, copy = session.connection, section.start.copy
    digest = xxh3_128()
    by_line = RowsDigest() if lines else None
    try:
        with connection.transaction() if fresh else nullcontext():  # COPY by itself is a transaction
            if fresh and is_untouched(connection, section.start.relation):
                # Truncated in this transaction: a condition for FREEZE, and for a load without WAL if wal_level is
                # minimal.
                connection.execute(sql.SQL("TRUNCATE ONLY {}").format(identifier(section.start.relation)))
                copy += b"\nWITH (FREEZE)"
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
        # The server counts the rows of this session, which is no position if several sessions share a section.
        row = 0 if lines else row_in(error)
        offset = byte(row) if row else None
        raise session.failed(error, section.start.line + row, _named(section), "copy", offset) from error


_UNTOUCHED = """
SELECT pg_catalog.pg_relation_size(c.oid) = 0 AND NOT c.relhastriggers
FROM pg_catalog.pg_class c WHERE c.oid = %s::regclass
"""


def is_untouched(connection: Connection, relation: Relation) -> bool:
    """Whether truncating the table has no effect: other parts of the dump may have loaded rows (INSERTs, rows of a
    partitioned table), and keys or triggers may apply. Locks the table until the transaction ends."""
    connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(identifier(relation)))
    row = connection.execute(_UNTOUCHED, [identifier(relation).as_string(connection)]).fetchone()
    return row is not None and bool(row[0])


def send_apart(
    session: LoadSession,
    section: Section,
    path: Path,
    span: range,
    *,
    cancelled: Callable[[], bool],
    progress: Callable[[int], None],
) -> Sent:
    """Load the bytes ``span`` of the file in a process of its own, each line digested. Raises Failed, Interrupted, and
    ``apart.Unable`` when this session has to do the work."""
    with session.errors_at(section.start.line, _named(section), "copy"):
        done = apart.load(session.connection, section.start.copy, path, span, cancelled=cancelled, moved=progress)
    return Sent(done["rows"], lines=RowsDigest(done["lines"], int(done["total"], 16)))


def read_back(
    session: LoadSession,
    section: Section,
    pages: range | None,
    *,
    whole: bool,
    separate: bool,
    cancelled: Callable[[], bool],
    progress: Callable[[int], None],
) -> Sent:
    """Read a table, or some of its pages, as the dump's text: digested as a ``whole`` if one session loaded it and its
    rows are in the dump's order, otherwise line by line. ``separate``: in a process of its own, if possible.
    ``progress`` gets the bytes read, a block or more. Raises Failed, Interrupted."""
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

    with session.errors_at(0, f"reading back {relation}"):
        if separate:
            with suppress(apart.Unable):
                done = apart.read(session.connection, copy, whole=whole, cancelled=cancelled, moved=progress)
                if whole:
                    return Sent(digest=done["digest"])
                return Sent(lines=RowsDigest(done["lines"], int(done["total"], 16)))
        if whole:
            return Sent(digest=digest_stream(session.connection, copy, cancelled=cancelled, progress=came))
        return Sent(
            lines=digest_rows(session.connection, copy, cancelled=cancelled, progress=lambda _, size: came(size))
        )


def pages_of(connection: Connection, relation: Relation, part: int, parts: int) -> range:
    """The pages of one part of a table; the last part includes all later pages."""
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
