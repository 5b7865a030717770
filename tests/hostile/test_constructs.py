"""The constructs of a restore point that run code, in each command that restores: no attack succeeds.

All constructs lie in one restore point, each in a schema of its own, and what an attack leaves names its construct.
``make hostile`` runs each command on PostgreSQL 15 to 18, and with the constructs whose restore point is refused.
``LASTGOOD_HOSTILE=each`` gives each construct a restore point of its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from lastgood.in_place import marks
from lastgood.postgres.embedded import EmbeddedServer
from tests.hostile.conftest import LONG, ROLES, TOGETHER, Battery, Construct, Field
from tests.support import forked_cli

VERSIONS = pytest.mark.postgres(15, 16, 17, 18) if LONG else pytest.mark.postgres(18)
ALL = ("superuser", "creator", "hosted")
BY_NAME = ("superuser", "creator")


def operators(*short: str, long: tuple[str, ...] = ALL) -> pytest.MarkDecorator:
    """The operators of a test."""
    return pytest.mark.operators(*(long if LONG else short))


def lastgood(field: Field, store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = field.server.url(field.live, user=field.user)
    common = ("--db", url, "--store", str(store), "--state", str(store / "state"))
    return forked_cli.run(*common, *arguments, seconds=250)


def assert_no_success(field: Field, done: subprocess.CompletedProcess[str], *databases: str) -> None:
    """Nothing was gained, and the command ended in order."""
    assert field.successes(*(databases or field.names())) == [], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def assert_done(field: Field, battery: Battery, done: subprocess.CompletedProcess[str], *databases: str) -> None:
    """The same, and the command reached its end, unless a construct is known to prevent that."""
    assert_no_success(field, done, *databases)
    if battery is TOGETHER:
        assert done.returncode == 0, done.stdout + done.stderr


# What code gained on a server.
GAINED = """
SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'hostile%' AND (rolsuper OR rolname ~ '^hostile_(made|reset)')
UNION ALL SELECT member::regrole::text FROM pg_auth_members WHERE member::regrole::text LIKE 'hostile%'
UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'lastgood%'
"""


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[int], EmbeddedServer]]:
    """A second server of a version, with the roles that code attacks."""
    with ExitStack() as stack:

        @cache
        def started(major: int) -> EmbeddedServer:
            server = stack.enter_context(EmbeddedServer(major))
            with server.target("postgres").connect() as connection:
                connection.execute("; ".join(f"CREATE ROLE {role}" for role in ROLES).encode())
            return server

        yield started


@VERSIONS
@operators("superuser", "creator")
def test_restore(field: Field, store: Path, battery: Battery) -> None:
    statistics = ("--statistics",) if field.server.major >= 18 else ()  # SELECTs of functions
    field.dump(battery, store, "--no-owner", *statistics)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    assert_done(field, battery, done, into, field.live)


@VERSIONS
@operators("superuser")
def test_restore_of_code_that_attacks_the_new_database(field: Field, store: Path, battery: Battery) -> None:
    field.dump(battery, store, "--no-owner", loud=True)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    assert_no_success(field, done, into, field.live)


@VERSIONS
@operators("superuser", long=BY_NAME)
def test_rollback(field: Field, store: Path, battery: Battery) -> None:
    field.dump(battery, store)
    done = lastgood(field, store, "rollback", "hostile.sql", "--yes")
    assert_done(field, battery, done)


if LONG:

    @VERSIONS
    @operators(long=BY_NAME)
    @pytest.mark.parametrize("command", [("restore", "hostile.sql", "--into", "{}_new"), ("rollback", "hostile.sql")])
    def test_with_an_existing_role(field: Field, store: Path, battery: Battery, command: tuple[str, ...]) -> None:
        with field.maintenance() as connection:
            connection.execute(f"CREATE ROLE hostile_made_builder LOGIN; GRANT hostile_made_builder TO {field.user}")
        field.dump(battery, store, "--no-owner")
        url = field.server.url(field.live, user="hostile_made_builder")
        arguments = [each.format(field.live) for each in command]
        done = lastgood(field, store, *arguments, "--build-as", url, *(["--yes"] if command[0] == "rollback" else []))
        found = [each for each in field.successes(*field.names()) if each != "hostile_made_builder was made"]
        # Its membership is the operator's own.
        assert found == [], done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@VERSIONS
@operators("superuser", "creator")
def test_rollback_in_place(field: Field, store: Path, battery: Battery) -> None:
    field.plant(battery, store, in_place=True)  # functions call others by their live names
    done = lastgood(field, store, "rollback", "planted.sql", "--in-place", "--yes")
    assert_done(field, battery, done, field.live)


@VERSIONS
@operators("superuser")
def test_restore_of_what_is_readable(field: Field, store: Path, battery: Battery) -> None:
    path = field.dump(battery, store)
    path.write_bytes(path.read_bytes().replace(b"-- PostgreSQL database dump complete", b""))
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--skip-damaged", "--into", into)
    assert_done(field, battery, done, into, field.live)


@VERSIONS
@operators("superuser")
def test_drill_of_all_restore_points(field: Field, store: Path, battery: Battery) -> None:
    """The scratch server runs as the user of the test: programs and files show that code was its superuser."""
    field.dump(battery, store)
    done = lastgood(field, store, "drill", "--all")
    assert_done(field, battery, done, field.live)


@VERSIONS
@operators("superuser")
def test_drill_of_one_restore_point(
    field: Field, store: Path, battery: Battery, another: Callable[[int], EmbeddedServer]
) -> None:
    """On a given server, whose superuser must not run code even in the commands of the guide."""
    field.dump(battery, store, in_place=field.in_place_only)
    scratch = another(field.server.major)
    done = lastgood(field, store, "drill", "hostile.sql", "--server", scratch.url("postgres"))
    with scratch.target("postgres").connect() as connection:
        assert connection.execute(GAINED).fetchall() == [], done.stdout + done.stderr
    assert_done(field, battery, done, field.live)
    if battery is TOGETHER:
        assert "the commands of the guide: they load the restore point as a superuser" in done.stdout


@VERSIONS
@operators("superuser")
def test_trial_of_a_deployment(field: Field, store: Path, battery: Battery) -> None:
    field.plant(battery, store, in_place=field.in_place_only)
    done = lastgood(field, store, "deploy", "--dry-run", "--", "true")
    assert_no_success(field, done)


@VERSIONS
@operators("superuser")
def test_recover(field: Field, store: Path, battery: Battery) -> None:
    field.dump(battery, store, in_place=field.in_place_only)
    done = lastgood(field, store, "recover", "--latest", "--yes")
    assert_no_success(field, done)


@VERSIONS
@operators("superuser", long=("superuser",))
def test_the_attacks_succeed_where_code_is_trusted(field: Field, store: Path, battery: Battery) -> None:
    field.dump(battery, store)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into, "--trust-code", "to see that they do")
    found = field.successes(into, field.live)
    # Some make a role, others write a file or run a program: the name of each has that of its construct.
    able = [each for each in field.can_run(battery) if "later" not in each.notes]
    silent = {each.name for each in able if not any(each.id in text for text in found)}
    try:
        if battery is TOGETHER:
            assert "hostile_role is a superuser" in found, done.stderr
        if battery is TOGETHER or done.returncode == 0:  # some end the restore on some versions
            assert silent == set(), done.stderr
    finally:
        with field.maintenance() as connection:
            connection.execute("ALTER SYSTEM RESET ALL")


# Code refuses the command to the role that builds, so that the operator runs it. No name in it is that of the code: the
# server takes the constant for one of the column's type, and the check of a domain runs when it is read.
REFUSING = """--
-- PostgreSQL database dump
--
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  CREATE ROLE hostile_made_by_operator;
  RETURN 1;
