"""What of a dump can run as code while it is restored, and what only computes."""

from __future__ import annotations

import pytest

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.reader import read
from lastgood.dump.rulings import rule
from lastgood.plan.plan import CodeRun
from tests.dump import hostile
from tests.support.real_dumps import Text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", ["function"]),
        ("CREATE PROCEDURE s.f() LANGUAGE sql AS 'SELECT 1'", ["function"]),
        ("CREATE AGGREGATE s.agg(integer) (SFUNC = int4pl, STYPE = integer)", ["function"]),
        ("CREATE TABLE s.t (a int CHECK (s.f(a) > 0), b int DEFAULT s.g())", ["check", "default"]),
        ("CREATE TABLE s.t (a int GENERATED ALWAYS AS (s.f(b)) STORED, b int)", ["generated column"]),
        ("CREATE TABLE s.t (a int, CONSTRAINT c CHECK (lo_export(1, '/x') > 0))", ["check"]),
        ("CREATE TABLE s.t (a int) PARTITION BY RANGE (s.f(a))", ["partition"]),
        ("CREATE TABLE s.t PARTITION OF s.p FOR VALUES FROM (s.f(1)) TO (2)", ["partition"]),
        ("ALTER TABLE ONLY s.p ATTACH PARTITION s.t FOR VALUES FROM (s.f(1)) TO (2)", ["partition"]),
        ("CREATE INDEX i ON s.t (s.f(a))", ["index"]),
        ("CREATE INDEX i ON s.t (a) WHERE a OPERATOR(public.=) 1", ["index"]),
        ("CREATE DOMAIN s.d AS int CONSTRAINT x CHECK (s.ok(value))", ["domain"]),
        ("ALTER DOMAIN s.d ADD CONSTRAINT x CHECK (s.ok(value))", ["domain"]),
        ("CREATE MATERIALIZED VIEW s.m AS SELECT pg_catalog.lo_export(1, '/x')", ["materialized view"]),
        ("CREATE CAST (int AS s.x) WITH FUNCTION s.f(int)", ["cast"]),
        ("CREATE CAST (bytea AS s.x) WITHOUT FUNCTION", ["cast"]),
        ("CREATE OPERATOR s.=== (LEFTARG = oid, RIGHTARG = text, FUNCTION = pg_catalog.lo_export)", ["operator"]),
        ("CREATE OPERATOR CLASS s.o FOR TYPE int USING gist AS FUNCTION 1 int4eq(int, int)", ["operator class"]),
        ("ALTER OPERATOR FAMILY s.o USING gist ADD FUNCTION 1 (int, int) int4eq(int, int)", ["operator class"]),
        ("CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION f(internal))", ["handler"]),
        ("CREATE TEXT SEARCH TEMPLATE s.t (LEXIZE = dsimple_lexize)", ["handler"]),
        ("CREATE FOREIGN DATA WRAPPER w HANDLER s.f", ["handler"]),
        ("CREATE ACCESS METHOD m TYPE INDEX HANDLER bthandler", ["handler"]),
        ("CREATE STATISTICS s.x ON s.f(a), b FROM s.t", ["statistics object"]),
        ("ALTER TABLE ONLY s.t ALTER COLUMN a SET DEFAULT s.f()", ["default"]),
        ("ALTER TABLE s.t ADD CONSTRAINT c CHECK (s.f(a)) NOT VALID", ["check"]),
        (
            "CREATE FOREIGN TABLE s.f (a text) SERVER x OPTIONS (program 'id')",
            ["foreign table with a program or file"],
        ),
        ("CREATE TRIGGER t BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f()", ["trigger"]),
        ("CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION s.f()", ["event trigger"]),
        ("CREATE RULE r AS ON INSERT TO s.t DO ALSO SELECT s.f()", ["rule"]),
        ("CREATE POLICY p ON s.t USING (s.f())", ["policy"]),
        # What every database has.
        (
            "CREATE TABLE s.t (a int DEFAULT nextval('s.q'::regclass), b text CHECK (lower(b) = b), CHECK (a > 0))",
            [],
        ),
        (
            "CREATE TABLE s.t (a uuid DEFAULT gen_random_uuid(), b time DEFAULT now(), c date DEFAULT CURRENT_DATE)",
            [],
        ),
        ("CREATE TABLE s.t (a int, b int GENERATED ALWAYS AS (a + 1) STORED)", []),
        ("CREATE INDEX i ON s.t (lower(a)) WHERE (b IS NOT NULL)", []),
        ("CREATE DOMAIN s.d AS int CHECK (value > 0)", []),
        ("ALTER TABLE ONLY s.t ADD CONSTRAINT k PRIMARY KEY (a)", []),
        ("CREATE VIEW s.v AS SELECT 1", []),
        ("CREATE OPERATOR FAMILY s.o USING gist", []),
        ("CREATE FOREIGN DATA WRAPPER w", []),
        ("CREATE PROCEDURAL LANGUAGE plpgsql", []),
    ],
)
def test_what_can_run(text: str, code: list[str]) -> None:
    assert list(rule(Statement(text.encode(), 0, 1)).code) == code


def test_it_is_counted() -> None:
    reading = read(
        Text(
            hostile.hostile_dump(
                "CREATE FUNCTION public.f(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';\n\n"
                "CREATE TABLE public.u (a integer CHECK (public.f(a) > 0), b integer CHECK (public.f(b) > 0));"
            )
        )
    )
    list(reading)
    assert dict(reading.summary.code) == {"function": 1, "check": 2}


def test_the_summary_in_words() -> None:
    code = CodeRun(constructs={"check": 2, "function": 1, "index": 3}, role="postgres", superuser=True)
    assert code.summary == (
        'code in this dump (2 checks, 1 function, 3 indexes) can run as superuser "postgres" during the restore'
    )
    assert code.model_copy(update={"role": "app", "superuser": False}).summary == (
        'code in this dump (2 checks, 1 function, 3 indexes) can run with the rights of role "app" during the restore'
    )
