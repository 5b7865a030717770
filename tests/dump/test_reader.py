"""Readings of dumps: real ones in all their forms, hostile ones, damaged ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from lastgood.dump import names
from lastgood.dump.entries import Entry, Rows, RowsEnd, RowsStart
from lastgood.dump.names import Relation
from lastgood.dump.reader import DumpReading, WhichDatabase, read
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.errors import BadPoint, Corrupt, Foreign, Incomplete, Unsafe
from lastgood.postgres.embedded import EmbeddedServer
from tests.support.real_dumps import NAME, Text, dumped

ALL = pytest.mark.postgres(15, 16, 17, 18)
ENDS_EARLY = 'cannot use the dump: it ends without the line "-- PostgreSQL database dump complete"'

HEAD = b"""--
-- PostgreSQL database dump
--

-- Dumped from database version 18.1
-- Dumped by pg_dump version 18.1

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET row_security = off;

"""
TABLE = b"""--
-- Name: t; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.t (
    a integer,
    b text
);


"""
COPY = b"""--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.t (a, b) FROM stdin;
1\tone
2\t\\N
\\.


"""
FOOT = b"""--
-- PostgreSQL database dump complete
--

"""
WHOLE = HEAD + TABLE + COPY + FOOT


def everything(
    text: bytes,
    *,
    size: int = 1 << 18,
    database: str | None = None,
    accept_unmarked: bool = False,
    accept_partial: bool = False,
) -> tuple[list[Entry], DumpReading]:
    reading = read(Text(text, size), database=database, accept_unmarked=accept_unmarked, accept_partial=accept_partial)
    return list(reading), reading


def sections(entries: list[Entry]) -> dict[str, tuple[tuple[str, ...] | None, list[bytes]]]:
    """Table → columns and rows."""
    found: dict[str, tuple[tuple[str, ...] | None, list[bytes]]] = {}
    open_one: list[bytes] | None = None
    for entry in entries:
        match entry:
            case RowsStart():
                assert open_one is None
                columns, open_one = found.setdefault(str(entry.relation), (entry.columns, []))
                assert columns == entry.columns
            case Rows():
                assert open_one is not None
                lines = entry.data.split(b"\n")
                assert lines.pop() == b"" and len(lines) == entry.rows
                open_one += lines
            case RowsEnd():
                open_one = None
    return found


def commands(entries: list[Entry], verdict: Verdict = Verdict.RUN) -> Iterator[Command]:
    for entry in entries:
        if isinstance(entry, Command) and entry.verdict is verdict:
            yield entry


def line_of(text: bytes, wanted: bytes) -> int:
    return text[: text.index(wanted)].count(b"\n") + 1


def refused(text: bytes, kind: type[BadPoint], *, database: str | None = None) -> BadPoint:
    with pytest.raises(BadPoint) as caught:
        everything(text, database=database)
    assert type(caught.value) is kind, caught.value
    return caught.value


# Real dumps ----------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--clean", "--if-exists"),
        ("--clean",),
        ("--create",),
        ("--create", "--clean", "--if-exists"),
        ("--no-owner", "--no-acl", "--clean", "--if-exists"),
        ("--inserts",),
        ("--column-inserts",),
        ("--rows-per-insert=3",),
        ("--inserts", "--on-conflict-do-nothing"),
        ("--quote-all-identifiers",),
        ("--verbose",),
        ("--disable-dollar-quoting",),
        ("--use-set-session-authorization",),
        ("--load-via-partition-root",),
        ("-Fc",),
        ("-Ft",),
    ],
    ids=" ".join,
)
def test_every_form_of_dump_holds_the_same_rows(server: EmbeddedServer, options: tuple[str, ...]) -> None:
    expected, _ = everything(dumped(server))
    entries, reading = everything(dumped(server, options))
    found = sections(entries)
    if "--load-via-partition-root" in options:
        assert sorted(found["s1.p"][1]) == sorted(sections(expected)["s1.p1"][1] + sections(expected)["s1.pd"][1])
    else:
        assert found == sections(expected)
    summary = reading.summary
    assert summary.marked and not summary.cluster
    assert summary.clean == ("--clean" in options and "--create" not in options)
    assert summary.create == ("--create" in options)
    assert summary.database == (NAME if "--create" in options else None)
    assert summary.inserts == any("insert" in option for option in options)
    assert summary.has_owners == ("--no-owner" not in options)
    assert summary.has_acls == ("--no-acl" not in options)
    assert summary.has_schema and summary.has_data and summary.has_post_data
    assert summary.large_objects == 2
    assert summary.server_major == server.major
    assert summary.roles == ({"rich_app", "postgres"} if "--no-owner" not in options else {"rich_app"})
    assert not [relation for relation in summary.tables_without_data if relation.schema != "s1"]
    assert summary.encoding == "UTF8"
    assert summary.notes == []


@ALL
def test_the_rows_are_those_of_copy(server: EmbeddedServer) -> None:
    found = sections(everything(dumped(server, ["--inserts"]))[0])
    with server.target(NAME).connect() as connection:
        for name, (columns, rows) in found.items():
            if name == "s1.hp" or not columns:
                continue
            relation = names.parse(name, "")
            assert relation is not None
            query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(relation.schema, relation.name)
            )
            with connection.cursor().copy(query) as copy:
                assert b"".join(bytes(piece) for piece in copy).split(b"\n")[:-1] == rows, name
    assert found["s1.zerocol"] == ((), [b"", b""])
    assert found["s1.empty_one"] == (("id", "made"), [])
    # Which partition a row lies in depends on the OIDs of the enum's values.
    columns, rows = found["s1.hp"]
    assert (columns, sorted(rows)) == (("m", "n"), [b"\\N\t3", b"ok\t2", b"sad\t1", b"sad\t4"])


@ALL
@pytest.mark.parametrize("options", [("--clean",), ("--clean", "--if-exists")], ids=" ".join)
def test_the_whole_clean_section_is_left_out_even_its_unguarded_views(
    server: EmbeddedServer, options: tuple[str, ...]
) -> None:
    text = dumped(server, options)
    entries, reading = everything(text)
    made_first = text.index(b"CREATE SCHEMA s1;")
    assert b"CREATE OR REPLACE VIEW s1.grouped" in text[:made_first], "the dump has the trap in it"
    # What is left is what a plain dump has.
    plain, _ = everything(dumped(server))
    assert [c.statement.text for c in commands(entries)] == [c.statement.text for c in commands(plain)]
    dropped = [s for s in reading.summary.skipped if s.kind in (Kind.DROP, Kind.VIEW)]
    assert len(dropped) > 60
    reasons = {s.reason for s in dropped if s.kind is Kind.VIEW}
    assert reasons == {"replaces a view before it is dropped"}


@ALL
def test_what_names_the_database_is_left_out(server: EmbeddedServer) -> None:
    entries, reading = everything(dumped(server, ["--create", "--clean", "--if-exists"]))
    skipped = [s.kind for s in reading.summary.skipped]
    # DROP, CREATE, OWNER, COMMENT, SET, GRANT and the role's setting in it.
    assert skipped.count(Kind.DATABASE) >= 6 and skipped.count(Kind.ROLE) == 1
    assert not [c for c in commands(entries) if b"rich src" in c.statement.text]


@ALL
def test_one_database_is_chosen_from_a_cluster_dump(server: EmbeddedServer) -> None:
    text = dumped(server, ["--clean", "--if-exists"], program="pg_dumpall")
    entries, reading = everything(text, database=NAME)
    assert sections(entries) == sections(everything(dumped(server))[0])
    assert reading.summary.database == NAME and reading.summary.cluster
    assert {"postgres", "template1", NAME} <= set(reading.summary.databases)
    assert not [c for c in commands(entries) if b"ROLE" in c.statement.text.upper()[:12]]
    listed = ", ".join(f'"{name}"' for name in reading.summary.databases)
    error = refused(text, WhichDatabase)
    assert str(error) == f"cannot use the dump: it is of a whole cluster, with the databases {listed}"
    error = refused(text, WhichDatabase, database="nope")
    assert str(error) == (f'cannot use the dump: it is of a whole cluster without the database "nope", only {listed}')
    error = refused(text[: text.rindex(b"-- PostgreSQL database cluster dump complete")], Incomplete, database=NAME)
    assert str(error) == (
        'cannot use the dump: it ends without the line "-- PostgreSQL database cluster dump complete"'
    )


@ALL
def test_parts_of_a_database(server: EmbeddedServer) -> None:
    _, schema = everything(dumped(server, ["--schema-only"]))
    assert schema.summary.has_schema and not schema.summary.inserts
    assert Relation("public", "a") in schema.summary.tables_without_data
    entries, data = everything(dumped(server, ["--data-only", "--inserts"]))
    assert data.summary.has_data and not data.summary.has_schema and not data.summary.has_post_data
    # Without CREATE TABLE the columns of an INSERT and the empty tables are unknown.
    assert sections(entries)["s1.par"] == (None, [b"1\tp"])
    without = everything(dumped(server, ["--exclude-table-data=s1.par"]))[1].summary.tables_without_data
    assert without == (Relation("s1", "par"),)
    some, _ = everything(dumped(server, ["-n", "supabase_migrations"]))
    assert list(sections(some)) == ["supabase_migrations.schema_migrations"]


@pytest.mark.postgres(18)
def test_statistics_are_optional(server: EmbeddedServer) -> None:
    entries, _ = everything(dumped(server, ["--statistics"]))
    calls = [c for c in commands(entries) if c.kind is Kind.STATISTICS_CALL]
    assert calls and all(c.optional_sqlstates == {"42883", "22023", "42501"} for c in calls)


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("options", [(), ("--inserts",)], ids=["copy", "inserts"])
def test_how_the_text_is_cut_makes_no_difference(server: EmbeddedServer, options: tuple[str, ...]) -> None:
    text = dumped(server, options)
    whole = everything(text)
    pieces = everything(text, size=37)
    assert sections(whole[0]) == sections(pieces[0])
    assert [e for e in whole[0] if isinstance(e, Command)] == [e for e in pieces[0] if isinstance(e, Command)]


# Completeness --------------------------------------------------------------------------------------------------


def test_a_dump_cut_at_any_byte_is_refused() -> None:
    complete = WHOLE.rindex(b"dump complete") + len(b"dump complete")
    for end in range(complete):
        with pytest.raises(BadPoint) as caught:
            everything(WHOLE[:end])
        assert caught.value.exit_status == 4
    for end in range(complete, len(WHOLE) + 1):
        if not WHOLE[:end].endswith(b"\n-"):  # half of a comment's mark is no end either
            everything(WHOLE[:end])


@ALL
@pytest.mark.parametrize("options", [(), ("--inserts",)], ids=["copy", "inserts"])
def test_a_real_dump_cut_anywhere_is_refused(server: EmbeddedServer, options: tuple[str, ...]) -> None:
    text = dumped(server, options)
    complete = text.rindex(b"dump complete") + len(b"dump complete")
    for end in [*range(0, complete, max(complete // 60, 1)), complete - 1]:
        with pytest.raises(BadPoint):
            everything(text[:end])
    unrestricted = text[: text.rindex(b"\\unrestrict")] if b"\\unrestrict" in text else text
    everything(unrestricted)


def test_cut_dumps_say_where_and_why() -> None:
    assert str(refused(HEAD + TABLE, Incomplete)) == ENDS_EARLY
    assert str(refused(HEAD + TABLE + COPY, Incomplete)) == ENDS_EARLY
    error = refused(WHOLE[: WHOLE.index(b"2\t\\N")], Incomplete)
    line = line_of(WHOLE, b"COPY public.t")
    assert error.line == line
    assert str(error).startswith(
        f"cannot read the dump: it ends inside the rows of COPY public.t, which began at line {line} "
    )


def test_the_footer_counts_at_top_level_only() -> None:
    copy = COPY.replace(b"1\tone", b"-- PostgreSQL database dump complete\tx")
    assert str(refused(HEAD + TABLE + copy, Incomplete)) == ENDS_EARLY
    insert = b"INSERT INTO public.t VALUES (1, '\n--\n-- PostgreSQL database dump complete\n--\n');\n"
    assert str(refused(HEAD + TABLE + insert, Incomplete)) == ENDS_EARLY
    everything(HEAD + TABLE + insert + FOOT)


def test_text_after_the_end_is_refused() -> None:
    everything(WHOLE + b"\\unrestrict abc\n\nRESET ALL;\n")
    line = WHOLE.count(10) + 1
    error = refused(WHOLE + b"CREATE TABLE public.more ();\n", Foreign)
    assert str(error) == f"cannot use the dump: commands were added after its end, from line {line} on"
    error = refused(WHOLE + b"not SQL;\nCREATE TABLE public.more ();\n", Foreign)
    assert str(error) == f"cannot use the dump: commands were added after its end, from line {line + 1} on"
    # What is worse is  bfirst.
    refused(WHOLE + b"CREATE TABLE public.more ();\nCOPY public.more FROM PROGRAM 'x';\n", Unsafe)


def test_a_file_without_header_and_footer_needs_consent() -> None:
    text = b"".join(line for line in WHOLE.splitlines(keepends=True) if not line.startswith(b"--"))
    error = refused(text, Incomplete)
    assert str(error) == (
        "cannot use the dump: it has neither the header nor the footer that pg_dump writes, so "
        "its completeness is unknown"
    )
    entries, reading = everything(text, accept_unmarked=True)
    assert sections(entries) == {"public.t": (("a", "b"), [b"1\tone", b"2\t\\N"])}
    assert not reading.summary.marked
    # The Supabase command line strips the comments and adds these.
    everything(b"SET session_replication_role = replica;\n" + text + b"RESET ALL;\n")
    refused(b"SET session_replication_role = replica;\n" + text, Incomplete)
    everything(text.replace(b"CREATE TABLE public.t", b'CREATE TABLE IF NOT EXISTS "public"."t"') + b"RESET ALL;\n")
    refused(text + b"RESET ALL;\n", Incomplete)


def test_several_dumps_in_one_file() -> None:
    schema, data = HEAD + TABLE + FOOT, HEAD + COPY + FOOT
    entries, _ = everything(schema + data)
    assert sections(entries) == {"public.t": (("a", "b"), [b"1\tone", b"2\t\\N"])}
    assert str(refused(schema + HEAD + COPY, Incomplete)) == ENDS_EARLY
    error = refused(HEAD + TABLE + data, Incomplete)
    line = (HEAD + TABLE).count(10) + 2
    assert str(error) == f"cannot use the file: a dump in it ends before line {line}, without its footer"
    error = refused(WHOLE + WHOLE, BadPoint)
    assert str(error) == (
        f"cannot use the file: it holds several dumps, and line {WHOLE.count(10) + line_of(WHOLE, b'CREATE TABLE')} "
        "creates public.t again"
    )
    error = refused(HEAD + b"\\connect one\n" + FOOT + HEAD + b"\\connect two\n" + FOOT, BadPoint)
    assert str(error) == 'cannot use the file: it holds dumps of several databases, "one" and "two"'


@pytest.mark.parametrize("text", [b"", b"\n\n", b"-- only a comment\n"])
def test_a_file_without_sql(text: bytes) -> None:
    assert str(refused(text, Corrupt)) == "cannot use the file: it contains no SQL"


# Hostile and unfit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\\! touch /tmp/p", r'has the psql command "\!", which would run on the operator' + "'s machine"),
        (b"\\unrestrict `touch /tmp/p`", r'has a "\unrestrict" with an invalid key, which is an attack on psql'),
        (b"COPY public.t FROM PROGRAM 'x';", 'has a "COPY … PROGRAM", which would run a program on the server'),
        (b"ALTER SYSTEM SET x = 1;", 'has "ALTER SYSTEM", which pg_dump never writes'),
        (b"DO $$ BEGIN NULL; END $$;", 'has "DO", which pg_dump never writes'),
    ],
)
def test_what_a_restore_must_never_do(line: bytes, reason: str) -> None:
    text = HEAD + TABLE + line + b"\n" + FOOT
    error = refused(text, Unsafe)
    assert str(error) == f"cannot restore the dump: line {line_of(text, line)} {reason}"
    assert error.offset == text.index(line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"DROP TABLE public.t;", "drops an object after the dump has created others"),
        (b"UPDATE public.t SET a = 1;", 'has "UPDATE public", which pg_dump never writes'),
        (b"\\echo hello", r'has the psql command "\echo", which pg_dump never writes'),
    ],
)
def test_a_harmless_command_that_pg_dump_never_writes_makes_a_dump_foreign(line: bytes, reason: str) -> None:
    text = HEAD + TABLE + line + b"\n" + FOOT
    error = refused(text, Foreign)
    assert str(error) == f"cannot use the dump: line {line_of(text, line)} {reason}"
    assert error.offset == text.index(line)


def test_rows_are_never_read_as_sql() -> None:
    copy = COPY.replace(b"1\tone", b"drop table victim;\t\\\\! touch /tmp/p")
    entries, _ = everything(HEAD + TABLE + copy + FOOT)
    assert sections(entries)["public.t"][1][0] == b"drop table victim;\t\\\\! touch /tmp/p"
    assert [c.kind for c in commands(entries) if c.kind is not Kind.SETTING] == [Kind.TABLE]


def test_a_name_that_breaks_out_of_its_comment() -> None:
    head = HEAD.replace(b"18.1", b"16.2")
    text = head + b"-- Name: x\nDROP TABLE victim;\n--; Type: TABLE; Schema: s; Owner: o\n--\n\n" + FOOT
    error = refused(text, Unsafe)
    line = line_of(text, b"-- Name: x")
    assert str(error) == (
        f"cannot restore the dump: a name with a line end breaks out of the comment in line {line}, which pg_dump 16.2 "
        "permits"
    )
    text = HEAD + b'-- load via partition root s1."hp\nGRANT a TO b;\n--"\n' + FOOT
    error = refused(text, Unsafe)
    line = line_of(text, b"-- load")
    assert str(error) == f"cannot restore the dump: a name with a line end breaks out of the comment in line {line}"


@pytest.mark.postgres(16)
def test_cve_2025_8715_in_a_real_dump(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    """pg_dump 16.2 writes a partition root's name, line ends included, into a comment."""
    name = new_database("breaking_out")
    with server.target(name).connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute("CREATE TYPE mood AS ENUM ('a')")
        connection.execute(b'CREATE TABLE "hp\n\\! echo PWNED\n--" (m mood) PARTITION BY HASH (m)')
        connection.execute(
            b'CREATE TABLE hp0 PARTITION OF "hp\n\\! echo PWNED\n--" FOR VALUES WITH (MODULUS 1, REMAINDER 0)'
        )
    target, _ = server.target(name).child()
    done = subprocess.run([server.bin / "pg_dump", "-d", target], capture_output=True, check=True)
    assert b'-- load via partition root public."hp\n\\! echo PWNED\n' in done.stdout, "this pg_dump has the fault"
    error = refused(done.stdout, Unsafe)
    line = line_of(done.stdout, b"-- load via partition root")
    assert str(error) == (
        f"cannot restore the dump: a name with a line end breaks out of the comment in line {line}, which pg_dump 16.2 "
        "permits"
    )


