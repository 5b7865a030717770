"""What logs say: psql's, pg_restore's, the server's and those of applications, whole ones and pieces."""

from __future__ import annotations

import resource
import time
from io import BytesIO
from pathlib import Path

import pytest

from lastgood.command.explain.explain import Explained, explain, explain_text


def of(text: str | bytes) -> Explained:
    """A log explained."""
    return explain(BytesIO(text if isinstance(text, bytes) else text.encode()), "log")


def kinds(found: Explained) -> list[tuple[str | None, str | None, int, int]]:
    """Case, SQLSTATE, first line and number of each kind."""
    return [(each.case, each.sqlstate, each.line, each.count) for each in found.kinds]


# What one error looks like, wherever it was printed.
ONE = {
    'ERROR:  relation "contacts" does not exist': ("relation-does-not-exist", None),
    'psql:restore.sql:812: ERROR:  relation "contacts" does not exist\nLINE 1: SELECT': (
        "relation-does-not-exist",
        None,
    ),
    'ERROR:  42P01: relation "contacts" does not exist\nLOCATION:  parserOpenTable': (
        "relation-does-not-exist",
        "42P01",
    ),
    "ERROR:  42P01": ("relation-does-not-exist", "42P01"),
    "42P01": ("relation-does-not-exist", "42P01"),
    "FEHLER:  Relation »contacts« existiert nicht\nZEILE 1: SELECT": ("relation-does-not-exist", None),
    "ERREUR:  la relation « contacts » n'existe pas": ("relation-does-not-exist", None),
    "ERROR:  no existe la relación «contacts»": ("relation-does-not-exist", None),
    '2026-11-23 05:09:44.123 UTC [812] ERROR:  relation "contacts" does not exist at character 15\n'
    "2026-11-23 05:09:44.123 UTC [812] STATEMENT:  SELECT * FROM contacts": ("relation-does-not-exist", None),
    '2026-11-23 05:09:44 UTC:10.0.0.1(4711):app@crm:[812]:ERROR:  relation "x" does not exist': (
        "relation-does-not-exist",
        None,
    ),
    '2026-11-23 05:09:44.123 UTC,"app","crm",812,"[local]",65,1,"SELECT",2026-11-23 05:09:40 UTC,3/7,0,ERROR,42P01,'
    '"relation ""contacts"" does not exist",,,,,,"SELECT * FROM contacts",15,,"psql","client backend",,0': (
        "relation-does-not-exist",
        "42P01",
    ),
    '{"timestamp":"2026-11-23 05:09:44.123 UTC","pid":812,"error_severity":"ERROR","state_code":"42P01",'
    '"message":"relation \\"contacts\\" does not exist","statement":"SELECT * FROM contacts"}': (
        "relation-does-not-exist",
        "42P01",
    ),
    '{"code":"42501","details":null,"hint":null,"message":"permission denied for table contacts"}': (
        "permission-denied",
        "42501",
    ),
    'psycopg.errors.UndefinedTable: relation "contacts" does not exist\nLINE 1: SELECT * FROM contacts': (
        "relation-does-not-exist",
        "42P01",
    ),
    'PG::UndefinedTable: ERROR:  relation "contacts" does not exist': ("relation-does-not-exist", None),
    'org.postgresql.util.PSQLException: ERROR: relation "contacts" does not exist': ("relation-does-not-exist", None),
    'ERROR: relation "contacts" does not exist (SQLSTATE 42P01)': ("relation-does-not-exist", "42P01"),
    "error: relation \"contacts\" does not exist\n    at Parser.parseErrorMessage\n  code: '42P01',": (
        "relation-does-not-exist",
        "42P01",
    ),
    "SQLSTATE[42P01]: Undefined table: 7": ("relation-does-not-exist", "42P01"),
    'pg_restore: error: could not execute query: ERROR:  type "public.mood" does not exist\n'
    "Command was: CREATE TABLE public.t (": ("type-does-not-exist", None),
    'pg_restore: [archiver (db)] could not execute query: ERROR:  role "crm_owner" does not exist': (
        "role-does-not-exist",
        None,
    ),
    'pg_restore: error: COPY failed for table "t": ERROR:  duplicate key value violates unique constraint "t_pkey"': (
        "duplicate-key",
        None,
    ),
    'psql: error: connection to server at "localhost" (127.0.0.1), port 5432 failed: Connection refused\n'
    "\tIs the server running on that host and accepting TCP/IP connections?": ("connection-refused", None),
    'psql: error: connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory': (
        "connection-refused",
        None,
    ),
    'psql: error: connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  database "crm" does not exist': (
        "database-does-not-exist",
        None,
    ),
    'psql: error: connection to server at "db" (10.0.0.1), port 5432 failed: Connection timed out': (
        "host-unknown",
        None,
    ),
    'psql: error: connection to server at "db" (10.0.0.1), port 5432 failed: fe_sendauth: no password supplied': (
        "password-wrong",
        None,
    ),
    "psql: Fehler: Verbindung zum Server auf Socket »/x/.s.PGSQL.5432« fehlgeschlagen: Datei oder Verzeichnis nicht "
    "gefunden": ("connection-refused", None),
    "psql:backup.sql:41: error: invalid command \\N": ("psql-rows-as-commands", None),
    "invalid command \\N": ("psql-rows-as-commands", None),
    "psql:backup.sql:5: error: invalid command \\restrict": ("psql-restrict", None),
    "pg_restore: error: unsupported version (1.16) in file header": ("archive-version", None),
    "pg_restore: error: could not read from input file: end of file": ("archive-cut", None),
    "pg_dump: error: aborting because of server version mismatch": ("pg-dump-too-old", None),
    "pg_dump: error: query failed: ERROR:  permission denied for table contacts": ("permission-denied", None),
    "gzip: backup.sql.gz: unexpected end of file": ("archive-cut", None),
    "2026-11-23 05:09:44 UTC [1] LOG:  server process (PID 815) was terminated by signal 9: Killed": (
        "server-crashed",
        None,
    ),
    '2026-11-23 05:09:44 UTC [1] PANIC:  could not write to file "pg_wal/xlogtemp.12": No space left on device': (
        "wal-full",
        None,
    ),
    'error: cannot build the database "crm_shadow_1": could not extend file "base/1": No space left on device\n'
    "state: The live database was not touched and is open.": ("disk-full", None),
}


