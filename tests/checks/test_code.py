"""Who runs code of a restore point, and what the plan says about code that runs afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import rollback
from lastgood.checks.code import code_run
from lastgood.command.check.check import check
from lastgood.dump.reader import read
from lastgood.errors import Refused
from lastgood.facts import LanguageFacts
from lastgood.load.by_operator import beyond
from lastgood.plan.plan import CONFINED, Choice, CodePolicy, Request
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.server import Target
from lastgood.restore import restore
from tests.dump import hostile
from tests.support import forked_cli
from tests.support.real_dumps import Text, run

ENDS = pytest.mark.postgres(15, 18)
CODE = (
    "CREATE FUNCTION public.ck(i integer) RETURNS boolean LANGUAGE sql AS 'SELECT i > 0';\n\n"
    "CREATE TABLE public.z (i integer, CONSTRAINT c CHECK (public.ck(i)));"
)


@pytest.fixture
def roles(server: EmbeddedServer) -> Iterator[Callable[[str], None]]:
    """Runs statements about roles whose names begin with ``code_``; the roles are dropped afterwards."""
    with server.target("postgres").connect() as connection:

        def execute(statements: str) -> None:
            connection.execute(statements.encode())

        yield execute
        for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^code_'").fetchall():
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


@ENDS
@pytest.mark.parametrize(
    ("statements", "rights"),
    [
        ("", ""),
        ("ALTER ROLE code_operator CREATEDB REPLICATION BYPASSRLS", ""),
        ("GRANT pg_read_all_data TO code_operator", ""),
        ("ALTER ROLE code_operator CREATEROLE", "a role with CREATEROLE"),
        ("ALTER ROLE code_operator SUPERUSER", "a superuser"),
        ("GRANT postgres TO code_operator", 'a member of "postgres", which is a superuser'),
        (
            "CREATE ROLE code_maker CREATEROLE; CREATE ROLE code_group; GRANT code_maker TO code_group;"
            " GRANT code_group TO code_operator",
            'a member of "code_maker", which is a role with CREATEROLE',
        ),
        ("GRANT pg_write_server_files TO code_operator", 'a member of "pg_write_server_files"'),
        (
            "CREATE ROLE code_group; GRANT code_group TO code_operator WITH ADMIN OPTION",
            'a role that can grant membership in "code_group"',
        ),
    ],
)
def test_rights_that_code_could_misuse(
    server: EmbeddedServer, roles: Callable[[str], None], statements: str, rights: str
) -> None:
    roles(f"CREATE ROLE code_operator LOGIN; {statements}")
    reading = read(Text(hostile.hostile_dump(CODE)))
    list(reading)
    with server.target("postgres", user="code_operator").connect() as connection:
        assert strength(connection) == rights
        connection.execute("SET ROLE pg_monitor") if rights == "a superuser" else None
        assert strength(connection) == rights  # code could RESET ROLE
        found = code_run(connection, reading.summary, CONFINED)
        assert found is not None and found.confined
        trusted = code_run(connection, reading.summary, CodePolicy("ours"))
        assert trusted is not None and not trusted.confined and trusted.rights.endswith(" (trusted: ours)")
        lent = code_run(connection, reading.summary, CodePolicy(build_as=Target({})))
        assert lent is not None and lent.confined


def _privileges(request: Request) -> list[tuple[str, str]]:
    """What a quick check says of the privileges that does not pass."""
    (item,) = (each for each in check(request).checklist.items if each.name == "privileges")
    return [(each.status, each.text) for each in item.lines if each.status != "PASS"]


@ENDS
def test_an_owner_who_cannot_create_roles_is_refused_unless_the_code_is_trusted(
    server: EmbeddedServer, roles: Callable[[str], None], new_database: Callable[[str], str], store: Path
) -> None:
    live = new_database("app")
    roles(f"CREATE ROLE code_operator LOGIN CREATEDB; ALTER DATABASE {live} OWNER TO code_operator")
    (store / "code.sql").write_bytes(hostile.hostile_dump(CODE))
    target = server.target(live, user="code_operator")
    request = Request(target, store, store / "state", choice=Choice("code.sql"))
    plan = rollback.plan(request).plan
    assert plan.code is not None and plan.code.rights == "only as a role without rights"
    assert [(each.level, each.text, each.hint) for each in plan.findings if each.code == "no_second_login"] == [
        (
            "refusal",
            'role "code_operator" may not create a role (permission denied to create role); the restore point has 1 '
            'check and 1 function that would run as role "code_operator"',
            (
                'As a superuser, run once: ALTER ROLE "code_operator" CREATEROLE. Or name a role that can log in: '
                "--build-as URL. "
                if server.major >= 16
                else "As a superuser, run once: CREATE ROLE lastgood_builder LOGIN PASSWORD '…'; GRANT "
                'lastgood_builder TO "code_operator". Then give --build-as '
                "postgresql://lastgood_builder@HOST/postgres, with its password in ~/.pgpass. "
            )
            + "If you trust the code: --trust-code REASON",
        )
    ]
    with pytest.raises(Refused) as refused:
        restore(target, store, "code.sql", f"{live}_new")
    assert refused.value.exit_status == 3
    # A quick check reads no code: the live database shows whether there will be some, or the manifest.
    cannot = 'role "code_operator" may not create a role (permission denied to create role); '
    assert _privileges(request) == []
    with server.target(live, user="code_operator").connect() as connection:
        connection.execute(b"CREATE SCHEMA own; CREATE FUNCTION own.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    assert _privileges(request) == [
        ("WARN", f"{cannot}a restore point with code would be refused, and the live database has functions")
    ]
    point = take(target, store).path.name
    assert _privileges(replace(request, choice=Choice(point))) == [
        ("FAIL", f'{cannot}the restore point has 1 function that would run as role "code_operator"')
    ]
    trusted = replace(request, choice=Choice(point), code=CodePolicy("our own backup"))
    assert _privileges(trusted) == []
    # The reason counts more than a role of the environment or of lastgood.toml.
    common = ["--db", str(target), "--store", str(store), "--state", str(store / "state"), "--json"]
    lent = {**os.environ, "LASTGOOD_BUILD_AS": "postgresql://code_builder@/postgres"}
    planned = forked_cli.run(*common, "rollback", "code.sql", "--dry-run", "--trust-code", "ours", environment=lent)
    assert json.loads(planned.stdout)["code"]["trusted"] == "ours", planned.stderr
    report = restore(target, store, "code.sql", f"{live}_new", policy=CodePolicy("our own backup"))
    assert report.code is not None and report.code.trusted == "our own backup"
    with server.target(f"{live}_new").connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.z").fetchone() == (0,)
    with server.target("postgres").connect() as connection:
        connection.execute(f"DROP DATABASE {live}_new".encode())


@ENDS
def test_an_existing_role_builds_for_an_operator_who_cannot_create_one(
    server: EmbeddedServer, roles: Callable[[str], None], new_database: Callable[[str], str], store: Path
) -> None:
    live = new_database("app")
    roles(
        "CREATE ROLE code_operator LOGIN CREATEDB; CREATE ROLE code_builder LOGIN;"
        f" GRANT code_builder TO code_operator; ALTER DATABASE {live} OWNER TO code_operator"
    )
    with server.target(live).connect() as connection:
        connection.execute(b"SET ROLE code_operator")
        connection.execute(CODE.encode())
        connection.execute("INSERT INTO public.z VALUES (1)")
    run(server, "pg_dump", "-d", server.url(live), "-f", store / "code.sql")
    common = ["--db", server.url(live, user="code_operator"), "--store", str(store), "--state", str(store / "state")]
    build_as = ("--build-as", server.url("postgres", user="code_builder"))
    done = forked_cli.run(*common, "restore", "code.sql", "--into", f"{live}_new", *build_as)
    assert done.returncode == 0, done.stderr
    done = forked_cli.run(*common, "--json", "rollback", "code.sql", "--yes", *build_as)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["code"]["role"] == ""
    for name in (live, f"{live}_new"):
        with server.target(name).connect() as connection:
            assert connection.execute(
                "SELECT tableowner, i FROM pg_tables, public.z WHERE tablename = 'z'"
            ).fetchall() == [("code_operator", 1)]
            assert connection.execute(
                "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'code_builder'::regrole AND deptype IN ('a', 'o')"
            ).fetchone() == (0,)


@ENDS
@pytest.mark.parametrize(
    ("statement", "why", "hint"),
    [
        ("ALTER ROLE code_builder CREATEDB", "has CREATEDB", 'Run: ALTER ROLE "code_builder" NOCREATEDB.'),
        (
            "GRANT pg_monitor TO code_builder; GRANT CONNECT ON DATABASE postgres TO code_builder",
            'is a member of "pg_monitor" and owns objects or has privileges in "postgres"',
            'Run: REVOKE "pg_monitor" FROM "code_builder". Name a role without objects and privileges in "postgres".',
        ),
    ],
)
def test_a_role_that_is_used_otherwise_is_refused(
    server: EmbeddedServer,
    roles: Callable[[str], None],
    new_database: Callable[[str], str],
    store: Path,
    statement: str,
    why: str,
    hint: str,
) -> None:
    live = new_database("app")
    roles(f"CREATE ROLE code_builder LOGIN; {statement}")
    (store / "code.sql").write_bytes(hostile.hostile_dump(CODE))
    policy = CodePolicy(build_as=server.target("postgres", user="code_builder"))
    with pytest.raises(Refused) as raised:
        restore(server.target(live), store, "code.sql", f"{live}_new", policy=policy)
    assert str(raised.value) == (
        f'cannot run code in the restore point as a role without rights: role "code_builder" of --build-as {why}'
    )
    assert raised.value.hint == f"{hint} If you trust the code: --trust-code REASON"
    with server.target("postgres").connect() as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname = %s", [f"{live}_new"]).fetchall() == []


@ENDS
def test_what_needs_more_rights_is_refused_before_anything_is_made(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path
) -> None:
    live = new_database("app")
    more = (
        "CREATE ACCESS METHOD am TYPE INDEX HANDLER bthandler;\n\n"
        "CREATE FUNCTION public.os() RETURNS integer LANGUAGE plpython3u AS 'return 1';\n\n"
        "CREATE CAST (integer AS public.z) WITHOUT FUNCTION;"
    )
    (store / "code.sql").write_bytes(hostile.hostile_dump(CODE + "\n\n" + more))
    text = (
        "a role without rights cannot create 3 objects of the restore point: access method am, "
        "function public.os(), cast (integer AS public.z)"
    )
    with pytest.raises(Refused) as raised:
        restore(server.target(live), store, "code.sql", f"{live}_new")
    assert str(raised.value) == f'cannot restore "code.sql": {text}'
    assert raised.value.hint == "If you trust the code: --trust-code REASON"
    plan = rollback.plan(Request(server.target(live), store, store / "state", choice=Choice("code.sql"))).plan
    assert [each.text for each in plan.refusals if each.code == "code_needs_rights"] == [text]


LATER = """
CREATE FUNCTION public.same() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path TO 'pg_catalog' AS 'SELECT 1';
CREATE FUNCTION public.changed(a int, b text) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION public.loosened() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION public.added() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION public.imm(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE SCHEMA other;
CREATE DOMAIN public.d AS int;
CREATE TABLE public.t (i int);
CREATE INDEX ON public.t (public.imm(i));
CREATE FUNCTION public.ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION public.ef();
"""
SINCE = """
CREATE OR REPLACE FUNCTION public.changed(a int, b text) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 2';
ALTER FUNCTION public.loosened() SET search_path TO 'pg_catalog';
DROP FUNCTION public.added();
DROP EVENT TRIGGER ev;
"""


@ENDS
def test_code_that_runs_afterwards_is_named(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path
) -> None:
    live = new_database("app")
    with server.target(live).connect() as connection:
        connection.execute(LATER.encode())
    run(server, "pg_dump", "-d", server.url(live), "-f", store / "code.sql")
    with server.target(live).connect() as connection:
        connection.execute(SINCE.encode())
    plan = rollback.plan(Request(server.target(live), store, store / "state", choice=Choice("code.sql"))).plan
    assert plan.code is not None
    as_owner = 'as superuser "postgres"'
    assert sorted(each.summary for each in plan.code.later) == [
        f"SECURITY DEFINER routine public.added(), {as_owner}: new",
        f"SECURITY DEFINER routine public.changed(integer, text), {as_owner}: changed",
        f"SECURITY DEFINER routine public.loosened(), {as_owner}: changed",
        f"SECURITY DEFINER routine public.same(), {as_owner}: same",
        "event trigger ev, as each role that triggers it: new",
        f"table with functions in indexes or statistics public.t, {as_owner}: not compared",
    ]
    common = ["--db", server.url(live), "--store", str(store), "--state", str(store / "state")]
    shown: subprocess.CompletedProcess[str] = forked_cli.run(*common, "rollback", "code.sql", "--dry-run")
    assert "event trigger ev, as each role that triggers it: new" in " ".join(shown.stdout.split())
    assert "1 SECURITY DEFINER routine as in the live database" in " ".join(shown.stdout.split())


@pytest.mark.postgres(15)
@pytest.mark.parametrize("state", ["ALWAYS", "REPLICA"])
def test_event_triggers_that_replica_does_not_stop(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path, state: str
) -> None:
    live = new_database("app")
    with server.target(live).connect() as connection:
        connection.execute(f"{LATER} ALTER EVENT TRIGGER ev ENABLE {state}".encode())
    run(server, "pg_dump", "-d", server.url(live), "-f", store / "code.sql")
    with server.target(live).connect() as connection:
        connection.execute("DROP EVENT TRIGGER ev")
    wanted = Request(server.target(live), store, store / "state", choice=Choice("code.sql"), way="in-place")
    assert f'event trigger "ev" is enabled as {state}: in place it would run as role "postgres"' in [
        each.text for each in rollback.plan(wanted).plan.refusals
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trust-code", " "), "cannot trust code: the reason is empty"),
        (
            ("--trust-code", "ours", "--build-as", "postgresql://builder@/postgres"),
            "cannot trust code and run it as another role: --trust-code and --build-as contradict each other",
        ),
    ],
)
def test_options_that_say_nothing(store: Path, options: tuple[str, ...], message: str) -> None:
    done = forked_cli.run("--store", str(store), "--json", "rollback", "code.sql", *options)
    assert (done.returncode, json.loads(done.stdout)["error"]["message"]) == (2, message)


PL = LanguageFacts(
    name="pl",
    trusted=True,
    handler=("pg_catalog", "plpgsql_call_handler"),
    inline=("pg_catalog", "plpgsql_inline_handler"),
    validator=("pg_catalog", "plpgsql_validator"),
)


@pytest.mark.parametrize(
    ("language", "refused"),
    [
        (PL, False),
        (PL.model_copy(update={"trusted": False}), True),
        (PL.model_copy(update={"handler": ("public", "plpython3_call_handler")}), True),
        (PL.model_copy(update={"inline": ("pg_catalog", "string_agg_serialize")}), True),
        (PL.model_copy(update={"validator": ("pg_catalog", "lo_unlink")}), True),
    ],
)
def test_a_language_that_gives_more_rights_than_its_name(
    server: EmbeddedServer, language: LanguageFacts, refused: bool
) -> None:
    reading = read(Text(hostile.hostile_dump("CREATE OR REPLACE PROCEDURAL LANGUAGE pl;")))
    list(reading.summary.script.recording(reading))
    with server.target("postgres").connect() as connection:
        found = beyond(connection, reading.summary.script.items, [language])
    assert bool(found) == refused
