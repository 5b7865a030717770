"""The rows of one ``COPY … TO STDOUT``, digested as they arrive."""

from __future__ import annotations

import select
from collections.abc import Callable

import psycopg
from psycopg import errors, pq
from xxhash import xxh3_128_intdigest

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
    """Runs ``copy``, a ``COPY … TO STDOUT`` in text format, to its end, in constant memory.

    ``progress`` gets rows and bytes so far, at most as often as the socket is read. Raises psycopg.Error as the
    server reports it, and Interrupted when ``cancelled`` turns true; the transaction is then aborted, the
    connection stays usable.
    """
    # psycopg's Copy object costs about twice as much for each row: measured 24 against 100 MB/s with rows of 70
    # bytes. libpq hands out a row a time, so this loop is the price of a row; nothing else belongs in it.
    pgconn = connection.pgconn
    encoding = connection.info.encoding
    pgconn.send_query(copy)
    # poll, not select: a process with many connections has descriptors above 1023.
    socket = select.poll()
    socket.register(pgconn.socket, select.POLLIN)
    stopped = False

    def wait() -> None:
        nonlocal stopped
        if not stopped and cancelled():
            stopped = True
            pgconn.get_cancel().cancel()
        if socket.poll(POLL_MILLISECONDS):
            pgconn.consume_input()

    def result() -> pq.abc.PGresult | None:
        pgconn.flush()
        while pgconn.is_busy():
            wait()
        return pgconn.get_result()

    first = result()
    rows = total = size = 0
    if first is not None and first.status == pq.ExecStatus.COPY_OUT:
        get_copy_data = pgconn.get_copy_data
        while True:
            length, row = get_copy_data(1)
            if length > 0:
                total += xxh3_128_intdigest(row[:-1])
                rows += 1
                size += length
            elif length == 0:
                progress(rows, size)
                wait()
            else:
                break
        first = result()
    failed: psycopg.Error | None = None
    while first is not None:
        if first.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            failed = failed or errors.error_from_result(first, encoding)
        first = result()
    if stopped:
        raise Interrupted("cannot go on reading the database: interrupted")
    if failed is not None:
        raise failed
    progress(rows, size)
    return RowsDigest(rows, total)
