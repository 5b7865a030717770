"""Row 11: full validation: GO, or the specific failures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.mission import broken_crm
from tests.mission.test_row_10_quick_validation import not_passed
from tests.support import real_dumps

ALL = pytest.mark.postgres(15, 16, 17, 18)


@ALL
def test_a_healthy_crm_is_a_go_without_a_false_alarm(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = broken_crm.healthy(server, new_database)
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    amcheck = broken_crm.with_amcheck(server, name)
    outcome = lastgood("validate", "--full", "--json")
    found = outcome.document
    assert (outcome.status, found["verdict"], found["complete"]) == (0, "GO", True)
    assert not_passed(found) == ({} if amcheck else {"index_content": "SKIPPED"})


@ALL
def test_a_database_with_everything_is_a_go_without_a_false_alarm(
    lastgood: Lastgood, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_dumps.make_database(server)
    monkeypatch.setenv("LASTGOOD_DB", server.url(real_dumps.NAME))
    for mode, more in (("--quick", {}), ("--full", {"index_content": "SKIPPED"})):
        outcome = lastgood("validate", mode, "--json")
        assert (outcome.status, outcome.document["verdict"]) == (0, "GO")
        # It is there on purpose, and reading it is an error.
        assert not_passed(outcome.document) == {"view:s1.mvempty": "WARN", **more}


@pytest.mark.postgres(15, 18)
def test_each_damage_is_found_and_nothing_else(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = broken_crm.broken(server, new_database)
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    expected = dict(broken_crm.FULL)
    if not broken_crm.with_amcheck(server, name):
        del expected["index_content:public.contacts_email"]
        expected["index_content"] = "SKIPPED"
    outcome = lastgood("validate", "--full", "--json")
    found = outcome.document
    assert (outcome.status, found["verdict"]) == (3, "NO-GO")
    assert not_passed(found) == expected
    assert set(found["blockers"]) == {name for name, outcome in expected.items() if outcome == "FAIL"}
    assert set(found["warnings"]) == {name for name, outcome in expected.items() if outcome == "WARN"}
    rules = {each["name"]: each for each in found["rules"]}
    unreadable = rules["readable:public.organizations"]
    assert unreadable["message"] == (
        'public.organizations is not fully readable: invalid byte sequence for encoding "UTF8": 0xe9 [SQLSTATE 22021]'
    )
    assert unreadable["samples"] == ["id=81, column name"]
    progress = [each for each in outcome.events if each["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == len(rules)
    assert {each["unit"] for each in progress} == {"rules"}
    # The result can be verified: its queries run, and return the counted rows.
    with server.target(name).connect() as connection:
        for each in found["rules"]:
            if each["query"] and each["kind"] in ("foreign_key", "guessed_key", "required", "check", "domain"):
                assert len(connection.execute(each["query"].encode()).fetchall()) == each["violations"]
