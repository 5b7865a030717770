"""Names of runs and of their databases."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


def new_run(now: datetime) -> str:
    """Return a new name: the server's time in UTC and eight hex digits, ``20261122-031500-9f3c1a70``. Sorts by time."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def suffix(kind: str, run: str) -> str:
    """Return the suffix of a database's name: ``_shadow_9f3c1a70``, ``_old_9f3c1a70``."""
    return f"_{kind}_{run.rsplit('-', 1)[1]}"


def is_run(text: str) -> bool:
    """Whether ``text`` is the name of a run, as created by ``new_run``."""
    return _RUN.fullmatch(text) is not None
