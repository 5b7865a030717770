"""`lastgood explain` as it is called: an error, a file, standard input, a run."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command
from tests.support import forked_cli

LOG = """\
SET
ERROR:  type "public.mood" does not exist
LINE 3:     mood public.mood
ERROR:  relation "public.contacts" does not exist
invalid command \\N
invalid command \\N
CREATE TABLE
ERROR:  schema "api" already exists
ERROR:  permission denied for table audit
"""


def test_an_error_as_text(lastgood: Lastgood) -> None:
    outcome = lastgood("explain", "FATAL:  the database system is starting up")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (
        "  the database system is starting up\n"
        "  The server is starting, stopping or recovering\n"
        "  Cause     The server was started, or crashed, a moment ago and replays its WAL.\n"
        "  Data      Nothing was changed by this.\n"
        "  lastgood  It waits and reconnects; lastgood resume continues a run that gave up.\n"
        "    pg_isready   # repeat until it prints: accepting connections\n"
        "    lastgood status\n"
    )
    # As a shell passes it without quotes.
    assert lastgood("explain", "FATAL:", "the", "database", "system", "is", "starting", "up").out == outcome.out


def test_a_log_of_many_errors(lastgood: Lastgood, tmp_path: Path) -> None:
    log = tmp_path / "restore.log"
    log.write_text(LOG)
    outcome = lastgood("explain", str(log))
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:4] == [
        f'6 errors of 5 kinds in "{log}".',
        "",
        "psql continued after the first error (line 2) and executed 1 more command: 6 errors, and still exits with "
        "status 0. The database is partially restored: its content is neither the backup nor the previous state.",
        "    lastgood points",
    ]
    assert lines[5:10] == [
        "",
        "The decisive error",
        '  line 2: type "public.mood" does not exist',
        "  A type does not exist",
        "  Cause     The dump contains only some tables or one schema (-t, -n), or the extension that provides the "
        "type could not be created; or a --clean dump, in which pg_dump puts a view before its types, was loaded into "
        "an empty database.",
    ]
    assert lines[lines.index("Other errors") :][1:3] == [
        "  line 9: permission denied for table audit",
        "    A privilege is missing",
    ]
    assert lines[lines.index("Consequences") :] == [
        "Consequences",
        "  line  times  what",
        "     4      1  A table or view does not exist",
        "     5      2  Rows were read as commands",
        "",
        "Harmless messages",
        "  line  times  what",
        "     8      1  The schema already exists",
    ]


def test_the_document(lastgood: Lastgood, tmp_path: Path) -> None:
    log = tmp_path / "restore.log"
    log.write_text(LOG)
    document = lastgood("explain", str(log), "--json").document
    assert {name: document[name] for name in ("format", "lines", "errors", "recognised")} == {
        "format": 1,
        "lines": 9,
        "errors": 6,
        "recognised": True,
    }
    assert document["verdict"]["outcome"] == "partially_restored"
    assert [(each["case"], each["line"], each["count"], each["minor"]) for each in document["kinds"]] == [
        ("type-does-not-exist", 2, 1, False),
        ("permission-denied", 9, 1, False),
        ("relation-does-not-exist", 4, 1, False),
        ("psql-rows-as-commands", 5, 2, False),
        ("schema-exists", 8, 1, True),
    ]


@pytest.mark.parametrize("operands", [(), ("-",)])
def test_standard_input(operands: tuple[str, ...], child_environment: dict[str, str]) -> None:
    done = subprocess.run(
        command("explain", *operands, "--json"),
        input=LOG.encode(),
        capture_output=True,
        env=child_environment,
        check=True,
    )
    assert json.loads(done.stdout)["source"] == "standard input"
    assert json.loads(done.stdout)["errors"] == 6


def test_passwords_of_a_log_are_not_shown(lastgood: Lastgood, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        '2026-11-23 05:09:44 UTC [812] ERROR:  role "app" does not exist\n'
        "2026-11-23 05:09:44 UTC [812] STATEMENT:  ALTER ROLE app PASSWORD 'correct-horse'\n"
        'could not open "postgresql://app:battery-staple@db/crm": FATAL:  database "crm" does not exist\n'
    )
    for arguments in ((), ("--json",)):
        outcome = lastgood("explain", str(log), *arguments)
        assert outcome.status == 0
        assert "ALTER ROLE app PASSWORD '***'" in outcome.out
        assert "correct-horse" not in outcome.out and "battery-staple" not in outcome.out


def test_an_escape_sequence_in_a_log_does_not_reach_the_terminal(lastgood: Lastgood) -> None:
    outcome = lastgood("explain", 'ERROR:  relation "\x1b]0;gotcha\x07" does not exist')
    assert outcome.status == 0
    assert "\x1b" not in outcome.out
    assert 'relation "\\x1b]0;gotcha\\x07" does not exist' in outcome.out


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "logs/restore.log",
            'error: cannot explain "logs/restore.log": no such file or directory\n'
            "state: Nothing was read or changed.\n"
            'next:  Give a file, or an error in quotes: lastgood explain "ERROR: …"\n',
        ),
        (
            ".",
            'error: cannot explain ".": is a directory\n'
            "state: Nothing was read or changed.\n"
            'next:  Give a file, or an error in quotes: lastgood explain "ERROR: …"\n',
        ),
        (
            "dump.sql",
            'error: cannot explain "dump.sql": the file is a dump, not a log\n'
            "state: Nothing was read or changed.\n"
            "next:  To verify it, run: lastgood points verify dump.sql\n",
        ),
        (
            "core.bin",
            'error: cannot explain "core.bin": the file is not text\n'
            "state: Nothing was read or changed.\n"
            "next:  Give a log of psql, pg_restore, the server or an application. Decompress a compressed log first.\n",
        ),
    ],
)
def test_what_can_not_be_read_is_wrong_usage(lastgood: Lastgood, what: str, message: str) -> None:
    Path("dump.sql").write_text("--\n-- PostgreSQL database dump\n--\n")
    Path("core.bin").write_bytes(bytes(range(256)) * 200_000)  # 50 MB
    outcome = lastgood("explain", what)
    assert (outcome.status, outcome.out, outcome.err) == (2, "", message)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1251", "utf-16", "koi8-r"])
def test_text_of_any_encoding_is_no_binary(lastgood: Lastgood, encoding: str) -> None:
    text = "ОШИБКА:  отношение не существует, \x1b[31mкрасная\x1b[0m строка\n" * 50 + "ERROR:  55P03: x\n"
    # What a server that crashed leaves in its log.
    Path("server.log").write_bytes(text.encode(encoding) + bytes(100_000 if encoding == "utf-8" else 0))
    assert lastgood("explain", "server.log").status == 0


def test_a_log_without_errors(lastgood: Lastgood, tmp_path: Path) -> None:
    log = tmp_path / "restore.log"
    log.write_text("SET\nCREATE TABLE\nCOPY 3\n")
    outcome = lastgood("explain", str(log))
    assert outcome.status == 3
    assert outcome.out == (
        f'No error was found in "{log}" (3 lines).\n'
        "If a command failed nevertheless, give the error itself, or the server's log of that time. For English "
        "messages with their SQLSTATE: LC_MESSAGES=C psql -v VERBOSITY=verbose\n"
    )


def test_nothing_given_and_no_run(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    outcome = lastgood("explain")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        "error: cannot explain: no error or log is given, and this machine has no record of any run\n"
        "state: Nothing was read or changed.\n"
        'next:  Give the error: lastgood explain "ERROR: …", a log: lastgood explain FILE, or pipe a log in.\n'
    )


def test_an_unknown_run(lastgood: Lastgood, tmp_path: Path) -> None:
    outcome = lastgood("explain", "20261122-031500-9f3c1a70")
    assert (outcome.status, outcome.out) == (3, "")
    assert outcome.err == (
        'error: cannot explain run "20261122-031500-9f3c1a70": this machine has no journal of it\n'
        "state: Nothing was changed.\n"
        f'next:  Journals are in "{tmp_path / "state" / "runs"}" of the machine that ran it (--state names another '
        "folder); to query the server: lastgood status\n"
    )


class TestRuns:
    """A run from its journal: done, taken back, killed."""

    def test_done_and_undone(self, lastgood: Lastgood, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert lastgood("backup").status == 0
        report = lastgood("rollback", "--latest", "--yes", "--json").document

        story = lastgood("explain", report["run"], "--json").document["run"]

        assert (story["kind"], story["outcome"], story["live"], story["reason"]) == ("rollback", "done", database, "")
        assert {each["name"]: each["state"] for each in story["steps"]} == dict.fromkeys(
            ("fence", "emergency", "build", "carry_over", "prove", "swap", "reopen"), "done"
        )
        assert story["state"] == (
            f'The rollback is done: "{database}" is the restored database, and the previous one is kept as '
            f'"{report["kept"]}".'
        )
        assert story["commands"][1] == f"lastgood undo {report['run']}   # restores the previous database"
        undone = lastgood("undo", "--yes", "--json").document
        # With nothing given at a terminal, it is the newest one.
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        outcome = lastgood("explain")
        assert outcome.status == 0
        assert outcome.out.startswith(
            f'Undo {undone["run"]}: done\nThe undo is done: "{database}" is again the database from before the '
            f'rollback, and the replaced one is kept as "{undone["kept"]}".\n    lastgood status\n'
        )

    @pytest.mark.parametrize(
        ("point", "outcome", "commands"),
        [
            ("build.after_create:kill", "stopped", ("status", "resume", "abort")),
            ("swap.between_renames:kill", "unknown", ("status", "resume")),
        ],
    )
    def test_killed(
        self,
        lastgood: Lastgood,
        database: str,
        server: EmbeddedServer,
        child_environment: dict[str, str],
        point: str,
        outcome: str,
        commands: tuple[str, ...],
    ) -> None:
        assert lastgood("backup").status == 0
        environment = {**child_environment, "LASTGOOD_FAULT": point}
        done = forked_cli.run("rollback", "--latest", "--yes", environment=environment)
        assert done.returncode == -9, done.stderr
        (journal,) = (Path.cwd() / "state" / "runs").glob("*.jsonl")

        found = lastgood("explain", journal.stem)

        assert found.status == 0
        story = lastgood("explain", journal.stem, "--json").document["run"]
        assert story["outcome"] == outcome
        assert [each.split()[1] for each in story["commands"]] == list(commands)
        assert re.search(r"UTC  begun +", found.out)
        # The server may need a moment to notice that its client is dead.
        deadline = time.monotonic() + 20
        while lastgood("abort", journal.stem, "--yes").status != 0:
            assert time.monotonic() < deadline
        assert lastgood("explain", journal.stem, "--json").document["run"]["outcome"] == "aborted"

    def test_failed_and_taken_back(
        self, lastgood: Lastgood, database: str, server: EmbeddedServer, child_environment: dict[str, str]
    ) -> None:
        with server.target(database).connect() as connection:
            connection.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
        dump = Path("bad.sql")
        subprocess.run([server.bin / "pg_dump", f"--file={dump}", server.url(database)], check=True)
        text = dump.read_text()
        rows = "COPY public.t (id) FROM stdin;\n"
        assert rows in text
        dump.write_text(text.replace(rows, rows + "7\n7\n"))
        assert lastgood("rollback", str(dump), "--yes").status == 5
        (journal,) = (Path.cwd() / "state" / "runs").glob("*.jsonl")

        story = lastgood("explain", journal.stem, "--json").document["run"]

        assert story["outcome"] == "reverted"
        assert story["state"] == f'The rollback failed, and its changes were reverted: "{database}" was not touched.'
        assert "t_pkey" in story["reason"]
        assert story["explained"]["kinds"][0]["case"] == "duplicate-key-in-index"
        assert "build" in story["failed_in"]
        shown = lastgood("explain", journal.stem).out
        assert "build the restored database next to the live one" in shown.partition("\nCause\n  In  ")[2]

    def test_a_restore_into_another_database(self, lastgood: Lastgood, database: str) -> None:
        assert lastgood("backup").status == 0
        (point,) = lastgood("points", "--json").document["points"]
        assert lastgood("restore", point["path"], "--into", f"{database}_copy").status == 0
        (journal,) = (Path.cwd() / "state" / "runs").glob("*.jsonl")

        story = lastgood("explain", journal.stem, "--json").document["run"]

        assert (story["kind"], story["outcome"], story["live"]) == ("restore", "done", database)
        assert story["state"] == f'The restore is done; "{database}" was not touched by it.'
