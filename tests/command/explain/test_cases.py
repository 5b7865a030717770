"""Every known error: its file is sound, it is found by its own messages, and it agrees with what runs do about it."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from lastgood.command.explain.case import KnownCase, library
from lastgood.command.explain.explain import explain_text
from lastgood.command.explain.log import known_state
from lastgood.postgres import errors as server_errors
from lastgood.postgres.errors import RULES, ErrorPolicy
from tests.command.explain import translations
from tests.support.commands import wrong

CASES = library().cases
FILLED = {"%s": "x1", "%m": "Input/output error"}


def filled(template: str) -> str:
    """A message as a server would write it."""
    return re.sub(r"%(?:\d+\$)?[-+ #0]*\d*(?:l|z)*([a-zA-Z])", lambda m: FILLED.get(f"%{m[1]}", "7"), template)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_is_found_by_its_messages(case: KnownCase) -> None:
    for template in case.messages:
        for sqlstate in (None, *(state for state in case.sqlstates_with_text if len(state) == 5)):
            found = library().find(filled(template), sqlstate)
            assert found is not None and found.slug == case.slug, f"{template} [{sqlstate}]: {found and found.slug}"
    for text in case.examples:
        assert explain_text(text).kinds[0].case == case.slug
    for name in case.names:
        assert explain_text(name).kinds[0].case == case.slug
    for sqlstate in case.sqlstates:
        if len(sqlstate) == 5:
            assert explain_text(sqlstate).kinds[0].case == case.slug
    assert case.messages or case.names or case.sqlstates or case.sqlstates_with_text


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_reads_well(case: KnownCase) -> None:
    assert re.fullmatch(r"(?:[A-Z]|p[gs]|--).*[^.]", case.title)
    for text in (case.cause, case.data, case.lastgood):
        assert re.fullmatch(r"\S.*[^.]\.", text, re.DOTALL), text
        assert "  " not in text
    for command in case.commands:
        if command.startswith("lastgood"):
            assert wrong(command) == "", command
    for sqlstate in (*case.sqlstates, *case.sqlstates_with_text):
        assert len(sqlstate) == 2 or known_state(sqlstate)
    assert set(case.follows) <= {*CASES, "*"}


def test_no_message_and_no_sqlstate_belongs_to_two_cases() -> None:
    for field in ("messages", "sqlstates"):
        counted = Counter(each for case in CASES.values() for each in getattr(case, field))
        assert [each for each, count in counted.items() if count > 1] == []


def test_every_rule_of_a_run_has_a_case() -> None:
    assert [rule.state for rule in RULES if library().by_state(rule.state) is None] == []


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.sqlstates], ids=lambda case: case.slug)
def test_a_case_has_the_policy_of_a_run_for_its_sqlstates(case: KnownCase) -> None:
    assert case.policy is not None
    for sqlstate in case.sqlstates:
        state = sqlstate if len(sqlstate) == 5 else f"{sqlstate}000"
        rule = server_errors.rule(state, case.context)
        assert rule.state in (sqlstate, state[:2]), f"{sqlstate} has no rule"
        assert rule.policy is ErrorPolicy[case.policy.upper()], sqlstate


def test_every_context_of_a_case_is_one_of_a_rule() -> None:
    for case in CASES.values():
        if case.context != "any":
            states = {*case.sqlstates, *case.sqlstates_with_text}
            assert any(rule.context == case.context and rule.state in states for rule in RULES), case.slug


@pytest.mark.parametrize("language", translations.languages())
def test_translations_are_those_of_postgresql(language: str) -> None:
    written = json.loads((translations.FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    assert written == translations.translation(language), "run: python -m tests.command.explain.translations"


@pytest.mark.parametrize("language", library().languages)
def test_a_case_is_found_by_its_messages_in_other_languages(language: str) -> None:
    written = json.loads((translations.FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    # Some languages have one sentence for two of ours.
    meant = Counter(written["messages"].values())
    astray = [
        f"{text} → {found and found.slug}, not {case.slug}"
        for case in CASES.values()
        for text in case.messages
        if (words := written["messages"].get(text)) and meant[words] == 1
        if (found := library().find(filled(words), None)) is None or found.slug != case.slug
    ]
    # Korean words two of them nearly alike.
    assert len(astray) <= 2, astray
