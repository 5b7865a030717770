"""Files that other programs write: what each is called, and that a load for a look has all that psql makes of it.

The samples are small rebuilt ones, each in the form of its program. psql's result is the oracle.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.damaged.restore import restore_readable
from lastgood.dump.files.formats import open_dump
from lastgood.dump.reader import read
from lastgood.errors import Foreign, Unsafe
from lastgood.points import find, verify
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore

ENDS = pytest.mark.postgres(15, 18)
FILES = Path(__file__).parent / "fixtures" / "foreign"
LOOK = "Load it into a separate database to inspect it: lastgood restore FILE --skip-damaged --into NAME"

# Each file, and what it is refused with as a restore point.
EXPORTS = {
    "adminer.sql": "it is an export of Adminer, not of pg_dump",
    "adminer_use.sql": "it is an export of Adminer, not of pg_dump",
    "by_hand.sql": 'line 9 has "create table", which pg_dump never writes',
    "cockroachdb.sql": "it is an export of CockroachDB, not of pg_dump",
    "datagrip.sql": "it is an export of DataGrip, not of pg_dump",
    "db_converter.sql": "it is an export of db_converter, not of pg_dump",
    "dbeaver.sql": "it is an export of DBeaver, not of pg_dump",
    "dbmate.sql": "commands were added after its end, from line 24 on, as in dbmate's schema.sql",
    "django.sql": 'line 5 has an "INSERT" from a query, which pg_dump never writes',
    "greenplum.sql": "it is an export of Greenplum, not of pg_dump",
    "heidisql.sql": "it is an export of HeidiSQL, not of pg_dump",
    "heidisql_windows.sql": "it is an export of HeidiSQL, not of pg_dump",
    "navicat.sql": "it is an export of Navicat, not of pg_dump",
    "pgadmin.sql": "it is an export of pgAdmin, not of pg_dump",
    "phppgadmin.sql": "it is an export of phpPgAdmin, not of pg_dump",
    "prisma.sql": "it is an export of Prisma, not of pg_dump",
    "rails.sql": "commands were added after its end, from line 26 on, as in Rails' structure.sql",
    "tableplus.sql": "it is an export of TablePlus, not of pg_dump",
    "xorm.sql": 'it is an export of xorm ("gitea dump"), not of pg_dump',
    "yugabytedb.sql": "it is an export of YugabyteDB, not of pg_dump",
}
# What of a file PostgreSQL itself does not know: its lines.
NOT_POSTGRESQLS = {"cockroachdb.sql": [10]}
# Files that pg_dump wrote, old or edited by a tool that changed nothing of their meaning: restore points.
POINTS = ["immich.sql", "northwind.sql", "pg_dump_84.sql", "several_schemas.sql"]


@pytest.fixture
def app(new_database: Callable[..., str]) -> str:
    return new_database("app")


def client(server: EmbeddedServer, database: str, program: str, *options: str, given: bytes = b"") -> str:
    """The output of a client program; psql continues after an error."""
    connection, environment = server.target(database).child()
    arguments: list[str | Path] = [server.bin / program, "-d", connection, *options]
    done = subprocess.run(arguments, input=given, capture_output=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def content(server: EmbeddedServer, database: str) -> list[str]:
    """The whole output of pg_dump for a database."""
    text = client(server, database, "pg_dump", "--inserts", "--no-owner")
    lines = re.sub(r"(?m)^(?:\\(?:un)?restrict|--).*\n", "", text)
    statements = [each.strip() for each in re.split(r";\n", lines)]
    return sorted(statements)


def by_psql(server: EmbeddedServer, path: Path, database: str) -> list[str]:
    """What psql makes of a file in a new database."""
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))
    # Adminer's export connects to the database that it was made of: that is this one here.
    text = path.read_bytes().replace(b'\\connect "shop";', f'\\connect "{database}";'.encode())
    client(server, database, "psql", "-X", "-q", given=text)
    return content(server, database)


def test_every_sample_is_in_the_table() -> None:
    assert sorted(path.name for path in FILES.glob("*.sql")) == sorted([*EXPORTS, *POINTS])


@pytest.mark.parametrize("name", EXPORTS)
def test_what_it_is_called(name: str) -> None:
    with pytest.raises(Foreign) as caught:
        list(read(open_dump(FILES / name)))
    assert (str(caught.value), caught.value.hint) == (f"cannot use the dump: {EXPORTS[name]}", LOOK)
    verdict = verify(find(FILES, name))
    assert (verdict.state, verdict.message, verdict.hint) == ("foreign", str(caught.value), LOOK)


@ENDS
@pytest.mark.parametrize("name", [*EXPORTS, *POINTS])
def test_a_load_for_a_look_has_all_that_psql_makes_of_it(name: str, server: EmbeddedServer, app: str) -> None:
    report = restore_readable(server.target(app), FILES, [name], f"{app}_left")
    assert content(server, f"{app}_left") == by_psql(server, FILES / name, f"{app}_psql")
    assert [missing.line for missing in report.commands] == NOT_POSTGRESQLS.get(name, [])
    assert report.damage == () and report.not_valid == ()
    assert {table.name: table.state for table in report.tables} == {table.name: "whole" for table in report.tables}
    with server.target(f"{app}_left").connect() as connection:
        for table in report.tables:
            assert table.schema_name
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.schema_name, table.name))
            assert connection.execute(query).fetchone() == (table.rows,), table


@ENDS
@pytest.mark.parametrize("name", POINTS)
def test_a_dump_in_the_session_that_psql_gives_it_is_a_restore_point(
    name: str, server: EmbeddedServer, app: str
) -> None:
    assert verify(find(FILES, name)).state == "valid"
    restore(server.target(app), FILES, name, f"{app}_back")
    assert content(server, f"{app}_back") == by_psql(server, FILES / name, f"{app}_psql")


def test_a_file_of_several_databases_gives_the_one_that_is_named(server: EmbeddedServer, app: str, store: Path) -> None:
    parts = [
        f'\\connect "{name}";\n\nCREATE TABLE "public"."{name}" ("a" integer);\n'
        f'INSERT INTO "{name}" ("a") VALUES\n(1);\n'
        for name in ("one", "two")
    ]
    (store / "all.sql").write_text("-- Adminer 4.8.1 PostgreSQL 15.3 dump\n\n" + "\n".join(parts))
    message = "cannot use the dump: it is an export of Adminer, not of pg_dump"
    assert verify(find(store, "all.sql")).message == message
    report = restore_readable(server.target(app), store, ["all.sql"], f"{app}_first")
    assert [(table.name, table.rows) for table in report.tables] == [("one", 1)]
    assert report.damage == (
        'it holds several databases: from line 9 on "two", which was left out; choose one with --database',
    )
    report = restore_readable(server.target(app), store, ["all.sql"], f"{app}_second", database_name="two")
    assert [(table.name, table.rows) for table in report.tables] == [("two", 1)]
    assert report.complete


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("COPY t FROM PROGRAM 'sh';", 'has a "COPY … PROGRAM", which would run a program on the server'),
        ("COPY t FROM '/etc/passwd';", 'has a "COPY" from a file, which would read the server\'s own files'),
        ("\\! touch /tmp/x", 'has the psql command "\\!", which would run on the operator\'s machine'),
        ("\\echo `id`", 'has the psql command "\\echo", which would run on the operator\'s machine'),
        ("\\echo a \\! id", 'has the psql command "\\echo", which would run on the operator\'s machine'),
        ("ALTER SYSTEM SET archive_command = 'x';", 'has "ALTER SYSTEM", which pg_dump never writes'),
        (
            "INSERT INTO t VALUES (pg_read_file('x'));",
            'has an "INSERT" with computed values, which pg_dump never writes',
        ),
    ],
)
def test_what_is_dangerous_is_unsafe_in_another_programs_file_too(
    line: str, reason: str, server: EmbeddedServer, app: str, store: Path
) -> None:
    text = (FILES / "navicat.sql").read_text()
    (store / "bad.sql").write_text(f"{text}\n{line}\n")
    number = text.count("\n") + 2
    with pytest.raises(Unsafe) as caught:
        list(read(open_dump(store / "bad.sql")))
    assert str(caught.value) == f"cannot restore the dump: line {number} {reason}"
    report = restore_readable(server.target(app), store, ["bad.sql"], f"{app}_left")
    assert [(missing.line, missing.why) for missing in report.commands] == [(number, f"line {number} {reason}")]
    assert [(table.name, table.rows) for table in report.tables] == [("users", 2)]


def test_code_of_another_program_is_left_out(server: EmbeddedServer, app: str, store: Path) -> None:
    text = (FILES / "yugabytedb.sql").read_text()
    code = "DO $$\nBEGIN\n  DELETE FROM public.htest;\nEND $$;\n"
    (store / "yb.sql").write_text(
        text.replace("--\n-- YSQL database dump complete", f"{code}--\n-- YSQL database dump complete")
    )
    assert verify(find(store, "yb.sql")).message == "cannot use the dump: it is an export of YugabyteDB, not of pg_dump"
    report = restore_readable(server.target(app), store, ["yb.sql"], f"{app}_left")
    assert [missing.why.partition(" ")[2].partition(" ")[2] for missing in report.commands] == [
        'has "DO", which pg_dump never writes'
    ]
    assert [(table.name, table.rows) for table in report.tables] == [("htest", 2)]


@pytest.mark.parametrize(
    ("head", "server_name"),
    [
        ("-- MySQL dump 10.13\n", "MySQL or MariaDB"),
        ("-- phpMyAdmin SQL Dump\n-- version 5\n", "MySQL or MariaDB"),
        ("-- Adminer 4.8.1 MySQL 8.0.30 dump\n\nSET NAMES utf8;\n", "MySQL or MariaDB"),
        ("-- ----\n-- Host: x\n-- Server version:   8.0.30 - MySQL Community Server\n", "MySQL or MariaDB"),
        ("-- TablePlus 5\n\nDROP TABLE IF EXISTS `a`;\n", "MySQL or MariaDB"),
        ("/*\n Navicat Premium\n\n Source Server Type    : MySQL\n*/\n", "MySQL or MariaDB"),
        ("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n", "SQLite"),
        ("USE [shop]\nGO\n", "SQL Server"),
    ],
)
def test_a_dump_of_another_server_is_named(head: str, server_name: str, store: Path) -> None:
    path = store / "other.sql"
    path.write_text(head)
    with pytest.raises(Foreign) as caught:
        open_dump(path)
    assert str(caught.value) == f'cannot use "{path}": it is a dump of {server_name}, not of PostgreSQL'
    assert verify(find(store, "other.sql")).state == "foreign"


@pytest.mark.parametrize("name", ["adminer.sql", "navicat.sql", "phppgadmin.sql", "xorm.sql"])
def test_line_ends_of_windows_are_read_as_psql_reads_them(
    name: str, server: EmbeddedServer, app: str, store: Path
) -> None:
    (store / name).write_bytes((FILES / name).read_bytes().replace(b"\n", b"\r\n"))
    report = restore_readable(server.target(app), store, [name], f"{app}_left")
    assert content(server, f"{app}_left") == by_psql(server, store / name, f"{app}_psql")
    assert report.complete


def test_a_compressed_file_is_read_as_the_same(server: EmbeddedServer, app: str, store: Path) -> None:
    (store / "tableplus.sql.gz").write_bytes(gzip.compress((FILES / "tableplus.sql").read_bytes()))
    verdict = verify(find(store, "tableplus.sql.gz"))
    assert verdict.message == "cannot use the dump: it is an export of TablePlus, not of pg_dump"
    report = restore_readable(server.target(app), store, ["tableplus.sql.gz"], f"{app}_left")
    assert (report.complete, report.maker) == (True, "TablePlus")
    assert content(server, f"{app}_left") == by_psql(server, FILES / "tableplus.sql", f"{app}_psql")


HOSTILE = """
CREATE TABLE t (a integer);
CREATE FUNCTION public.setval(text, integer, boolean) RETURNS integer LANGUAGE sql
    AS 'INSERT INTO public.t VALUES (666); SELECT 1';
