"""Facts of real databases: what counts as content, and that settings of sessions don't."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from xxhash import xxh3_128_hexdigest, xxh3_128_intdigest

from lastgood.context import Context
from lastgood.errors import Failed, Interrupted, LastgoodError
from lastgood.events import Event, Progress
from lastgood.facts import Facts, TableFacts
from lastgood.facts.compare import compare
from lastgood.facts.objects import KINDS
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import facts_of_dump
from lastgood.facts.row_stream import digest_rows
from lastgood.facts.settled import settled
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.facts.conftest import facts, snapshot

Make = Callable[..., Target]
ALL = pytest.mark.postgres(15, 16, 17, 18)


def table(found: Facts, name: str) -> TableFacts:
    return next(one for one in found.tables if one.name == name)


def change(target: Target, statement: str) -> None:
    with target.connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute(sql.SQL(statement))


def digest_of(*lines: bytes) -> str:
    return f"{sum(map(xxh3_128_intdigest, lines)) % 2**128:032x}"


@ALL
def test_a_digest_is_the_sum_over_copy_lines(database: Make) -> None:
    target = database(
        "CREATE TABLE t (id int, v text, d timestamptz)",
        r"INSERT INTO t VALUES (1, E'tab\there', '2024-06-01 12:00:00.5+02'), (2, NULL, 'infinity'), (3, '\N', NULL)",
    )
    lines = b"1\ttab\\there\t2024-06-01 10:00:00.5+00", b"2\t\\N\tinfinity", b"3\t\\\\N\t\\N"
    found = table(facts(target), "t")
    assert found == TableFacts(
        schema_name="public",
        name="t",
        columns=("id", "v", "d"),
        rows=3,
        digest=digest_of(*lines),
        text=(xxh3_128_hexdigest(b"".join(line + b"\n" for line in lines)),),
        newest={"d": "2024-06-01 10:00:00.5+00"},
        zoned=True,
    )


@ALL
def test_settings_of_role_and_database_change_nothing(server: EmbeddedServer, database: Make) -> None:
    target = database(
        "CREATE TABLE t (a timestamptz, b interval, c float8, d bytea, e date, f money)",
        r"INSERT INTO t VALUES ('2024-06-01 12:00+00', '1 day 2 hours', 0.1 + 0.2, '\x00ff', '2024-02-03', 1.5)",
        'CREATE TABLE "Ünï" ("ß" text)',
        "INSERT INTO \"Ünï\" VALUES ('äöü')",
    )
    plain = facts(target)
    odd = {
        "TimeZone": "Pacific/Chatham",
        "DateStyle": "German, YMD",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "-5",
        "bytea_output": "escape",
        "search_path": "public",
        "client_encoding": "LATIN1",
        "quote_all_identifiers": "on",
        "row_security": "on",
    }
    with target.connect() as connection:
        for name, value in odd.items():
            setting = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(
                setting.format(
                    sql.Identifier(target.keywords["dbname"]),
                    sql.Identifier(name),
                    # search_path, a list, takes a name
                    sql.Literal(value) if name != "DateStyle" else sql.SQL("German, YMD"),
                )
            )
    assert facts(target) == plain


@ALL
def test_a_snapshot_is_required_and_settings_last_as_long_as_it(database: Make) -> None:
    target = database("CREATE TABLE t (x int)")
    with target.connect() as connection:
        message = "cannot read the facts of a database: no REPEATABLE READ transaction is open"
        with pytest.raises(LastgoodError) as error:
            facts_of_database(connection)
        assert str(error.value) == message
        connection.execute("BEGIN")
        with pytest.raises(LastgoodError) as error:
            facts_of_database(connection)
        assert str(error.value) == message
        connection.execute("ROLLBACK")
        before = connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            facts_of_database(connection)
        assert connection.execute("SELECT name, setting FROM pg_settings").fetchall() == before


@ALL
def test_one_changed_character_is_found(database: Make) -> None:
    target = database(
        "CREATE TABLE t (id int, v text)",
        "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i",
        "CREATE TABLE other (id int)",
    )
    before = facts(target)
    change(target, "UPDATE t SET v = overlay(v placing 'x' from 7) WHERE id = 500")
    after = facts(target)
    differences = compare(before, after).differences
    assert [(one.kind, one.what) for one in differences] == [("content", "public.t")]
    change(target, "UPDATE t SET v = md5(id::text) WHERE id = 500")
    assert compare(before, facts(target)).exact


@ALL
def test_pairs_do_not_cancel(database: Make) -> None:
    target = database("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a'), ('a'), ('b'), ('b'), ('c')")
    before = table(facts(target), "t").digest
    change(target, "TRUNCATE t")
    change(target, "INSERT INTO t VALUES ('c'), ('d'), ('d'), ('e'), ('e')")
    assert table(facts(target), "t").digest != before
    change(target, "TRUNCATE t")
    change(target, "INSERT INTO t VALUES ('b'), ('a'), ('c'), ('b'), ('a')")
    assert table(facts(target), "t").digest == before


@ALL
def test_parents_leaves_and_roots(database: Make) -> None:
    target = database(
        "CREATE TABLE par (id int); CREATE TABLE chi (extra int) INHERITS (par)",
        "INSERT INTO par VALUES (1); INSERT INTO chi VALUES (2, 3), (4, 5)",
        "CREATE TABLE p (id int, d date) PARTITION BY RANGE (d)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE p2 PARTITION OF p DEFAULT PARTITION BY LIST (id)",
        "CREATE TABLE p21 PARTITION OF p2 DEFAULT",
        "INSERT INTO p VALUES (1, '2024-05-05'), (2, '2030-01-01'), (3, '2031-01-01')",
    )
    found = facts(target)
    assert {one.name: one.rows for one in found.tables} == {"par": 1, "chi": 2, "p1": 1, "p21": 2}
    # A dump that loads through the root asks for all of it, less what it loads directly.
    root = TableFacts(schema_name="public", name="p", columns=("id", "d"), rows=3, digest=None)
    like = found.model_copy(update={"tables": (root,)})
    lines = (b"1\t2024-05-05", b"2\t2030-01-01", b"3\t2031-01-01")
    (through_root,) = facts(target, like).tables
    assert (through_root.rows, through_root.digest) == (3, digest_of(*lines))
    both = found.model_copy(update={"tables": (root, table(found, "p1"))})
    seen = facts(target, both)
    assert (table(seen, "p").rows, table(seen, "p").digest) == (2, digest_of(*lines[1:]))
    assert table(seen, "p1").rows == 1
    wider = facts(target, like, beyond_like=True)
    assert {one.name for one in wider.tables} == {"p", "par", "chi"}


@ALL
def test_partitions_by_hash_of_an_enum_are_counted_at_their_root(database: Make) -> None:
    target = database(
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd')",
        "CREATE TABLE hp (m mood, n int) PARTITION BY HASH (m)",
        "CREATE TABLE hp0 PARTITION OF hp FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE hp1 PARTITION OF hp FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO hp SELECT m, 7 FROM unnest(enum_range(NULL::mood)) m",
    )
    (found,) = facts(target).tables
    assert (found.name, found.rows) == ("hp", 4)
    assert found.digest == digest_of(b"a\t7", b"b\t7", b"c\t7", b"d\t7")
    assert facts(target, facts(target)) == facts(target)


@ALL
def test_columns_that_copy_leaves_out(database: Make) -> None:
    target = database(
        "CREATE TABLE zero ()",
        "INSERT INTO zero DEFAULT VALUES",
        "INSERT INTO zero DEFAULT VALUES",
        "CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a * 2) STORED, gone int, c int)",
        "ALTER TABLE made DROP COLUMN gone",
        "INSERT INTO made VALUES (1, DEFAULT, 3)",
        "CREATE TABLE only_made (b int GENERATED ALWAYS AS (7) STORED)",
        "INSERT INTO only_made DEFAULT VALUES",
    )
    found = facts(target)
    assert (table(found, "zero").rows, table(found, "zero").columns) == (2, ())
    assert table(found, "zero").digest == digest_of(b"", b"")
    assert (table(found, "made").columns, table(found, "made").digest) == (("a", "c"), digest_of(b"1\t3"))
    assert (table(found, "only_made").columns, table(found, "only_made").digest) == ((), digest_of(b""))


@ALL
def test_columns_in_the_order_of_what_is_compared_with(database: Make) -> None:
    target = database("CREATE TABLE t (a int, b int)", "INSERT INTO t VALUES (1, 2)")
    found = facts(target)
    turned = table(found, "t").model_copy(update={"columns": ("b", "a"), "digest": digest_of(b"2\t1")})
    like = found.model_copy(update={"tables": (turned,)})
    assert table(facts(target, like), "t").digest == digest_of(b"2\t1")
    unknown = turned.model_copy(update={"columns": ("b", "z")})
    like = found.model_copy(update={"tables": (unknown,)})
    difference = compare(like, facts(target, like)).differences[0]
    assert (difference.kind, difference.what, difference.expected, difference.found) == (
        "columns",
        "public.t",
        "b, z",
        "a, b",
    )


@ALL
def test_what_is_not_content(database: Make) -> None:
    target = database(
        "CREATE TABLE t (x int)",
        "CREATE UNLOGGED TABLE u (x int)",
        "INSERT INTO u VALUES (1)",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS x",
        "CREATE VIEW v AS SELECT 1 AS x",
        "CREATE FOREIGN DATA WRAPPER w",
        "CREATE SERVER s FOREIGN DATA WRAPPER w",
        "CREATE FOREIGN TABLE f (x int) SERVER s",
        "CREATE SCHEMA more",
        "CREATE TABLE more.t (x int)",
    )
    with target.connect() as other:
        other.execute("CREATE TEMPORARY TABLE passing (x int)")
        found = facts(target)
    assert [(one.schema_name, one.name, one.rows) for one in found.tables] == [
        ("more", "t", 0),
        ("public", "t", 0),
        ("public", "u", 1),
    ]
    assert found.extensions == ()
    assert found.object_counts["foreign table"] == 1
    assert found.object_counts["table"] == 3
    assert set(found.object_counts) == set(KINDS)


@ALL
def test_rows_hidden_by_row_level_security_are_an_error(server: EmbeddedServer, database: Make) -> None:
    target = database(
        "DO $$ BEGIN CREATE ROLE hidden_from LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "CREATE TABLE t (x int)",
        "INSERT INTO t VALUES (1), (2), (3)",
        "ALTER TABLE t OWNER TO hidden_from",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (x = 1)",
    )
    assert table(facts(target), "t").rows == 3
    name = target.keywords["dbname"]
    with pytest.raises(Failed) as error:
        facts(server.target(name, user="hidden_from"))
    assert str(error.value) == (
        f'cannot read all of database "{name}" as role "hidden_from": query would be affected by row-level security'
        ' policy for table "t"'
    )
    assert error.value.hint == "Connect as a superuser, or as the owner of all tables with the attribute BYPASSRLS."


def test_reading_sequences_leaves_no_locks(database: Make) -> None:
    target = database("CREATE SEQUENCE a", "CREATE SEQUENCE b")
    with snapshot(target) as connection:
        assert len(facts_of_database(connection).sequences) == 2
        locks = connection.execute(
            "SELECT c.relname FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation"
            " WHERE l.pid = pg_catalog.pg_backend_pid() AND c.relkind = 'S'"
        )
        assert locks.fetchall() == []


@ALL
def test_sequences_and_large_objects(database: Make) -> None:
    target = database(
        "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY)",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t DEFAULT VALUES",
        "CREATE SEQUENCE unused START 7",
        "SELECT lo_from_bytea(4242, 'hello'::bytea)",
        "SELECT lo_create(4243)",
        # Larger than one piece, exactly two pieces, and with a hole.
        "SELECT lo_from_bytea(4244, convert_to(repeat('x', 1048576 * 2 + 5), 'UTF8'))",
        "SELECT lo_from_bytea(4245, convert_to(repeat('y', 1048576 * 2), 'UTF8'))",
        "SELECT lo_create(4246), lo_put(4246, 5000, 'end'::bytea)",
    )
    before = facts(target)
    assert [(one.name, one.last_value, one.is_called) for one in before.sequences] == [
        ("t_id_seq", 2, True),
        ("unused", 7, False),
    ]
    assert before.large_objects.count == 5
    assert before.tables[0].digest == digest_of(b"1", b"2")
    for oid, position in ((4242, 1), (4244, 1048576 * 2 + 4), (4245, 1048576 * 2 - 1), (4246, 4999)):
        with target.connect() as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT lo_put(%s::oid, %s::bigint, 'z'::bytea)", [oid, position])
            connection.execute("COMMIT")
        after = facts(target)
        assert after.large_objects != before.large_objects, oid
        before = after


@ALL
def test_every_kind_of_object_is_seen_and_every_change_of_a_definition(database: Make) -> None:
    target = database(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE parent (id int PRIMARY KEY, v varchar(20) CHECK (v IN ('a', 'b')), n numeric(10,2) DEFAULT 0)",
        "CREATE TABLE t (id int CONSTRAINT t_parent REFERENCES parent, m mood, r int4range)",
        "ALTER TABLE t ADD EXCLUDE USING gist (r WITH &&)",
        "CREATE INDEX i ON t (m)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE POLICY p ON t USING (id > 0)",
        "CREATE VIEW v AS SELECT id FROM t",
        "CREATE MATERIALIZED VIEW mv AS SELECT id FROM t",
        "CREATE RULE r AS ON DELETE TO t DO ALSO NOTHING",
        "CREATE DOMAIN pos AS int CONSTRAINT above CHECK (VALUE > 0)",
        "CREATE SEQUENCE s",
        "CREATE STATISTICS st ON id, m FROM t",
        "CREATE PUBLICATION pub FOR TABLE t",
        "CREATE AGGREGATE agg(int) (SFUNC = int4pl, STYPE = int)",
        "CREATE PROCEDURE pr() LANGUAGE sql AS ''",
        "CREATE FUNCTION et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION et()",
    )
    changes = {
        "ALTER TYPE mood ADD VALUE 'new'": "type public.mood",
        "ALTER TABLE parent ALTER n SET DEFAULT 1": "column public.parent.n",
        "ALTER TABLE parent ALTER v SET NOT NULL": "column public.parent.v",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY": "table public.t",
        "ALTER TABLE t DISABLE TRIGGER g": "trigger g on public.t",
        "ALTER POLICY p ON t USING (id > 1)": "policy p on public.t",
        "CREATE OR REPLACE VIEW v AS SELECT id + 0 AS id FROM t": "view public.v",
        "REFRESH MATERIALIZED VIEW mv WITH NO DATA": "materialized view public.mv",
        "ALTER TABLE t DISABLE RULE r": "rule r on public.t",
        "ALTER SEQUENCE s INCREMENT 2": "sequence public.s",
        "ALTER PUBLICATION pub SET (publish = 'insert')": "publication pub",
        "ALTER EVENT TRIGGER e DISABLE": "event trigger e",
        "ALTER DOMAIN pos SET DEFAULT 5": "domain public.pos",
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'": (
            "function public.f()"
        ),
        "CREATE OR REPLACE AGGREGATE agg(int) (SFUNC = int4mul, STYPE = int)": "aggregate public.agg(integer)",
        "ALTER TABLE t ALTER CONSTRAINT t_parent DEFERRABLE": "foreign key t_parent on public.t",
        "ALTER TABLE t REPLICA IDENTITY FULL": "table public.t",
    }
    before = facts(target)
    assert compare(before, facts(target)).exact
    for statement, what in changes.items():
        change(target, statement)
        after = facts(target)
        assert [(one.kind, one.what) for one in compare(before, after).differences] == [("definition", what)], statement
        before = after
    change(target, "DROP INDEX i")
    (difference,) = compare(before, facts(target)).differences
    assert difference.model_dump() == {
        "kind": "object",
        "what": "index public.i",
        "expected": "present",
        "found": "missing",
    }


@ALL
def test_options_that_the_server_keeps_for_itself_are_no_definition(database: Make) -> None:
    target = database("CREATE TABLE t (a int, b int)", "ALTER TABLE t ALTER b SET (n_distinct = 5)")
    before = facts(target)
    # What a server of a later minor release writes there by itself; pg_dump does not write it.
    kept = "UPDATE pg_attribute SET attoptions = '{}' WHERE attrelid = 't'::regclass AND attname = '{}'"
    change(target, kept.format("{pg_attver=7}", "a"))
    change(target, kept.format("{pg_attver=7,n_distinct=5}", "b"))
    assert compare(before, facts(target)).exact
    change(target, kept.format("{pg_attver=7,n_distinct=6}", "b"))
    (difference,) = compare(before, facts(target)).differences
    assert difference.what == "column public.t.b"


def restore(server: EmbeddedServer, source: Target, destination: Target, dump: Path) -> None:
    """pg_dump and psql, the reference."""
    connection, environment = source.child()
    environment = {**environment, "PGTZ": "UTC", "PATH": "/usr/bin:/bin"}
    subprocess.run([server.bin / "pg_dump", "-d", connection, "-f", dump], check=True, env=environment)
    connection, environment = destination.child()
    subprocess.run(
        [server.bin / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", connection, "-f", dump],
        check=True,
        env={**environment, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
    )


@ALL
def test_a_restored_dump_has_the_facts_of_its_database(
    server: EmbeddedServer, database: Make, new_database: Callable[..., str], tmp_path: Path
) -> None:
    all_kinds = (Path(__file__).parent.parent / "fixtures" / "kinds_of_objects.sql").read_text()
    role = "DO $$ BEGIN CREATE ROLE rich_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    in_list = "CREATE TABLE in_list (v varchar(9) CHECK (v IN ('a', 'b,]', 'it''s')), n int CHECK (n IN (1, 2)))"
    source = database(role, all_kinds, in_list)
    destination = server.target(new_database())
    restore(server, source, destination, tmp_path / "dump.sql")
    expected = facts(source)
    comparison = compare(expected, facts(destination, like=expected))
    assert comparison.differences == ()
    assert comparison.exact
    assert compare(expected, facts(destination)).differences == ()


class Text:
    """A plain dump in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(1 << 18):
                yield chunk


