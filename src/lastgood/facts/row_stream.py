"""The rows of one ``COPY … TO STDOUT``, digested as they arrive."""

from __future__ import annotations

import select
from collections.abc import Callable, Generator
from contextlib import closing

import psycopg
from psycopg import errors, pq
from xxhash import xxh3_128, xxh3_128_intdigest

from lastgood.errors import Interrupted
from lastgood.facts.digest import RowsDigest
from lastgood.postgres.server import Connection

POLL_MILLISECONDS = 250


def digest_rows(
    connection: Connection,
    copy: bytes,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda rows, size: None,
) -> RowsDigest:
    """Run ``copy``, a ``COPY … TO STDOUT`` in text format, to its end, in constant memory.

    ``progress`` gets rows and bytes so far, at most as often as the socket is read. Raises psycopg.Error as the
    server reports it, and Interrupted when ``cancelled`` turns true; the transaction is then aborted, the
    connection stays usable.
    """
    # psycopg's Copy object costs about twice as much for each row: measured 24 against 100 MB/s with rows of 70 bytes.
    # libpq returns one row at a time, so this loop determines the cost of a row and must stay minimal.
    out = _CopyOut(connection, copy, cancelled)
    rows = total = size = 0
    if out.began:
        get_copy_data = connection.pgconn.get_copy_data
        while True:
            length, row = get_copy_data(1)
            if length > 0:
                total += xxh3_128_intdigest(row[:-1])
                rows += 1
                size += length
            elif length == 0:
                progress(rows, size)
                out.wait()
            else:
                break
    out.end()
    progress(rows, size)
    return RowsDigest(rows, total)


_BLOCK_BYTES = 1 << 21


def copy_pieces(
    connection: Connection, copy: bytes, *, cancelled: Callable[[], bool] = lambda: False
) -> Generator[bytearray]:
    """The output of ``copy`` in pieces of whole rows, as they arrive. Closing it early cancels the COPY. Raises as
    ``digest_rows`` does."""
    out = _CopyOut(connection, copy, cancelled)
    rows = bytearray()
    length = 1
    try:
        get_copy_data = connection.pgconn.get_copy_data
        # A loop over rows, but a minimal one: measured at 0.18 µs for each, as much as psql needs. A list of narrow
        # rows takes three times as long.
        while out.began and length >= 0:
            length, row = get_copy_data(1)
            if length > 0:
                rows += row
                continue
            if rows:
                # The socket is empty: rows are few, and still in the processor's cache.
                yield rows
                rows = bytearray()
            if length == 0:
                out.wait()
    except GeneratorExit:
        out.abandon(rows=length >= 0)
        raise
    out.end()


def copy_blocks(
    connection: Connection, copy: bytes, *, cancelled: Callable[[], bool] = lambda: False
) -> Generator[bytes]:
    """The same in blocks of about 2 MB or one row."""
    pieces: list[bytearray] = []
    held = 0
    with closing(copy_pieces(connection, copy, cancelled=cancelled)) as rows:
        for piece in rows:
            pieces.append(piece)
            held += len(piece)
            if held >= _BLOCK_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                held = 0
    if held:
        yield b"".join(pieces)


def digest_stream(
    connection: Connection,
    copy: bytes,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda size: None,
) -> str:
    """The XXH3-128 of the output of ``copy`` as a whole, line ends and order included, as 32 hex digits: in two thirds
    of the time, for rows in a fixed order. ``progress`` gets the bytes so far."""
    digest = xxh3_128()
    size = 0
    for piece in copy_pieces(connection, copy, cancelled=cancelled):
        digest.update(piece)
        size += len(piece)
        progress(size)
    return digest.hexdigest()


class _CopyOut:
    """A running COPY … TO STDOUT; ``began``: rows follow."""

    def __init__(self, connection: Connection, copy: bytes, cancelled: Callable[[], bool]) -> None:
        self._pgconn = connection.pgconn
        self._encoding = connection.info.encoding
        self._cancelled = cancelled
        self._stopped = False
        self._pgconn.send_query(copy)
        # poll, not select: a process with many connections has descriptors above 1023.
        self._socket = select.poll()
        self._socket.register(self._pgconn.socket, select.POLLIN)
        self._first = self._result()
        self.began = self._first is not None and self._first.status == pq.ExecStatus.COPY_OUT
        if self.began:
            self._first = None

    def wait(self) -> None:
        """Wait for more data."""
        if not self._stopped and self._cancelled():
            self._stopped = True
            self._pgconn.get_cancel().cancel()
        if self._socket.poll(POLL_MILLISECONDS):
            self._pgconn.consume_input()

    def end(self) -> None:
        """Read the results after the rows. Raises psycopg.Error, Interrupted."""
        failed: psycopg.Error | None = None
        result = self._first or self._result()
        while result is not None:
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                failed = failed or errors.error_from_result(result, self._encoding)
            result = self._result()
        if self._stopped:
            raise Interrupted("cannot continue reading the database: interrupted")
        if failed is not None:
            raise failed

    def abandon(self, *, rows: bool) -> None:
        """Cancel the COPY, and read its results. ``rows``: rows may be left, and are read before them."""
        self._pgconn.get_cancel().cancel()
        while self.began and rows and self._pgconn.get_copy_data(0)[0] > 0:
            pass
        while self._pgconn.get_result() is not None:
            pass

    def _result(self) -> pq.abc.PGresult | None:
        self._pgconn.flush()
        while self._pgconn.is_busy():
            self.wait()
        return self._pgconn.get_result()
