"""Terminate a migration if lastgood is killed: a migration must not run unsupervised.

The switch terminates the command with all its processes, and writes that to the deployment's journal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lastgood.deadman import switch
from lastgood.deadman.switch import Action, Switch
from lastgood.process.supervised import end_all

_GROUP = "group "


@contextmanager
def armed_switch(mark: tuple[str, str], journal: Path) -> Iterator[Switch]:
    """Arm a switch for the length of a block. ``mark``: the variable in the environment of the command's processes.
    Raises NotReady."""
    with switch.armed("migration", json.dumps({"mark": mark, "journal": str(journal)})) as armed:
        yield armed


def watch(armed: Switch, group: int) -> None:
    """Name the process group that must end with this process."""
    armed.report(f"{_GROUP}{group}")


def _prepare(order: str) -> tuple[Action, None]:
    settings = json.loads(order)
    name, value = settings["mark"]

    def terminate(words: Sequence[str]) -> None:
        groups = [int(word.removeprefix(_GROUP)) for word in words]
        ended = end_all(groups[-1] if groups else None, (name, value))
        switch.record(Path(settings["journal"]), "command ended", by="dead-man switch", processes=ended)

    return terminate, None


if __name__ == "__main__":
    sys.exit(switch.stand_by(_prepare))
