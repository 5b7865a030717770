"""The lexer against tables, a second lexer, real servers, truncation at every byte, and random input."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import pq

from lastgood.dump.lexer import window
from lastgood.dump.lexer.lexer import tokens
from lastgood.dump.lexer.tokens import (
    Comment,
    CopyData,
    CopyEnd,
    CopyPart,
    CopySpan,
    CopyStart,
    MetaCommand,
    Noise,
    Statement,
    Token,
)
from lastgood.errors import BadPoint, Corrupt, Incomplete
from lastgood.postgres.embedded import EmbeddedServer
from tests.dump.reference_lexer import Piece, reference
from tests.support.real_dumps import NAME, dumped, run

ALL = pytest.mark.postgres(15, 16, 17, 18)
NASTY = Path(__file__).parent.parent / "fixtures" / "hard_to_split.sql"
KINDS = {Statement: "command", Comment: "comment", MetaCommand: "meta", CopyStart: "copy", Noise: "noise"}
CUT_OFF = "The file is truncated, or pg_dump was interrupted: choose another restore point."
DAMAGED = "The file is damaged, or was not written by pg_dump: choose another restore point."


def lexed(text: bytes, sizes: Sequence[int] = ()) -> tuple[list[Piece], BadPoint | None]:
    """The tokens as the reference gives them, after checking lines, offsets and counts of each, and the error.

    ``text`` comes in chunks of these sizes; the rest in one.
    """
    found: list[Piece] = []
    try:
        for token in tokens(_chunks(text, sizes)):
            assert token.line == text.count(b"\n", 0, token.offset) + 1, token
            if isinstance(token, CopyData):
                assert text[token.offset : token.offset + len(token.data)] == token.data
                assert token.data.endswith(b"\n")
                assert token.rows == token.data.count(b"\n") > 0
                if found[-1][0] == "rows":
                    _, before, offset = found.pop()
                    assert offset + len(before) == token.offset
                    found.append(("rows", before + token.data, offset))
                else:
                    found.append(("rows", token.data, token.offset))
            elif isinstance(token, CopyEnd):
                found.append(("end", b"", token.offset))
            else:
                assert not isinstance(token, CopySpan | CopyPart)
                assert text[token.offset : token.offset + len(token.text)] == token.text
                found.append((KINDS[type(token)], token.text, token.offset))
    except BadPoint as error:
        return found, error
    return found, None


def _chunks(text: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield text[at : at + size]
        at += size
    if at < len(text):
        yield text[at:]


@contextmanager
def portions(size: int) -> Iterator[None]:
    """The window takes portions of so many bytes, so that a short text too has tokens that are cut by their ends."""
    before = window.PORTION
    window.PORTION = size
    try:
        yield
    finally:
        window.PORTION = before


def commands(text: bytes) -> list[bytes]:
    found, error = lexed(text)
    assert error is None
    return [piece for kind, piece, _ in found if kind == "command"]


# Each text is one command, or several with the places between them marked by "¦".
WHOLE = [
    "SELECT 1",
    "SELECT ';'",
    "SELECT 'a;''b;'",
    "SELECT 'back\\'¦SELECT ';'",
    "SELECT E'it\\'s; \\\\'",
    "SELECT e'a''b\\';'",
    "SELECT E'a'\n'b\\';'",
    "SELECT E'a' -- c ; '\n  -- d\n 'b\\';'",
    "SELECT E'a' 'b\\'¦SELECT 2",
    "SELECT E'a'/* */\n'b\\'¦SELECT 2",
    "SELECT fooE'a\\'¦SELECT 2",
    "SELECT 1E'a\\'¦SELECT 2",
    "SELECT $1E'a\\'¦SELECT 2",
    "SELECT $$a$$E'b\\';'",
    "SELECT U&'d\\0061t;'¦SELECT 2",
    "SELECT U&'a\\'¦SELECT 2",
    "SELECT B'01;', X'0f;', N'a;'",
    'SELECT ";" AS "a""b;"',
    'SELECT U&"d\\0061;"',
    "SELECT $$;'\"$$",
    "SELECT $a$;$b$;$$ $a$",
    "SELECT $a$;$a;$a$",
    "SELECT $größe$;$größe$",
    "SELECT $1, $2¦SELECT 2",
    "SELECT a$b$c¦SELECT $b$;$b$",
    "SELECT 1$a$;$a$",
    "SELECT $1$a$;$a$",
    "SELECT $a + $¦SELECT 2",
    "SELECT $ ¦SELECT 2",
    "SELECT 1 -- ; '\n+ 2",
    "SELECT 1 --; \r+ 2",
    "SELECT 1 /* ; ' /* \" */ ; */ + 2",
    "SELECT 1 +-- ;\n 2",
    "SELECT 1 */* ; */ 2",
    "SELECT 1 - 2 / 3 * 4¦SELECT -1",
    "CREATE OPERATOR <-> (FUNCTION = f)",
    "CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT ';'; NOTIFY x)",
    "SELECT (1, (2; 3), f(4; (5)))",
    "SELECT 1)¦SELECT 2",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "create or replace procedure p() begin/* ; */atomic select case when true then 1; end; end",
    "CREATE /* /* a */ */ FUNCTION f() BEGIN -- x\n ATOMIC SELECT 1; END",
    "CREATE FUNCTION f() BEGIN ATOMIC SELECT t.end, t.case; SELECT (CASE 1 WHEN 1 THEN 2 END); END",
    "CREATE FUNCTION f() BEGIN ATOMIC SELECT begin FROM atomic; SELECT 'end', \"end\"; END",
    "CREATE FUNCTION begin() RETURNS int AS 'select 1'¦SELECT 2",
    "CREATE FUNCTION \"begin\"() RETURNS int AS 'select 1'¦SELECT 2",
    "CREATE FUNCTION atomic() RETURNS int AS 'select 1'¦SELECT 2",
    "CREATE FUNCTION s.begin(atomic int) RETURNS int AS 'select 1'¦SELECT 2",
    "CREATE FUNCTION f(a int) RETURNS int AS $$ BEGIN ATOMIC; $$¦SELECT 2",
    "CREATE VIEW begin AS SELECT atomic¦CREATE TABLE begin (atomic int)",
    "CREATE VIEW v AS SELECT begin atomic FROM t¦SELECT 2",
    "CREATE TYPE t AS ENUM ('begin atomic;')¦SELECT 2",
    "BEGIN¦COMMIT",
    "BEGIN ATOMIC¦SELECT 2",
    "SET standard_conforming_strings = off¦SELECT 'it\\'s;'¦SET standard_conforming_strings = on¦SELECT 'a\\'",
    "set session standard_conforming_strings to 'off'¦SELECT 'a'\n'b\\';'¦"
    "RESET standard_conforming_strings¦SELECT '\\'",
    "SET standard_conforming_strings = off¦SELECT B'\\', X'\\', U&'\\', 'a\\';', N'\\';', E'\\';'¦"
    "RESET ALL¦SELECT '\\'",
    "COPY t FROM '/tmp/stdin'",
    "COPY t FROM PROGRAM 'cat; stdin'",
    "COPY t TO stdout",
    "COPY (SELECT a FROM stdin) TO stdout",
    'COPY "from stdin" TO stdout',
    "COPY t (a, b) FROM $$stdin$$",
    'COPY public."x" FROM "stdin"',
    "COPYING t FROM stdin",
    "INSERT INTO t VALUES ('\nCOPY t FROM stdin;\n\\.\n--\n-- PostgreSQL database dump complete\n--\n')",
]


@pytest.mark.parametrize("text", WHOLE, ids=lambda value: str(value)[:50])
@pytest.mark.parametrize("portion", [1, 7, 1 << 18])
def test_a_command_ends_where_psql_ends_it(text: str, portion: int) -> None:
    parts = text.encode().split("¦".encode())
    with portions(portion):
        found, error = lexed(b";\n".join(parts) + b" ; ", [1] * len(text))
    assert error is None
    assert [piece for _, piece, _ in found] == [part.rstrip() for part in parts]
    assert {kind for kind, _, _ in found} == {"command"}


ROWS = [
    (b"COPY t FROM stdin;\n1\n2\n\\.\n", b"1\n2\n"),
    (b"copy public.t (a, \"b(\") from STDIN with (format text, null '\\N');\n1\n\\.\n", b"1\n"),
    (b"COPY t FROM stdout;\n1\n\\.\n", b"1\n"),
    (b'COPY "from stdin" FROM stdin;\n1\n\\.\n', b"1\n"),
    (b"COPY s.from FROM /* c */ stdin;\n1\n\\.\n", b"1\n"),
    (b"COPY stdin FROM --x\n stdin ; \t\n1\n\\.\n", b"1\n"),
    (b"COPY BINARY t FROM stdin;\n1\n\\.\n", b"1\n"),
    (b"COPY U&\"a!0062\" UESCAPE '!' (x) FROM stdin;\n1\n\\.\n", b"1\n"),
    (b"COPY t  FROM stdin;\n\n\n\\.\n", b"\n\n"),
    (b"COPY t FROM stdin;\n\\.\n", b""),
    (b"COPY t FROM stdin;\n\\.", b""),
    (b"COPY t FROM stdin;\n1\n\\.", b"1\n"),
    (b"COPY t FROM stdin;\n1\n\\.\r", b"1\n"),
    (b"COPY t FROM stdin;\r\n1\r\n\\.\r\n", b"1\r\n"),
    (b"COPY t FROM stdin;\n\\.x\n\\\\.\n\\. \n\\.\n", b"\\.x\n\\\\.\n\\. \n"),
    (b"COPY t FROM stdin;\n'\n/*\n--\n$$\nCOPY t FROM stdin;\ndrop table t;\n\\.\n", None),
]


@pytest.mark.parametrize(("text", "rows"), ROWS, ids=lambda value: value.decode()[:50] if value else "")
@pytest.mark.parametrize("portion", [1, 3, 1 << 18])
def test_rows_are_never_read_as_sql(text: bytes, rows: bytes | None, portion: int) -> None:
    end = text.rindex(b"\\.")
    begin = text.index(b"\n", text.rindex(b"in") if text.count(b"\n") == 0 else text.index(b";")) + 1
    expected: list[Piece] = [("copy", text[: text.index(b";")].rstrip(), 0)]
    if begin < end:
        expected.append(("rows", text[begin:end], begin))
    expected.append(("end", b"", end))
    assert rows is None or text[begin:end] == rows
    with portions(portion):
        assert lexed(text, [1] * len(text)) == (expected, None)


TOP_LEVEL = [
    (b"", []),
    (b" \n\t", []),
    (b";;\n;", []),
    (b"--\n-- a\n--\n\n", [("comment", b"--", 0), ("comment", b"-- a", 3), ("comment", b"--", 8)]),
    (b"-- a\r\nSELECT 1;\r\n", [("comment", b"-- a", 0), ("command", b"SELECT 1", 6)]),
    (b"-- a\rSELECT 1;", [("comment", b"-- a", 0), ("command", b"SELECT 1", 5)]),
    (b"-- cut", [("comment", b"-- cut", 0)]),
    (b"/* a /* ; */ */ SELECT 1; -- b", [("comment", b"/* a /* ; */ */", 0), ("command", b"SELECT 1", 16)]),
    (b"\\restrict Abc1\r\n\\! date", [("meta", b"\\restrict Abc1", 0), ("meta", b"\\! date", 16)]),
    (b"SELECT 1; \\unrestrict a", [("command", b"SELECT 1", 0), ("meta", b"\\unrestrict a", 10)]),
    (b"\\.\n", [("meta", b"\\.", 0)]),
    (b"\xef\xbb\xbfSELECT 1;", [("command", b"SELECT 1", 3)]),
    (
        b"SELECT 1;\xef\xbb\xbfSELECT 1;",
        [("command", b"SELECT 1", 0), ("noise", b"\xef\xbb\xbf", 9), ("command", b"SELECT 1", 12)],
    ),
    (
        b"SELECT 1;\npg_dump: it's; \\x\nSELECT 2;",
        [("command", b"SELECT 1", 0), ("noise", b"pg_dump: it's; \\x", 10), ("command", b"SELECT 2", 28)],
    ),
    (b"SELECT\npg_dump;", [("command", b"SELECT\npg_dump", 0)]),
    (b"SELECT 1\n-- a\n ;", [("command", b"SELECT 1\n-- a", 0)]),
    (b"(SELECT 1);", [("command", b"(SELECT 1)", 0)]),
]


@pytest.mark.parametrize(("text", "expected"), TOP_LEVEL, ids=lambda value: str(value)[:50])
@pytest.mark.parametrize("portion", [1, 1 << 18])
def test_comments_and_meta_commands_at_top_level(text: bytes, expected: list[Piece], portion: int) -> None:
    with portions(portion):
        found, error = lexed(text, [1] * len(text))
    assert error is None
    assert found[: len(expected)] == expected
    assert [kind for kind, _, _ in found[len(expected) :]] == ["comment"] * (text.count(b"-- b"))


INCOMPLETE = [
    (b"COPY t FROM stdin", "a command", 1, 0),
    (b"\nCOPY public.t (a) FROM stdin;", "the rows of COPY public.t", 2, 1),
    (b"\nCOPY public.t (a) FROM stdin;\n1\n2", "the rows of COPY public.t", 2, 1),
    (b"\nCOPY public.t (a) FROM stdin;\n1\n\\.x", "the rows of COPY public.t", 2, 1),
    (b'COPY "a\nb" FROM stdin;\n', 'the rows of COPY "a\\nb"', 1, 0),
    (b"SELECT\n 'a;\n", "a string", 2, 8),
    (b"SELECT\n E'a\\'", "a string", 2, 8),
    (b'SELECT\n\n "a;', "a quoted identifier", 3, 9),
    (b"SELECT\n $a$ b; $a", "a dollar-quoted string", 2, 8),
    (b"SELECT 1; /* a /* b */", "a comment", 1, 10),
    (b"SELECT\n/* a", "a comment", 2, 7),
    (b"SELECT 1 + (\n2, (3;", "parentheses", 1, 11),
    (b"CREATE FUNCTION f()\nBEGIN ATOMIC SELECT 1;", "the body of a function", 2, 20),
    (b"SELECT 1;\nSELECT 2\n", "a command", 2, 10),
    (b"SELECT E'a'", "a command", 1, 0),
    (b"SELECT $1", "a command", 1, 0),
    (b"SELECT $a", "a command", 1, 0),
    (b"SELECT 1 -", "a command", 1, 0),
    (b"-", "a command", 1, 0),
]


@pytest.mark.parametrize(("text", "what", "line", "offset"), INCOMPLETE, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("portion", [1, 1 << 18])
def test_a_text_that_ends_inside_something_is_incomplete(
    text: bytes, what: str, line: int, offset: int, portion: int
) -> None:
    with portions(portion):
        _, error = lexed(text, [1] * len(text))
    assert type(error) is Incomplete
    assert str(error) == f"cannot read the dump: it ends inside {what}, which began at line {line} (byte {offset})"
    assert (error.line, error.offset, error.hint) == (line, offset, CUT_OFF)


CORRUPT = [
    (
        b"SELECT 1;\nSELECT\n a \\gexec",
        "line 3 (byte 20) has a backslash in the middle of a command, which began at line 2",
        DAMAGED,
        (3, 20),
    ),
    (
        b"\nCOPY t FROM stdin; SELECT 1;\n",
        "text follows COPY t FROM stdin on line 2 (byte 1)",
        DAMAGED,
        (2, 1),
    ),
    (
        b"SELECT 1;\nSELECT '\0a",
        "it has a NUL byte in line 2 (byte 18), which no dump contains",
        "The file is damaged, or not a plain dump: choose another restore point.",
        (2, 18),
    ),
    (
        b"COPY t FROM stdin;\n1\n2\0x\n\\.\n",
        "it has a NUL byte in line 3 (byte 22), which no dump contains",
        "The file is damaged, or not a plain dump: choose another restore point.",
        (3, 22),
    ),
    (
        b"SELECT 1;\n" + bytes(100),
        "it has NUL bytes from line 2 (byte 10), which is typical of a file whose end was never written",
        "Choose another restore point: lastgood points",
        (2, 10),
    ),
    *(
        (
            text,
            "it is UTF-16 text, as PowerShell's > writes it; no dump has that encoding "
            f"(NUL byte in line 1 (byte {byte}))",
            'Convert a copy with "iconv -f UTF-16 -t UTF-8", or choose another restore point.',
            (1, byte),
        )
        for text, byte in [
            ("\ufeff-- PostgreSQL".encode("utf-16-le"), 3),
            ("\ufeff-- PostgreSQL".encode("utf-16-be"), 2),
            ("-- PostgreSQL".encode("utf-16-le"), 1),
            ("-- PostgreSQL".encode("utf-16-be"), 0),
        ]
    ),
]


@pytest.mark.parametrize(("text", "why", "hint", "place"), CORRUPT, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("portion", [1, 1 << 18])
def test_what_no_dump_holds_is_corrupt(text: bytes, why: str, hint: str, place: tuple[int, int], portion: int) -> None:
    with portions(portion):
        _, error = lexed(text, [1] * len(text))
    assert type(error) is Corrupt
    assert str(error) == f"cannot read the dump: {why}"
    assert (error.hint, (error.line, error.offset)) == (hint, place)


@pytest.mark.parametrize("name", ["SJIS", "'Shift_JIS'", "BIG5", "GBK", "GB18030", "johab"])
def test_an_encoding_with_ambiguous_backslashes_is_refused(name: str) -> None:
    _, error = lexed(f"--\nSET client_encoding = {name};\nSELECT 1;".encode())
    plain = name.strip("'")
    assert type(error) is BadPoint
    assert str(error) == (
        f"cannot read the dump: line 2 declares the encoding {plain}, in which a backslash may be part of a character"
    )
    assert error.hint == "Dump again with pg_dump --encoding=UTF8, or choose another restore point."


@pytest.mark.parametrize("name", ["'UTF8'", "LATIN1", "'SQL_ASCII'", "EUC_JP"])
def test_other_encodings_are_read(name: str) -> None:
    assert commands(f"SET client_encoding = {name};".encode()) == [f"SET client_encoding = {name}".encode()]


SMALL = rb"""--
-- PostgreSQL database dump
--

