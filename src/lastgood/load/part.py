"""A program that loads or reads a part of a table's rows in a process of its own. ``apart`` runs it.

Digesting lines holds Python's lock for about a microsecond a row, so one process can't keep up with a server with many
cores. The request is one line of JSON on stdin, so that no password appears in a process list. The program reports its
progress every few megabytes and waits for a line in reply, which the parent may delay. It exits when the parent is
gone.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import ClientCursor

from lastgood.facts.digest import RowsDigest, whole_lines
from lastgood.facts.row_stream import digest_rows, digest_stream

BLOCK = 1 << 18
REPORT_BYTES = 4 << 20

Moved = Callable[[int], None]


def main() -> int:
    """Execute the request in the first line of stdin; the last line of stdout is the result."""
    request = json.loads(sys.stdin.readline())
    try:
        connection = psycopg.connect(**request["conninfo"], autocommit=True, cursor_factory=ClientCursor)
        # That of the database may lead to functions and types of others.
        connection.execute("SET search_path = ''")
        names, values = zip(*request["settings"], strict=True)
        connection.execute(
            "SELECT pg_catalog.set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) w (name, value)",
            [list(names), list(values)],
        )
    except psycopg.Error as error:
        _send(unable=str(error).strip())
        return 0
    with connection:
        try:
            _send(**(_load if "path" in request else _read)(connection, request))
        except psycopg.Error as error:
            _send(failed=base64.b64encode(pickle.dumps(error)).decode())
        except OSError as error:
            _send(broken=error.strerror or str(error))
    return 0


def _load(connection: psycopg.Connection[Any], request: Any) -> dict[str, Any]:
    digest, moved = RowsDigest(), _reporter()
    with connection.cursor() as cursor:
        with cursor.copy(request["copy"].encode("latin-1")) as stream:
            for lines in whole_lines(_blocks(request["path"], request["begin"], request["end"])):
                stream.write(lines)
                digest.add(lines)
                moved(len(lines))
        return {"rows": cursor.rowcount, "lines": digest.rows, "total": f"{digest.total:x}"}


def _blocks(path: str, begin: int, end: int) -> Iterator[bytes]:
    with Path(path).open("rb", buffering=0) as file:
        file.seek(begin)
        while begin < end:
            block = file.read(min(BLOCK, end - begin))
            if not block:
                raise OSError("the file became shorter while it was read")
            yield block
            begin += len(block)


def _read(connection: psycopg.Connection[Any], request: Any) -> dict[str, Any]:
    copy, moved = request["copy"].encode("latin-1"), _reporter()
    before = 0

    def came(size: int) -> None:
        nonlocal before
        moved(size - before)
        before = size

    if request["whole"]:
        return {"digest": digest_stream(connection, copy, progress=came)}
    found = digest_rows(connection, copy, progress=lambda _, size: came(size))
    return {"lines": found.rows, "total": f"{found.total:x}"}


def _reporter() -> Moved:
    """A callback that reports progress and waits for the reply."""
    waiting = 0

    def moved(size: int) -> None:
        nonlocal waiting
        waiting += size
        if waiting >= REPORT_BYTES:
            _send(moved=waiting)
            waiting = 0
            if not sys.stdin.readline():
                os._exit(1)  # the parent is gone; the server ends our session

    return moved


def _send(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
