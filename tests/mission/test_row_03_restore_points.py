"""Row 3. The guide: "list backups, `file`, `du`, look at the size".

lastgood: find restore points of every kind in a folder, known or foreign; prove each one complete and uncorrupted; say
which is the nearest valid one.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import time
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

pytestmark = pytest.mark.postgres(15, 18)


def test_every_kind_is_found_and_proved_and_the_nearest_valid_one_is_named(
    lastgood: Lastgood, server: EmbeddedServer, database: str
) -> None:
    store = Path("backups")
    store.mkdir()
    # What other tools left, and then one of our own.
    foreign = {
        "nightly.sql": ("--format=plain",),
        "nightly.dump": ("--format=custom",),
        "nightly.tar": ("--format=tar",),
        "nightly": ("--format=directory",),
    }
    for name, options in foreign.items():
        pg_dump(server, database, store / name, *options)
    (store / "nightly.sql.gz").write_bytes(gzip.compress((store / "nightly.sql").read_bytes()))
    known = lastgood("backup", "--json").document["point"]["name"]
    whole = {known, *foreign, "nightly.sql.gz"}

    # The same, damaged as backups are: cut off, cut off and compressed, an archive without its end, one byte changed
    # in one that lastgood made, and a file that is no dump at all.
    text = (store / "nightly.sql").read_bytes()
    (store / "cut.sql").write_bytes(text[: len(text) * 7 // 10])
    (store / "cut.sql.gz").write_bytes((store / "nightly.sql.gz").read_bytes()[:-200])
    (store / "cut.dump").write_bytes((store / "nightly.dump").read_bytes()[:-300])
    changed = lastgood("backup", "--json").document["point"]["name"]
    (store / changed).write_bytes((store / changed).read_bytes().replace(b"Ann", b"Eve"))
    damaged = {"cut.sql", "cut.sql.gz", "cut.dump", changed}
    (store / "notes.txt").write_text("call the provider about the backups\n")
    now = time.time()
    for number, name in enumerate([*sorted(whole - {known}), *sorted(damaged - {changed})]):
        for path in (store / name, *(store / name).glob("*")):
            os.utime(path, (now - 3600 + 60 * number,) * 2)

    listed = lastgood("points", "--json").document["points"]
    assert {each["name"] for each in listed} == whole | damaged
    assert {each["name"] for each in listed if each["known"]} == {known, changed}

    verified = lastgood("points", "verify", "--json")
    assert verified.status == 4
    verdicts = {each["name"]: each["valid"] for each in verified.document["points"]}
    assert verdicts == {**dict.fromkeys(whole, True), **dict.fromkeys(damaged, False)}
    assert all(each["message"] for each in verified.document["points"] if not each["valid"])

    # The nearest valid one: newer ones that are damaged are passed over, and each is named with the reason.
    outcome = lastgood("check", "--thorough", "--json")
    assert outcome.status == 0
    assert Path(outcome.document["point"]["path"]).name == known
    (item,) = [each for each in outcome.document["checklist"]["items"] if each["name"] == "restore_point"]
    assert item["status"] == "WARN"
    skipped = [line["text"] for line in item["lines"] if line["status"] == "WARN"]
    assert [text.split(": ")[1] for text in skipped] == [changed]

    # A glance at it is enough to see the same.
    assert Path(lastgood("check", "--json").document["point"]["path"]).name == known


def pg_dump(server: EmbeddedServer, database: str, path: Path, *options: str) -> None:
    subprocess.run([server.bin / "pg_dump", *options, f"--file={path}", server.url(database)], check=True)