def test_dumps_made_under_row_security_need_consent() -> None:
    text = WHOLE.replace(b"row_security = off", b"row_security = on")
    line = line_of(text, b"SET row_security")
    error = refused(text, Incomplete)
    assert str(error) == (
        f'cannot use the dump: line {line} has "SET row_security = on", so it has only those rows that were visible '
        "to the role that made it"
    )
    assert everything(text, accept_partial=True)[1].summary.row_security


# Damage --------------------------------------------------------------------------------------------------------


def test_rows_must_be_in_the_dumps_encoding() -> None:
    text = WHOLE.replace(b"one", b"caf\xe9")
    error = refused(text, Corrupt)
    line = line_of(text, b"1\tcaf")
    assert str(error) == f"cannot use the dump: line {line} (byte 6 of it) is not valid UTF8"
    assert error.offset == text.index(b"\xe9") and error.line == line
    everything(text.replace(b"'UTF8'", b"'LATIN1'"))
    everything(text.replace(b"'UTF8'", b"'SQL_ASCII'"))
    for encoding in (b"EUC_JP", b"WIN1252", b"KOI8R"):
        good = "é" if encoding == b"WIN1252" else "日" if encoding == b"EUC_JP" else "ж"
        codec = {b"EUC_JP": "euc_jp", b"WIN1252": "cp1252", b"KOI8R": "koi8-r"}[encoding]
        everything(WHOLE.replace(b"one", good.encode(codec)).replace(b"'UTF8'", b"'" + encoding + b"'"))


