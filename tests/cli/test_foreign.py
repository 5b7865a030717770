"""What the commands say of files that pg_dump did not write, or that a tool has changed: the same words everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Lastgood
from tests.dump.test_restricted import CUT, DUMP
from tests.test_foreign_files import EXPORTS, FILES, LOOK


@pytest.fixture(autouse=True)
def no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")


@pytest.mark.parametrize("name", ["adminer_use.sql", "navicat.sql", "django.sql", "rails.sql", "yugabytedb.sql"])
def test_every_command_calls_it_the_same(name: str, lastgood: Lastgood, database: str) -> None:
    shutil.copy(FILES / name, name)
    message = f"cannot use the dump: {EXPORTS[name]}"
    verified = lastgood("points", "verify", name)
    assert (verified.status, verified.out) == (
        4,
        f"foreign: {name}\n  {message}\n  {LOOK}\n0 of 1 restore point valid.\n",
    )
    (point,) = lastgood("points", "verify", name, "--json").document["points"]
    assert (point["verdict"], point["message"], point["hint"]) == ("foreign", message, LOOK)
    for arguments in (["facts", name], ["rollback", name, "--dry-run"], ["restore", name, "--into", f"{database}_x"]):
        outcome = lastgood(*arguments, "--json")
        assert outcome.status == 4, arguments
        error = outcome.document["error"]
        assert (error["code"], error["message"], error["hint"]) == ("foreign_point", message, LOOK), arguments
    looked = lastgood("restore", name, "--skip-damaged", "--into", f"{database}_look")
    assert looked.status == 0
    assert looked.out.startswith(f'"{database}_look" holds all of {name}: no damage was found.\n')


def test_a_sign_that_a_file_was_cut_is_a_caution_everywhere(lastgood: Lastgood, database: str) -> None:
    Path("cut.sql").write_text(DUMP.rstrip()[:-20])
    verified = lastgood("points", "verify", "cut.sql")
    assert (verified.status, verified.out) == (
        0,
        f"valid: cut.sql\n  caution: {CUT}\n1 of 1 restore point valid.\n",
    )
    (point,) = lastgood("points", "verify", "cut.sql", "--json").document["points"]
    assert (point["verdict"], point["cautions"]) == ("valid", [CUT])
    facts = lastgood("facts", "cut.sql", "--json")
    assert facts.status == 0
    assert [event["text"] for event in facts.events if event["event"] == "caution"] == [CUT]
    plan = lastgood("rollback", "cut.sql", "--dry-run")
    assert plan.status == 0
    assert f"caution {CUT}" in plan.out
    restored = lastgood("restore", "cut.sql", "--into", f"{database}_x", "--json")
    assert restored.status == 0
    assert {event["text"] for event in restored.events if event["event"] == "caution"} == {CUT}