@ALL
def test_a_dump_and_its_database_have_the_same_facts(server: EmbeddedServer, database: Make, tmp_path: Path) -> None:
    all_kinds = (Path(__file__).parent.parent / "fixtures" / "kinds_of_objects.sql").read_text()
    role = "DO $$ BEGIN CREATE ROLE rich_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    target = database(role, all_kinds)
    connection, environment = target.child()
    command: list[str | Path] = [server.bin / "pg_dump", "-d", connection, "-f", tmp_path / "dump.sql"]
    subprocess.run(command, check=True, env={**environment, "PGTZ": "UTC", "PATH": "/usr/bin:/bin"})
    expected, _ = facts_of_dump(Text(tmp_path / "dump.sql"), time_zone="UTC")
    for found in (facts(target), facts(target, like=expected)):
        comparison = compare(expected, found)
        assert comparison.differences == ()
        assert comparison.not_compared == ()
        assert comparison.exact
        assert found.migration == expected.migration
        identities = [{(one.kind, one.identity) for one in side.objects} for side in (expected, found)]
        assert identities[0] == identities[1]
        stamps = [{(one.name, *one.newest.items()) for one in side.tables} for side in (expected, found)]
        assert stamps[0] == stamps[1]
    change(target, "DROP INDEX s1.mv_c_idx")
    change(target, "CREATE TABLE one_more (x int)")
    differences = compare(expected, facts(target)).differences
    assert [(one.kind, one.what, one.expected, one.found) for one in differences] == [
        ("table", "public.one_more", "absent", "0 rows"),
        (
            "object",
            "number of columns",
            *_numbers(expected, "column", "", " (with public.one_more.x)", 1),
        ),
        ("object", "number of indexes", *_numbers(expected, "index", " (with s1.mv_c_idx)", "", -1)),
        ("object", "number of tables", *_numbers(expected, "table", "", " (with public.one_more)", 1)),
    ]