def test_commands_must_be_in_the_dumps_encoding() -> None:
    text = HEAD + TABLE + b"COMMENT ON TABLE public.t IS 'a\ncaf\xe9';\n" + FOOT
    line = line_of(text, b"COMMENT") + 1
    assert str(refused(text, Corrupt)) == f"cannot use the dump: line {line} (byte 4 of it) is not valid UTF8"
    insert = HEAD + TABLE + b"INSERT INTO public.t VALUES (1, 'caf\xe9');\n" + FOOT
    line = line_of(insert, b"INSERT")
    assert str(refused(insert, Corrupt)) == f"cannot use the dump: line {line} (byte 37 of it) is not valid UTF8"


def test_an_unknown_encoding() -> None:
    text = WHOLE.replace(b"'UTF8'", b"'MULE_INTERNAL'")
    line = line_of(text, b"SET client_encoding")
    assert str(refused(text, BadPoint)) == (
        f'cannot read the dump: line {line} declares the unsupported encoding "MULE_INTERNAL"'
    )


def test_messages_of_pg_dump_in_the_file() -> None:
    message = b'pg_dump: dumping contents of table "public.t"\n'
    text = WHOLE.replace(b"1\tone", message + b"1\tone")
    line = line_of(text, message)
    assert str(refused(text, Corrupt)) == (
        f"cannot use the dump: line {line}, among the rows of public.t, is a message of pg_dump"
    )
    same_file = "Make the dump again without 2>&1: stderr went into the same file."
    text = HEAD + TABLE.replace(b"    b text", message + b"    b text") + FOOT
    error = refused(text, Corrupt)
    assert str(error) == (
        f"cannot restore the dump: line {line_of(text, message)}, within a command, is a message of pg_dump"
    )
    assert (error.hint, error.offset) == (same_file, text.index(message))
    text = HEAD + b"-- TOC entry 2" + message + b"34 (class 1259 OID 16385)\n" + TABLE + FOOT
    error = refused(text.replace(b"\n--\n-- Name", b"\n-- Name"), Corrupt)
    assert str(error).startswith("cannot re")
    text = HEAD + message + b"34 (class 1259 OID 16385)\n" + TABLE + FOOT
    error = refused(text, Corrupt)
    assert str(error) == (
        f"cannot restore the dump: line {line_of(text, b'34 (class')} is separated from its command by messages "
        "of pg_dump"
    )
    assert error.hint == same_file