@pytest.mark.parametrize("text", ONE)
def test_one_error_wherever_it_was_printed(text: str) -> None:
    for found in (of(text), explain_text(text), of(text.replace("\n", "\r\n")), of(text.encode("utf-16"))):
        assert [(each.case, each.sqlstate) for each in found.kinds] == [ONE[text]]
        assert (found.errors, found.recognised) == (1, True)


def test_what_is_no_error_is_none() -> None:
    found = of(
        "SET\nCREATE TABLE\nCOPY 812\n(1 row)\n"
        "2026-11-23 05:09:44 UTC [1] LOG:  checkpoint complete: wrote 42 buffers\n"
        'NOTICE:  table "x" does not exist, skipping\n'
        "0 errors\nfinished without errors\n"
    )
    assert (found.kinds, found.errors, found.recognised, found.verdict, found.lines) == ((), 0, False, None, 8)


def test_a_sqlstate_without_a_case_is_explained_by_its_rule_or_is_unknown() -> None:
    (kind,) = explain_text("ERROR:  22P06: nonstandard use of \\' in a string literal").kinds
    assert (kind.case, kind.recognised) == ("value-refused", True)
    found = explain_text("ERROR:  2200N: invalid XML content")
    (kind,) = found.kinds
    assert kind.title == "The server does not accept a value"
    (kind,) = explain_text("ERROR:  39P01: trigger protocol violated").kinds
    assert (kind.case, kind.recognised, kind.sqlstate, kind.title) == (
        None,
        False,
        "39P01",
        "Trigger protocol violated",
    )
    assert kind.cause == "lastgood does not know this error."
    assert kind.commands == (
        "LC_MESSAGES=C psql -v VERBOSITY=verbose …   # in English and with the SQLSTATE, then explain that",
        "# check the server's log of this minute",
    )


def test_the_first_real_error_comes_first_and_its_consequences_last() -> None:
    found = of(
        'ERROR:  unrecognized configuration parameter "transaction_timeout"\n'
        "SET\n"
        'ERROR:  type "public.mood" does not exist\n'
        'ERROR:  relation "public.contacts" does not exist\n'
        "invalid command \\N\n"
        "invalid command \\N\n"
        'ERROR:  syntax error at or near "7"\n'
        'ERROR:  relation "public.contacts" does not exist\n'
        "ERROR:  a trigger of ours says no\n"
    )
    assert kinds(found) == [
        ("type-does-not-exist", None, 3, 1),
        (None, None, 9, 1),
        ("relation-does-not-exist", None, 4, 2),
        ("psql-rows-as-commands", None, 5, 2),
        ("syntax-error", None, 7, 1),
        ("setting-unknown", None, 1, 1),
    ]
    assert [each.follows for each in found.kinds] == [None, None, *["A type does not exist"] * 3, None]
    assert found.verdict is not None and found.verdict.outcome == "partially_restored"