EXCEPTION WHEN OTHERS THEN
  RAISE 'refused by code' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE DOMAIN public.d AS int CONSTRAINT dc CHECK (public.f(VALUE) > 0);
CREATE TYPE public.c AS (a public.d);
CREATE TABLE public.t (c public.c);
CREATE POLICY p ON public.t USING ((COALESCE(c, '(1)') IS NOT NULL));
--
-- PostgreSQL database dump complete
--
"""


@VERSIONS
@operators("superuser", long=BY_NAME)
def test_a_command_that_code_refuses_to_the_role(field: Field, store: Path) -> None:
    (store / "hostile.sql").write_text(REFUSING)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    assert_no_success(field, done, into, field.live)
    assert done.returncode == 5
    assert ", policy p on public.t): refused by code [SQLSTATE 42501]" in done.stderr


# Nothing in it is a function: an expression calls one of the server by the name of an operator.
OPERATOR = """--
-- PostgreSQL database dump
--
SET client_encoding = 'UTF8';
SET search_path = public, pg_catalog;
SELECT pg_catalog.lo_create('777');
CREATE OPERATOR === (LEFTARG = oid, RIGHTARG = text, FUNCTION = pg_catalog.lo_export);
CREATE TABLE t (
    o oid,
    p text,
    CONSTRAINT c CHECK (((o === p) > 0))
);
COPY t (o, p) FROM stdin;
777\t{folder}/file_by_operator
\\.
--
-- PostgreSQL database dump complete
--
"""


@VERSIONS
@operators("superuser", long=("superuser",))
def test_a_function_of_the_server_by_another_name(field: Field, store: Path) -> None:
    (store / "hostile.sql").write_text(OPERATOR.format(folder=field.folder))
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    assert_no_success(field, done, into, field.live)
    assert done.returncode == 5
    assert "permission denied for function pg_catalog.lo_export" in done.stderr
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into, "--trust-code", "to see that it does")
    assert field.successes(into) == ["file_by_operator"], done.stderr


# Marks and lists in a restore point look like what runs of lastgood leave in a database: later commands would believe
# them.
LEFT = """
CREATE TABLE t (i int PRIMARY KEY, j int, x text);
INSERT INTO t VALUES (1, 1, 'a');
ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (j) REFERENCES t NOT VALID;
ALTER TABLE t ADD CONSTRAINT chk CHECK (vol('c') > 0) NOT VALID;
CREATE SCHEMA "lastgood_20260101-000000-00000{id}";
CREATE TABLE "lastgood_20260101-000000-00000{id}".unfinished (number int PRIMARY KEY, kind text NOT NULL, schema_name
  text NOT NULL, table_name text NOT NULL, name text NOT NULL, settings text[] NOT NULL, statements text[] NOT NULL);