def _numbers(expected: Facts, kind: str, here: str, there: str, more: int) -> tuple[str, str]:
    count = expected.object_counts[kind]
    return f"{count}{here}", f"{count + more}{there}"


@ALL
def test_unusual_objects_are_counted_alike_and_survive_a_restore(
    server: EmbeddedServer, database: Make, new_database: Callable[..., str], tmp_path: Path
) -> None:
    fixtures = Path(__file__).parent.parent / "fixtures"
    texts = [(fixtures / "several_statements.sql").read_text()]
    if server.major >= 18:
        texts.append((fixtures / "several_statements_18.sql").read_text())
    source = database(*texts)
    destination = server.target(new_database())
    restore(server, source, destination, tmp_path / "dump.sql")
    expected, _ = facts_of_dump(Text(tmp_path / "dump.sql"), time_zone="UTC")
    found = facts(source)
    comparison = compare(expected, found)
    assert comparison.differences == ()
    assert comparison.exact
    assert {(one.kind, one.identity) for one in expected.objects} == {(one.kind, one.identity) for one in found.objects}
    restored = compare(found, facts(destination, like=found, beyond_like=True))
    assert restored.differences == ()
    assert restored.exact


def test_in_lists_settle_as_a_restore_shows_them() -> None:
    first = "CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'b,]'::character varying])::text[])))"
    again = "CHECK (((v)::text = ANY (ARRAY[('a'::character varying)::text, ('b,]'::character varying)::text])))"
    assert settled(first) == again
    assert settled(again) == again
    assert settled("(ARRAY['it''s'::text, x.f(1, 2)])[1]") == "(ARRAY['it''s'::text, x.f(1, 2)])[1]"
    pretty = "(v::text = ANY (ARRAY['a'::character varying, 'b,]'::character varying]::text[]))"
    again = "(v::text = ANY (ARRAY['a'::character varying::text, 'b,]'::character varying::text]))"
    assert settled(pretty) == settled(again) == again
    assert settled("ARRAY[]::text[]") == "ARRAY[]::text[]"
    assert settled("FROM ( VALUES (1), (2)) v") == settled("FROM (VALUES (1), (2)) v")
    for type_name, name in (
        ("text", "text"),
        ("character varying(5)", '"varchar"'),
        ("bigint", "int8"),
        ("text[]", "text"),
    ):
        assert settled(f"( SELECT 'it''s'::{type_name} AS {name})") == settled(f"( SELECT 'it''s'::{type_name})")
    assert settled("SELECT 'x'::text AS y, NULL::text AS text") == "SELECT 'x'::text AS y, NULL::text"
    assert settled("broken (ARRAY['never closed") == "broken (ARRAY['never closed"


