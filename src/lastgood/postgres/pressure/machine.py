"""The machine of the server, as far as it is visible: whether it is this one, its processors, its memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lastgood.postgres.server import Connection, only_row

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """The server's share of its machine: ``cpus``, and ``ram`` in bytes; None if unknown, as on another machine."""

    cpus: int | None = None
    ram: int | None = None


def is_here(connection: Connection, proc: Path = PROC) -> bool:
    """Whether the server behind the connection runs on this machine, outside of any container.

    An address proves little: behind ``localhost`` there may be a container or a tunnel. So the server's own process is
    searched for among those of this machine.
    """
    if not proc.is_dir():
        # Only the kind of socket is known.
        return sys.platform != "win32" and (connection.info.host or "").startswith("/")
    (pid,) = only_row(connection, "SELECT pg_catalog.pg_backend_pid()")
    return _is_server(proc / str(pid))


def machine(connection: Connection, proc: Path = PROC, cgroups: Path = CGROUPS) -> Machine:
    """The machine behind the connection. Limits on the server's own process (by a service manager, say) are taken into
    account."""
    if not is_here(connection, proc):
        return Machine()
    (pid,) = only_row(connection, "SELECT pg_catalog.pg_backend_pid()")
    cpus, ram = os.cpu_count(), _installed()
    for controller, folder in _groups(proc / str(pid), cgroups):
        if controller != "cpu" and (most := _memory(folder)) is not None and (ram is None or most < ram):
            ram = most
        if controller != "memory" and (share := _processors(folder)) is not None and (cpus is None or share < cpus):
            cpus = share
    return Machine(cpus, ram)


def _is_server(process: Path) -> bool:
    try:
        return b"postgres" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _groups(process: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """The control groups of the process, each with its one controller (version 1) or "" (2), and their parents: each
    has limits of its own."""
    try:
        lines = (process / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        wanted = [each for each in controllers.split(",") if each in ("cpu", "memory")]
        for controller in [""] if number == "0" else wanted:
            own = root / controller / path.lstrip("/")
            yield from ((controller, each) for each in (own, *own.parents) if each.is_relative_to(root / controller))


def _memory(group: Path) -> int | None:
    words = _words(group / "memory.max") or _words(group / "memory.limit_in_bytes")
    return int(words[0]) if words and words[0].isdigit() else None


def _processors(group: Path) -> int | None:
    """``150000 100000``: microseconds of processor time per period, also in microseconds; at least one processor."""
    words = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return max(1, round(int(words[0]) / int(words[1])))
    return None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []
