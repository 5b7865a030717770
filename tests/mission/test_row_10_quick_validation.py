"""Row 10: quick validation: referential integrity, required fields, unique keys, data quality in percent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.mission import broken_crm

RULES = """
[validate]
threshold = 85

[[validate.rules]]
name = "contacts can be reached"
query = "SELECT id, email, phone FROM contacts WHERE email IS NULL AND phone IS NULL"
of = "SELECT count(*) FROM contacts"
threshold = {threshold}
weight = 3

[[validate.rules]]
name = "there are organizations"
query = "SELECT count(*) FROM organizations"
at_least = 10
"""


def not_passed(document: dict[str, object]) -> dict[str, str]:
    rules = document["rules"]
    assert isinstance(rules, list)
    return {each["name"]: each["outcome"] for each in rules if each["outcome"] != "PASS"}


def test_a_healthy_crm_is_a_go_without_a_false_alarm(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", server.url(broken_crm.healthy(server, new_database)))
    outcome = lastgood("validate", "--quick", "--json")
    found = outcome.document
    assert (outcome.status, found["verdict"], found["complete"]) == (0, "GO", True)
    assert not_passed(found) == {}
    assert {each["kind"] for each in found["rules"]} == {
        "foreign_key", "required", "check", "domain", "unique", "sequence", "index", "view", "collation"
    }  # fmt: skip


@pytest.mark.postgres(15, 18)
def test_each_damage_is_found_and_nothing_else(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", server.url(broken_crm.broken(server, new_database)))
    outcome = lastgood("validate", "--quick", "--json")
    found = outcome.document
    assert (outcome.status, found["verdict"]) == (3, "NO-GO")
    assert not_passed(found) == broken_crm.QUICK
    rules = {each["name"]: each for each in found["rules"]}
    tags = rules["foreign_key:public.contact_tags.contact_tags_contact_id_fkey"]
    assert tags["message"] == "2 rows of public.contact_tags have no match for contact_id in public.contacts (id)"
    assert tags["samples"] == ["contact_id=900001, tag_id=1", "contact_id=900002, tag_id=2"]
    assert rules["required:public.tags"]["samples"] == ["id=2, color=NULL"]
    assert rules["unique:public.contacts.contacts_email"]["violations"] == 1
    assert rules["sequence:public.opportunities.id"]["message"] == (
        "the next value of public.opportunities_id_seq is 2, but public.opportunities.id already contains 600: the "
        "next row will collide with an existing one"
    )
    shown = lastgood("validate", "--quick").out
    assert shown.startswith(f'NO-GO ({len(found["blockers"])} blockers, {len(found["warnings"])} warnings): "crm_')
    assert "          contact_id=900001, tag_id=1\n" in shown


def test_quality_in_percent_decides_too(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = broken_crm.healthy(server, new_database)
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    Path("lastgood.toml").write_text(RULES.format(threshold=50), encoding="utf-8")
    with server.target(name).connect() as connection:
        connection.execute("UPDATE public.contacts SET email = NULL, phone = CASE WHEN id % 4 > 0 THEN '1' END")
    outcome = lastgood("validate", "--json", "--only", "own")
    found = outcome.document
    percents = {each["name"]: each["percent"] for each in found["rules"]}
    assert percents == {"contacts can be reached": 75.0, "there are organizations": 100.0}
    assert (found["quality"], found["verdict"], found["blockers"]) == (81.25, "NO-GO", ["quality"])
    assert outcome.status == 3
    shown = lastgood("validate", "--only", "own").out
    assert "Quality 81.2 %, BELOW the threshold of 85 %\n" in shown
    with server.target(name).connect() as connection:
        connection.execute("UPDATE public.contacts SET phone = '1' WHERE phone IS NULL AND id % 8 = 0")
    outcome = lastgood("validate", "--json", "--only", "own")
    assert (outcome.status, outcome.document["verdict"], outcome.document["quality"]) == (0, "GO", 90.62)
