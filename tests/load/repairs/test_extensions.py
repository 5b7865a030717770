"""Extensions that are not the same here as where the dump was made."""

from __future__ import annotations

import pytest

from lastgood.facts import LanguageFacts
from lastgood.load.repairs import Rules
from tests.load.repairs.stage import Stage, repaired

MAJORS = (15, 16, 17, 18)
PLPGSQL = "CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA {};\n"


@pytest.mark.postgres(*MAJORS)
def test_a_version_that_is_not_there_gives_way_to_the_default(stage: Stage) -> None:
    stage.execute("DROP EXTENSION plpgsql")
    loaded = stage.load(PLPGSQL.format("pg_catalog"), Rules(extensions={"plpgsql": "9.9"}))
    assert repaired(loaded) == [
        ("extension plpgsql", "version 9.9 is not available on this server; version 1.0, its default, was installed")
    ]
    assert stage.rows("SELECT extversion FROM pg_extension WHERE extname = 'plpgsql'") == [("1.0",)]


@pytest.mark.postgres(*MAJORS)
def test_an_extension_goes_into_the_schema_where_it_must_be(stage: Stage) -> None:
    stage.execute("DROP EXTENSION plpgsql")
    loaded = stage.load(PLPGSQL.format("public"), Rules(extensions={"plpgsql": "1.0"}))
    moved = 'the server does not allow it in schema "public"; it was created in its own schema'
    assert repaired(loaded) == [("extension plpgsql", moved)]
    stage.execute("DROP EXTENSION plpgsql")
    loaded = stage.load(PLPGSQL.format("public"), Rules(extensions={"plpgsql": "9.9"}))
    version = "version 9.9 is not available on this server; version 1.0, its default, was installed"
    assert [why for _, why in repaired(loaded)] in ([f"{moved}; {version}"], [f"{version}; {moved}"])


@pytest.mark.postgres(15, 18)
def test_a_language_named_alone_gets_no_version(stage: Stage) -> None:
    """As dumps from before extensions name it."""
    loaded = stage.load("CREATE OR REPLACE PROCEDURAL LANGUAGE plpgsql;\n", Rules(extensions={"plpgsql": "1.0"}))
    assert repaired(loaded) == []


@pytest.mark.postgres(15, 18)
def test_a_language_named_alone_gets_the_functions_that_are_known(stage: Stage) -> None:
    server = ("pg_catalog", "plpgsql_call_handler")
    known = LanguageFacts(name="Pl Foo", trusted=True, handler=server, validator=("pg_catalog", "plpgsql_validator"))
    loaded = stage.load('CREATE OR REPLACE PROCEDURAL LANGUAGE "Pl Foo";\n', Rules(languages={"Pl Foo": known}))
    assert repaired(loaded) == []
    assert stage.rows(
        "SELECT lanpltrusted, lanplcallfoid::regproc::text, laninline::int, lanvalidator::regproc::text"
        " FROM pg_language WHERE lanname = 'Pl Foo'"
    ) == [(True, "plpgsql_call_handler", 0, "plpgsql_validator")]


def test_a_language_that_only_the_manifest_calls_trusted_stops_the_load(stage: Stage) -> None:
    known = LanguageFacts(name="pl", trusted=True, handler=("public", "plpython3_call_handler"))
    assert stage.fails("CREATE OR REPLACE PROCEDURAL LANGUAGE pl;\n", Rules(languages={"pl": known})) == (
        'cannot create the trusted language "pl": its handler "plpython3_call_handler" could give functions the rights '
        "of the server",
        "If you trust the restore point's code: --trust-code REASON",
    )


@pytest.mark.postgres(15, 18)
def test_an_extension_that_is_not_there_at_all_stops_the_load(stage: Stage) -> None:
    message, hint = stage.fails("CREATE EXTENSION IF NOT EXISTS nosuch WITH SCHEMA public;\n")
    assert message == (
        'cannot load line 13 of "good.sql" (byte 269, extension nosuch): extension "nosuch" is not available '
        "[SQLSTATE 0A000]"
    )
    assert hint == (
        "This server, or this build of it, lacks a feature. "
        "Run lastgood rollback --dry-run to see what the role or the server lacks."
    )