def test_messages_of_pg_dump_between_commands_are_skipped() -> None:
    message = b'pg_dump: creating TABLE "public.it\'s; (\\ $$"\n'
    for size in (1, 1 << 18):
        entries, reading = everything(
            HEAD + message + TABLE + message + b"pg_dump: hint: x\n" + COPY + message + FOOT, size=size
        )
        assert sections(entries) == sections(everything(WHOLE)[0])
        line = HEAD.count(b"\n") + 1
        assert reading.summary.notes == [
            f"4 lines, from {line}, are messages of pg_dump, not part of the dump; skipped"
        ]
    _, reading = everything(HEAD + TABLE + message + COPY + FOOT)
    line = line_of(HEAD + TABLE + message, message)
    assert reading.summary.notes == [f"line {line} is a message of pg_dump, not part of the dump; it was skipped"]


def test_a_byte_order_mark_between_two_texts_is_skipped() -> None:
    other = WHOLE.replace(b"public.t", b"public.u")
    entries, reading = everything(WHOLE + b"\xef\xbb\xbf" + other)
    assert list(sections(entries)) == ["public.t", "public.u"]
    assert reading.summary.notes == [f"line {WHOLE.count(bytes([10])) + 1} has a byte order mark, which was skipped"]


def test_noise_after_the_end_is_skipped_and_sql_is_not() -> None:
    for tail in (b"Connection to db closed.\n", b'npm ERR! it\'s "bad" (;\nConnection to db closed.', b"(none);\n"):
        if tail.startswith(b"("):
            error = refused(WHOLE + tail, Corrupt)
            assert (
                str(error)
                == f"cannot use the dump: line {WHOLE.count(bytes([10])) + 1} has text after the end of the dump"
            )
            continue
        entries, reading = everything(WHOLE + tail)
        assert sections(entries) == sections(everything(WHOLE)[0])
        (note,) = reading.summary.notes
        assert note.endswith(
            "after the end of the dump and not part of it; "
            + ("it was" if note.startswith("line") else "they were")
            + " skipped"
        )
    refused(WHOLE + b"INSERT INTO public.t VALUES (1, 'x');\n", Foreign)
    assert type(refused(WHOLE + b"SELECT 'x", Incomplete)) is Incomplete


