"""Names of runs and of the databases that they make."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


def new_run(now: datetime) -> str:
    """A run's name: the server's time in UTC and eight hex digits, ``20261122-031500-9f3c1a70``. Sorts by time."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def suffix(kind: str, run: str) -> str:
    """What is put behind the live database's name: ``_shadow_9f3c1a70``, ``_old_9f3c1a70``."""
    return f"_{kind}_{run.rsplit('-', 1)[1]}"


def is_run(text: str) -> bool:
    """Whether ``text`` is a run's name, as ``new_run`` makes them."""
    return _RUN.fullmatch(text) is not None


def identifier(name: str) -> str:
    """A name as a statement that somebody is told to run has it: always in quotes, one within it twice."""
    return '"' + name.replace('"', '""') + '"'
