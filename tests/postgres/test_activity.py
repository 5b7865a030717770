"""How a database does, by the server's own counters: what is counted, of whom, and what can't be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure import activity
from lastgood.postgres.pressure.activity import Sample, connected, sample, writes
from lastgood.postgres.server import Connection

PATIENCE = 20.0


def oid_of(connection: Connection, name: str) -> int:
    row = connection.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])


def until(connection: Connection, oid: int, seen: Callable[[Sample], bool], inside: Connection | None = None) -> Sample:
    """The counters come a moment later."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = sample(connection, oid, inside)
        assert found is not None
        if seen(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def wait_for_a_lock(server: EmbeddedServer, name: str) -> None:
    with server.target(name).connect(autocommit=False, application_name="late") as late:
        late.execute("SET lock_timeout = '20s'")
        late.execute("LOCK public.t")


@pytest.mark.postgres(15, 16, 17, 18)
def test_rollbacks_writes_and_waits_are_counted(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = new_database()
    with server.target("postgres").connect() as outside:
        oid = oid_of(outside, name)
        first = sample(outside, oid)
        assert first is not None and first.calls is None
        with server.target(name).connect(autocommit=False, application_name="web") as web:
            web.execute("CREATE TABLE public.t (id int)")
            web.commit()
            for _ in range(3):
                web.execute("INSERT INTO public.t VALUES (1)")
                web.rollback()
            web.execute("INSERT INTO public.t VALUES (2)")
            (session,) = connected(outside, oid)
            assert (session.application_name, session.user, session.writing) == ("web", "postgres", True)
            late = threading.Thread(target=lambda: wait_for_a_lock(server, name))
            late.start()
            until(outside, oid, lambda found: found.lock_waits == 1 and found.connections == 2)
            web.commit()
            late.join()
            before = writes(outside, oid)
            web.commit()
        later = until(outside, oid, lambda found: found.rollbacks >= first.rollbacks + 3 and not found.connections)
        assert later.at > first.at
        assert writes(outside, oid) >= before
        with server.target(name).connect():  # our own sessions do not count
            assert connected(outside, oid) == []
        assert sample(outside, 1) is not None and sample(outside, 4_000_000_000) is None


@pytest.mark.parametrize("major", [15, 17, 18])
def test_statements_are_timed_where_the_server_does_it(major: int) -> None:
    settings = {"shared_preload_libraries": "pg_stat_statements"}
    with EmbeddedServer(major, settings=settings) as server, server.target("postgres").connect() as outside:
        outside.execute("CREATE DATABASE app")
        outside.execute("CREATE ROLE app LOGIN")
        oid = oid_of(outside, "app")
        with server.target("app").connect() as inside:
            found = sample(outside, oid, inside)
            assert found is not None and found.calls is None
            inside.execute("CREATE SCHEMA monitoring")
            inside.execute("CREATE EXTENSION pg_stat_statements SCHEMA monitoring")
            first = sample(outside, oid, inside)
            assert first is not None and first.calls is not None
            with server.target("app").connect(application_name="web") as web:
                web.execute("SELECT pg_sleep(0.2)")
            second = sample(outside, oid, inside)
            assert second is not None and second.calls is not None and second.milliseconds is not None
            assert second.calls > first.calls and second.milliseconds - (first.milliseconds or 0) >= 190
            inside.execute("REVOKE ALL ON FUNCTION monitoring.pg_stat_statements(boolean) FROM PUBLIC")
        with server.target("app", user="app").connect() as inside:
            found = sample(outside, oid, inside)
            assert found is not None and found.calls is None


@pytest.mark.postgres(18)
def test_an_extension_that_the_server_did_not_load(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = new_database()
    with server.target("postgres").connect() as outside, server.target(name).connect() as inside:
        inside.execute("CREATE EXTENSION pg_stat_statements SCHEMA public")
        found = activity.sample(outside, oid_of(outside, name), inside)
        assert found is not None and (found.calls, found.milliseconds) == (None, None)
