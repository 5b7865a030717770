"""Databases with extensions that make tables: their restore points go back, and nothing is lost without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from lastgood import rollback
from lastgood.checklist import Override
from lastgood.context import Context
from lastgood.errors import Failed, Refused
from lastgood.events import Caution, Event, Note
from lastgood.members import Deviation, reference
from lastgood.members.parts import parts
from lastgood.members.tables import member_tables
from lastgood.members.untrusted import is_inert
from lastgood.plan.plan import CodePolicy, Request
from lastgood.plan.unfinished import unfinished
from lastgood.points.dump_point import take
from lastgood.points.manifest import manifest_path
from lastgood.postgres import clock, database, lock
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.mark import REFERENCE, Mark
from lastgood.restore import restore
from lastgood.run.report import Report
from tests.acceptance.test_rollback import Stage
from tests.support.same_database import assert_same_text, dump

pytestmark = [pytest.mark.extended, pytest.mark.postgres(15, 18)]


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Stage:
    """An empty live database."""
    live = new_database()
    return Stage(server, live, Request(server.target(live), store, tmp_path / "state"))


def make(stage: Stage, *statements: str) -> None:
    with stage.server.target(stage.live).connect() as connection:
        connection.execute("SET search_path = public")
        for statement in statements:
            connection.execute(statement.encode())


def there_and_back(stage: Stage, folder: Path) -> Report:
    """Backs up, rolls back, and compares with what was replaced: pg_dump writes the same of both."""
    take(stage.request.target, stage.request.store)
    report = stage.rollback()
    stage.open_kept(report.kept)
    assert_same_text(stage.server, report.kept, stage.live, folder)
    return report


def test_a_policy_of_an_extension_is_no_part_of_a_restore_point(stage: Stage, tmp_path: Path) -> None:
    make(stage, "CREATE EXTENSION minipol", "INSERT INTO minipol.job VALUES (1, 'x')")
    there_and_back(stage, tmp_path)
    assert stage.value("SELECT count(*) FROM pg_policy") == 1
    dump(stage.server, stage.live, stage.request.store / "plain.sql")
    restore(stage.request.target, stage.request.store, "plain.sql", f"{stage.live}_copy")
    assert stage.value("SELECT cmd FROM minipol.job", database=f"{stage.live}_copy") == "x"


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize("options", [(), ("--format=custom",), ("--inserts",)], ids=["plain", "custom", "inserts"])
def test_rows_of_an_extensions_tables_go_in_as_their_keys_need(
    stage: Stage, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """By the alphabet, and by their size, the child comes first."""
    make(
        stage,
        "CREATE EXTENSION minifk",
        "INSERT INTO parent_conf SELECT generate_series(1, 50)",
        "INSERT INTO child_conf SELECT g, 1 + g % 50 FROM generate_series(1, 100000) g",
    )
    dump(stage.server, stage.live, stage.request.store / "point", *options)
    restore(stage.request.target, stage.request.store, "point", f"{stage.live}_copy")
    assert_same_text(stage.server, stage.live, f"{stage.live}_copy", tmp_path)


@pytest.mark.parametrize("options", [("--exclude-table-data=built*",), ("--inserts",)])
def test_an_extensions_table_that_is_empty_or_not_configured_for_dumps(
    stage: Stage, tmp_path: Path, options: tuple[str, ...]
) -> None:
    make(stage, "CREATE EXTENSION minibuilt", "DELETE FROM built_child", "DELETE FROM built")
    dump(stage.server, stage.live, stage.request.store / "point", *options)
    restore(stage.request.target, stage.request.store, "point", f"{stage.live}_copy")
    assert stage.value("SELECT count(*) FROM public.built", database=f"{stage.live}_copy") == (
        0 if "--inserts" in options else 2
    )


def test_rows_that_extensions_bring_along_give_way_before_those_that_they_reference(
    stage: Stage, tmp_path: Path
) -> None:
    make(stage, "CREATE EXTENSION minibuilt", "UPDATE built_child SET v = 'changed'", "INSERT INTO built VALUES (3)")
    report = there_and_back(stage, tmp_path)
    why = "of its extension's script were replaced by those of the restore point"
    assert [(each.what, each.why) for each in report.repaired] == [
        ("rows of public.built_child", f"1 row {why}"),
        ("rows of public.built", f"2 rows {why}"),
    ]


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize("options", [(), ("--inserts",), ("--column-inserts", "--disable-triggers")])
def test_two_files_have_the_rows_of_an_extensions_table(stage: Stage, tmp_path: Path, options: tuple[str, ...]) -> None:
    make(
        stage,
        "CREATE EXTENSION minitab",
        "CREATE EXTENSION minimax",
        "INSERT INTO minitab_conf VALUES (2, 'mine', false)",
        "SELECT setval('mseqconf', 43)",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
    )
    folder = stage.request.store / "both"
    folder.mkdir()
    dump(stage.server, stage.live, folder / "schema.sql", "--schema-only")
    dump(stage.server, stage.live, folder / "data.sql", "--data-only", *options)
    restore(stage.request.target, stage.request.store, "both", f"{stage.live}_copy")
    assert_same_text(stage.server, stage.live, f"{stage.live}_copy", tmp_path)
    (tmp_path / "again").mkdir()
    report = rollback.run(rollback.plan(stage.request))
    stage.open_kept(report.kept)
    assert_same_text(stage.server, report.kept, stage.live, tmp_path / "again")


def test_rows_that_neither_a_file_nor_an_extension_has_a_table_for_are_left_out(stage: Stage, tmp_path: Path) -> None:
    make(
        stage, "CREATE EXTENSION minitab", "CREATE TABLE t (id int)", "CREATE SCHEMA auth", "CREATE TABLE auth.users ()"
    )
    make(stage, "CREATE SEQUENCE auth.ids", "INSERT INTO auth.users DEFAULT VALUES")
    folder = stage.request.store / "both"
    folder.mkdir()
    dump(stage.server, stage.live, folder / "schema.sql", "--schema-only", "--exclude-schema=auth", "--extension=*")
    dump(stage.server, stage.live, folder / "data.sql", "--data-only")
    plan = rollback.plan(stage.request).plan
    assert [(each.code, each.text) for each in plan.refusals] == [
        (
            "rows_without_table",
            "the restore point has rows of auth.users, auth.ids, but no such table: it cannot replace a whole database",
        )
    ]
    report = restore(stage.request.target, stage.request.store, "both", f"{stage.live}_copy")
    rows, position = [each for each in report.skipped if "auth" in each.what]
    assert (rows.what, rows.why) == (
        "rows of auth.users",
        "neither the files of the dump nor their extensions create this table",
    )
    assert position.what == "sequence position on auth.ids"


HUNG = (
    "CREATE EXTENSION minitab",
    "INSERT INTO minitab_data VALUES (1, 'user row')",
    "INSERT INTO minitab_conf VALUES (2, 'mine', false)",
    "CREATE TABLE swallowed (id serial PRIMARY KEY, t text NOT NULL DEFAULT 'x')",
    "INSERT INTO swallowed VALUES (1), (2)",
    "ALTER EXTENSION minitab ADD TABLE swallowed",
    "CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$",
    "CREATE TRIGGER aud AFTER INSERT ON minitab_conf FOR EACH ROW EXECUTE FUNCTION tf()",
    "CREATE INDEX my_idx ON minitab_conf (v)",
    "ALTER TABLE minitab_conf ADD CONSTRAINT ck CHECK (v <> '')",
    "ALTER TABLE minitab_data ADD COLUMN extra text DEFAULT 'z'",
    "CREATE TABLE t (id int PRIMARY KEY)",
)
CAUTION = (
    'no dump holds the changes to extension "minitab": table public.swallowed (added), '
    "column public.minitab_data.extra (added), column default public.minitab_data.extra (added), "
    "constraint ck on public.minitab_conf (added), index public.my_idx (added), "
    "trigger aud on public.minitab_conf (added)"
)


Everything = tuple[dict[tuple[str, str], str], list[list[TupleRow]]]


def assert_same(found: Everything, before: Everything) -> None:
    assert {
        key: found[0].get(key) for key in found[0].keys() | before[0] if found[0].get(key) != before[0].get(key)
    } == {}
    assert found[1] == before[1]


def everything(stage: Stage, database: str) -> Everything:
    """Each part of each extension with its definition, and the rows of its tables."""
    with stage.server.target(database).connect() as connection:
        found = {key: part.definition for key, part in parts(connection).items()}
        rows = [
            connection.execute(sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(table.name)).fetchall()
            for table in member_tables(connection)
        ]
    return found, rows


def test_dependents_of_extension_members_are_reported_and_restored(stage: Stage, tmp_path: Path) -> None:
    make(stage, *HUNG)
    emitted: list[Event] = []
    point = take(stage.request.target, stage.request.store, context=Context(emitted.append))
    rows = "table public.minitab_data (1 row), table public.swallowed (2 rows)"
    assert [each.text for each in emitted if isinstance(each, Caution)] == [f"{CAUTION}, {rows}"]
    assert point.manifest is not None and point.manifest.members is not None
    plan = rollback.plan(stage.request).plan
    assert not plan.refusals
    assert [each.text for each in plan.findings if each.item == "extensions"] == [
        CAUTION.replace('minitab":', 'minitab"; they are restored from the manifest:'),
        'no dump holds rows of extension "minitab": table public.minitab_data (1 row); they are copied from the live '
        "database as they are now",
        'no dump holds rows of extension "minitab": table public.swallowed (2 rows); they are copied from the live '
        "database as they are now",
    ]
    assert [(each.name, each.live_rows, each.point_rows, each.not_in_dumps) for each in plan.loss] == [
        ("minitab_conf", 2, 2, 0),
        ("minitab_data", 1, 1, 1),
        ("swallowed", 2, 2, 2),
        ("t", 0, 0, 0),
    ]
    before = everything(stage, stage.live)
    make(stage, "DROP INDEX my_idx")
    report = stage.rollback()
    assert_same(everything(stage, stage.live), before)
    assert ("index public.my_idx", "no dump holds it: restored as it was") in [
        (each.what, each.why) for each in report.repaired
    ]
    stage.open_kept(report.kept)
    copy = f"{stage.live}_copy"
    emitted.clear()
    restore(stage.request.target, stage.request.store, point.path.name, copy, Context(emitted.append))
    assert everything(stage, copy)[0] == before[0]
    assert f'no dump holds rows of extension "minitab": {rows.partition(", ")[0]}; they are not restored' in [
        each.text for each in emitted if isinstance(each, Caution)
    ]


def test_a_dump_of_another_program_gets_from_the_live_database_what_it_does_not_hold(
    stage: Stage, tmp_path: Path
) -> None:
    make(stage, *HUNG)
    dump(stage.server, stage.live, stage.request.store / "plain.sql")
    before = everything(stage, stage.live)
    stage.rollback()
    assert_same(everything(stage, stage.live), before)


MAXIMAL = (
    "CREATE EXTENSION minimax",
    "INSERT INTO mconf VALUES (1, 'x')",
    "INSERT INTO mdata VALUES (1, 'y')",
    "CREATE TABLE other (id int PRIMARY KEY)",
    "INSERT INTO other VALUES (1)",
    "ALTER TABLE mconf ADD COLUMN more text DEFAULT 'z', ADD CONSTRAINT ck CHECK (v <> ''), ALTER v SET NOT NULL",
    "ALTER TABLE mconf ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES other, ALTER v SET DEFAULT 'd'",
    "ALTER TABLE mdata ADD UNIQUE (v), DROP CONSTRAINT mdata_pkey",
    "ALTER TABLE mdata ALTER id DROP NOT NULL",
    "CREATE RULE quiet AS ON DELETE TO mconf DO ALSO NOTHING",
    "ALTER TABLE mconf ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY pol ON mconf FOR SELECT TO public USING (true)",
    "CREATE STATISTICS st ON id, v FROM mconf",
    "DROP TRIGGER own_trg ON mconf",
    "CREATE PUBLICATION pub FOR TABLE mconf WHERE (id > 0)",
    "COMMENT ON TABLE mconf IS 'a comment'",
    "COMMENT ON COLUMN mconf.v IS 'another'",
    "ALTER FUNCTION mfun(int) IMMUTABLE STRICT PARALLEL SAFE COST 7 SECURITY DEFINER SET search_path = public, pg_temp",
    "CREATE OR REPLACE FUNCTION mtrg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    "ALTER FUNCTION mtrg() OWNER TO pg_monitor",
    "ALTER TABLE mdata OWNER TO pg_monitor",
    "ALTER DOMAIN mdom ADD CONSTRAINT small CHECK (value < 100)",
    "ALTER DOMAIN mdom SET DEFAULT 5",
    "ALTER TYPE menum ADD VALUE 'aa' AFTER 'a'",
    "CREATE TABLE uses (e menum DEFAULT 'aa', d mdom, i int GENERATED ALWAYS AS (mfun(1)) STORED)",
    "INSERT INTO uses VALUES ('aa', 3)",
    "ALTER SEQUENCE mseq INCREMENT 5",
    "SELECT setval('mseq', 42), setval('mseqconf', 43)",
    "CREATE OR REPLACE VIEW mview AS SELECT id, upper(v) AS v FROM mdata",
    "ALTER TEXT SEARCH CONFIGURATION mts ALTER MAPPING FOR asciiword WITH simple",
    "CREATE FUNCTION ufun() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "ALTER EXTENSION minimax ADD FUNCTION ufun()",
    'CREATE TABLE madded (id int PRIMARY KEY, v text COLLATE "C")',
    "INSERT INTO madded VALUES (1, 'z')",
    "CREATE VIEW mreads AS SELECT id, v FROM madded",
    "ALTER EXTENSION minimax ADD TABLE madded",
    "ALTER EXTENSION minimax ADD VIEW mreads",
    "CREATE INDEX ON mmat (v)",
    "ALTER EXTENSION minimax DROP TABLE mpart",
)


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_everything_that_can_be_changed_of_members_comes_back(stage: Stage, tmp_path: Path, own: bool) -> None:
    make(stage, *MAXIMAL)
    before = everything(stage, stage.live)
    if own:
        there_and_back(stage, tmp_path)
    else:
        dump(stage.server, stage.live, stage.request.store / "plain.sql")
        stage.rollback()
    assert_same(everything(stage, stage.live), before)
    assert stage.value("SELECT nextval('public.mseq')") == 47


def test_what_can_not_be_put_back_refuses_the_rollback_before_anything_is_built(stage: Stage, tmp_path: Path) -> None:
    make(stage, "CREATE EXTENSION minimax", "ALTER OPERATOR FAMILY mfam USING btree ADD OPERATOR 1 < (int4, int4)")
    take(stage.request.target, stage.request.store)
    refused = rollback.plan(stage.request).plan.refused()
    assert refused is not None
    assert (refused.exit_status, refused.message, refused.hint) == (
        3,
        f'cannot roll back "{stage.live}": no dump holds the changes to extension "minimax", and lastgood cannot '
        "restore them: operator family public.mfam USING btree (changed)",
        "Copy these changes by hand from the kept database after the switch: lastgood status names it. Or "
        "override it: --override extensions --reason TEXT",
    )


def test_an_override_leaves_what_can_not_be_put_back_in_the_kept_database(stage: Stage, tmp_path: Path) -> None:
    make(
        stage,
        "CREATE EXTENSION minimax",
        "CREATE INDEX my_idx ON mconf (v)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "ALTER TABLE mdata ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES other",
        "ALTER OPERATOR FAMILY mfam USING btree ADD OPERATOR 1 < (int4, int4)",
    )
    take(stage.request.target, stage.request.store)
    # Rows that break a key of the restore point's: they are in no dump, and come as they are now.
    make(stage, "ALTER TABLE mdata DROP CONSTRAINT fk", "INSERT INTO mdata VALUES (5, 'later')")
    override = Override(item="extensions", reason="a trial", by="us", at=datetime.now(UTC))
    stage.request = replace(stage.request, overrides=(override,))
    report = stage.rollback()
    stays = "no dump holds it, and it was not restored: it remains only in the kept database"
    why = 'insert or update on table "mdata" violates foreign key constraint "fk"'
    assert [(each.what, each.why) for each in report.repaired] == [
        ("rows of public.mdata", "no dump holds them: 1 row copied from the live database"),
        ("foreign key fk on public.mdata", f"{stays} ({why})"),
        ("index public.my_idx", "no dump holds it: restored as it was"),
        ("operator family public.mfam USING btree", stays),
    ]


def test_without_an_override_such_a_run_stops_and_the_live_database_is_as_it_was(stage: Stage) -> None:
    make(
        stage,
        "CREATE EXTENSION minimax",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "ALTER TABLE mdata ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES other",
    )
    take(stage.request.target, stage.request.store)
    make(stage, "ALTER TABLE mdata DROP CONSTRAINT fk", "INSERT INTO mdata VALUES (5, 'later')")
    with pytest.raises(Failed) as raised:
        stage.rollback()
    assert (raised.value.exit_status, raised.value.message, raised.value.hint) == (
        5,
        'cannot restore foreign key fk on public.mdata of extension "minimax": insert or update on table "mdata" '
        'violates foreign key constraint "fk"',
        "Roll back without it and leave it in the kept database: --override extensions --reason TEXT",
    )
    assert stage.names() == [stage.live]
    assert stage.value("SELECT v FROM public.mdata") == "later"


def test_of_what_can_not_be_looked_up_counts_what_was_written_later(stage: Stage, tmp_path: Path) -> None:
    make(stage, "CREATE EXTENSION minitab", "INSERT INTO minitab_data VALUES (1, 'mine')")
    make(stage, "CREATE INDEX my_idx ON minitab_data (v)", "ALTER TABLE minitab_conf ADD mine text")
    make(stage, "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'minitab'")
    emitted: list[Event] = []
    take(stage.request.target, stage.request.store, context=Context(emitted.append))
    changed = (
        'no dump holds the changes to extension "minitab": column public.minitab_conf.mine (added), '
        "index public.my_idx (added)"
    )
    why = (
        'cannot determine whether extension "minitab" was changed: extension "minitab" has no installation script nor '
        'update path for version "0.9"'
    )
    assert [each.text for each in emitted if isinstance(each, Caution | Note)] == [
        f"{changed}, table public.minitab_data (1 row)",
        why,
    ]
    plan = rollback.plan(stage.request).plan
    assert [each.text for each in plan.findings if each.item == "extensions"] == [
        changed.replace('minitab":', 'minitab"; they are restored from the manifest:'),
        why,
        'no dump holds rows of extension "minitab": table public.minitab_data (1 row); they are copied from the live '
        "database as they are now",
    ]
    stage.rollback()
    assert stage.value("SELECT v FROM public.minitab_data") == "mine"
    assert stage.value("SELECT to_regclass('public.my_idx')::text") == "public.my_idx"


def test_a_role_without_createdb_gets_an_unknown_result(stage: Stage) -> None:
    make(
        stage,
        "CREATE EXTENSION minitab",
        "CREATE ROLE reader LOGIN",
        "GRANT pg_read_all_data TO reader",
        "GRANT USAGE ON SCHEMA public TO reader",
    )
    try:
        emitted: list[Event] = []
        take(stage.server.target(stage.live, user="reader"), stage.request.store, context=Context(emitted.append))
        assert [each.text for each in emitted if isinstance(each, Note)] == [
            'cannot determine whether extension "minitab" was changed: permission denied to create database'
        ]
    finally:
        make(stage, "DROP OWNED BY reader", "DROP ROLE reader")


def test_nothing_is_left_of_what_was_looked_up_and_of_what_a_killed_process_left(stage: Stage) -> None:
    stale = f"{reference.PREFIX}1_{stage.live}"
    with stage.maintenance() as connection:
        mark = Mark(
            role="copy",
            run="20261129-031500-9f3c1a70",
            live=stage.live,
            live_oid=database.describe(connection, stage.live).oid,
            point="",
            host="elsewhere",
            pid=1,
            user="nobody",
            started=clock.now(connection),
            options={"kind": REFERENCE},
        )
        model = database.describe(connection, stage.live)
        database.create_like(connection, stale, model, mark.text(), live=stage.live)
        left = unfinished(connection, stage.request.target, None)
        assert [(each.run, each.commands) for each in left] == [(mark.run, (f"lastgood abort {mark.run}",))]
        with stage.maintenance() as other:
            lock.claim_copy(other, stale)
            assert unfinished(connection, stage.request.target, None) == []
    make(stage, "CREATE EXTENSION minitab")
    take(stage.request.target, stage.request.store)
    with stage.maintenance() as connection:
        names = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
    assert [name for name in names if name.startswith(reference.PREFIX)] == []


def test_a_manifest_runs_no_command_that_no_survey_writes(stage: Stage) -> None:
    make(stage, "CREATE EXTENSION minitab", "CREATE INDEX my_idx ON minitab_conf (v)")
    point = take(stage.request.target, stage.request.store)
    path = manifest_path(point.path)
    for bad in ("ALTER SYSTEM SET work_mem = 1", "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/evil'"):
        text = json.loads(path.read_text())
        text["members"]["departures"][0]["commands"] = [bad]
        path.write_text(json.dumps(text))
        where = (stage.request.target, stage.request.store, point.path.name, f"{stage.live}_copy")
        with pytest.raises(Refused) as refused:
            restore(*where)
        assert (refused.value.exit_status, refused.value.message, refused.value.hint) == (
            3,
            f'cannot restore "{point.path.name}": no dump holds the changes to extension "minitab", and the manifest '
            "that has them is not signed: they could run code with your rights: index public.my_idx",
            "If you trust the code: --trust-code REASON",
        )
        with pytest.raises(Failed) as raised:
            restore(*where, policy=CodePolicy(trusted="a test"))
        assert raised.value.message == (
            'cannot restore index public.my_idx of extension "minitab": the manifest has a command that '
            f"lastgood does not write: {bad}"
        )


# What a manifest could do with each: the server executes a function of it, or runs it as a superuser later.
FORGED = (
    "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (f()) TO (5)",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    "CREATE TRIGGER t BEFORE INSERT ON public.minitab_conf FOR EACH ROW EXECUTE FUNCTION public.f()",
    "CREATE OR REPLACE VIEW public.v AS SELECT rolpassword FROM pg_catalog.pg_authid",
    "ALTER TABLE public.minitab_conf ADD COLUMN c int DEFAULT public.f()",
    "ALTER TABLE public.minitab_conf ADD CONSTRAINT c CHECK (public.f() > 0)",
    "ALTER FUNCTION public.dblink_exec(text, text) SECURITY DEFINER",
    "ALTER FUNCTION pg_catalog.pg_read_file(text) COST 1",
    "CREATE INDEX ON public.minitab_conf (public.f(v))",
    "ALTER DATABASE postgres OWNER TO PUBLIC",
    "COMMENT ON DATABASE postgres IS 'forged'",
    'COMMENT ON SCHEMA public IS \'{"tool":"lastgood"}\'',
    "ALTER EXTENSION minitab ADD TABLE public.t",
    "DROP SCHEMA public CASCADE",
)


@pytest.mark.parametrize("command", FORGED)
def test_a_part_that_could_run_code_is_not_inert(command: str) -> None:
    part = Deviation(extension="minitab", kind="member", identity="x", change="added", digest="", commands=(command,))
    assert not is_inert(part)


# Functions of the restore point that the server would run as the owner of an extension's table: in a cast of a foreign
# key, and for a constant of a policy that is read as a value of a type of the restore point.
AS_ITS_OWNER = """--
-- PostgreSQL database dump
--
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE EXTENSION IF NOT EXISTS minitab WITH SCHEMA public;
CREATE SCHEMA e;
CREATE FUNCTION e.act() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  CREATE ROLE hostile_member;
  RETURN 1;
