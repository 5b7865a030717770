"""Each construct of a restore point that runs code, in each command that restores: no attack succeeds.

``make hostile`` tries each construct in each command, on PostgreSQL 15 to 18. The short form does it on the newest,
with a part of the constructs in most commands.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.hostile.conftest import CONSTRUCTS, ROLES, Construct, Field
from tests.support import forked_cli

LONG = os.environ.get("LASTGOOD_HOSTILE") == "long"
NEWEST = pytest.mark.postgres(15, 16, 17, 18) if LONG else pytest.mark.postgres(18)


def constructs(every: int = 1, start: int = 0) -> pytest.MarkDecorator:
    """All constructs in the long form, and otherwise one of ``every`` so many."""
    chosen = CONSTRUCTS if LONG else CONSTRUCTS[start::every]
    return pytest.mark.parametrize("construct", chosen, ids=lambda each: each.name)


def lastgood(field: Field, store: Path, *arguments: str, user: str = "postgres") -> subprocess.CompletedProcess[str]:
    common = ("--db", field.server.url(field.live, user=user), "--store", str(store), "--state", str(store / "state"))
    return forked_cli.run(*common, *arguments)


# What code gained on a server.
GAINED = """
SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'hostile%' AND (rolsuper OR rolname = 'hostile_made')
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


@NEWEST
@constructs()
def test_restore(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.dump(construct, store)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into)
    assert field.successes(into, field.live) == [], done.stdout + done.stderr


@NEWEST
@constructs(3)
def test_restore_by_an_operator_who_is_no_superuser(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.dump(construct, store, "--no-owner")
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into, user=field.operator())
    assert field.successes(into, field.live) == [], done.stdout + done.stderr


@NEWEST
@constructs(4)
def test_rollback(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.dump(construct, store)
    kept = len(field.names())
    done = lastgood(field, store, "rollback", "hostile.sql", "--yes")
    assert field.successes(*field.names()) == [], done.stdout + done.stderr
    assert done.returncode == 0 or len(field.names()) == kept, done.stdout + done.stderr


@NEWEST
@constructs(22, 3)
def test_rollback_in_place(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.plant(construct, store)  # functions call others by their live names
    done = lastgood(field, store, "rollback", "planted.sql", "--in-place", "--yes")
    assert field.successes(field.live) == [], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@NEWEST
@constructs(50, 7)
def test_rollback_in_place_by_an_operator_who_is_no_superuser(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    user = field.operator()
    field.plant(construct, store, user=user)
    done = lastgood(field, store, "rollback", "planted.sql", "--in-place", "--yes", user=user)
    assert field.successes(field.live) == [], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@NEWEST
@constructs(3, 1)
def test_restore_of_what_is_readable(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    path = field.dump(construct, store)
    path.write_bytes(path.read_bytes().replace(b"-- PostgreSQL database dump complete", b""))
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--skip-damaged", "--into", into)
    assert done.returncode == 0, done.stderr
    assert field.successes(into, field.live) == [], done.stdout + done.stderr


@NEWEST
@constructs(20)
def test_drill_of_all_restore_points(field: Field, store: Path, construct: Construct) -> None:
    """The scratch server runs as the user of the test: programs and files show that code was its superuser."""
    if not field.can_run(construct):
        return
    field.dump(construct, store)
    done = lastgood(field, store, "drill", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert field.successes(field.live) == [], done.stdout + done.stderr


@NEWEST
@constructs(50, 9)
def test_drill_of_one_restore_point(
    field: Field, store: Path, construct: Construct, another: Callable[[int], EmbeddedServer]
) -> None:
    """On a given server, whose superuser must not run code even in the commands of the guide."""
    if not field.can_run(construct):
        return
    field.dump(construct, store)
    scratch = another(field.server.major)
    done = lastgood(field, store, "drill", "hostile.sql", "--server", scratch.url("postgres"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the commands of the guide: they load the restore point as a superuser" in done.stdout
    with scratch.target("postgres").connect() as connection:
        assert connection.execute(GAINED).fetchall() == [], done.stdout + done.stderr
    assert field.successes(field.live) == [], done.stdout + done.stderr


@NEWEST
@constructs(50, 12)
def test_trial_of_a_deployment(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.plant(construct, store)
    done = lastgood(field, store, "deploy", "--dry-run", "--", "true")
    assert field.successes(*field.names()) == [], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@NEWEST
@constructs(50, 21)
def test_recover(field: Field, store: Path, construct: Construct) -> None:
    if not field.can_run(construct):
        return
    field.dump(construct, store)
    done = lastgood(field, store, "recover", "--latest", "--yes")
    assert field.successes(*field.names()) == [], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@NEWEST
def test_the_attacks_succeed_where_code_is_trusted(field: Field, store: Path) -> None:
    field.dump(next(each for each in CONSTRUCTS if each.name == "check"), store)
    into = f"{field.live}_new"
    done = lastgood(field, store, "restore", "hostile.sql", "--into", into, "--trust-code", "to see that they do")
    found = field.successes(into, field.live)
    assert {"hostile_role is a superuser", "hostile_made was made", "program_by_copy"} <= set(found), done.stderr
    with field.maintenance() as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
