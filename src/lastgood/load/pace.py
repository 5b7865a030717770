"""Limits of the strain that a load may put on the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of a load: connections (None: as many as fit), the lag of WAL consumers in bytes, bytes per second (None:
    no limit). See the options of these names."""

    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None


AS_IT_FITS = Pace()
