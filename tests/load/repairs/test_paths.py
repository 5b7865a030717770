"""Indexes, views and constraints whose functions count on a search path."""

from __future__ import annotations

import pytest
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.events import Caution
from lastgood.load.repairs import Rules
from lastgood.load.repairs.paths import called_functions
from lastgood.postgres.statistics import analyze
from tests.load.repairs.stage import Stage, repaired

MAJORS = (15, 16, 17, 18)
# norm2 finds the table through the search path; the planner inlines none of it.
BODY = """
CREATE SCHEMA app;
CREATE FUNCTION app.norm2(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RETURN (SELECT v FROM lookup WHERE k = t); END$$;
CREATE FUNCTION app.norm2(t integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RETURN (SELECT v FROM lookup LIMIT 1); END$$;
CREATE TABLE app.lookup (k text, v text);
CREATE TABLE app.word (t text);
CREATE VIEW app.normal AS SELECT app.norm2(word.t) AS t FROM app.word;
CREATE MATERIALIZED VIEW app.words AS SELECT normal.t FROM app.normal WITH NO DATA;
COPY app.lookup (k, v) FROM stdin;
A	a
\\.
COPY app.word (t) FROM stdin;
A
\\.
"""
INDEX = "CREATE INDEX word_idx ON app.word USING btree (app.norm2(t));\n"
REFRESH = "REFRESH MATERIALIZED VIEW app.words;\n"
NEEDS = "a function that it calls uses unqualified names; "


def why(stage: Stage, path: str, *functions: str) -> str:
    if stage.server.major < 17:
        return f"{NEEDS}done with the search path {path}"
    return f"{NEEDS}{', '.join(functions)} had the search path {path} for the duration of this command only"


@pytest.mark.postgres(*MAJORS)
def test_an_index_and_a_view_get_the_live_databases_search_path(stage: Stage) -> None:
    loaded = stage.load(BODY + INDEX + REFRESH, Rules(search_path="app, public"))
    assert repaired(loaded) == [
        ("index app.word_idx", why(stage, "app, public", "app.norm2(integer)", "app.norm2(text)")),
        ("refresh on app.words", why(stage, "app, public", "app.norm2(text)")),
    ]
    assert stage.rows("SELECT t FROM app.words") == [("a",)]
    assert stage.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'app.word_idx'::regclass") == [(True,)]
    assert stage.rows("SELECT DISTINCT proconfig FROM pg_proc WHERE proname = 'norm2'") == [(None,)]
    with stage.connect() as connection:
        reason = analyze(connection, sql.Identifier("app", "word"))
        assert reason == 'relation "lookup" does not exist; ANALYZE fails there in the live database, too'
        assert analyze(connection, sql.Identifier("app", "lookup")) is None
        connection.execute("CREATE TABLE app.code (t text); INSERT INTO app.code VALUES ('x')")
        connection.execute("CREATE STATISTICS app.number ON (t::int), t FROM app.code")
        assert analyze(connection, sql.Identifier("app", "code")) == (
            'invalid input syntax for type integer: "x"; ANALYZE fails there in the live database, too'
        )
    assert stage.cautions[-1] == Caution(f"the planner has no statistics of app.word: {reason}")


@pytest.mark.postgres(15, 18)
def test_where_no_search_path_helps_the_servers_error_stands(stage: Stage) -> None:
    message, hint = stage.fails(BODY + INDEX)
    offset = (stage.folder / "good.sql").read_text().index("CREATE INDEX")
    assert message == (
        f'cannot load line 29 of "good.sql" (byte {offset}, index app.word_idx): relation "lookup" does not exist '
        "[SQLSTATE 42P01]"
    )
    assert hint == (
        "A table or view that the command needs does not exist. Run lastgood points to choose another restore point."
    )
    assert stage.rows("SELECT DISTINCT proconfig FROM pg_proc WHERE proname = 'norm2'") == [(None,)]


@pytest.mark.postgres(15, 18)
def test_strict_repairs_nothing(stage: Stage) -> None:
    _, hint = stage.fails(BODY + INDEX, Rules(strict=True, search_path="app, public"))
    assert hint == (
        "A table or view that the command needs does not exist. Run lastgood points to choose another restore point. "
        "Without --strict it is repaired if possible, and the report lists the repair."
    )


def test_calls_are_found_wherever_they_stand() -> None:
    text = b"CREATE INDEX i ON s.t (s.f(a), (g(h(b)) || 'x')) WHERE s.f(c) > 0"
    assert called_functions(text) == (Relation("s", "f"), Relation("", "g"), Relation("", "h"))
    assert called_functions(b"this is not SQL") == ()


@pytest.mark.postgres(*MAJORS)
def test_a_column_that_a_function_computes_from_what_the_path_finds(stage: Stage) -> None:
    text = """
CREATE SCHEMA app;
CREATE FUNCTION app.half(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$SELECT twice(i) / 4$$;
CREATE FUNCTION app.twice(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$SELECT 2 * i$$;
CREATE TABLE app.t (i integer, h integer GENERATED ALWAYS AS (app.half(i)) STORED);
CREATE TABLE app.u (i integer);
COPY app.t (i) FROM stdin;
8
\\.
COPY app.u (i) FROM stdin;
9
\\.
"""
    loaded = stage.load(text, Rules(search_path="app"))
    assert repaired(loaded) == [("table app.t", f"{NEEDS}done with the search path app")]
    assert stage.rows("SELECT i, h FROM app.t") == [(8, 4)]
