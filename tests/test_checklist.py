"""The rules of the checklist, without a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lastgood.checklist import Attestation, Checklist, Finding, Level, Override, Passed, Verdict, checklist
from lastgood.errors import UsageError

NOW = datetime(2025, 11, 4, 14, 30, tzinfo=UTC)


def override(item: str) -> Override:
    return Override(item=item, reason="no time", by="ann", at=NOW)


def finding(level: Level, *, item: str = "room", final: bool = False) -> Finding:
    return Finding(level=level, code="c", text="little room", item=item, final=final)


@pytest.mark.parametrize(
    ("found", "overridden", "verdict"),
    [
        ((Passed(text="much room", item="room"),), (), "GO"),
        ((finding("note"),), (), "GO"),
        ((finding("caution"),), (), "GO WITH WARNINGS"),
        ((finding("refusal"), finding("caution")), (), "NO-GO"),
        ((finding("refusal"),), ("room",), "GO WITH WARNINGS"),
        ((finding("refusal"),), ("holders",), "NO-GO"),
        ((finding("refusal", final=True),), ("room",), "NO-GO"),
        ((finding("refusal"), finding("refusal", final=True)), ("room",), "NO-GO"),
        # No backup at all is more than a detail, even where it could be made.
        ((Passed(text="pg_dump 18", item="emergency_backup"),), ("emergency_backup",), "GO WITH WARNINGS"),
    ],
)
def test_the_verdict(found: tuple[Finding | Passed, ...], overridden: tuple[str, ...], verdict: Verdict) -> None:
    made = checklist(found, overrides=[override(each) for each in overridden])
    assert made.verdict == verdict
    assert any(made.refuses(each) for each in found if isinstance(each, Finding)) == (verdict == "NO-GO")


def test_a_word_is_taken_for_what_is_not_known_and_for_nothing_else() -> None:
    unknown = Finding(level="caution", code="c", text="room?", item="room", known="unknown")
    word = Attestation(item="room", name="Ann", at=NOW)
    (item,) = checklist([unknown], attestations=[word]).items
    assert (item.status, item.lines[0].known, item.attestation) == ("PASS", "attested by Ann", word)
    (item,) = checklist([finding("refusal")], attestations=[word]).items
    assert (item.status, item.lines[0].known, item.attestation) == ("FAIL", "looked up", None)


def test_people() -> None:
    made = checklist([], ["told", "tested"], attestations=[Attestation(item="told", name="Ann", at=NOW)])
    assert [(item.title, item.status, item.lines[0].text) for item in made.items] == [
        ("Told", "PASS", "confirmed by Ann"),
        ("Tested", "WARN", "not confirmed yet"),
    ]
    assert made.verdict == "GO WITH WARNINGS"


def test_what_is_no_item() -> None:
    with pytest.raises(UsageError, match=r'^cannot override "told": no such checklist item$'):
        checklist([], ["told"], overrides=[override("told")])
    with pytest.raises(UsageError, match=r'^cannot attest "luck": no such checklist item$'):
        checklist([], ["told"], attestations=[Attestation(item="luck", name="Ann", at=NOW)])


def test_the_record_is_read_back() -> None:
    made = checklist([finding("refusal")], ["told"], overrides=[override("room")])
    assert Checklist.model_validate_json(made.model_dump_json()) == made
