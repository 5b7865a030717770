"""Row 4. The guide: "emergency backup, never skipped".

lastgood: always taken, always verified, runs during the restore so that it costs no time; the replaced database itself
is kept as well.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from demo.evidence import opened
from lastgood import fault
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.mission.site import broken as broken


@pytest.mark.postgres(15, 18)
def test_it_is_made_and_verified_during_the_restore_and_the_replaced_database_is_kept(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str
) -> None:
    as_it_was = lastgood("facts", "--json").document["facts"]

    outcome = lastgood("rollback", "--yes", "--quiet", "--json")

    # Nobody asked for it.
    assert outcome.status == 0
    report = outcome.document
    emergency = Path(report["emergency_backup"])

    # It holds the broken database, row for row, and is read to its end before the switch.
    taken = lastgood("facts", emergency.name, "--json").document["facts"]
    assert taken["tables"] == as_it_was["tables"]
    assert taken["objects"] == as_it_was["objects"]
    (verdict,) = lastgood("points", "verify", emergency.name, "--json").document["points"]
    assert (verdict["valid"], verdict["known"]) == (True, True)
    steps = journal(report["run"])
    assert f"{emergency.name}, verified" in steps["done", "emergency"][1]
    assert steps["done", "emergency"][0] < steps["doing", "swap"][0]

    # It was made while the restored database was built: neither waited for the other.
    assert steps["doing", "emergency"][0] < steps["done", "build"][0]
    assert steps["doing", "build"][0] < steps["done", "emergency"][0]

    # The replaced database itself is there as well, and goes back into service in a moment.
    with opened(server.target(database), report["kept"]) as kept:
        assert kept.execute("SELECT id, phone FROM public.contacts").fetchall() == [(1, None)]
    assert lastgood("undo", "--yes").status == 0
    assert lastgood("facts", "--json").document["facts"]["tables"] == as_it_was["tables"]

    # It is no good state, and is never proposed as one; but it can be named.
    assert Path(lastgood("rollback", "--dry-run", "--json").document["point"]["path"]).name == broken
    named = lastgood("rollback", emergency.name, "--dry-run", "--json")
    assert (named.status, Path(named.document["point"]["path"]).name) == (0, emergency.name)


def test_without_it_nothing_is_switched(lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str) -> None:
    def the_store_is_full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with fault.armed("emergency.after_dump", the_store_is_full):
        outcome = lastgood("rollback", "--yes")

    assert outcome.status == 5
    assert outcome.err.partition("\nerror: ")[2] == (
        f'cannot back up database "{database}" to "backups": no space left on device\n'
        f'state: "{database}" was not touched and is open.\n'
        "next:  Nothing is left behind. Free space there or name another folder with --store, then run the command "
        "again. To continue without a backup: --override emergency_backup --reason TEXT; the replaced "
        "database itself is kept.\n"
    )
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT id, phone FROM public.contacts").fetchall() == [(1, None)]
    assert lastgood("status").status == 0


def journal(run: str) -> dict[tuple[str, str], tuple[int, str]]:
    """The entries of steps in the journal of a run: (event, step) → its place and its line."""
    lines = (Path("state") / "runs" / f"{run}.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return {
        (each["event"], each["step"]): (place, lines[place]) for place, each in enumerate(entries) if "step" in each
    }
