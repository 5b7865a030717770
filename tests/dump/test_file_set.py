"""Several files that are one dump: the three of ``supabase db dump``, sections of pg_dump, in any order."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from lastgood.dump.entries import Entry, Rows, RowsStart
from lastgood.dump.files.file_set import FileSet, files_of_set, open_any
from lastgood.dump.reader import DumpReading, read
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.errors import BadPoint, Corrupt, Incomplete, Unsafe
from lastgood.facts.of_dump import facts_of_dump
from lastgood.postgres.embedded import EmbeddedServer
from tests.support.real_dumps import dumped

ROLES = b"""
SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

CREATE ROLE "app_owner";
ALTER ROLE "app_owner" WITH INHERIT NOCREATEROLE NOCREATEDB LOGIN NOBYPASSRLS;
ALTER ROLE "anon" SET "statement_timeout" TO '3s';
GRANT "readers" TO "app_owner";

RESET ALL;
"""
SCHEMA = b"""
SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET row_security = off;

CREATE SCHEMA IF NOT EXISTS "app";
CREATE TABLE IF NOT EXISTS "app"."t" ("a" integer NOT NULL, "b" "text");
ALTER TABLE "app"."t" OWNER TO "postgres";
CREATE OR REPLACE VIEW "app"."v" AS SELECT "t"."a" FROM "app"."t";

RESET ALL;
"""
DATA = b"""SET session_replication_role = replica;

--
-- PostgreSQL database dump
--

-- \\restrict abc

-- Dumped from database version 17.4
-- Dumped by pg_dump version 17.6

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET row_security = off;

--
-- Data for Name: users; Type: TABLE DATA; Schema: auth; Owner: supabase_auth_admin
--

INSERT INTO "auth"."users" ("id", "x") VALUES
\t(1, 'a'),
\t(2, 'b');


--
-- Data for Name: t; Type: TABLE DATA; Schema: app; Owner: postgres
--

