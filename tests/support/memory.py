"""A place for temporary files, in memory if there is enough of it.

CREATE DATABASE makes three hundred files. On a disk they cost a processor ten times as much as in memory, two thousand
times over: half of the time of all tests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

DISK = Path("/tmp")
MEMORY = Path("/dev/shm")
# Eight clusters at most, and what tests write: a gigabyte and a half, measured.
ROOM = 6 << 30


def place(*, runs_programs: bool = False) -> Path:
    """Where to make folders; ``runs_programs``: some of the files are programs that are started from there."""
    fits = _available() >= ROOM and shutil.disk_usage(MEMORY).free >= ROOM if MEMORY.is_dir() else False
    forbidden = runs_programs and fits and os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return MEMORY if fits and os.access(MEMORY, os.W_OK) and not forbidden else DISK


def _available() -> int:
    """How much memory programs may still take; 0 where that can't be known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)