def test_a_damaged_command_is_reported_by_line_and_byte() -> None:
    text = HEAD + TABLE.replace(b"    b text", b"    b t\xc3\xa9xt,, x") + COPY + FOOT
    error = refused(text, Corrupt)
    line, at = line_of(text, b"CREATE TABLE") + 2, text.index(b", x")
    assert (error.line, error.offset) == (line, at)
    assert str(error) == (
        f"cannot read the dump: line {line} (byte {at}) is not SQL, in the command that begins at line {line - 2}, "
        "in table t"
    )
    text = HEAD + TABLE + b"nonsense;\n" + FOOT
    at = text.index(b"nonsense")
    assert (
        str(refused(text, Corrupt))
        == f"cannot read the dump: line {line_of(text, b'nonsense')} (byte {at}) is not SQL, in table t"
    )


def test_a_row_with_the_wrong_number_of_columns() -> None:
    for row, has in ((b"1", "1 value"), (b"", "1 value"), (b"1\t2\t3", "3 values")):
        text = WHOLE.replace(b"1\tone", row)
        line = line_of(text, b"COPY public.t") + 1
        error = refused(text, Corrupt)
        assert str(error) == f"cannot use the dump: line {line}, a row of public.t, has {has} instead of 2"
        assert error.offset == text.index(b"FROM stdin;\n") + len(b"FROM stdin;\n")


