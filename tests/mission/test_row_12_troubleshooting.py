"""Row 12: permission denied, duplicate key, relation does not exist, connection refused, database does not exist,
syntax error, restored but data missing: each made to happen with PostgreSQL's own programs, explained from what they
print, and the commands run that `lastgood explain` proposes where they are ours."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.conftest import Servers

New = Callable[..., str]


class Operator:
    """Somebody with psql, pg_dump and pg_restore, who keeps what they print."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.log = folder / "restore.log"

    def __call__(self, program: str, *arguments: str | Path, stdin: Path | None = None, **variables: str) -> int:
        """Runs a program; the log has its output and its errors as a terminal would show them."""
        with self.log.open("wb") as log, (stdin or Path(os.devnull)).open("rb") as source:
            return subprocess.run(
                [self.server.bin / program, *(["--no-psqlrc"] if program == "psql" else []), *arguments],
                stdin=source,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C", **variables},
                check=False,
            ).returncode

    def file(self, text: str) -> Path:
        made = self.folder / "input.sql"
        made.write_text(text)
        return made


@pytest.fixture
def operator(server: EmbeddedServer, tmp_path: Path) -> Operator:
    return Operator(server, tmp_path)


@pytest.fixture
def backup(lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path) -> Path:
    """A restore point, and the same as the old script made it: plain SQL with a clean section."""
    assert lastgood("backup").status == 0
    dump = tmp_path / "cloud_backup.sql"
    options = ["--clean", "--if-exists", "--no-owner", "--no-acl", f"--file={dump}"]
    subprocess.run([server.bin / "pg_dump", *options, server.url(database)], check=True)
    return dump


def explained(lastgood: Lastgood, operator: Operator) -> dict[str, Any]:
    outcome = lastgood("explain", str(operator.log), "--json")
    assert (outcome.status, outcome.err) == (0, "")
    return outcome.document


def run_what_it_proposes(lastgood: Lastgood, found: dict[str, Any], file: Path | None = None) -> list[str]:
    """Runs each command of ours; returns them."""
    verdict = found["verdict"]["commands"] if found["verdict"] else []
    ours = [each for each in (*verdict, *found["kinds"][0]["commands"]) if each.startswith("lastgood ")]
    for line in ours:
        words = shlex.split(line, comments=True)[1:]
        outcome = lastgood(*(str(file) if word == "FILE" else word for word in words))
        assert outcome.status in (0, 3), f"{line}: {outcome.err}"  # 3: facts that differ, as they should here
    return ours


@pytest.mark.postgres(15, 18)
def test_permission_denied(lastgood: Lastgood, operator: Operator, backup: Path, database: str) -> None:
    role = f"{database}_reader"
    with operator.server.target(database).connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        url = operator.server.url(database, user=role)
        assert operator("psql", url, "--command", "SELECT * FROM public.contacts") == 1
    finally:
        with operator.server.target(database).connect() as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert operator.log.read_text() == "ERROR:  permission denied for table contacts\n"

    found = explained(lastgood, operator)

    assert [each["case"] for each in found["kinds"]] == ["permission-denied"]
    assert found["kinds"][0]["title"] == "A privilege is missing"
    assert run_what_it_proposes(lastgood, found) == [
        "lastgood check   # shows which privileges the role lacks for a rollback"
    ]


@pytest.mark.postgres(15, 18)
def test_duplicate_key_after_a_restore_into_tables_with_rows(
    lastgood: Lastgood, operator: Operator, backup: Path, database: str, server: EmbeddedServer
) -> None:
    data = operator.folder / "data.sql"
    subprocess.run([server.bin / "pg_dump", "--data-only", f"--file={data}", server.url(database)], check=True)
    assert operator("psql", server.url(database), stdin=data) == 0  # and that is the trouble

    found = explained(lastgood, operator)

    assert [each["case"] for each in found["kinds"]] == ["duplicate-key"]
    (kind,) = found["kinds"]
    assert (kind["count"], kind["table"], kind["row"]) == (3, "contacts", 1)
    assert found["verdict"]["outcome"] == "partially_restored"
    assert found["verdict"]["text"].endswith("Tables whose rows were not loaded: contacts, deals, schema_migrations.")
    assert run_what_it_proposes(lastgood, found)


