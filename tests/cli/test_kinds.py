"""Dumps in several files, of a whole cluster, and on standard input, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command
from tests.support.real_dumps import run


def dumped(server: EmbeddedServer, database: str, name: str, *options: str, program: str = "pg_dump") -> Path:
    target, _ = server.target(database).child()
    run(server, program, "-d", target, "-f", name, *options)
    return Path(name)


def contacts(server: EmbeddedServer, database: str) -> object:
    with server.target(database).connect() as connection:
        row = connection.execute("SELECT count(*) FROM public.contacts").fetchone()
    assert row is not None
    return row[0]


def test_files_of_one_dump(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    dumped(server, database, "schema.sql", "--schema-only")
    dumped(server, database, "data.sql", "--data-only")
    into = f"{database}_beside"
    outcome = lastgood("restore", "data.sql", "schema.sql", "--into", into)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(
        f'Done: data.sql + schema.sql was restored into "{into}".\n'
        "  Proved: 3 of 3 tables with 7 rows equal the restore point in every row.\n"
    )
    assert contacts(server, into) == 3
    facts = lastgood("facts", "schema.sql", "data.sql", "--json").document["facts"]
    assert sum(table["rows"] for table in facts["tables"]) == 7
    equal = lastgood("facts", "schema.sql", "data.sql", "--live")
    assert (equal.status, equal.out) == (0, "Equal: schema.sql + data.sql and the live database, 3 tables, 7 rows.\n")


def test_a_rollback_to_a_folder_of_files(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    folder = Path("backups/cloud_20251104_143000")
    folder.mkdir(parents=True)
    dumped(server, database, f"{folder}/schema.sql", "--schema-only")
    dumped(server, database, f"{folder}/data.sql", "--data-only")
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
        connection.execute("DELETE FROM public.contacts")
    listed = lastgood("points", "--json").document["points"]
    assert [point["name"] for point in listed] == [folder.name]
    assert lastgood("points", "verify").out == f"valid: {folder.name}\n1 of 1 restore point valid.\n"
    outcome = lastgood("rollback", "--yes")
    assert outcome.status == 0, outcome.err
    assert contacts(server, database) == 3


def test_one_database_of_a_cluster_dump(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    into, other = f"{database}_beside", f"{database}_other"
    with server.target("postgres").connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(other), sql.Identifier(database))
        )
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
    leave_out = [
        f"--exclude-database={name}" for name in names if not name.startswith((database, "postgres", "template1"))
    ]
    dumped(server, database, "cluster.sql", *leave_out, program="pg_dumpall")
    outcome = lastgood("restore", "cluster.sql", "--into", into)
    assert outcome.status == 4
    for name in ("template1", "postgres", database, other):
        assert f'"{name}"' in outcome.err
    assert "Name one of them: lastgood restore POINT --into NAME --database DATABASE\n" in outcome.err
    assert lastgood("points", "verify", "cluster.sql").status == 0
    outcome = lastgood("restore", "cluster.sql", "--into", into, "--database", other)
    assert outcome.status == 0, outcome.err
    assert contacts(server, into) == 3
    facts = lastgood("facts", "cluster.sql", "--database", other, "--json").document["facts"]
    assert (facts["database"], sum(table["rows"] for table in facts["tables"])) == (other, 7)
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    assert lastgood("rollback", "cluster.sql", "--yes").status == 0
    assert [each["name"] for each in lastgood("salvage", "--json").document["tables"]] == ["deals"]


def test_standard_input(server: EmbeddedServer, database: str, child_environment: dict[str, str]) -> None:
    whole = dumped(server, database, "app.sql").read_bytes()
    folder = Path("spool")
    folder.mkdir()
    environment = {**child_environment, "TMPDIR": str(folder.absolute())}
    into = f"{database}_beside"
    done = subprocess.run(
        command("restore", "-", "--into", into, "--json"), input=whole, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["point"] == "standard input"
    assert contacts(server, into) == 3
    assert list(folder.iterdir()) == []
    facts = subprocess.run(command("facts", "-", "--live"), input=whole, capture_output=True, env=environment)
    assert facts.stdout.decode() == "Equal: standard input and the live database, 3 tables, 7 rows.\n"
    assert f'standard input is stored in "{folder.absolute()}/.lastgood-' in facts.stderr.decode()
    for broken in (b"", whole[:-100], b"<html>"):
        failed = subprocess.run(command("facts", "-"), input=broken, capture_output=True, env=environment)
        assert failed.returncode == 4, failed.stderr
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_of_standard_input(
    database: str, child_environment: dict[str, str], number: signal.Signals
) -> None:
    folder = Path("spool")
    folder.mkdir()
    environment = {**child_environment, "TMPDIR": str(folder.absolute())}
    process = subprocess.Popen(
        command("restore", "-", "--into", "never"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    process.stdin.write(b"--\n-- PostgreSQL database dump\n--\n")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (files := list(folder.glob("*/standard-input"))):
        assert time.monotonic() < deadline
        os.sched_yield()
    assert [file.stat().st_mode & 0o777 for file in (*files, files[0].parent)] == [0o600, 0o700]
    process.send_signal(number)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"error: interrupted while standard input was read\n" in output
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_reported(database: str, child_environment: dict[str, str]) -> None:
    folder = Path("spool")
    folder.mkdir()
    # A limit of the process stands for a full disk: both end the same write.
    limited = ["sh", "-c", 'ulimit -f 100; trap "" XFSZ; exec "$@"', "sh"]
    done = subprocess.run(
        [*limited, *command("facts", "-")],
        input=bytes(1_000_000),
        capture_output=True,
        env={**child_environment, "TMPDIR": str(folder.absolute())},
    )
    assert done.returncode == 5
    output = done.stderr.decode()
    assert f'error: cannot store standard input in "{folder.absolute()}/.lastgood-' in output.replace("\n", " ")
    assert "file too large after" in " ".join(output.split())
    assert "Free disk space there, or set TMPDIR to a folder with more space." in " ".join(output.split())
    assert list(folder.iterdir()) == []


def test_standard_input_only_once(lastgood: Lastgood, database: str) -> None:
    outcome = lastgood("facts", "-", "-")
    assert outcome.status == 2
    assert outcome.err.startswith("error: cannot read standard input twice\n")


def test_what_is_left_of_a_damaged_dump(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    text = dumped(server, database, "damaged.sql").read_bytes()
    Path("damaged.sql").write_bytes(
        text[: text.index(b"COPY supabase_migrations")].replace(b"2\tBo", b"2\tBo\tx").replace(b"1\t1\n", b"x\t1\n")
    )
    into = f"{database}_left"
    refused = lastgood("restore", "damaged.sql", "--into", into)
    assert refused.status == 4
    assert refused.err.splitlines()[-1].endswith("To restore what can be read of it, add --skip-damaged.")
    outcome = lastgood("restore", "damaged.sql", "--into", into, "--skip-damaged")
    assert outcome.status == 0
    assert outcome.out.startswith(
        f'INCOMPLETE: "{into}" holds what could be read of damaged.sql. It is not proved.\n'
        "  3 rows read; 0 of 3 tables without a known loss.\n"
        "\nDamage\n  - it ends without its footer\n"
        "\nTables\n"
        "  table                                  rows  of  left out  verdict\n"
        "  supabase_migrations.schema_migrations     0   ?            MISSING\n"
        "  public.contacts                           2   ?         1  PARTIAL\n"
        "  public.deals                              1   ?         1  PARTIAL\n"
        "\nRows left out\n"
    ), outcome.out
    line = text[: text.index(b"2\tBo")].count(b"\n") + 1
    assert f"  - public.contacts, line {line}: has 4 values instead of 3\n" in outcome.out
    assert "  - public.deals, line " in outcome.out
    assert outcome.out.endswith(f'Only the owner and superusers can connect to "{into}"; its comment describes it.\n')
    with server.target(database).connect() as connection:
        row = connection.execute("SELECT has_database_privilege('public', %s, 'CONNECT')", [into]).fetchone()
    assert row == (False,)
    document = lastgood("restore", "damaged.sql", "--into", f"{into}_again", "--skip-damaged", "--json").document
    assert (document["status"], document["damage"]) == ("partial", ["it ends without its footer"])
    assert [(table["name"], table["state"], table["rows"]) for table in document["tables"]] == [
        ("contacts", "partial", 2),
        ("deals", "partial", 1),
        ("schema_migrations", "missing", 0),
    ]
    live = lastgood("restore", "damaged.sql", "--into", database, "--skip-damaged")
    assert live.status == 3


def test_prune_takes_the_files_of_a_dump_and_nothing_else(
    lastgood: Lastgood, server: EmbeddedServer, database: str
) -> None:
    folder = Path("backups/cloud_20251104_143000")
    folder.mkdir(parents=True)
    dumped(server, database, f"{folder}/schema.sql", "--schema-only")
    dumped(server, database, f"{folder}/data.sql", "--data-only")
    (folder / "notes.txt").write_text("mine")
    Path("backups/broken.sql").write_text("")
    assert lastgood("backup").status == 0
    outcome = lastgood("prune", "--keep", "1", "--yes", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.document["removed"] == [folder.name]
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    assert Path("backups/broken.sql").exists()


def test_a_store_that_is_one_dump_is_not_pruned(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    folder = Path("backups")
    folder.mkdir()
    dumped(server, database, "backups/schema.sql", "--schema-only")
    dumped(server, database, "backups/data.sql", "--data-only")
    assert [point["name"] for point in lastgood("points", "--json").document["points"]] == ["backups"]
    assert lastgood("prune", "--older-than", "0d", "--yes", "--json").document.get("removed", []) == []
    assert sorted(file.name for file in folder.iterdir()) == ["data.sql", "schema.sql"]
    assert lastgood("points", "verify").status == 0
