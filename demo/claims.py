"""What the acts of the demo share: lastgood as part of the story, and what the application's users noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from demo.application import Application, Lap
from demo.command import Answer, Lastgood
from demo.screen import Screen


class StoryEnds(Exception):
    """A command failed that the rest of the story depends on. The screen shows the failure."""


def run(screen: Screen, lastgood: Lastgood, *arguments: str) -> Answer:
    """Run lastgood for the story. Raises StoryEnds unless it ends with status 0."""
    screen.command("lastgood " + " ".join(arguments))
    with screen.working("lastgood is running; the application continues"):
        answer = lastgood(*arguments)
    if answer.status != 0:
        screen.claim(f"lastgood {arguments[0]} ends with status 0", False, f"it ended with {answer.status}")
        screen.quote(answer.stderr + answer.printed)
        raise StoryEnds
    return answer


def noticed(screen: Screen, app: Application, nowhere: Callable[[tuple[str, ...]], set[str]], *, kept: str) -> Lap:
    """Let the application work a little longer, and claim what it noticed since the last lap.

    ``nowhere`` finds the acknowledged writes that are lost; ``kept`` names where they may be.
    """
    app.wait_for_work(reads=50, writes=10)
    lap = app.lap()
    missing = nowhere(app.ledger)
    screen.claim(
        f"none of {lap.reads:,} reads failed; the longest took {duration(lap.longest_read)}, reconnecting included",
        lap.failed_reads == 0,
        f"{lap.failed_reads} failed: {dict(lap.errors)}",
    )
    screen.claim(
        f"none of {lap.writes:,} writes failed; the longest waited {duration(lap.longest_write)}",
        lap.failed_writes == 0,
        f"{lap.failed_writes} failed: {dict(lap.errors)}",
    )
    screen.claim(
        f"each of the {len(app.ledger):,} acknowledged writes so far is in {kept}",
        not missing,
        f"{len(missing)} are in neither",
    )
    return lap


def first(differences: Sequence[str]) -> str:
    """The first differences, and how many more there are."""
    return "; ".join(differences[:3]) + (f" and {len(differences) - 3} more" if len(differences) > 3 else "")


def duration(seconds: float) -> str:
    """A duration as users notice it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
