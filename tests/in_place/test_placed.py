"""Event triggers and objects without a schema, found in the text of a restore point."""

from __future__ import annotations

from lastgood.dump.rulings import schema_of
from lastgood.dump.script import ScriptStep
from lastgood.dump.summary import DumpSummary
from lastgood.in_place.definitions.against_facts import schema_of_object
from lastgood.in_place.definitions.dumped import definitions_in
from lastgood.in_place.definitions.sorting import event_triggers, is_tie, outside, placed, schemas
from lastgood.in_place.ties import EventTrigger

HEAD = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
"""
TAIL = "\n--\n-- PostgreSQL database dump complete\n--\n"


def summary_of(text: str) -> DumpSummary:
    return definitions_in((HEAD + text + TAIL).encode())


def test_the_event_triggers_of_the_schemas_with_their_conditions_states_and_owners() -> None:
    summary = summary_of(
        """
        CREATE EVENT TRIGGER watch ON ddl_command_end
          WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION public.watched();
        ALTER EVENT TRIGGER watch ENABLE ALWAYS;
        ALTER EVENT TRIGGER watch OWNER TO watcher;
        COMMENT ON EVENT TRIGGER watch IS 'of the application';
        CREATE EVENT TRIGGER pgrst ON sql_drop EXECUTE FUNCTION extensions.pgrst();
        ALTER EVENT TRIGGER pgrst OWNER TO supabase_admin;
        """
    )
    assert event_triggers(placed(summary), ("public",)) == (
        EventTrigger(
            name="watch",
            event="ddl_command_end",
            tags=("CREATE TABLE", "ALTER TABLE"),
            function_schema="public",
            function="watched",
            enabled="A",
            comment="of the application",
            owner="watcher",
        ),
    )


def test_the_schemas_of_a_point_with_their_owners() -> None:
    summary = summary_of(
        """
        CREATE SCHEMA auth;
        ALTER SCHEMA auth OWNER TO supabase_admin;
        CREATE SCHEMA "Odd s";
        CREATE TABLE public.t (a int);
        """
    )
    assert schemas(summary) == {"auth": "supabase_admin", "Odd s": None, "public": None}


def test_casts_and_transforms_of_the_schemas_are_named() -> None:
    summary = summary_of(
        """
        CREATE CAST (public.mood AS text) WITH INOUT;
        CREATE CAST (auth.level AS text) WITH INOUT;
        """
    )
    assert outside(placed(summary), ("public",)) == ["cast (public.mood AS text)"]


def test_what_is_staged_and_what_is_a_tie() -> None:
    summary = summary_of(
        """
        CREATE TABLE public.t (a int);
        ALTER TABLE public.t OWNER TO postgres;
        CREATE TRIGGER a BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE TRIGGER b BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.f();
        CREATE POLICY p ON storage.objects USING (true);
        COMMENT ON SCHEMA public IS 'x';
        COMMENT ON TABLE public.t IS 'x';
        GRANT USAGE ON SCHEMA public TO anon;
        GRANT SELECT ON TABLE public.t TO anon;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon;
        ALTER PUBLICATION p ADD TABLE ONLY public.t;
        """
    )
    found = list(placed(summary))
    assert [(each.schema, is_tie(each, ("public",))) for each in found] == [
        ("public", False),
        ("public", False),
        ("public", False),
        ("auth", True),
        ("storage", True),
        ("public", True),
        ("public", False),
        ("public", True),
        ("public", False),
        (None, True),
        ("public", True),
    ]


def test_the_schema_of_each_kind_of_object() -> None:
    summary = summary_of(
        """
        CREATE SCHEMA "Odd s";
        CREATE FUNCTION "Odd s".f(public.t) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE TYPE "Odd s".mood AS ENUM ('a');
        CREATE SEQUENCE "Odd s".s;
        CREATE VIEW "Odd s".v AS SELECT 1 FROM public.t;
        CREATE INDEX i ON "Odd s".t USING btree (a);
        ALTER TABLE ONLY "Odd s".t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES public.t(a);
        COMMENT ON COLUMN "Odd s".t.a IS 'x';
        COMMENT ON FUNCTION "Odd s".f(public.t) IS 'x';
        REVOKE ALL ON FUNCTION "Odd s".f(public.t) FROM PUBLIC;
        CREATE TEXT SEARCH CONFIGURATION "Odd s".c (PARSER = pg_catalog."default");
        """
    )
    commands = [item.command for item in summary.script.items if isinstance(item, ScriptStep)]
    found = [schema_of(command) for command in commands if command.kind != "setting"]
    assert found == [None, *["Odd s"] * 10]


def test_the_schema_in_the_identity_of_an_object() -> None:
    assert schema_of_object("table", 'public."a.b"') == "public"
    assert schema_of_object("column", '"Odd ""s"."t".a') == 'Odd "s'
    assert schema_of_object("trigger", '"x on y.z" on public.t') == "public"
    assert schema_of_object("function", "public.f(integer, auth.level)") == "public"
    assert schema_of_object("cast", "(public.mood AS text)") is None
    assert schema_of_object("event trigger", "watch") is None