def test_rows_of_a_table_without_columns_are_blank() -> None:
    text = HEAD + b"CREATE TABLE public.z (\n);\nCOPY public.z  FROM stdin;\n\n\n\\.\n" + FOOT
    assert sections(everything(text)[0]) == {"public.z": ((), [b"", b""])}
    error = refused(text.replace(b"stdin;\n\n", b"stdin;\nx\n"), Corrupt)
    assert (
        str(error)
        == f"cannot use the dump: line {line_of(text, b'COPY') + 1}, a row of public.z, has 1 value instead of 0"
    )


def test_a_dump_whose_every_line_ends_with_cr_lf_is_read_as_it_was_written() -> None:
    for size in (1, 7, 1 << 18):
        entries, reading = everything(WHOLE.replace(b"\n", b"\r\n"), size=size)
        assert sections(entries) == sections(everything(WHOLE)[0])
        assert reading.summary.notes == [
            "every line ends with CR LF, as after a transfer in text mode; the file is read with LF line ends"
        ]


def test_mixed_line_ends_are_refused() -> None:
    text = WHOLE.replace(b"\n", b"\r\n").replace(b"1\tone\r\n", b"1\tone\n")
    line = line_of(text, b"1\tone")
    assert str(refused(text, Corrupt)) == (
        f"cannot read the dump: line {line} ends with LF, the lines before it with CR LF"
    )
    text = WHOLE.replace(b"1\tone\n", b"1\tone\r\n")
    line = line_of(text, b"1\tone")
    assert str(refused(text, Corrupt)) == (
        f"cannot use the dump: line {line}, a row of public.t, has a bare carriage return"
    )