@pytest.mark.postgres(15, 18)
def test_relation_does_not_exist_after_a_dump_of_one_table(
    lastgood: Lastgood, operator: Operator, backup: Path, database: str, new_database: New
) -> None:
    with operator.server.target(database).connect() as connection:
        connection.execute("CREATE TYPE public.mood AS ENUM ('well', 'ill')")
        connection.execute("CREATE TABLE public.visits AS SELECT 1 AS id, 'well'::public.mood AS mood, NULL::text AS t")
    dump = operator.folder / "visits.sql"
    subprocess.run(
        [operator.server.bin / "pg_dump", "--table=visits", f"--file={dump}", operator.server.url(database)], check=True
    )
    assert operator("psql", operator.server.url(new_database("copy")), "--file", dump) == 0

    found = explained(lastgood, operator)

    first, *others = found["kinds"]
    assert (first["case"], first["message"]) == ("type-does-not-exist", 'type "public.mood" does not exist')
    missing = next(each for each in others if each["case"] == "relation-does-not-exist")
    assert missing["follows"] == first["title"]
    assert run_what_it_proposes(lastgood, found, backup)


def test_connection_refused(lastgood: Lastgood, operator: Operator, database: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = unused.getsockname()[1]
        assert operator("psql", f"postgresql://nobody@127.0.0.1:{port}/crm") == 2

    found = explained(lastgood, operator)

    assert [each["case"] for each in found["kinds"]] == ["connection-refused"]
    assert found["kinds"][0]["title"] == "No server accepts connections there: it is down, or the address is wrong"
    assert run_what_it_proposes(lastgood, found) == [
        "lastgood status   # with --db or LASTGOOD_DB set to the right address"
    ]


@pytest.mark.postgres(15, 18)
def test_database_does_not_exist(lastgood: Lastgood, operator: Operator, database: str) -> None:
    assert operator("psql", operator.server.url("crm_prodution")) == 2

    found = explained(lastgood, operator)

    assert [each["case"] for each in found["kinds"]] == ["database-does-not-exist"]
    assert run_what_it_proposes(lastgood, found) == ["lastgood status   # lists kept databases too"]


@pytest.mark.postgres(15, 18)
def test_syntax_error_where_the_file_is_no_dump(
    lastgood: Lastgood, operator: Operator, backup: Path, database: str
) -> None:
    page = operator.file("<!DOCTYPE html><html><body>Sign in</body></html>\n;\n")
    assert operator("psql", operator.server.url(database), stdin=page) == 0

    found = explained(lastgood, operator)

    assert [each["case"] for each in found["kinds"]] == ["syntax-error"]
    assert found["kinds"][0]["message"] == 'syntax error at or near "<!"'
    assert run_what_it_proposes(lastgood, found, backup)


def test_restored_but_data_is_missing(lastgood: Lastgood, operator: Operator, backup: Path, database: str) -> None:
    """Nothing but these words: the commands find out what is missing."""
    with operator.server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    outcome = lastgood("explain", "restored but data missing", "--json")
    assert outcome.status == 0
    found = outcome.document
    assert [each["case"] for each in found["kinds"]] == ["data-missing"]
    assert run_what_it_proposes(lastgood, found, backup)
    # One of them names the row.
    output = lastgood("facts", str(backup), "--live")
    assert output.status == 3
    assert "public.deals" in output.out


@pytest.mark.postgres(15, 18)
def test_a_copy_that_failed(lastgood: Lastgood, operator: Operator, database: str) -> None:
    dump = operator.file(
        "SET statement_timeout = 0;\n"
        "COPY public.contacs (id, name) FROM stdin;\n7\t\\N\n8\tBo\n\\.\n\n"
        "COPY public.deals (id, contact) FROM stdin;\n3\t1\n\\.\n"
    )
    # psql passes over the rows since 15.20; older ones read them as commands.
    assert operator("psql", operator.server.url(database), stdin=dump) == 0

    found = explained(lastgood, operator)

    first = found["kinds"][0]
    assert (first["case"], first["line"]) == ("relation-does-not-exist", 2)
    assert found["kinds"][1:] == []
    assert found["verdict"]["outcome"] == "partially_restored"


def test_pg_restore_that_went_on(
    lastgood: Lastgood, operator: Operator, backup: Path, database: str, new_database: New
) -> None:
    archive, copy = operator.folder / "crm.dump", new_database("copy")
    url = operator.server.url(database)
    subprocess.run([operator.server.bin / "pg_dump", "--format=custom", f"--file={archive}", url], check=True)
    with operator.server.target(copy).connect() as connection:
        connection.execute("CREATE TABLE public.contacts (id int PRIMARY KEY)")
    assert operator("pg_restore", "--dbname", operator.server.url(copy), archive) == 1

    found = explained(lastgood, operator)

    assert found["kinds"][0]["case"] == "relation-exists"
    assert found["kinds"][0]["statement"] == "CREATE TABLE public.contacts ("
    assert found["verdict"]["outcome"] == "partially_restored"
    assert found["verdict"]["text"].startswith("pg_restore continued after ")
    assert run_what_it_proposes(lastgood, found)


def test_the_servers_own_log(lastgood: Lastgood, operator: Operator, database: str) -> None:
    before = operator.server.log.stat().st_size
    with (
        operator.server.target(database).connect() as connection,
        pytest.raises(psycopg.errors.UndefinedColumn),
    ):
        connection.execute("SELECT vip FROM public.contacts")
    operator.log.write_bytes(operator.server.log.read_bytes()[before:])

    outcome = lastgood("explain", str(operator.log), "--json")

    assert outcome.status == 0
    (kind,) = (each for each in outcome.document["kinds"] if each["case"] == "column-does-not-exist")
    assert kind["message"].startswith('column "vip" does not exist')
    assert kind["statement"] == "SELECT vip FROM public.contacts"
    assert outcome.document["verdict"] is None  # a server's log does not show a restore


@pytest.mark.parametrize(
    ("language", "error"),
    [
        ("de", "FEHLER"),
        ("es", "no existe"),
        ("fr", "ERREUR"),
        ("ja", "リレーション"),
        ("ru", "ОШИБКА"),
        ("zh_CN", "错误"),
    ],
)
def test_a_server_and_a_psql_in_another_language(
    lastgood: Lastgood, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, error: str
) -> None:
    servers.get(15)  # which skips where it is not installed
    monkeypatch.setenv("LANGUAGE", language)
    with EmbeddedServer(15, settings={"lc_messages": "C.UTF-8"}) as foreign:
        operator = Operator(foreign, tmp_path)
        script = operator.file(
            "SELECT * FROM public.contacts;\n"
            "CREATE TABLE public.t (id int PRIMARY KEY);\nINSERT INTO public.t VALUES (1), (1);\n"
            "BEGIN;\nSELECT 1 / 0;\nSELECT 1;\nROLLBACK;\n"
            # Since 15.20 psql reads nothing more after it.
            "COPY public.deals FROM stdin;\n1\t\\N\n\\.\n;\n"
        )
        assert operator("psql", foreign.url("postgres"), stdin=script, LC_ALL="C.UTF-8") == 0
    if error not in operator.log.read_text():
        pytest.skip("this PostgreSQL has no translations")

    found = explained(lastgood, operator)

    assert [(each["case"], each["count"]) for each in found["kinds"]] == [
        ("relation-does-not-exist", 2),
        ("duplicate-key", 1),
        ("value-refused", 1),
        ("transaction-aborted", 1),
    ]
    assert found["verdict"]["outcome"] == "partially_restored"


def test_an_unknown_error(lastgood: Lastgood, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("ERROR:  the flux capacitor is out of phase\n")
    outcome = lastgood("explain", str(log))
    assert (outcome.status, outcome.err) == (3, "")
    assert outcome.out == (
        "  the flux capacitor is out of phase\n"
        "  Unknown error\n"
        "  Cause     lastgood does not know this error.\n"
        "  Data      Unknown. At least this command had no effect.\n"
        "  lastgood  It stops at such an error, and leaves the live database as it was.\n"
        "    LC_MESSAGES=C psql -v VERBOSITY=verbose …   # in English and with the SQLSTATE, then explain that\n"
        "    # check the server's log of this minute\n"
    )
