"""Blocks of a guide pasted in the wrong order, twice, or interrupted: nothing unproved is switched to, and what was
switched can be taken back.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from lastgood.command.guide import show as present
from lastgood.command.guide.subject import subject_of
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from tests.command.guide.by_hand import ByHand
from tests.support.waiting import until

NewDatabase = Callable[..., str]
RESTORED = ("create", "state", "restore", "expected", "compare", "files")


class Site:
    """A database of one table with three rows, its restore point, and two rows since."""

    def __init__(self, server: EmbeddedServer, database: str, folder: Path, *, old: bool = False) -> None:
        self.server, self.database = server, database
        self.execute("CREATE TABLE public.notes (id int)", "INSERT INTO public.notes VALUES (1), (2), (3)")
        point = take(server.target(database), folder / "store").path
        if old:
            # As pg_dump made it until August 2025: without \restrict.
            point.with_name(point.name + ".lastgood.json").unlink()
            point.write_text(re.sub(r"(?m)^\\(un)?restrict .*\n", "", point.read_text()))
        self.execute("INSERT INTO public.notes VALUES (4), (5)")
        self.guide = folder / "guide.md"
        self.guide.write_text(present.document(subject_of(server.target(database), folder / "store")), encoding="utf-8")
        self.hand = ByHand(self.guide, server, folder)

    def execute(self, *statements: str) -> None:
        with self.server.target(self.database).connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self) -> int:
        with self.server.target(self.database).connect() as connection:
            row = connection.execute("SELECT count(*) FROM public.notes").fetchone()
        assert row is not None
        return int(row[0])


def test_no_order_switches_to_what_was_not_compared_or_loses_the_way_back(
    server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path
) -> None:
    site = Site(server, new_database("crm"), tmp_path)
    hand, live = site.hand, site.database
    hand.does("start", "point", "backup", *RESTORED, "remove")
    # The comparison was of the database that is gone; this one is empty.
    hand.does("create", "state")
    assert hand.fails("swap") == "cannot switch: the restored database was not compared (block compare)\n"
    hand.does("remove")
    assert hand.fails("undo") == ("cannot undo: attempt RUN=1 has not switched (block remove removes its database)\n")
    assert hand.fails("verify") == "cannot verify: attempt RUN=1 has restored nothing\n"
    assert site.rows() == 5

    hand.does(*RESTORED, "swap")
    # Interrupted just after the switch: the server knows of it, whatever lies in the folder.
    (tmp_path / "store" / "by-hand-1" / "swap.done").unlink()
    hand.does("swap")
    assert site.rows() == 3
    assert "cannot remove the restored database: the names are already switched (block undo)" in hand.fails("remove")
    taken = (
        f'cannot continue: database "{live}_old_1" is from a completed switch; export another RUN and paste Names again'
    )
    assert taken in hand.fails("create")
    assert site.rows() == 3
    hand.does("verify", "undo")
    assert site.rows() == 5
    hand.does("undo")
    assert site.rows() == 5
    assert taken.replace("_old_", "_undone_") in hand.fails("create")


def test_a_dump_of_an_older_pg_dump(server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path) -> None:
    """Without ``\\restrict``, which the guide puts in: some shells' echo reads the backslash."""
    site = Site(server, new_database("crm"), tmp_path, old=True)
    site.hand.does("start", "point", "backup", *RESTORED, "remove")


def test_ctrl_c_does_not_switch(server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path) -> None:
    """In bash, where psql exits with status 0 after Ctrl+C and the shell continues."""
    site = Site(server, new_database("crm"), tmp_path)
    site.hand.does("start", "point", "backup", *RESTORED)
    texts = {block.id: block.text for block in site.hand.blocks}
    with server.target("postgres").connect(autocommit=False) as busy:
        # Holds the rename up, until this transaction ends.
        busy.execute(f'ALTER DATABASE "{site.database}" CONNECTION LIMIT 50'.encode())
        with subprocess.Popen(
            ["bash", "-c", texts["names"] + texts["swap"]],
            env={"PATH": f"{server.bin}:/usr/bin:/bin"},
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        ) as person:
            with server.target("postgres").connect() as watcher:
                waiting = (
                    "SELECT FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%%' AND wait_event_type = 'Lock'"
                )
                until(lambda: watcher.execute(waiting).rowcount == 1)
            subprocess.run(["kill", f"-{signal.SIGINT.value}", "--", f"-{person.pid}"], check=True)
            until(lambda: person.poll() is not None, "that Ctrl+C ends it")
            assert person.stderr is not None
            output = person.stderr.read()
    assert output.endswith("interrupted: run the block verify to see whether the names were switched\n")
    assert site.rows() == 5
    site.hand.does("remove")
