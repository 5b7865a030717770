"""Unmarked shadows: recognised with care, dropped with more."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres import database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.leftover import INSPECTED, Leftover, drop_leftover, leftovers
from lastgood.postgres.server import Connection

New = Callable[..., str]
MAJORS = (15, 16, 17, 18)


@pytest.fixture
def maintenance(server: EmbeddedServer) -> Iterator[Connection]:
    with server.target("postgres").connect() as connection:
        yield connection


def leave(maintenance: Connection, name: str) -> None:
    """What a run that is killed right after its CREATE DATABASE leaves."""
    maintenance.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ALLOW_CONNECTIONS false").format(sql.Identifier(name))
    )


def only(maintenance: Connection, live: str) -> Leftover:
    (found,) = leftovers(maintenance, live)
    return found


@pytest.mark.postgres(*MAJORS)
def test_an_empty_one_is_found_and_dropped(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database()
    name = f"{live}_shadow_9f3c1a70"
    leave(maintenance, name)
    found = only(maintenance, live)
    assert (found.name, found.number) == (name, "9f3c1a70")
    assert found.bytes is not None and found.bytes > 1_000_000
    drop_leftover(maintenance, server.target(live), found, live)
    assert leftovers(maintenance, live) == []
    assert database.find(maintenance, name) is None
    drop_leftover(maintenance, server.target(live), found, live)  # done already is as good


def test_an_ordinary_owner_may_too(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database()
    maintenance.execute("CREATE ROLE leftover_app LOGIN CREATEDB")
    try:
        with server.target("postgres", user="leftover_app").connect() as own:
            leave(own, f"{live}_shadow_9f3c1a70")
            drop_leftover(own, server.target(live, user="leftover_app"), only(own, live), live)
            assert leftovers(own, live) == []
    finally:
        maintenance.execute("DROP ROLE leftover_app")


@pytest.mark.postgres(*MAJORS)
@pytest.mark.parametrize(
    "use", ["CREATE TABLE public.t ()", "CREATE SCHEMA s", "SELECT lo_create(0)", "CREATE TYPE public.e AS ENUM ('a')"]
)
def test_one_that_was_used_stays_closed(
    server: EmbeddedServer, new_database: New, maintenance: Connection, use: str
) -> None:
    live = new_database()
    name = f"{live}_shadow_9f3c1a70"
    maintenance.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    with server.target(name).connect() as connection:
        connection.execute(use.encode())
    assert leftovers(maintenance, live) == []  # open: a foreign database, whatever its name
    database.allow_connections(maintenance, name, False)
    with pytest.raises(Refused) as caught:
        drop_leftover(maintenance, server.target(live), only(maintenance, live), live)
    assert caught.value.message == f'cannot remove "{name}": it is not empty, so it is no leftover of a run'
    assert caught.value.hint == f'To inspect it, run: ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'
    assert caught.value.state == "Nothing was removed."
    left = database.describe(maintenance, name)
    assert (left.allow_connections, left.comment) == (False, None)
    (everybody,) = maintenance.execute("SELECT has_database_privilege('public', %s, 'CONNECT')", [name]).fetchone() or (
        None,
    )
    assert everybody is True


def test_a_look_that_was_cut_short_is_known_again(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live = new_database()
    name = f"{live}_shadow_9f3c1a70"
    leave(maintenance, name)
    database.comment(maintenance, name, INSPECTED)
    database.allow_connections(maintenance, name, True)
    drop_leftover(maintenance, server.target(live), only(maintenance, live), live)
    assert leftovers(maintenance, live) == []


def test_a_name_alone_is_not_sufficient(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database()
    for suffix in ("_shadow_9f3c1a7", "_shadow_9F3C1A70", "_old_9f3c1a70", "_shadow_9f3c1a70x", "2_shadow_9f3c1a70"):
        leave(maintenance, live + suffix)
    commented, template = f"{live}_shadow_00000001", f"{live}_shadow_00000002"
    leave(maintenance, commented)
    database.comment(maintenance, commented, "mine")
    leave(maintenance, template)
    maintenance.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(template)))
    assert leftovers(maintenance, live) == []
    maintenance.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(live + "2_shadow_9f3c1a70")))


def test_what_changed_since_it_was_found_is_left_alone(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live = new_database()
    name = f"{live}_shadow_9f3c1a70"
    leave(maintenance, name)
    found = only(maintenance, live)
    database.allow_connections(maintenance, name, True)
    with pytest.raises(Refused, match=f'^cannot remove "{name}": it changed since it was found$'):
        drop_leftover(maintenance, server.target(live), found, live)
    assert database.find(maintenance, name) is not None


def test_names_that_were_cut(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database("a" * 50)[:63]
    name = database.fit_name(live, "_shadow_9f3c1a70")
    leave(maintenance, name)
    found = only(maintenance, live)
    assert found.name == name and len(name) == 63
    drop_leftover(maintenance, server.target("postgres"), found, live)