def test_noise_before_the_header_is_skipped() -> None:
    noise = b'> crm@1.0.0 backup\nIt\'s "dumping" schemas...\n'
    entries, reading = everything(noise + WHOLE)
    assert sections(entries) == sections(everything(WHOLE)[0])
    assert reading.summary.notes == ["line 1 and others before the header are not part of the dump and were skipped"]
    start = next(e for e in entries if isinstance(e, RowsStart))
    assert start.line == line_of(noise + WHOLE, b"COPY")
    entries, reading = everything(b"\xef\xbb\xbfSET lock_timeout = 0;\n" + WHOLE)
    assert reading.summary.notes == [] and len(list(commands(entries))) == 6


def test_nul_bytes() -> None:
    assert str(refused(WHOLE.replace(b"one", b"o\0e"), Corrupt)).startswith("cannot read the dump: it has a NUL byte")


# INSERTs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("insert", "rows"),
    [
        (b"VALUES (1, 'a')", [b"1\ta"]),
        (b"VALUES (1, 'a'), (-2, 'b'),\n\t(3, NULL)", [b"1\ta", b"-2\tb", b"3\t\\N"]),
        (b"(b, a) VALUES ('x', 1)", [b"x\t1"]),
        (b"OVERRIDING SYSTEM VALUE VALUES (1, 'a')", [b"1\ta"]),
        (b"VALUES (1, 'it''s\n;\\.\t')", [b"1\tit's\\n;\\\\.\\t"]),
        (b"VALUES (1, E'a\\nb\\\\c''\\x41\\101')", [b"1\ta\\nb\\\\c'AA"]),
        (b"VALUES (true, B'101')", [b"t\t101"]),
        (b"VALUES (1e+300, '\\N')", [b"1e+300\t\\\\N"]),
        (b"VALUES (.5, '') ON CONFLICT DO NOTHING", [b".5\t"]),
    ],
)
def test_inserts_of_literals_become_rows(insert: bytes, rows: list[bytes]) -> None:
    entries, reading = everything(HEAD + TABLE + b"INSERT INTO public.t " + insert + b";\n" + FOOT)
    columns = ("b", "a") if insert.startswith(b"(b") else ("a", "b")
    assert sections(entries) == {"public.t": (columns, rows)}
    start = next(e for e in entries if isinstance(e, RowsStart))
    assert start.copy == b"COPY public.t (" + ", ".join(columns).encode() + b") FROM stdin"
    assert reading.summary.inserts


