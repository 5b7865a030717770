"""Dumping a database, and asking it one thing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import LiteralString

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target


def dumped(server: EmbeddedServer, target: Target, path: Path, *options: str) -> Path:
    connection, _ = target.child()
    subprocess.run([server.bin / "pg_dump", *options, f"--file={path}", f"--dbname={connection}"], check=True)
    return path


def one(target: Target, query: LiteralString, *values: object) -> object:
    with target.connect() as connection:
        row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return row[0]
