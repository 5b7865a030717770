"""Row 1. The guide: "emergency quick reference: five commands".

lastgood: one command, `lastgood rollback`, that does them all in the right order and shows its plan first. And for
for operators with only psql, the guide's own five commands, which do the same.
"""

from __future__ import annotations

from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.command.guide.by_hand import ByHand

FIVE = ("quick-backup", "quick-restore", "quick-compare", "quick-switch", "quick-undo")


def deals(server: EmbeddedServer, database: str) -> int:
    with server.target(database).connect() as connection:
        (count,) = connection.execute("SELECT count(*) FROM public.deals").fetchone() or (0,)
    return int(count)


def test_one_command_shows_its_plan_and_does_it(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    assert lastgood("backup").status == 0
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    plan = lastgood("rollback", "--dry-run")
    assert plan.status == 0
    # The five of the old reference, in the order in which they are safe.
    titles = [
        "Back up the live database",
        "Build the restored database",
        "Verify the restored database",
        "Switch the names",
        "Verify a login",
    ]
    places = [plan.out.index(title) for title in titles]
    assert places == sorted(places)
    assert deals(server, database) == 0, "a plan changes nothing"
    assert lastgood("rollback", "--yes").status == 0
    assert deals(server, database) == 2
    assert lastgood("undo", "--yes").status == 0
    assert deals(server, database) == 0


def test_the_five_commands_of_the_guide(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path
) -> None:
    assert lastgood("backup").status == 0
    assert lastgood("guide", "--output", "by hand.md").status == 0
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    hand = ByHand(Path("by hand.md").absolute(), server, tmp_path)
    del hand.variables["GUIDE"]  # it knows its own name, and this is its folder
    # In their order only: each refuses when the one before it was left out.
    for early in FIVE[1:]:
        assert "stopped: step" in hand.fails(early)
    text = hand.does(*FIVE[:4])
    assert [line for line in text.splitlines() if line.startswith("done: ")] == [
        f"done: {step}"
        for step in (
            *("start", "backup", "point", "create", "state", "restore", "grants", "expected", "compare", "loss"),
            *("files", "swap", "verify", "reads"),
        )
    ]
    assert "rows | public.deals" in text
    assert deals(server, database) == 2
    hand.does(FIVE[4])
    assert deals(server, database) == 0
    proof = lastgood("facts", *map(str, Path("backups").glob("*emergency*.dump")), "--live", "--json")
    assert proof.document["equal"] is True, "the emergency backup is what was there before"


def test_a_step_that_fails_in_its_middle_stops_there(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path
) -> None:
    """A shell forgets to stop at errors in what `||` waits for: the step must not fall into that."""
    assert lastgood("backup").status == 0
    assert lastgood("guide").status == 0
    guide = Path("manual-rollback-procedure.md")
    guide.write_text(guide.read_text().replace("  pg_restore --list", "  false\n  pg_restore --list"))
    hand = ByHand(guide.absolute(), server, tmp_path)
    assert hand.fails("quick-backup").endswith("stopped: step backup failed\n")
    assert list(Path("backups", "by-hand-1").glob("*.done")) == []
