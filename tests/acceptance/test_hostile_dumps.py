"""Hostile dumps against a real server: refused by each command, and nothing outside of the new database changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.context import Context
from lastgood.damaged.restore import restore_readable
from lastgood.postgres.embedded import EmbeddedServer
from tests.dump import hostile
from tests.support import forked_cli

ENDS = pytest.mark.postgres(15, 18)
SHARED = """
SELECT (SELECT json_agg(a ORDER BY oid) FROM pg_authid a)::text,
       (SELECT json_agg(m ORDER BY roleid, member) FROM pg_auth_members m)::text,
       (SELECT json_agg(s ORDER BY setdatabase, setrole) FROM pg_db_role_setting s)::text,
       (SELECT json_agg(t ORDER BY oid) FROM pg_tablespace t)::text,
       (SELECT json_agg(r) FROM pg_replication_origin r)::text,
       (SELECT json_agg(s) FROM pg_shseclabel s)::text,
       (SELECT json_agg(p) FROM pg_parameter_acl p)::text,
       (SELECT json_agg(d ORDER BY objoid) FROM pg_shdescription d WHERE classoid <> 'pg_database'::regclass)::text,
       (SELECT json_agg(json_build_array(datname, datacl::text, datistemplate)) FROM pg_database
          WHERE datname NOT LIKE 'app%')::text
"""
# How a refused dump names its own catalogues: three ways, in three forms of a dump.
CHOSEN = (
    "COPY pg_catalog.pg_auth_members (roleid, member, grantor, admin_option) FROM stdin;\n10\t20\t10\tt\n\\.\n",
    "INSERT INTO pg_catalog.pg_db_role_setting (setdatabase, setrole, setconfig) VALUES (0, 10, '{work_mem=1MB}');",
    "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all';",
)


def shared(server: EmbeddedServer) -> tuple[str, ...]:
    """All that the databases of a server share."""
    with server.target("postgres").connect() as connection:
        row = connection.execute(SHARED).fetchone()
    assert row is not None
    return tuple(row)


@ENDS
@pytest.mark.parametrize("statement", CHOSEN)
def test_each_command_refuses_it(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path, tmp_path: Path, statement: str
) -> None:
    live = new_database("app")
    (store / "hostile.sql").write_bytes(hostile.hostile_dump(statement))
    before = shared(server)
    common = ["--db", server.url(live), "--store", str(store), "--state", str(tmp_path / "state"), "--json"]
    for command in (
        ["points", "verify", "hostile.sql"],
        ["facts", "hostile.sql"],
        ["restore", "hostile.sql", "--into", f"{live}_new"],
        ["rollback", "hostile.sql", "--dry-run"],
    ):
        done = forked_cli.run(*common, *command)
        assert done.returncode == 4, (command, done.stdout, done.stderr)
        assert "unsafe" in done.stdout, command
    assert shared(server) == before
    with server.target("postgres").connect() as connection:
        made = connection.execute("SELECT FROM pg_database WHERE datname = %s", [f"{live}_new"]).fetchone()
    assert made is None


@ENDS
def test_what_is_restored_of_a_damaged_one_has_none_of_it(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path, tmp_path: Path
) -> None:
    live = new_database("app")
    before = shared(server)
    whole = [each for each in (*hostile.STATEMENTS, *hostile.NOT_OURS) if "standard_conforming_strings" not in each]
    headed = (f"--\n-- Name: x{n}; Type: X; Schema: -; Owner: -\n--\n\n{each}\n\n\n" for n, each in enumerate(whole))
    (store / "hostile.sql").write_bytes(hostile.hostile_dump("".join(headed)))
    report = restore_readable(
        server.target(live), store, ["hostile.sql"], f"{live}_new", Context(state=tmp_path / "state")
    )
    assert len(report.commands) >= len(whole) * 0.8
    assert shared(server) == before
    with server.target(f"{live}_new").connect() as connection:
        odd = connection.execute(
            "SELECT proname FROM pg_proc p JOIN pg_language l ON l.oid = prolang"
            " WHERE p.oid >= 16384 AND lanname IN ('c', 'internal')"
        ).fetchall()
        changed = connection.execute("SELECT relname FROM pg_class WHERE oid < 16384 AND relowner <> 10").fetchall()
    assert (odd, changed) == ([], [])


def test_code_is_named_with_its_rights(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path, tmp_path: Path
) -> None:
    live = new_database("app")
    code = (
        "CREATE FUNCTION public.ck(i integer) RETURNS integer LANGUAGE sql AS 'SELECT i';\n\n"
        "CREATE TABLE public.z (i integer, CONSTRAINT c CHECK ((public.ck(i) > 0)));\n\n"
        "CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS one;"
    )
    (store / "code.sql").write_bytes(hostile.hostile_dump(code))
    (store / "plain.sql").write_bytes(hostile.hostile_dump(""))
    common = ["--db", server.url(live), "--store", str(store), "--state", str(tmp_path / "state")]
    counted = "1 check, 1 function, 1 materialized view"
    trust = ("--trust-code", "it is ours")
    line = f'{counted}: can run as superuser "postgres" (trusted: it is ours) during the restore'
    plan = forked_cli.run(*common, "rollback", "code.sql", "--dry-run", *trust)
    assert line in " ".join(plan.stdout.split())
    document = json.loads(forked_cli.run(*common, "--json", "rollback", "code.sql", "--dry-run", *trust).stdout)
    expected = {
        "constructs": {"check": 1, "function": 1, "materialized view": 1},
        "role": "postgres",
        "superuser": True,
        "trusted": "it is ours",
        "later": [],
    }
    assert document["code"] == expected
    confined = forked_cli.run(*common, "rollback", "code.sql", "--dry-run")
    line = f"{counted}: can run only as a role without rights during the restore"
    assert line in " ".join(confined.stdout.split())
    done = forked_cli.run(*common, "restore", "code.sql", "--into", f"{live}_code")
    text = " ".join((done.stdout + done.stderr).split())
    assert f"code in this dump ({counted}) can run only as a role without rights" in text
    plain = forked_cli.run(*common, "--json", "restore", "plain.sql", "--into", f"{live}_plain")
    assert json.loads(plain.stdout)["code"] is None
