"""``python -m lastgood``, and the program ``lastgood``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Runs one command. A signal while everything is still being loaded ends in one sentence, as any other."""
    ours = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        ours.remove(signal.SIGHUP)  # nohup
    for each in ours:
        signal.signal(each, _interrupted)
    # Loading makes objects that stay: looking through them for garbage again and again is a tenth of a start.
    # ``Session.settle`` ends this when the command begins its work.
    gc.disable()
    from lastgood.cli import main as run

    status = run()
    for each in ours:
        signal.signal(each, signal.SIG_IGN)  # it has ended, and its status stands
    return status


def _interrupted(number: int, frame: FrameType | None) -> None:
    # Not by an exception: half-loaded modules would print their own, and no journal is open yet.
    os.write(2, b"error: interrupted\nstate: Nothing was looked at or changed.\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
