"""The commands that the operator runs when the builder was refused: code can pretend a refusal."""

from __future__ import annotations

import pytest

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rulings import rule
from lastgood.dump.script import State
from lastgood.load.by_operator import evaluates_nothing

NO_PATH = "SELECT pg_catalog.set_config('search_path', '', false)"
HARMLESS = [
    "COMMENT ON TABLE s.t IS 'x'",
    "ALTER TABLE s.t ENABLE ALWAYS TRIGGER g",
    "ALTER TABLE s.t ALTER COLUMN a SET STATISTICS 10, ALTER COLUMN b SET STATISTICS 10",
    "CREATE POLICY p ON s.t USING ((owner = CURRENT_USER) AND (kind = 'x'::text))",
    "CREATE TRIGGER g BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f('x')",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "ALTER PUBLICATION p ADD TABLE ONLY s.t WHERE ((a > 5))",
]
EVALUATING = [
    "ALTER TABLE s.t VALIDATE CONSTRAINT c",
    "ALTER TABLE s.t ALTER COLUMN a SET NOT NULL",
    "ALTER TABLE s.t SET ACCESS METHOD heap",
    "ALTER FOREIGN TABLE s.t OPTIONS (ADD program 'id')",
    "ALTER PUBLICATION p ADD TABLE ONLY s.t WHERE ((a = '{(1)}'))",
    "CREATE POLICY p ON s.t USING ((a = '{(1)}'::s.c[]))",
    "CREATE POLICY p ON s.t USING (s.f(a))",
    "CREATE POLICY p ON s.t USING ((a OPERATOR(s.=) 1))",
    "CREATE INDEX i ON s.t USING btree (a)",
]


def state(text: str) -> State:
    return (("search_path", rule(Statement(text.encode(), 0, 1))),)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_evaluates_nothing_is_handed_over(text: str) -> None:
    assert evaluates_nothing(rule(Statement(text.encode(), 0, 1)), state(NO_PATH))


@pytest.mark.parametrize("text", EVALUATING)
def test_what_may_evaluate_is_not(text: str) -> None:
    assert not evaluates_nothing(rule(Statement(text.encode(), 0, 1)), state(NO_PATH))


@pytest.mark.parametrize("path", ["RESET search_path", "SET search_path TO DEFAULT", "SET search_path = public"])
def test_nothing_is_where_names_may_be_those_of_the_restore_point(path: str) -> None:
    assert not evaluates_nothing(rule(Statement(HARMLESS[3].encode(), 0, 1)), state(path))
