"""The warden: a separate process that terminates a migration if lastgood is killed.

A migration must not run unsupervised: if lastgood is killed, the warden terminates the command with all its processes
and writes that to the deployment's journal. Its input is ``group N``, the command's process group, and ``done``, the
end of the command. If the input ends without ``done``, lastgood was killed.

    python -m lastgood.deadman.migration < order
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lastgood.journal import Journal
from lastgood.process import companion
from lastgood.process.companion import READY, Companion
from lastgood.process.supervised import end_all

DONE, GROUP = "done", "group"


@dataclass(frozen=True, slots=True)
class Order:
    """The order for the warden: the variable in the environment of the command's processes, and the journal."""

    mark: tuple[str, str]
    journal: Path

    def text(self) -> str:
        """Return the order as one line."""
        return json.dumps({"mark": list(self.mark), "journal": str(self.journal)})

    @classmethod
    def parse(cls, line: str) -> Order:
        """Parse what ``text`` wrote."""
        found = json.loads(line)
        name, value = found["mark"]
        return cls((name, value), Path(found["journal"]))


class Warden:
    """The parent's side of the warden."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.pid = companion.pid

    def watch(self, group: int) -> None:
        """Send the process group that must end with this process."""
        with suppress(OSError):
            self._companion.write(f"{GROUP} {group}")

    def dismiss(self) -> None:
        """Report that the command has ended."""
        with suppress(OSError):
            self._companion.write(DONE)


@contextmanager
def standing_by(order: Order) -> Iterator[Warden]:
    """Run a warden for the length of a block. Unless dismissed, it acts when the block ends. Raises NotReady."""
    with companion.standing_by("lastgood.deadman.migration", order.text()) as found:
        yield Warden(found)


def main() -> int:
    """Run the warden."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # it reacts only to the end of its input
    order = Order.parse(sys.stdin.readline())
    group: int | None = None
    print(READY, flush=True)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == DONE:
            return 0
        if word == GROUP:
            group = int(number)
    ended = end_all(group, order.mark)
    with suppress(OSError):
        journal = Journal(order.journal)
        if journal.path.exists():
            journal.write("command ended", by="warden", processes=ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
