"""How hard a load may press on the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard a load may press on the server: connections (None: as many as fit), bytes that readers of WAL may fall
    behind, bytes a second (None: no limit). See the options of these names."""

    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None


AS_IT_FITS = Pace()