@ALL
def test_extension_members_are_left_out_but_for_configuration(
    server: EmbeddedServer, database: Make, tmp_path: Path
) -> None:
    target = database(
        "CREATE TABLE mine (x int)", "CREATE TABLE cfg (x int, builtin bool)", "CREATE TABLE other (x int)"
    )
    # No extension with a configuration table is at hand in every build: the catalogue can say that plpgsql has one.
    change(target, "INSERT INTO cfg VALUES (1, true), (2, false), (3, false)")
    change(
        target,
        "INSERT INTO pg_depend SELECT 'pg_class'::regclass, c.oid, 0, 'pg_extension'::regclass, e.oid, 0, 'e'"
        " FROM pg_extension e, pg_class c WHERE c.relname IN ('cfg', 'other')",
    )
    change(
        target,
        "UPDATE pg_extension SET extconfig = ARRAY['cfg'::regclass::oid], extcondition = ARRAY['WHERE NOT builtin']",
    )
    found = facts(target)
    assert {one.name: one.rows for one in found.tables} == {"cfg": 2, "mine": 0}
    assert table(found, "cfg").digest == digest_of(b"2\tf", b"3\tf")
    assert found.object_counts["table"] == 1


@ALL
def test_counting_alone(database: Make) -> None:
    target = database("CREATE TABLE t (x int, d date)", "INSERT INTO t VALUES (1, '2024-01-01'), (2, '2023-01-01')")
    found = facts(target, digests=False, objects=False)
    assert found.tables == (
        TableFacts(
            schema_name="public",
            name="t",
            columns=("x", "d"),
            rows=2,
            digest=None,
            why_no_digest="only the rows were counted",
            newest={"d": "2024-01-01"},
            zoned=False,
        ),
    )
    assert found.objects == ()
    assert found.object_counts == {}