INSERT INTO "lastgood_20260101-000000-00000{id}".unfinished VALUES (1, 'foreign key', '{home}', 't', 'fk',
  '{}', '{ALTER TABLE {home}.t VALIDATE CONSTRAINT fk}');
CREATE SCHEMA "lastgood_kept_00000{id}_public";
COMMENT ON SCHEMA "lastgood_kept_00000{id}_public" IS '{"tool":"lastgood","role":"kept","run":"20260101-00000{id}",
  "live":"public","made_at":"2026-01-01T00:00:00Z","options":{"trust_code":"forged"},"kept":{"schemas":["public"],
  "existed":["public"],"ties":{},"checks":[{"domain":false,"schema_name":"{home}","owner":"t","name":"chk"}],
  "columns":[{"schema_name":"{home}","table":"t","name":"x","expression":"{home}.vol(''x'')"}]}}';
"""


@VERSIONS
@operators("superuser", long=("superuser",))
def test_what_a_run_would_have_left(field: Field, store: Path) -> None:
    field.dump(Battery("left", (Construct("c99", "left", LEFT, frozenset()),)), store)
    done = lastgood(field, store, "rollback", "hostile.sql", "--yes")
    assert_no_success(field, done)
    assert done.returncode == 0, done.stderr
    done = lastgood(field, store, "resume", "--yes")
    assert_no_success(field, done)
    assert done.returncode == 7, done.stderr
    key = "ALTER TABLE c99.t VALIDATE CONSTRAINT fk"
    assert f'functions would run with the rights of "postgres"; to do it, run: {key}' in done.stderr
    with field.at_rest(field.live) as connection:
        assert marks.marked(connection) == []
