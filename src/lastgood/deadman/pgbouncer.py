"""Resume PgBouncer's clients when the run cannot.

A pause outlives the session that requested it, so a run that is killed between PAUSE and RESUME would block production
for ever. The switch is started before the pause and opens its own sessions in the consoles. When lastgood is killed or
stuck, it resumes the paused databases and writes that to the run's journal. Until the run has sent ``holds``, a PAUSE
may still arrive: the switch then polls for a while longer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lastgood.deadman import switch
from lastgood.deadman.switch import Action, OrderRefused, Switch
from lastgood.postgres.pgbouncer.console import Console, ConsoleError
from lastgood.postgres.server import Target

HOLDS = "holds"
POLL_SECONDS = 0.05
# The time that a PAUSE may take to arrive.
QUIET_SECONDS = 2.0
# The time for attempts to reach a PgBouncer that does not answer.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class WatchedConsole:
    """One console, the databases that the run is about to pause, and ``settings`` with the values to restore."""

    target: Target = field(repr=False)
    databases: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """The order to the switch. ``seconds``: a run that has not dismissed it after this time counts as stuck."""

    watched: tuple[WatchedConsole, ...]
    seconds: float
    journal: Path

    def text(self) -> str:
        """The order as one line. It may hold passwords: for a pipe, never for a file or an argument."""
        consoles = [
            {"keywords": dict(each.target.keywords), "databases": each.databases, "settings": dict(each.settings)}
            for each in self.watched
        ]
        return json.dumps({"consoles": consoles, "seconds": self.seconds, "journal": str(self.journal)})

    @classmethod
    def parse(cls, line: str) -> Order:
        """The order from the line of ``text``."""
        order = json.loads(line)
        watched = tuple(
            WatchedConsole(Target(each["keywords"]), tuple(each["databases"]), each["settings"])
            for each in order["consoles"]
        )
        return cls(watched, order["seconds"], Path(order["journal"]))


@contextmanager
def armed_switch(order: Order) -> Iterator[Switch]:
    """Arm a switch for the length of a block; unless dismissed, it acts when the block ends. Raises NotReady when it
    cannot be started, or cannot reach a console."""
    with switch.armed("pgbouncer", order.text()) as armed:
        yield armed


def pause_holds(armed: Switch) -> None:
    """Report that the pause is complete: a later pause is not this run's."""
    armed.report(HOLDS)


def _prepare(line: str) -> tuple[Action, float]:
    order = Order.parse(line)
    sessions: dict[int, Console] = {}
    try:
        for number, each in enumerate(order.watched):
            sessions[number] = Console(each.target)
    except ConsoleError as error:
        raise OrderRefused(f"it cannot reach PgBouncer: {error}") from error

    def resume(words: Sequence[str]) -> None:
        resumed = resume_paused(order.watched, sessions, 0.0 if HOLDS in words else QUIET_SECONDS)
        switch.record(order.journal, "pause over", by="dead-man switch", databases=sorted(resumed))

    return resume, order.seconds


def resume_paused(
    watched: tuple[WatchedConsole, ...], sessions: dict[int, Console], quiet: float = QUIET_SECONDS
) -> set[str]:
    """Resume paused databases of ``watched`` until none was paused for ``quiet`` seconds; return their names."""
    resumed: set[str] = set()
    reset: set[int] = set()
    started = quiet_since = time.monotonic()
    while time.monotonic() - started < PATIENCE_SECONDS:
        now = time.monotonic()
        for number, each in enumerate(watched):
            try:
                if number not in sessions or sessions[number].broken:
                    sessions[number] = Console(each.target)
                names = _resume(sessions[number], each.databases)
                if number not in reset:
                    for name, value in each.settings.items():
                        sessions[number].set(name, value)
                    reset.add(number)
            except ConsoleError:
                quiet_since = time.monotonic()  # it may be paused: unknown
                continue
            if names:
                resumed |= names
                quiet_since = now
        if quiet_since <= now - quiet:
            break
        time.sleep(POLL_SECONDS)  # no event announces a pause
    return resumed


def _resume(console: Console, names: tuple[str, ...]) -> set[str]:
    paused = {entry.name for entry in console.entries() if entry.paused and entry.name in names}
    for name in paused:
        console.resume(name)
    return paused


if __name__ == "__main__":
    sys.exit(switch.stand_by(_prepare))
