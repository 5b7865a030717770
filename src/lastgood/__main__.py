"""``python -m lastgood``, and the program ``lastgood``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run one command. A signal while modules are loaded ends with a message, too."""
    ours = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        ours.remove(signal.SIGHUP)  # nohup
    for each in ours:
        signal.signal(each, _interrupted)
    # Loaded modules stay in memory: garbage collection during loading would take a tenth of the start-up time.
    # ``Session.settle`` enables it when the command begins.
    gc.disable()
    from lastgood.cli import main as run

    status = run()
    for each in ours:
        signal.signal(each, signal.SIG_IGN)  # the command has ended, and its status is final
    return status


def _interrupted(number: int, frame: FrameType | None) -> None:
    # No exception, because partially loaded modules would print their own; no journal is open yet.
    os.write(2, b"error: interrupted\nstate: Nothing was read or changed.\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
