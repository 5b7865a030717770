"""The user's own rules: what they may ask, what they may not, and how they make up the quality."""

from __future__ import annotations

import pytest

from tests.command.validate.conftest import Stage


@pytest.fixture(autouse=True)
def contacts(stage: Stage) -> None:
    stage.run(
        "CREATE TABLE contacts (id int PRIMARY KEY, email text, seen timestamptz)",
        "INSERT INTO contacts SELECT i, CASE WHEN i % 10 > 0 THEN 'a@b' END, 'infinity' FROM generate_series(1, 100) i",
    )


def asked(stage: Stage, query: str, **rule: object) -> tuple[str, str, float | None]:
    """A rule's outcome, its message, and the percentage of valid rows."""
    found = stage.rule("own", rules=[{"name": "mine", "query": query, **rule}])
    return found.outcome, found.message, found.percent


def test_rows_are_violations(stage: Stage) -> None:
    rules = [{"name": "mine", "query": "SELECT id, email, seen FROM contacts WHERE email IS NULL ORDER BY id;"}]
    found = stage.rule("mine", rules=rules)
    assert (found.outcome, found.violations, found.message) == ("FAIL", 10, "10 rows found, none expected")
    assert found.samples == tuple(f"id={number}, email=NULL, seen=infinity" for number in (10, 20, 30, 40, 50))
    assert asked(stage, "SELECT FROM contacts WHERE id < 0 -- none") == ("PASS", "", 100.0)
    assert asked(stage, "SELECT FROM contacts WHERE id < 3", severity="warning")[0] == "WARN"


def test_quality_in_percent(stage: Stage) -> None:
    query, of = "SELECT id FROM contacts WHERE email IS NULL", "SELECT count(*) FROM contacts"
    assert asked(stage, query, of=of) == ("FAIL", "90 of 100 rows are valid, 90.0 %", 90.0)
    assert asked(stage, query, of=of, threshold=90) == ("PASS", "90 of 100 rows are valid, 90.0 %", 90.0)
    assert asked(stage, query, of=of, threshold=95) == (
        "FAIL",
        "90 of 100 rows are valid, 90.0 %; at least 95 % expected",
        90.0,
    )
    assert asked(stage, "SELECT generate_series(1, 5)", of="SELECT 3")[:2] == (
        "FAIL",
        '0 of 3 rows are valid, 0.0 %; the query returns 5 rows, more than "of" counts',
    )
    assert asked(stage, "SELECT 1 WHERE false", of="SELECT 0") == ("PASS", "0 of 0 rows are valid, 100.0 %", 100.0)
    verdict = stage.verdict(
        "quick",
        "own",
        threshold=95,
        rules=[
            {"name": "a", "query": query, "of": of, "severity": "warning", "weight": 4},
            {"name": "b", "query": "SELECT 1", "expect": 1},
            {"name": "slow", "query": "SELECT 1", "quick": False},
        ],
    )
    assert (verdict.quality, verdict.verdict, verdict.blockers) == (92.0, "NO-GO", ("quality",))


@pytest.mark.parametrize(
    ("query", "rule", "outcome", "message"),
    [
        ("SELECT count(*) FROM contacts", {"expect": 100}, "PASS", "the value is 100"),
        ("SELECT 1.50", {"expect": 1.5}, "PASS", "the value is 1.50"),
        ("SELECT true", {"expect": True}, "PASS", "the value is true"),
        ("SELECT 1", {"expect": True}, "FAIL", "the value is 1, expected true"),
        ("SELECT true", {"expect": "true"}, "FAIL", 'the value is true, expected "true"'),
        ("SELECT 'x'", {"expect": "x"}, "PASS", "the value is x"),
        ("SELECT NULL", {"expect": "x"}, "FAIL", "the value is NULL, expected x"),
        ("VALUES (5)", {"at_least": 5, "at_most": 6}, "PASS", "the value is 5"),
        ("SELECT 7", {"at_most": 6}, "FAIL", "the value is 7, expected at most 6"),
        ("SELECT 4", {"at_least": 5, "at_most": 6}, "FAIL", "the value is 4, expected at least 5 and at most 6"),
    ],
)
def test_one_value(stage: Stage, query: str, rule: dict[str, object], outcome: str, message: str) -> None:
    assert asked(stage, query, **rule)[:2] == (outcome, message)


@pytest.mark.parametrize(
    ("query", "rule", "message"),
    [
        ("SELEC 1", {}, 'syntax error at or near "SELEC"'),
        ("SELECT * FROM nowhere", {}, 'relation "nowhere" does not exist'),
        ("SELECT 1; SELECT 2", {}, "it must be one SELECT, not 2 commands"),
        ("SELECT 1; COMMIT; DROP TABLE contacts", {}, "it must be one SELECT, not 3 commands"),
        ("DELETE FROM contacts", {}, "it must be a SELECT"),
        (
            "WITH x AS (DELETE FROM contacts RETURNING 1) SELECT * FROM x",
            {},
            "rules must not write: DECLARE CURSOR must not contain data-modifying statements in WITH",
        ),
        ("SELECT nextval('numbers')", {}, "rules must not write: cannot execute nextval() in a read-only transaction"),
        ("SELECT 1, 2", {"expect": 1}, "the query must return one value, but returns 1 row with 2 columns"),
        (
            "SELECT id FROM contacts",
            {"expect": 1},
            "the query must return one value, but returns several rows with 1 column",
        ),
        ("SELECT 1 WHERE false", {"expect": 1}, "the query must return one value, but returns no row with 1 column"),
        ("SELECT 'x'", {"at_least": 1}, "the query must return a number, but returns 'x'"),
        ("SELECT NULL::int", {"at_least": 1}, "the query must return a number, but returns NULL"),
        ("SELECT 1", {"of": "SELECT 'many'"}, "\"of\" must return a number, but returns 'many'"),
        ("SELECT 1 / (id - id) FROM contacts", {}, "division by zero"),
    ],
)
def test_a_rule_that_cannot_be_tried_fails_alone(
    stage: Stage, query: str, rule: dict[str, object], message: str
) -> None:
    stage.run("CREATE SEQUENCE numbers", "GRANT USAGE ON SEQUENCE numbers TO PUBLIC")
    rules = [
        {"name": "mine", "query": query, **rule},
        {"name": "other", "query": "SELECT count(*) FROM contacts", "expect": 100},
    ]
    verdict = stage.verdict("quick", "own", rules=rules)
    mine, other = verdict.rules
    assert (mine.outcome, mine.message, mine.percent) == ("FAIL", f"cannot evaluate the rule: {message}", 0.0)
    assert mine.hint == 'Fix the query of rule "mine" in lastgood.toml.'
    assert (other.outcome, verdict.blockers) == ("PASS", ("mine", "quality"))
