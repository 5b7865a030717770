"""Terminate a migration if lastgood is killed: a migration must not run unsupervised.

The switch terminates the command with all its processes, and writes that to the deployment's journal. Server processes
survive their clients: when the migration's last one has ended, it writes the number of the next transaction, too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastgood.deadman import switch
from lastgood.deadman.switch import Action, Switch
from lastgood.journal.reader import MIGRATE, SESSIONS_ENDED
from lastgood.process.supervised import end_all

if TYPE_CHECKING:
    from lastgood.postgres.server import Target

# The time that the server may take to end the sessions, or to answer again.
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.2
_GROUP = "group "
_REMAINING = "SELECT FROM pg_catalog.pg_stat_activity WHERE application_name = %s"


@dataclass(frozen=True, slots=True)
class Sessions:
    """The migration's sessions: their ``application_name``, and the maintenance database that shows them."""

    target: Target = field(repr=False)
    name: str

    def order(self) -> Mapping[str, Any]:
        """The order to the switch. It may hold passwords."""
        original = self.target.original
        return {"keywords": {**self.target.keywords}, "original": original and {**original}, "name": self.name}


@contextmanager
def armed_switch(mark: tuple[str, str], journal: Path, sessions: Sessions) -> Iterator[Switch]:
    """Arm a switch for the length of a block. ``mark``: the variable in the environment of the command's processes.
    Raises NotReady."""
    order = {"mark": mark, "journal": str(journal), "sessions": sessions.order()}
    with switch.armed("migration", json.dumps(order)) as armed:
        yield armed


def watch(armed: Switch, group: int) -> None:
    """Name the process group that must end with this process."""
    armed.report(f"{_GROUP}{group}")


def _prepare(order: str) -> tuple[Action, None]:
    settings = json.loads(order)
    name, value = settings["mark"]
    journal = Path(settings["journal"])

    def terminate(words: Sequence[str]) -> None:
        groups = [int(word.removeprefix(_GROUP)) for word in words]
        ended = end_all(groups[-1] if groups else None, (name, value))
        switch.record(journal, "command ended", by="dead-man switch", processes=ended)
        following = _following(settings["sessions"])
        if following is not None:
            switch.record(journal, SESSIONS_ENDED, step=MIGRATE, transaction=following)

    return terminate, None


def _following(sessions: Mapping[str, Any]) -> int | None:
    """The number of the next transaction after the end of the sessions; None if they do not end in time."""
    import psycopg  # here, because few switches act

    from lastgood.postgres import transactions
    from lastgood.postgres.server import Target

    target = Target(sessions["keywords"], sessions["original"])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(psycopg.Error), target.connect(application_name="lastgood watches") as connection:
            while connection.execute(_REMAINING, [sessions["name"]]).fetchone() is not None:
                if time.monotonic() > deadline:
                    return None
                time.sleep(POLL_SECONDS)  # no event announces the end of a session
            return transactions.following(connection)
        time.sleep(POLL_SECONDS)  # nor does one announce that the server accepts connections again
    return None


if __name__ == "__main__":
    sys.exit(switch.stand_by(_prepare))
