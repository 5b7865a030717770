"""Parts of tables in processes of their own, where one process would limit a server with many cores.

Python runs one thread of a process at a time, and digesting lines takes about a microsecond a row. On a machine with
idle processors, the program ``part`` therefore loads a large part, or reads it back. It has a session of its own with
the settings of the session that it replaces. All decisions stay here: when to wait, when to stop, what an error means.
If the program can't begin (no connection left, another role in force), the session does the work itself.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lastgood
from lastgood.errors import Failed, Interrupted
from lastgood.postgres.server import Connection
from lastgood.process.companion import Companion, controlled

PROGRAM = Path(__file__).with_name("part.py")
# A start takes half a second of processor time.
APART_FROM = 128 << 20
# With fewer processors none is idle.
PROCESSORS = 4
HEAR_SECONDS = 0.25

Moved = Callable[[int], None]

_SETTINGS = """
SELECT coalesce(json_agg(ARRAY[name, pg_catalog.current_setting(name)]), '[]')::text,
       bool_and(session_user = current_user AND session_user::text = %s)
FROM pg_catalog.pg_settings WHERE source = 'session' AND name NOT IN ('role', 'session_authorization')
"""


class Unable(Exception):
    """No process could begin: the session has to do the work."""


def pays(size: int) -> bool:
    """Whether ``size`` bytes of rows justify a process on this machine."""
    return size >= APART_FROM and (os.cpu_count() or 1) >= PROCESSORS


def load(
    connection: Connection, copy: bytes, path: Path, span: range, *, cancelled: Callable[[], bool], moved: Moved
) -> Mapping[str, Any]:
    """Load the bytes ``span`` of a file, whole lines, with the COPY command ``copy``. Returns ``rows`` as the server
    counted them, and ``lines`` and ``total`` of their RowsDigest. Raises Unable, psycopg.Error, Failed, Interrupted."""
    request = {"copy": copy.decode("latin-1"), "path": str(path), "begin": span.start, "end": span.stop}
    return _done(connection, request, cancelled, moved)


def read(
    connection: Connection, copy: bytes, *, whole: bool, cancelled: Callable[[], bool], moved: Moved
) -> Mapping[str, Any]:
    """Read the output of ``copy``. Returns the ``digest`` of the text as a ``whole``, or ``lines`` and ``total`` of its
    RowsDigest. Raises as ``load`` does."""
    return _done(connection, {"copy": copy.decode("latin-1"), "whole": whole}, cancelled, moved)


def _done(
    connection: Connection, request: dict[str, Any], cancelled: Callable[[], bool], moved: Moved
) -> Mapping[str, Any]:
    request |= _like(connection)
    # The package that runs here, wherever it is installed; not the program's folder, whose module names are too common.
    environment = {"PYTHONPATH": str(Path(lastgood.__file__).parents[1])}
    with controlled([sys.executable, "-P", PROGRAM], environment=environment) as talk:
        _send(talk, json.dumps(request))
        while True:
            line = talk.read(HEAR_SECONDS)
            if cancelled():
                raise Interrupted("interrupted while rows were loaded or read back")
            if line is None:
                continue
            if not line:
                raise Failed("cannot continue: a process that loads or reads rows exited unexpectedly")
            answer: dict[str, Any] = json.loads(line)
            if "moved" in answer:
                moved(answer["moved"])
                _send(talk, "")
            elif "failed" in answer:
                # Safe to unpickle: our own program has just written it.
                raise pickle.loads(base64.b64decode(answer["failed"]))
            elif "broken" in answer:
                raise Failed(f"cannot read the restore point: {answer['broken']}")
            elif "unable" in answer:
                raise Unable(answer["unable"])
            else:
                return answer


def _send(talk: Companion, line: str) -> None:
    with suppress(OSError):  # it exited: its last line has the reason
        talk.write(line)


def _like(connection: Connection) -> dict[str, Any]:
    """The parameters for a session like this one. Raises Unable when another role than the connected one is in
    force."""
    row = connection.execute(_SETTINGS, [connection.info.user]).fetchone()
    if row is None or not row[1]:
        raise Unable("another role is in force")
    conninfo = connection.info.get_parameters()
    if connection.info.password:
        conninfo["password"] = connection.info.password
    return {"conninfo": conninfo, "settings": json.loads(row[0])}
