"""Files with other forms of COPY than pg_dump's, and with commands of upkeep: restore points, when every value is
understood. psql's result is the oracle."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

FILE = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SET search_path = public, pg_catalog;

CREATE TABLE c (
    n integer PRIMARY KEY,
    v text,
    w text
);

{middle}

--
-- PostgreSQL database dump complete
--

"""
ROWS = "COPY c (n, v, w) FROM stdin;\n1\ta\t\\N\n2\t\tb\n\\.\n"
UPKEEP = (
    "ANALYZE;",
    "ANALYZE c;",
    "ANALYZE VERBOSE c (n, v);",
    "VACUUM;",
    "VACUUM (ANALYZE) c;",
    "VACUUM FULL c;",
    "REINDEX TABLE c;",
    "CLUSTER c USING c_pkey;",
    "CHECKPOINT;",
)
FORMS = (
    "COPY c (n, v, w) FROM stdin DELIMITER '|';\n1|a|\\N\n2||b\\|c\n\\.\n",
    "COPY c (n, v, w) FROM stdin WITH DELIMITER ',' NULL 'none';\n1,none,a\n2,,\\\\N\n\\.\n",
    "COPY c (n, v, w) FROM stdin WITH DELIMITER AS ';' NULL AS '';\n1;;a\n2;b;\n\\.\n",
    "COPY c (w, n) FROM stdin WITH (DELIMITER '~', NULL '?');\n?~1\na\tb~2\n\\.\n",
    'COPY c FROM stdin WITH CSV;\n1,,""\n2,"a,b","say ""no"""\n\\.\n',
    'COPY c FROM stdin WITH CSV HEADER;\nn,v,w\n1,a,b\n2,"two\nlines",b\n\\.\n',
    "COPY c FROM stdin (FORMAT csv, DELIMITER ';', QUOTE '''', NULL 'nil');\n1;nil;'nil'\n2;'it''s';b\n\\.\n",
    "COPY c FROM stdin (FORMAT text, NULL 'NULL');\n1\tNULL\t\\N\n2\t\\\\\tb\n\\.\n",
)


def content(server: EmbeddedServer, name: str) -> list[tuple[object, ...]]:
    with server.target(name).connect() as connection:
        return connection.execute("SELECT n, v, w FROM public.c ORDER BY n").fetchall()


def by_psql(server: EmbeddedServer, path: Path, name: str) -> list[tuple[object, ...]]:
    """What psql makes of the file, which must be no error."""
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    connection_string, environment = server.target(name).child()
    arguments: list[str | Path] = [
        server.bin / "psql",
        "-Xq",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        connection_string,
        "-f",
        path,
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return content(server, name)


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.partition(";\n")[0])
def test_rows_in_another_form_are_those_that_psql_reads(
    server: EmbeddedServer, new_database: Callable[..., str], lastgood: Lastgood, store: Path, form: str
) -> None:
    name = new_database("forms")
    (store / "c.sql").write_text(FILE.format(middle=form))
    base = ("--db", server.url(name), "--store", str(store))
    verified = lastgood(*base, "points", "verify", "c.sql")
    assert (verified.status, verified.out) == (0, "valid: c.sql\n1 of 1 restore point valid.\n")
    restored = lastgood(*base, "restore", "c.sql", "--into", f"{name}_copy", "--json")
    assert restored.status == 0, restored.out
    assert restored.document["not_compared"] == []
    expected = by_psql(server, store / "c.sql", f"{name}_psql")
    assert len(expected) == 2
    assert content(server, f"{name}_copy") == expected


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("command", UPKEEP)
def test_upkeep_is_passed_over_with_a_note(
    server: EmbeddedServer, new_database: Callable[..., str], lastgood: Lastgood, store: Path, command: str
) -> None:
    name = new_database("upkeep")
    text = FILE.format(middle=f"{ROWS}\n{command}")
    (store / "c.sql").write_text(text)
    line = text.splitlines().index(command) + 1
    word = command.split()[0].strip(";")
    base = ("--db", server.url(name), "--store", str(store))
    verified = lastgood(*base, "points", "verify", "c.sql")
    note = f'line {line} has "{word}", which changes no data and was skipped'
    assert (verified.status, verified.out) == (0, f"valid: c.sql\n  note: {note}\n1 of 1 restore point valid.\n")
    facts = lastgood(*base, "facts", "c.sql", "--json")
    assert [event["text"] for event in facts.events if event["event"] == "note"] == [note]
    assert lastgood(*base, "rollback", "c.sql", "--dry-run").status == 0
    restored = lastgood(*base, "restore", "c.sql", "--into", f"{name}_copy", "--json")
    assert restored.status == 0, restored.out
    (left_out,) = restored.document["skipped"]
    assert left_out["why"] == f'has "{word}", which changes no data'
    assert content(server, f"{name}_copy") == [(1, "a", None), (2, "", "b")]