CREATE FUNCTION public.lower(integer) RETURNS integer LANGUAGE sql AS 'INSERT INTO public.t VALUES (667); SELECT 1';
CREATE FUNCTION public.addgeometrycolumn(text) RETURNS integer LANGUAGE sql
    AS 'INSERT INTO public.t VALUES (668); SELECT 1';
CREATE SEQUENCE s;
SELECT setval('s', 7, true);
UPDATE t SET a = lower(1);
SELECT AddGeometryColumn('x');
INSERT INTO t VALUES (abs(-3));
"""


def test_functions_that_a_file_made_are_not_called_for_its_commands(
    server: EmbeddedServer, app: str, store: Path
) -> None:
    (store / "hostile.sql").write_text(HOSTILE)
    report = restore_readable(server.target(app), store, ["hostile.sql"], f"{app}_left")
    assert {missing.line for missing in report.commands} == {10, 11}
    with server.target(f"{app}_left").connect() as connection:
        assert connection.execute("SELECT a FROM public.t").fetchall() == [(3,)]
        assert connection.execute("SELECT last_value FROM public.s").fetchall() == [(7,)]


def test_rows_in_a_form_that_is_not_understood_are_named(server: EmbeddedServer, app: str, store: Path) -> None:
    rows = "COPY t FROM stdin WITH (FORMAT csv, NULL 'x', FORCE_NULL (b));\n1,\"x\"\n\\.\n"
    rows += "COPY t FROM stdin CSV;\n2,two\n\\.\n"
    (store / "copy.sql").write_text(f"CREATE TABLE t (a int, b text);\n{rows}")
    report = restore_readable(server.target(app), store, ["copy.sql"], f"{app}_left")
    (table,) = report.tables
    why = 'line 2 has a "COPY" with options that are not supported, which pg_dump never writes'
    assert (table.state, table.rows, table.why) == ("partial", 1, why)
    assert [(missing.line, missing.why) for missing in report.commands] == [(2, why)]
