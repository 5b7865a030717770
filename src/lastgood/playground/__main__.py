"""``python -m lastgood.playground [COMMAND…]``."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from lastgood.playground import play


def main(arguments: list[str]) -> int:
    """Run the playground and return the status of the shell; 2 if the server cannot be started."""
    try:
        return play(arguments)
    except (RuntimeError, OSError) as error:
        hint = "The programs of PostgreSQL come with: python -m pip install 'lastgood[embedded]'"
        sys.stderr.write(f"error: {error}\nnext:  {hint}\n")
        return 2


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # A closed terminal ends the server, too.
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _leave)
    sys.exit(main(sys.argv[1:]))