def test_one_transaction_that_was_rolled_back() -> None:
    found = of(
        "BEGIN\nSET\nCREATE TABLE\n"
        'psql:b.sql:9: ERROR:  relation "t" already exists\n'
        + "psql:b.sql:10: ERROR:  current transaction is aborted, commands ignored until end of transaction block\n" * 3
        + "ROLLBACK\n"
    )
    assert kinds(found) == [("relation-exists", None, 4, 1), ("transaction-aborted", None, 5, 3)]
    assert found.verdict is not None
    assert found.verdict.outcome == "rolled_back"
    assert found.verdict.text == (
        "The restore was one transaction, and its first error rolled it back: the database is as it was before. psql "
        "still exits with status 0 unless ON_ERROR_STOP is set."
    )


def test_pg_restore_that_went_on() -> None:
    found = of(
        "pg_restore: while PROCESSING TOC:\n"
        "pg_restore: from TOC entry 6; 2615 16385 SCHEMA s1 postgres\n"
        'pg_restore: error: could not execute query: ERROR:  schema "s1" already exists\n'
        "Command was: CREATE SCHEMA s1;\n\n\n"
        "pg_restore: warning: errors ignored on restore: 1\n"
    )
    assert [each.case for each in found.kinds] == ["errors-ignored", "schema-exists"]
    assert found.kinds[1].statement == "CREATE SCHEMA s1;"
    assert found.verdict is not None
    assert found.verdict.text == (
        "pg_restore continued after 1 error: the database is partially restored. Its content is neither the backup nor "
        "the previous state."
    )


def test_a_row_of_a_copy_is_named_and_its_content_is_not() -> None:
    (kind,) = of(
        'ERROR:  invalid input syntax for type integer: "x"\nCONTEXT:  COPY contacts, line 1612, column age: "x"\n'
    ).kinds
    assert (kind.table, kind.row) == ("contacts", 1612)
    assert kind.statement == ""


def test_a_huge_log_is_read_as_a_stream(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        for number in range(20_000):
            file.write(b"ERROR:  no one has ever seen error %d here\nINSERT 0 1\n" % number)
        for _ in range(60):
            file.write(b"x" * (1 << 20))
        file.write(b'\nERROR:  relation "t" does not exist\n')
    of('ERROR:  relation "t" does not exist\n')  # the cases are read
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with log.open("rb") as stream:
        found = explain(stream, "log")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (found.errors, found.lines) == (20_001, 40_002)
    assert len(found.kinds) <= 52
    assert found.recognised
    assert grown < 16_000  # kilobytes


def test_rows_and_garbage_in_a_log_cost_no_more_than_their_length() -> None:
    """A line of Chinese, or of bytes that are no text, took hours: every message with gaps was tried at every place."""
    known = explain_text('ERROR:  relation "t" does not exist')  # the cases are read
    row = "顧客の名前、住所、電話番号" * 1000
    began = time.monotonic()
    found = of(f'{row}\nERROR:  relation "t" does not exist\n{row}\n')
    assert time.monotonic() - began < 10
    assert [each.case for each in found.kinds] == [each.case for each in known.kinds]


def test_an_error_pasted_from_a_terminal_that_is_not_in_utf_8() -> None:
    latin = b"FEHLER:  Relation \xbbx\xab existiert nicht".decode("utf-8", "surrogateescape")
    (kind,) = explain_text(latin).kinds
    assert (kind.case, kind.message) == ("relation-does-not-exist", "Relation »x« existiert nicht")


@pytest.mark.parametrize(
    "text",
    [
        'error: cannot confirm that the application works: the hook "smoke" ended with\n       status 137\n'
        'state: "crm" is the restored database, in service; the previous one is kept as\n       "crm_old".\n'
        "next:  Run: lastgood undo 20261123-065149-1c64a144 to go back.\n",
        '{\n  "format": 1,\n  "error": {\n    "code": "checks_failed",\n'
        '    "message": "cannot confirm that the application'
        ' works: the hook \\"smoke\\" ended with status 137",\n'
        '    "hint": "Run: lastgood undo 20261123-065149-1c64a144 to'
        ' go back.",\n    "state": "\\"crm\\" is the restored database, in service; the previous one is kept as'
        ' \\"crm_old\\"."\n  }\n}\n',
    ],
    ids=["text", "json"],
)
def test_our_own_message_is_known_with_its_state_and_its_hint(text: str) -> None:
    found = of(text)
    (kind,) = found.kinds
    assert found.recognised
    assert kind.title == "A message of lastgood"
    assert kind.message == 'cannot confirm that the application works: the hook "smoke" ended with status 137'
    assert kind.data == '"crm" is the restored database, in service; the previous one is kept as "crm_old".'
    assert kind.lastgood == "Run: lastgood undo 20261123-065149-1c64a144 to go back."
    assert kind.commands == ("lastgood status", "lastgood explain   # the newest run of this machine")