@pytest.mark.parametrize(
    "insert",
    [
        b"VALUES (1, 'a'::text)",
        b"VALUES (1, DEFAULT)",
        b"VALUES (1, 'a'), (2, DEFAULT)",
        b"VALUES (1)",
        b"VALUES (1, U&'\\0041')",
        b"VALUES (1, E'\\u0041')",
        b"VALUES (1, $$a$$)",
        b"OVERRIDING USER VALUE VALUES (1, 'a')",
        b"DEFAULT VALUES",
    ],
)
def test_other_inserts_stay_commands(insert: bytes) -> None:
    entries, _ = everything(HEAD + TABLE + b"INSERT INTO public.t " + insert + b";\n" + FOOT)
    assert sections(entries) == {}
    assert [c.kind for c in commands(entries)][-1] is Kind.INSERT


def test_inserts_into_one_table_make_one_section() -> None:
    inserts = b"".join(b"INSERT INTO public.t VALUES (%d, 'x');\n" % number for number in range(1000))
    other = b"CREATE TABLE public.u (a integer);\nINSERT INTO public.u VALUES (7);\n"
    entries, _ = everything(HEAD + TABLE + inserts + other + inserts + FOOT)
    kinds = [type(e).__name__ for e in entries if not isinstance(e, Command)]
    assert kinds == ["RowsStart", "Rows", "RowsEnd"] * 3
    ends = [e.rows for e in entries if isinstance(e, RowsEnd)]
    assert ends == [1000, 1, 1000]


def test_old_dumps_switch_the_search_path() -> None:
    text = (
        HEAD
        + b"CREATE SCHEMA crm;\n"
        + b"SET search_path = crm, pg_catalog;\nCREATE TABLE t (a integer);\nCOPY t (a) FROM stdin;\n1\n\\.\n"
        + FOOT
    )
    entries, reading = everything(text)
    assert sections(entries) == {"crm.t": (("a",), [b"1"])}
    assert list(reading.summary.tables) == [Relation("crm", "t")]