@pytest.mark.postgres(15, 18)
def test_strict_takes_no_other_version(stage: Stage) -> None:
    stage.execute("DROP EXTENSION plpgsql")
    message, hint = stage.fails(PLPGSQL.format("pg_catalog"), Rules(strict=True, extensions={"plpgsql": "9.9"}))
    assert message == (
        'cannot load line 13 of "good.sql" (byte 269, extension plpgsql): '
        'extension "plpgsql" has no installation script nor update path for version "9.9" [SQLSTATE 22023]'
    )
    assert hint == (
        "The server does not accept a value. Run lastgood points to choose another restore point. "
        "Without --strict it is repaired if possible, and the report lists the repair."
    )


def with_configuration(stage: Stage, condition: str) -> None:
    """Makes public.cfg a table of an extension that brings two rows along."""
    stage.execute(
        "CREATE TABLE public.cfg (id integer PRIMARY KEY, v text, own boolean)",
        "INSERT INTO public.cfg VALUES (1, 'from the extension', false), (2, 'also', false)",
        "ALTER TABLE public.cfg ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON public.cfg USING (true)",
        "ALTER EXTENSION plpgsql ADD TABLE public.cfg",
        "UPDATE pg_extension SET extconfig = ARRAY['public.cfg'::regclass::oid] WHERE extname = 'plpgsql'",
    )
    with stage.connect() as connection:
        connection.execute("UPDATE pg_extension SET extcondition = %s WHERE extconfig IS NOT NULL", [[condition]])


ROWS = """
COPY public.cfg (id, v, own) FROM stdin;
{}
\\.
CREATE POLICY mine ON public.cfg USING (true);
"""


@pytest.mark.postgres(*MAJORS)
def test_rows_of_an_extension_give_way_to_those_of_the_dump(stage: Stage) -> None:
    with_configuration(stage, "")
    loaded = stage.load(ROWS.format("1\tchanged by us\tf\n3\tours\tt"))
    assert stage.rows("SELECT id, v FROM public.cfg ORDER BY id") == [(1, "changed by us"), (3, "ours")]
    assert repaired(loaded) == [
        (
            "rows of public.cfg",
            "2 rows of its extension's script were replaced by those of the restore point",
        )
    ]
    assert loaded.skipped == {("policy mine on public.cfg", 'policy "mine" for table "cfg" already exists'): (18, 1)}


@pytest.mark.postgres(15, 18)
def test_only_rows_that_the_dump_has_all_of_give_way(stage: Stage) -> None:
    with_configuration(stage, "WHERE own")
    loaded = stage.load(ROWS.format("3\tours\tt"))
    assert stage.rows("SELECT id, v FROM public.cfg ORDER BY id") == [
        (1, "from the extension"),
        (2, "also"),
        (3, "ours"),
    ]
    assert repaired(loaded) == []


@pytest.mark.postgres(15, 18)
def test_strict_leaves_no_policy_out(stage: Stage) -> None:
    with_configuration(stage, "WHERE own")
    message, hint = stage.fails(ROWS.format("3\tours\tt"), Rules(strict=True))
    assert message == (
        'cannot load line 17 of "good.sql" (byte 323, policy mine on public.cfg): '
        'policy "mine" for table "cfg" already exists [SQLSTATE 42710]'
    )
    assert hint == (
        "An object of that name already exists. Run lastgood status to see the databases. Without --strict it is left "
        "out, and the report lists it."
    )


def test_an_object_that_no_extension_brought_is_not_left_out(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.t (i integer)")
    message, _ = stage.fails("CREATE TABLE public.t (i integer);\n")
    assert message == (
        'cannot load line 13 of "good.sql" (byte 269, table public.t): relation "t" already exists [SQLSTATE 42P07]'
    )


def test_an_index_on_an_altered_function_has_a_hint(stage: Stage) -> None:
    stage.execute(
        "CREATE FUNCTION public.fold(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN lower($1); END'",
        "CREATE FUNCTION public.fold(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN lower($1); END'",
        "ALTER EXTENSION plpgsql ADD FUNCTION public.fold(text)",
        "ALTER EXTENSION plpgsql ADD FUNCTION public.fold(text, text)",
    )
    message, hint = stage.fails(
        "CREATE TABLE public.t (name text);\nCREATE INDEX i ON public.t USING btree (public.fold(name));\n"
    )
    assert message == (
        'cannot load line 14 of "good.sql" (byte 304, index public.i): functions in index expression must be marked '
        "IMMUTABLE [SQLSTATE 42P17]"
    )
    assert hint == (
        "Run in the database that --db names: ALTER FUNCTION public.fold(text) IMMUTABLE. Then run this command again: "
        "it carries the change over from there. A dump does not hold such changes to functions of extensions."
    )