EXCEPTION WHEN OTHERS THEN
  RETURN 1;
END $$;
CREATE FUNCTION e.imm(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN e.act(); END';
CREATE DOMAIN e.d AS int CONSTRAINT positive CHECK (e.imm(VALUE) > 0);
CREATE TYPE e.c AS (a e.d);
CREATE TYPE e.en AS ENUM ('a', 'b');
CREATE FUNCTION e.to_int(e.en) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN e.act(); END';
CREATE CAST (e.en AS int) WITH FUNCTION e.to_int(e.en) AS IMPLICIT;
CREATE TABLE e.t (c e.c, e e.en, i int);
CREATE FUNCTION e.add() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO e.t (e) VALUES (''a''); RETURN 1; END';
CREATE MATERIALIZED VIEW e.m AS SELECT e.add() AS a WITH NO DATA;
COPY e.t (c, e, i) FROM stdin;
\\N\t\\N\t1
\\.
{statement}
REFRESH MATERIALIZED VIEW e.m;
--
-- PostgreSQL database dump complete
--
"""
MEMBER = "public.minitab_conf"


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        (
            f"ALTER TABLE ONLY e.t ADD CONSTRAINT k FOREIGN KEY (e) REFERENCES {MEMBER}(id);",
            "permission denied for table minitab_conf [SQLSTATE 42501]",
        ),
        (
            f"CREATE POLICY p ON {MEMBER} USING (EXISTS (SELECT FROM e.t WHERE COALESCE(c, '(1)') IS NULL));",
            "must be owner of table minitab_conf [SQLSTATE 42501]",
        ),
    ],
    ids=["cast", "constant"],
)
def test_code_does_not_run_as_the_owner_of_an_extensions_table(stage: Stage, statement: str, refused: str) -> None:
    (stage.request.store / "plain.sql").write_text(AS_ITS_OWNER.format(statement=statement))
    with pytest.raises(Failed) as raised:
        restore(stage.request.target, stage.request.store, "plain.sql", f"{stage.live}_copy")
    with stage.maintenance() as connection:
        made = connection.execute("SELECT FROM pg_roles WHERE rolname = 'hostile_member'").fetchall()
        connection.execute("DROP ROLE IF EXISTS hostile_member")
    assert made == []
    assert raised.value.message.endswith(refused)