@ALL
def test_time_zone_and_encoding_of_what_is_compared_with(database: Make) -> None:
    target = database("CREATE TABLE t (d timestamptz, v text)", "INSERT INTO t VALUES ('2024-06-01 12:00+00', 'größe')")
    plain = facts(target)
    rules = plain.rules.model_copy(update={"time_zone": "Asia/Kolkata", "client_encoding": "LATIN1"})
    found = facts(target, plain.model_copy(update={"rules": rules}))
    assert found.rules == rules
    assert found.tables[0].digest == digest_of("2024-06-01 17:30:00+05:30\tgröße".encode("latin-1"))
    rules = plain.rules.model_copy(update={"client_encoding": "SQL_ASCII"})
    found = facts(target, plain.model_copy(update={"rules": rules}))
    assert found.tables[0].digest == plain.tables[0].digest


@ALL
def test_types_that_contain_a_time_stamp_depend_on_the_zone(database: Make) -> None:
    target = database(
        "CREATE TYPE pair AS (a int, b timestamptz)",
        "CREATE DOMAIN moment AS timestamptz",
        "CREATE TABLE a (x pair[])",
        "CREATE TABLE b (x tstzrange)",
        "CREATE TABLE c (x moment)",
        "CREATE TABLE d (x timestamp, y date, z timetz, j jsonb)",
        "CREATE TABLE e (x tstzmultirange)",
    )
    assert {one.name: one.zoned for one in facts(target).tables} == {
        "a": True,
        "b": True,
        "c": True,
        "d": False,
        "e": True,
    }


