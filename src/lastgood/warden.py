"""The warden: a process of its own that ends a migration when we can't.

A migration must not go on unsupervised: when lastgood is killed, its command is ended with all that it has started,
which is written into the deployment's journal. It reads from us: ``group N`` tells it the command's process group,
``done`` is the end of it. When its input ends without that word, we are gone.

    python -m lastgood.warden < order
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lastgood.companion import Companion, beside
from lastgood.journal import Journal
from lastgood.supervised import end_all

READY, DONE, GROUP = "ready", "done", "group"
START_SECONDS = 20.0


class NoWarden(Exception):
    """It could not be started."""


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
            self._companion.say(f"{GROUP} {group}")

    def dismiss(self) -> None:
        """Tells it that the command has ended."""
        with suppress(OSError):
            self._companion.say(DONE)


@contextmanager
def standing_by(order: Order) -> Iterator[Warden]:
    """A warden for the length of a block; unless dismissed, it acts when the block ends. Raises NoWarden."""
    package = str(Path(__file__).parents[1])  # the very lastgood that runs here, wherever it was imported from
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    # -P: what lies in the current folder is not imported.
    started = beside([sys.executable, "-P", "-m", "lastgood.warden"], environment={"PYTHONPATH": path})
    with ExitStack() as stack:
        try:
            companion = stack.enter_context(started)
            companion.say(order.text())
            said = companion.hear(START_SECONDS)
        except OSError as error:
            raise NoWarden(error.strerror or str(error)) from error
        if said != READY:
            raise NoWarden(said or f"it did not answer within {START_SECONDS:g} s")
        yield Warden(companion)


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
