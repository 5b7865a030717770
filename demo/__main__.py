"""``python -m demo``: a CRM is broken, rolled back and proved, and the rollback is undone, on a temporary server.

Ends with 0 only if every claim on the screen was checked and held. Needs no server, no network and no root; works as
root and without a terminal too. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from demo import story
from demo.screen import Screen
from lastgood.postgres.embedded import EmbeddedServer

# The embedded server's defaults trade durability for speed; the times shown here must be those of a real server.
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


def main() -> int:
    """Run the demo and return the exit status: 0, 1 when a claim did not hold, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the CRM; 1 is about 280 000 rows (default)")
    scale = parser.parse_args().scale
    signal.signal(signal.SIGTERM, _interrupt)
    screen = Screen()
    screen.title("lastgood: a database is broken, rolled back, and the rollback is undone")
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="lastgood-demo-") as folder:
            with screen.working("starting a temporary PostgreSQL server"):
                server = EmbeddedServer(18, settings=DURABLE)
            with server:
                story.run(screen, server, Path(folder), scale)
    except story.StoryEnds:
        screen.say("The demo ends here.")
        return 1
    except KeyboardInterrupt:
        screen.say("Interrupted; the server and its folder are removed.")
        return 130
    if screen.failed:
        screen.say(f"{len(screen.failed)} of {screen.claims} claims did not hold.", style="bold red")
        return 1
    seconds = time.monotonic() - started
    screen.say(f"The demo checked all {screen.claims} claims itself, and they hold. Total time: {seconds:.0f} s.")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