@ALL
def test_interrupted_while_reading(database: Make) -> None:
    target = database("CREATE TABLE t AS SELECT i, repeat('x', 500) AS v FROM generate_series(1, 100000) i")
    seen: list[Event] = []
    with snapshot(target) as connection:
        with pytest.raises(Interrupted) as error:
            facts_of_database(connection, context=Context(seen.append, lambda: len(seen) > 3))
        assert str(error.value) == "cannot continue reading the database: interrupted"
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM public.t").fetchone() == (100000,)
        connection.execute("BEGIN")
    assert isinstance(seen[0], Progress)
    assert (seen[0].stage, seen[0].unit, seen[0].detail) == ("facts", "rows", "public.t (1 of 1)")


@ALL
def test_a_broken_value_in_the_middle_is_the_servers_error(database: Make) -> None:
    target = database(
        "CREATE FUNCTION fails(x int) RETURNS int LANGUAGE sql AS 'SELECT 1 / (x - 500)'",
    )
    with snapshot(target) as connection, pytest.raises(psycopg.errors.DivisionByZero):
        digest_rows(connection, b"COPY (SELECT public.fails(i) FROM generate_series(1, 1000) i) TO STDOUT")
    with snapshot(target) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        digest_rows(connection, b"COPY public.nothing TO STDOUT")


@ALL
def test_truncation_waits_until_the_facts_are_read(server: EmbeddedServer, database: Make) -> None:
    target = database("CREATE TABLE a (x int)", "CREATE TABLE z (x int)", "INSERT INTO z VALUES (1), (2)")
    errors: list[BaseException] = []

    def truncate() -> None:
        try:
            with target.connect() as connection:
                connection.execute("SET lock_timeout = '200ms'")
                connection.execute("TRUNCATE public.z")
        except BaseException as error:
            errors.append(error)

    with snapshot(target) as connection:
        facts_of_database(connection)
        thread = threading.Thread(target=truncate)
        thread.start()
        thread.join()
        assert table(facts_of_database(connection), "z").rows == 2
    assert isinstance(errors[0], psycopg.errors.LockNotAvailable)