INSERT INTO "app"."t" ("a", "b") VALUES
\t(1, 'one'),
\t(2, 'RESET ALL;
-- \\restrict');


SELECT pg_catalog.setval('"auth"."users_id_seq"', 2, true);


--
-- PostgreSQL database dump complete
--

-- \\unrestrict abc

RESET ALL;
"""
FILES = {"roles.sql": ROLES, "schema.sql": SCHEMA, "data.sql": DATA}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(text)
    return tmp_path


def everything(folder: Path) -> tuple[list[Entry], DumpReading]:
    reading = read(open_any(folder))
    return list(reading), reading


def error_of(folder: Path) -> BadPoint:
    with pytest.raises(BadPoint) as caught:
        everything(folder)
    return caught.value


def test_the_three_files_of_supabase_are_one_dump(folder: Path) -> None:
    source = open_any(folder)
    assert isinstance(source, FileSet)
    assert (source.kind, source.size) == ("set", sum(map(len, FILES.values())))
    assert [(part.name, part.is_roles) for part in source.parts] == [
        ("roles.sql", True),
        ("schema.sql", False),
        ("data.sql", False),
    ]
    reading = read(source)
    entries = list(reading)
    assert [str(e.relation) for e in entries if isinstance(e, RowsStart)] == ["app.t"]
    assert b"".join(e.data for e in entries if isinstance(e, Rows)) == b"1\tone\n2\tRESET ALL;\\n-- \\\\restrict\n"
    summary = reading.summary
    assert (summary.has_schema, summary.has_data, summary.server_version) == (True, True, "17.4")
    assert summary.roles == {"app_owner", "anon", "readers", "postgres"}
    skipped = [(e.kind, e.reason) for e in entries if isinstance(e, Command) and e.verdict is Verdict.SKIP]
    assert skipped.count((Kind.ROLE, "names a role of the whole server, which a rollback never changes")) == 4
    assert (Kind.SEQUENCE_POSITION, "refers to an object that none of the files creates") in skipped
    assert list(map(str, summary.rows_without_table)) == ["auth.users"]
    assert summary.notes == [
        "schema.sql: it was made by supabase db dump, which leaves out event triggers, comments on extensions, and the "
        "schemas that the platform maintains",
        "none of the files creates auth.users: its rows were left out",
    ]
    facts, _ = facts_of_dump(source)
    assert [(table.name, table.rows) for table in facts.tables] == [("t", 2)]
    assert source.position == source.size


def test_the_order_comes_from_the_content(folder: Path) -> None:
    names = [folder / "data.sql", folder / "roles.sql", folder / "schema.sql"]
    assert [part.name for part in FileSet(folder, names, None).parts] == ["roles.sql", "schema.sql", "data.sql"]


@pytest.mark.postgres(15, 18)
def test_the_sections_of_pg_dump_are_one_dump(server: EmbeddedServer, tmp_path: Path) -> None:
    for number, section in enumerate(("post-data", "data", "pre-data")):
        (tmp_path / f"{number}.sql").write_bytes(dumped(server, [f"--section={section}"]))
    source = FileSet(tmp_path, sorted(tmp_path.iterdir()), None)
    assert [part.name for part in source.parts] == ["2.sql", "1.sql", "0.sql"]
    whole = tmp_path / "whole.sql"
    whole.write_bytes(dumped(server))
    assert facts_of_dump(source)[0].tables == facts_of_dump(open_any(whole))[0].tables


def test_each_file_may_be_compressed_and_have_its_own_line_ends(folder: Path) -> None:
    (folder / "schema.sql").write_bytes(SCHEMA.replace(b"\n", b"\r\n"))
    (folder / "data.sql").unlink()
    (folder / "data.sql.gz").write_bytes(gzip.compress(DATA))
    entries, reading = everything(folder)
    assert [str(e.relation) for e in entries if isinstance(e, RowsStart)] == ["app.t"]
    assert reading.summary.notes[0] == (
        "schema.sql: every line ends with CR LF, as after a transfer in text mode; the file is read with LF line ends"
    )


def test_an_error_names_the_file_and_its_line(folder: Path) -> None:
    (folder / "schema.sql").write_bytes(SCHEMA + b"\\! touch /tmp/p\n")
    error = error_of(folder)
    line = SCHEMA.count(b"\n") + 1
    assert type(error) is Unsafe
    assert (error.line, str(error)) == (
        line,
        f'cannot restore "schema.sql": line {line} has the psql command "\\!", which would run on the operator'
        "'s machine",
    )
    assert error.message == str(error)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_is_incomplete(folder: Path, name: str) -> None:
    text = FILES[name]
    for cut in (text.rindex(b"RESET ALL"), len(text) // 2):
        (folder / name).write_bytes(text[:cut])
        if name == "data.sql" and cut > len(text) // 2:
            everything(folder)  # its footer marks it as complete
            continue
        error = error_of(folder)
        assert type(error) in (Incomplete, Corrupt), (cut, error)
        assert re.match(rf'cannot \w+ "{name}": ', str(error)), error


def test_a_file_of_roles_makes_nothing_else(folder: Path) -> None:
    (folder / "roles.sql").write_bytes(ROLES.replace(b"GRANT", b"CREATE TABLE x (a int);\nGRANT"))
    line = ROLES[: ROLES.index(b"GRANT")].count(b"\n") + 1
    assert str(error_of(folder)) == (
        f'cannot use "roles.sql": line {line} does not create a role, but the file begins as a file of roles'
    )
    (folder / "roles.sql").write_bytes(ROLES.replace(b"GRANT", b"\\! true\nGRANT"))
    assert type(error_of(folder)) is Unsafe


def test_other_folders_are_no_sets(folder: Path) -> None:
    assert [path.name for path in files_of_set(folder)] == ["roles.sql", "schema.sql", "data.sql"]
    (folder / "schema.sql").unlink()
    assert files_of_set(folder) == []
    assert str(error_of(folder)) == (
        f'cannot use "{folder}": it is a folder without a toc.dat, so not a directory archive of pg_dump'
    )
