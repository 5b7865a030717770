"""Options of columns that a server keeps for itself, in dumps of a pg_dump that does not know them."""

from __future__ import annotations

import pytest

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rulings import rule
from lastgood.load.repairs.repair import text_to_send
from tests.load.repairs.stage import Stage, repaired

DUMP = """
CREATE TABLE public.t (a integer, b integer, c integer);
ALTER TABLE ONLY public.t ALTER COLUMN a SET (pg_attver=26532584);
ALTER TABLE ONLY public.t ALTER COLUMN b SET (pg_attver=26532584, n_distinct=5);
ALTER TABLE ONLY public.t ALTER COLUMN c SET (n_distinct=7, pg_attver=26532584);
"""


@pytest.mark.postgres(15, 16, 17, 18)
def test_they_are_left_out(stage: Stage) -> None:
    assert repaired(stage.load(DUMP)) == []
    assert stage.rows(
        "SELECT attname::text, (SELECT string_agg(o, ',') FROM unnest(attoptions) o WHERE o !~ '^pg_')"
        " FROM pg_attribute WHERE attrelid = 'public.t'::regclass AND attnum > 0 ORDER BY attnum"
    ) == [("a", None), ("b", "n_distinct=5"), ("c", "n_distinct=7")]


def test_nothing_is_left_out_of_what_only_looks_like_them() -> None:
    text = b'ALTER TABLE public.t ALTER COLUMN a SET (n_distinct=1 /* pg_x= */, "*/); ALTER ROLE evil SUPERUSER; --"=1)'
    assert text_to_send(rule(Statement(text, 0, 1))) == text
