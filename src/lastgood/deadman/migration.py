"""The warden: a process of its own that ends a migration when we can't.

A migration must not go on unsupervised: when lastgood is killed, its command is ended with all that it has started,
which is written into the deployment's journal. It reads from us: ``group N`` tells it the command's process group,
``done`` is the end of it. When its input ends without that word, we are gone.

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
    """What the warden is told: the variable that the command's processes bear, and where to write what it did."""

    mark: tuple[str, str]
    journal: Path

    def text(self) -> str:
        """One line."""
        return json.dumps({"mark": list(self.mark), "journal": str(self.journal)})

    @classmethod
    def parse(cls, line: str) -> Order:
        """What ``text`` wrote."""
        found = json.loads(line)
        name, value = found["mark"]
        return cls((name, value), Path(found["journal"]))


class Warden:
    """Our side of it."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.pid = companion.pid

    def watch(self, group: int) -> None:
        """Tells it the process group that is to end with us."""
        with suppress(OSError):
            self._companion.write(f"{GROUP} {group}")

    def dismiss(self) -> None:
        """Tells it that the command has ended."""
        with suppress(OSError):
            self._companion.write(DONE)


@contextmanager
def standing_by(order: Order) -> Iterator[Warden]:
    """A warden for the length of a block; unless dismissed, it acts when the block ends. Raises NotReady."""
    with companion.standing_by("lastgood.deadman.migration", order.text()) as found:
        yield Warden(found)


def main() -> int:
    """The warden itself."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # what ends us ends its input, and that is what it goes by
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
