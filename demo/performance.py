"""The frame of both acts of the demo: arguments, a temporary folder, interruption, and the exit status."""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from demo.claims import StoryEnds
from demo.screen import Screen
from lastgood.postgres.embedded import EmbeddedServer

# The embedded server's defaults trade durability for speed; the times shown here must be those of a real server.
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}

Story = Callable[[Screen, EmbeddedServer, Path, float], None]


def perform(program: str, description: str | None, title: str, server: Callable[[], EmbeddedServer], run: Story) -> int:
    """Run a story on a server of its own and return the exit status: 0, 1 when a claim did not hold, 130 when
    interrupted."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the CRM; 1 is about 280 000 rows (default)")
    scale = parser.parse_args().scale
    signal.signal(signal.SIGTERM, _interrupt)
    screen = Screen()
    screen.title(title)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="lastgood-demo-") as folder:
            with screen.working("starting a temporary PostgreSQL server"):
                running = server()
            with running:
                run(screen, running, Path(folder), scale)
    except StoryEnds:
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
