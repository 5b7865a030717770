"""The effort of a server: the CPU time of all its processes, and the WAL that it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lastgood.postgres.embedded import EmbeddedServer


@dataclass(slots=True)
class Effort:
    """``processor``: seconds on any processor; ``wal``: bytes. Both are complete when the ``with`` block has ended.

    All of the server is counted: parallel workers, checkpoints, autovacuum.
    """

    processor: float = 0.0
    wal: int = 0


@contextmanager
def of_server(server: EmbeddedServer) -> Iterator[Effort]:
    """The effort of the server during a ``with`` block."""
    effort = Effort()
    lsn, processor = _lsn(server), _processor(server)
    yield effort
    effort.processor = _processor(server) - processor
    effort.wal = _lsn(server) - lsn


def _lsn(server: EmbeddedServer) -> int:
    # The inserted WAL: WAL that is not flushed yet (synchronous_commit off) is work done too.
    with server.target("postgres").connect() as connection:
        (lsn,) = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone() or (0,)
    return int(lsn)


def _processor(server: EmbeddedServer) -> float:
    """The CPU seconds of the postmaster, its living children, and those that ended, each of which it waits for."""
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split(maxsplit=1)[0]))
    own = postmaster.cpu_times()
    times = [own, *(_times(child) for child in postmaster.children())]
    return float(sum(t.user + t.system for t in times if t is not None) + own.children_user + own.children_system)


def _times(process: psutil.Process) -> Any:
    try:
        return process.cpu_times()
    except psutil.NoSuchProcess:
        return None


def bytes_below(folder: Path) -> int:
    """The sum of the sizes of the files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
