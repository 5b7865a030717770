"""Costs learned from earlier loads on a server, in a small file of the state folder."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path

import psycopg
from xxhash import xxh3_64_hexdigest

from lastgood.load.costs import Costs, Effort, Known, Spent, learn
from lastgood.postgres.server import Connection
from lastgood.process import durable

FOLDER = "costs"
FORMAT = 1
_UPDATING = threading.Lock()


def place(state: Path, connection: Connection) -> Path:
    """The file for the server of ``connection``, named by its system identifier; without the privilege to read that, by
    its address. Needs autocommit."""
    try:
        row = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        row = None
    if row is not None:
        return state / FOLDER / f"{row[0] % (1 << 64)}.json"
    info = connection.info
    return state / FOLDER / f"at_{xxh3_64_hexdigest(f'{info.host or info.hostaddr}:{info.port}'.encode())}.json"


def read(file: Path) -> Known:
    """The content of the file; the defaults if it is missing or invalid."""
    try:
        found = json.loads(file.read_bytes())
        if found["format"] != FORMAT:
            return Known()
        costs = {
            cost.name: _positive(found["costs"][cost.name]) for cost in fields(Costs) if cost.name in found["costs"]
        }
        learned = {Effort(name): _positive(value) for name, value in found["learned_from"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Known()
    return Known(replace(Costs(), **costs), learned)


def _positive(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    raise ValueError(f"{value!r} is no number of seconds")


def teach(file: Path, spent: Mapping[Effort, Spent], size: int) -> None:
    """Add the measured costs of work on ``size`` bytes. Threads of this process may do so at the same time."""
    with _UPDATING:
        before = read(file)
        after = learn(before, spent, size)
        if after != before:
            write(file, after)


def write(file: Path, known: Known) -> None:
    """Save the costs for the next load. A failure is ignored: the load itself is done, and nothing depends on the
    file."""
    body = {"format": FORMAT, "costs": asdict(known.costs), "learned_from": dict(known.learned_from)}
    with suppress(OSError):
        durable.write_private(file, json.dumps(body, indent=1).encode() + b"\n")
