"""Errors become exit statuses in one place, and no secret gets out there."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from lastgood import errors, status
from lastgood.cli import main
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command

PASSWORD = "s3cr%3At%40%2F%25"  # "s3cr:t@/%", as it must be written in a URL
DECODED = "s3cr:t@/%"
URL = f"postgresql://app:{PASSWORD}@/crm?host=/nowhere"


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def look(*given: object) -> NoReturn:
        raise error

    monkeypatch.setattr(status, "read", look)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.UsageError("m"), 2),
        (errors.Refused("m"), 3),
        (errors.BadPoint("m"), 4),
        (errors.Incomplete("m"), 4),
        (errors.Corrupt("m"), 4),
        (errors.Unsafe("m"), 4),
        (errors.Failed("m"), 5),
        (errors.ChecksFailedAfterSwap("m"), 6),
        (errors.Stopped("m"), 7),
        (errors.Interrupted("m"), 130),
    ],
)
def test_each_error_has_its_status(
    lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, error: errors.LastgoodError, number: int
) -> None:
    fail(monkeypatch, error)
    outcome = lastgood("status")
    assert (outcome.status, outcome.out) == (number, "")
    assert outcome.err == "error: m\n" + f"state: {error.claim}\n" * bool(error.claim)
    assert lastgood("status", "--json").document == {
        "format": 1,
        "error": {
            "code": error.code,
            "message": "m",
            "hint": "",
            "state": error.claim,
            "exit_status": number,
            **({"line": None, "offset": None} if isinstance(error, errors.BadPoint) else {}),
        },
    }


def test_ctrl_c_is_130(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, KeyboardInterrupt())
    outcome = lastgood("status")
    assert (outcome.status, outcome.out) == (130, "")
    assert outcome.err == f"error: interrupted\nstate: {errors.UNKNOWN_STATE}\nnext:  {errors.SHOW_STATE}\n"


def test_a_defect_leaves_a_report_without_secrets(
    lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fail(monkeypatch, KeyError(f"{URL} {DECODED}"))
    monkeypatch.setenv("LASTGOOD_DB", URL)
    outcome = lastgood("status")
    (report,) = (tmp_path / "state" / "defects").iterdir()
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == (
        "error: cannot continue: a defect in lastgood (KeyError)\n"
        "state: The state of the live database is unknown.\n"
        f'next:  The report is in "{report}". To show the state of the live database: lastgood status\n'
    )
    text = report.read_text()
    assert "KeyError" in text
    assert "in look" in text
    assert DECODED not in text and PASSWORD not in text
    assert report.stat().st_mode & 0o777 == 0o600


def test_a_defect_whose_report_cannot_be_written_is_shown(
    lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fail(monkeypatch, KeyError("what"))
    (tmp_path / "file").write_text("")
    outcome = lastgood("status", "--state", str(tmp_path / "file"))
    assert outcome.status == 1
    assert "KeyError: 'what'" in outcome.err
    assert outcome.err.endswith(
        "next:  The report could not be written (Not a directory) and is printed above. To show the state of the live "
        "database: lastgood status\n"
    )


def test_an_unreachable_server_is_reported(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = lastgood("status", "--db", "host=/nowhere dbname=crm user=app")
    assert (outcome.status, outcome.out) == (5, "")
    assert outcome.err.startswith(
        'error: cannot reach the server of "crm" (maintenance database "postgres"): connection'
    )
    assert "No such file or directory" in outcome.err


def test_an_uncaught_error_of_libpq_is_no_defect(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, psycopg.OperationalError("server closed\n\tthe connection"))
    outcome = lastgood("status")
    assert (outcome.status, outcome.out) == (5, "")
    assert outcome.err == (
        "error: cannot continue: server closed; the connection\n"
        "state: The state of the live database is unknown.\n"
        "next:  The connection to the server broke. Check that the server is running and reachable. To show the state "
        "of the live database: lastgood status\n"
    )


def test_a_full_disk_is_no_defect(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/state/runs"))
    outcome = lastgood("status")
    assert (outcome.status, outcome.out) == (5, "")
    assert outcome.err == (
        'error: cannot continue: No space left on device ("/state/runs")\n'
        "state: The state of the live database is unknown.\n"
        "next:  Free disk space on this machine, then run the command again. To show the state of the live database: "
        "lastgood status\n"
    )


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("--db", URL, "status"), {}),
        (("status", "--db", URL, "--json"), {}),
        (("status",), {"LASTGOOD_DB": URL}),
        (("status",), {"DATABASE_URL": URL}),
        (("status",), {"LASTGOOD_DB": "postgresql://app@/crm?host=/nowhere", "PGPASSWORD": DECODED}),
        (("status",), {"DATABASE_URL": f"postgresql://app:{DECODED}@localhost/crm"}),
        (("status", "--db", f"postgresql://app:{DECODED}@localhost/crm"), {}),
        (("status", "--db", f"host=/nowhere password={DECODED} user=app"), {}),
        (("facts", URL), {}),
        (("facts", f"postgresql://app:{DECODED}@localhost/crm"), {}),
        (("rollback", URL), {}),
        (("init", "--db", URL), {}),
        (("backup", "--db", URL, "--json"), {}),
    ],
)
def test_no_secret_gets_out(
    lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    outcome = lastgood(*arguments)
    assert outcome.status in (2, 3, 4, 5)
    for text in (outcome.out, outcome.err):
        for secret in (PASSWORD, DECODED, "s3cr"):
            assert secret not in text


def test_a_fault_that_does_not_exist_is_a_defect_of_the_test(child_environment: dict[str, str], tmp_path: Path) -> None:
    environment = {**child_environment, "LASTGOOD_FAULT": "no.such:kill", "LASTGOOD_STATE": str(tmp_path)}
    done = subprocess.run(command("status"), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "LookupError" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["defects"]


def test_closed_streams_are_no_reason_to_fail(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main(["--version"]) == 0
    assert main(["status", "--db", "host=/nowhere dbname=crm user=app"]) == 5


def test_a_name_with_a_line_end_is_one_line(
    lastgood: Lastgood, server: EmbeddedServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may create a table must not be able to write lines of ours."""
    with server.target(database).connect() as connection:
        connection.execute('CREATE TABLE public."x\nerror: all is lost\nDone: " (id int)')
    assert lastgood("backup").status == 0
    with server.target(database).connect() as connection:
        connection.execute('INSERT INTO public."x\nerror: all is lost\nDone: " VALUES (1)')
    shown = [
        lastgood(*arguments)
        for arguments in (("rollback", "--dry-run"), ("rollback", "--yes"), ("validate", "--full"), ("facts",))
    ]
    output = "".join(each.out + each.err for each in shown)
    assert r"x\nerror: all is lost\nDone: " in output
    assert not [line for line in output.splitlines() if line.strip().startswith("error: all is lost")]


@pytest.mark.parametrize("words", [("status",), ("recover",), ("rollback", "--dry-run"), ("backup",), ("check",)])
def test_without_a_database_the_hint_shows_how_to_name_one(
    lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    for name in ("LASTGOOD_DB", "DATABASE_URL", "PGDATABASE", "PGSERVICE", "PGPORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGHOST", str(tmp_path))
    outcome = lastgood(*words)
    assert (outcome.status, outcome.out) == (2, "")
    error, state, hint = outcome.err.splitlines()[-3:]
    assert error.startswith("error: cannot choose a database: none is named (connection to server on socket")
    assert state == "state: Nothing was read or changed."
    assert hint == (
        "next:  Name it: --db postgresql://user@host:5432/name; or LASTGOOD_DB, DATABASE_URL, or PGHOST and PGDATABASE "
        'in the environment; or db = "…" in lastgood.toml. Put its password in ~/.pgpass.'
    )
