"""The context of work: where its events go, when it must stop, and how it may use the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lastgood.errors import Interrupted
from lastgood.events import Emit, silent


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of a load: connections (None: as many as fit), the lag of WAL consumers in bytes, bytes per second (None:
    no limit). See the options of these names."""

    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None


AS_IT_FITS = Pace()


def never() -> bool:
    """A ``cancelled`` of work that nothing stops."""
    return False


@dataclass(frozen=True, slots=True)
class Context:
    """The context of work: ``emit`` receives its events; it raises Interrupted when ``cancelled`` turns true, at any
    time; ``pace`` limits its loads; ``state`` is the folder with journals and learned costs, None where nothing is
    recorded."""

    emit: Emit = silent
    cancelled: Callable[[], bool] = never
    pace: Pace = AS_IT_FITS
    state: Path | None = None

    @property
    def records(self) -> Path:
        """The state folder, for work that is never done without one."""
        assert self.state is not None
        return self.state

    def until(self, stopped: Callable[[], bool]) -> Context:
        """This context, also cancelled when ``stopped`` turns true."""
        return replace(self, cancelled=lambda: stopped() or self.cancelled())

    def check(self, message: str, *, state: str = "") -> None:
        """Raise Interrupted with ``message`` and the database's ``state`` if the work is cancelled."""
        if self.cancelled():
            raise Interrupted(message, state=state)


BACKGROUND = Context()
