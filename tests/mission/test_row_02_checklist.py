"""Row 2. The guide: "backup exists and is valid; emergency backup made; application stopped; people told; tested
locally first; credentials work; disk space; start time and expected duration written down".

lastgood: every item measured where it can be measured, attested by a named person where it can't, with the expected
duration taken from past runs; a failed item refuses the rollback unless overridden with a recorded reason.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

pytestmark = pytest.mark.postgres(15, 18)


def test_the_checklist_of_the_guide(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    name = lastgood("backup", "--json").document["point"]["name"]
    # Tested first, in another database: then an estimate exists.
    rehearsed = lastgood("restore", name, "--into", f"{database}_rehearsal", "--json").document["run"]
    outcome = lastgood("check", "--attest", "the team is informed=Ann")
    assert outcome.status == 0
    text = re.sub(r"\d+(\.\d+)? (bytes|kB|MB|GB|TB)", "SIZE", outcome.out)
    for line in (
        f"        {name}, made 20",
        "        its SHA-256 matches its manifest: its content was verified when it was made [measured]\n",
        "        the server's disk has SIZE free; about SIZE are needed [measured]\n",
        '        the store "backups" has SIZE free; it may need SIZE [measured]\n',
        f'        superuser "postgres" may create a database like "{database}", and rename it [tried]\n',
        f'        no session is connected to "{database}" [measured]\n',
        f"(run {rehearsed}) [measured]\n",
        "        confirmed by Ann [attested by Ann]\n",
    ):
        assert line in text
    assert re.search(
        r"^        expected: about .*; if started now, finished by \d\d:\d\d:\d\d UTC \[looked up\]$", text, re.M
    )
    assert re.search(r"\nGO: 11 of 11 items passed\nNothing was changed. The check took .*\n$", text)


def test_a_failed_item_refuses_the_rollback_unless_overridden_with_a_recorded_reason(
    lastgood: Lastgood, server: EmbeddedServer, database: str
) -> None:
    assert lastgood("backup", "--quiet").status == 0
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
        connection.execute("SELECT pg_create_logical_replication_slot('row_02', 'test_decoding')")
    try:
        no_go = lastgood("check")
        assert no_go.status == 3
        items = "FAIL: holders; WARN: room, rehearsal, the team is informed"
        assert f"\nNO-GO: 7 of 11 items passed; {items}\n" in no_go.out
        assert "          To continue despite it: --override holders --reason TEXT\n" in no_go.out

        refused = lastgood("rollback", "--yes")
        assert refused.status == 3
        assert "  Checklist       NO-GO: 7 of 11 items passed; FAIL: holders;" in refused.out
        assert f'state: "{database}" was not touched and is open.\n' in refused.err
        assert not list(Path("state").glob("runs/*"))

        why = "the warehouse takes a new snapshot tonight"
        people = ("--attest", "the team is informed=Ann")
        done = lastgood("rollback", "--yes", "--json", "--override", "holders", "--reason", why, *people)
        assert done.status == 0, done.err
        report = done.document
        assert report["verdict"] == "GO WITH WARNINGS"
        assert [(each["item"], each["reason"]) for each in report["overrides"]] == [("holders", why)]
        assert [(each["item"], each["name"]) for each in report["attestations"]] == [("the team is informed", "Ann")]

        # The record has it too: who, when, and why.
        journal = (Path("state") / "runs" / f"{report['run']}.jsonl").read_text(encoding="utf-8").splitlines()
        begun, ended = json.loads(journal[0]), json.loads(journal[-1])
        (override,) = begun["plan"]["checklist"]["overrides"]
        assert (override["reason"], bool(override["by"]), override["at"][:2]) == (why, True, "20")
        assert ended["report"]["overrides"] == report["overrides"]
    finally:
        with server.target("postgres").connect() as connection:
            connection.execute("SELECT pg_drop_replication_slot('row_02')")


def test_what_would_fail_anyway_can_not_be_overridden(
    lastgood: Lastgood, server: EmbeddedServer, database: str
) -> None:
    assert lastgood("backup", "--quiet").status == 0
    with server.target(database).connect(autocommit=False) as connection:
        connection.execute("INSERT INTO public.deals VALUES (7, 1)")
        connection.execute("PREPARE TRANSACTION 'row_02'")
    try:
        outcome = lastgood("rollback", "--yes", "--override", "holders", "--reason", "in a hurry")
    finally:
        with server.target(database).connect() as connection:
            connection.execute("ROLLBACK PREPARED 'row_02'")
    assert outcome.status == 3
    assert outcome.err.partition("error: ")[2].startswith(
        f'cannot roll back "{database}": prepared transaction "row_02" of "postgres", prepared '
    )