\restrict fD0u

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

CREATE FUNCTION s.f(x integer) RETURNS integer
    LANGUAGE plpgsql
    AS $_$ BEGIN RETURN $1; END; $_$;
CREATE FUNCTION s.g(x integer) RETURNS integer
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT CASE WHEN (x > 1) THEN 2 ELSE 3 END AS "case";
END;
COMMENT ON TABLE s."we""ird
name" IS 'line1;
-- PostgreSQL database dump complete
line2 '' quote \';
INSERT INTO t VALUES (E'it\'s'), ('a' /* ; */ || 'b');

COPY s.t (id, v) FROM stdin;
1	one;
2	\N
\\.	'
-- PostgreSQL database dump complete
\.


COPY s.zero  FROM stdin;


\.


CREATE RULE r AS ON INSERT TO s.t DO ALSO (SELECT 1; SELECT 2);
--
-- PostgreSQL database dump complete
--

\unrestrict fD0u

"""
FOOTER = ("comment", b"-- PostgreSQL database dump complete")


@pytest.mark.parametrize("portion", [1, 64, 1 << 18])
def test_a_dump_cut_at_any_byte_is_incomplete_or_has_no_footer(portion: int) -> None:
    whole, error = lexed(SMALL)
    assert error is None
    footer = next(number for number, piece in enumerate(whole) if piece[:2] == FOOTER)
    ended_well = SMALL.rindex(b"complete") + len(b"complete")
    for cut in range(len(SMALL)):
        with portions(portion):
            found, error = lexed(SMALL[:cut])
        # Rows are given up to the last whole one; a comment or meta-command may be cut: nothing else differs.
        same = 0
        while same < len(found) and found[same] == whole[same]:
            same += 1
        if same < len(found):
            kind, text, offset = found[same]
            assert same == len(found) - 1
            assert kind in ("comment", "meta", "rows")
            assert (kind, offset) == (whole[same][0], whole[same][2])
            assert whole[same][1].startswith(text)
        assert (FOOTER in [piece[:2] for piece in found]) == (cut >= ended_well)
        if error is None:
            assert cut >= ended_well or len(found) <= footer + 1
        else:
            assert type(error) is Incomplete


def test_nasty_fixture_has_twenty_commands() -> None:
    found, error = lexed(NASTY.read_bytes())
    assert error is None
    assert len([kind for kind, _, _ in found if kind in ("command", "copy")]) == 20
    assert (found, "") == reference(NASTY.read_bytes())


@pytest.mark.postgres(15, 18)
def test_a_server_runs_each_nasty_command_alone(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    with server.target(new_database()).connect() as connection:
        connection.execute("SET search_path = public")
        assert _execute(connection.pgconn, tokens([NASTY.read_bytes()]))[-1] == [[b"6"]]


@ALL
@pytest.mark.parametrize("options", [(), ("--inserts",), ("--column-inserts",)])
def test_a_server_takes_each_command_of_a_dump_and_dumps_the_same(
    server: EmbeddedServer, new_database: Callable[..., str], options: tuple[str, ...], tmp_path: Path
) -> None:
    text = dumped(server, options)
    assert NAME.encode() not in text  # it is restored under another name
    name = new_database()
    with server.target(name).connect() as connection:
        _execute(connection.pgconn, tokens(_chunks(text, [100] * (len(text) // 100))))
    again = tmp_path / "again.sql"
    run(server, "pg_dump", "-d", server.target(name).child()[0], "-f", again, *options)
    assert _lines(again.read_bytes()) == _lines(text)


def _lines(text: bytes) -> list[bytes]:
    """All lines without keys, sorted: rows of hash partitions by an enum go elsewhere in each database."""
    without_keys = re.sub(rb"(?m)^\\(?:un)?restrict \w+$", b"", text)
    return sorted(line.rstrip(b",;") for line in without_keys.splitlines())


def _execute(connection: pq.abc.PGconn, found: Iterator[Token]) -> list[list[list[bytes | None]]]:
    """Sends each command alone: the extended protocol refuses two in one. Gives the rows of those that have some."""
    results = []
    for token in found:
        if isinstance(token, (Statement, CopyStart)):
            result = connection.exec_params(token.text, [])
            error = result.error_message
            wanted = (
                (pq.ExecStatus.COPY_IN,)
                if isinstance(token, CopyStart)
                else (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
            )
            assert result.status in wanted, (token, error)
            if result.ntuples:
                columns = range(result.nfields)
                results.append([[result.get_value(row, column) for column in columns] for row in range(result.ntuples)])
        elif isinstance(token, CopyData):
            connection.put_copy_data(token.data)
        elif isinstance(token, CopyEnd):
            connection.put_copy_end()
            while (ended := connection.get_result()) is not None:
                assert ended.status == pq.ExecStatus.COMMAND_OK, (token, ended.error_message)
    return results


@ALL
def test_dumps_are_split_as_the_reference_splits_them(server: EmbeddedServer) -> None:
    for options in ((), ("--rows-per-insert=100",), ("--create", "--verbose"), ("--quote-all-identifiers",)):
        text = dumped(server, options)
        found = lexed(text)
        assert found == (reference(text)[0], None)
        with portions(1):
            assert lexed(text, [13] * (len(text) // 13)) == found


def test_memory_is_bounded_by_a_portion_and_not_by_the_block() -> None:
    lexer_portion = window.PORTION
    row = b"x" * 99 + b"\n"

    def chunks() -> Iterator[bytes]:
        yield b"COPY t FROM stdin;\n"
        for _ in range(200):
            yield row * 1000
        yield b"\\.\n"

    sizes = [len(token.data) for token in tokens(chunks()) if isinstance(token, CopyData)]
    assert sum(sizes) == 200 * 1000 * len(row)
    assert max(sizes) <= 2 * lexer_portion
    # Two for each portion at most: the second of one row, which lay across its end.
    assert len(sizes) <= 2 * (sum(sizes) // lexer_portion + 2)


@pytest.mark.parametrize("width", [2, 100, 1000, 100_000])
def test_rows_of_any_width_are_counted_and_end_at_the_marker(width: int) -> None:
    row = b"y" * (width - 1) + b"\n"
    like_an_end = b"\\.z" + row
    count = 3_000_000 // width
    block = b"COPY t FROM stdin;\n" + row * count + like_an_end + row * count + b"\\.\n"
    found = list(tokens(_chunks(block * 2, [100_000] * (2 * len(block) // 100_000))))
    assert sum(token.rows for token in found if isinstance(token, CopyData)) == 2 * (2 * count + 1)
    assert [type(token) for token in found if not isinstance(token, CopyData)] == [CopyStart, CopyEnd] * 2
    assert lexed(block, [70_000] * (len(block) // 70_000))[1] is None


FRAGMENTS = [
    *(b"'", b'"', b"\\", b";", b"(", b")", b"$", b"$$", b"$a$", b"$1", b"-", b"--", b"/", b"/*", b"*/", b"*", b"&"),
    *(b" ", b"\n", b"\r", b"\r\n", b"\t", b",", b".", b"E", b"e'", b"E'", b"U&'", b'U&"', b"B'", b"X'", b"N'", b"U"),
    *(b"''", b"\\'", b"a", b"1", b"_", b"\xc3\xa9", b"\x80", b"\0", b"\xef\xbb\xbf", b"E'a'\n'b'"),
    *(b"BEGIN ", b"ATOMIC ", b"BEGIN ATOMIC ", b"CASE ", b"END", b"END;", b"begin", b"atomic"),
    *(b"CREATE ", b"OR REPLACE ", b"FUNCTION ", b"PROCEDURE ", b"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END;"),
    *(b"COPY ", b"t ", b"FROM ", b"stdin", b"TO ", b"COPY t FROM stdin;\n", b"COPY t (a) FROM STDOUT ;"),
    *(b"\n\\.\n", b"\\.\n", b"\n\\.", b"SELECT ", b"1\tx\n", b"\\restrict k\n", b"INSERT INTO t VALUES ('a', 1);"),
    *(b"SET standard_conforming_strings = off;", b"SET standard_conforming_strings TO on;"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=2), max_size=25).map(b"".join)
LONG = os.environ.get("LASTGOOD_FUZZ") == "long"
FUZZ = settings(
    max_examples=20_000 if LONG else 300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@FUZZ
@given(text=TEXTS, sizes=st.lists(st.integers(0, 9), max_size=60), portion=st.integers(1, 20))
@example(text=b"SELECT $$a$$E'b\\';", sizes=[], portion=1)
@example(text=b"COPY t FROM stdin;\n\n\\.'", sizes=[], portion=1)
@example(text=b"COPY a stdin --COPY t FROM stdin;\n;", sizes=[], portion=1)
@example(text=b"SET standard_conforming_strings = off;X'B''a;\\',';'U&'B''a;\\',';'B'a'\n'\\';", sizes=[], portion=1)
@example(text=b"COPY t'a'FROM stdin;COPY 1TO FROM stdin;COPY x.UESCAPE 'a' FROM stdin;\n", sizes=[], portion=1)
@example(text=b"SET standard_conforming_strings = off;SELECT U&'\\';", sizes=[1] * 60, portion=1)
def test_fuzz_against_the_reference_in_any_chunks(text: bytes, sizes: list[int], portion: int) -> None:
    expected, how = reference(text)
    for size in (window.PORTION, portion):
        with portions(size):
            found, error = lexed(text, sizes)
        assert found == expected
        if how == "":
            assert error is None
        elif how == "incomplete":
            assert type(error) is Incomplete
            assert error.offset is not None and error.line == text.count(b"\n", 0, error.offset) + 1
        else:
            assert type(error) is Corrupt
            words = {"nul": "NUL", "backslash": "backslash", "text follows": "text follows"}
            assert words[how] in str(error)


@FUZZ
@given(data=st.binary(max_size=200), sizes=st.lists(st.integers(0, 9), max_size=40))
def test_fuzz_any_bytes_give_tokens_or_an_error_of_ours(data: bytes, sizes: list[int]) -> None:
    with portions(1):
        found, error = lexed(data, sizes)
    assert found == reference(data)[0]
    assert (error is None) == (reference(data)[1] == "")


def test_no_group_is_repeated_possessively() -> None:
    # Python 3.11.0 to 3.11.4 match (?:…)*+ wrongly (gh-106052), and these tests may run with a later one.
    sources = (Path(__file__).parents[2] / "src").rglob("*.py")
    found = [
        f"{path.name}: {line.strip()}"
        for path in sources
        for line in path.read_text().splitlines()
        if re.search(r"(?<!\\)\)[*+?]\+", line) and "(?:…)*+" not in line
    ]
    assert found == []
