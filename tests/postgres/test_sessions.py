"""Who is in a database, ending them, and what else holds on to it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql

from lastgood.postgres import database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.holders import EXTENSIONS, Holder, holders
from lastgood.postgres.server import Connection
from lastgood.postgres.sessions import not_terminable, sessions
from tests.support.waiting import until

New = Callable[..., str]


@pytest.fixture
def maintenance(server: EmbeddedServer) -> Iterator[Connection]:
    with server.target("postgres").connect() as connection:
        yield connection


def make_role(connection: Connection, name: str, options: str = "") -> None:
    statement = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)).as_string(connection)
    connection.execute(f"{statement} {options}".encode())


def drop_roles(connection: Connection, *names: str) -> None:
    for name in names:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def terminate(connection: Connection, oid: int) -> list[str | None]:
    """The users of the sessions that the server does not let this role terminate; the others are terminated."""
    refused = []
    for session in sessions(connection, oid):
        try:
            connection.execute("SELECT pg_terminate_backend(%s)", [session.pid])
        except psycopg.errors.InsufficientPrivilege:
            refused.append(session.user)
    return refused


@pytest.mark.postgres(15, 18)
def test_sessions_are_listed_by_oid(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database('We "ird')
    oid = database.describe(maintenance, live).oid
    assert sessions(maintenance, oid) == []
    with (
        server.target(live).connect(application_name="web 1") as first,
        server.target(live).connect(application_name="web 2") as second,
    ):
        found = sessions(maintenance, oid)
        assert {session.pid for session in found} == {first.info.backend_pid, second.info.backend_pid}
        one = next(session for session in found if session.application_name == "web 1")
        assert (one.user, one.is_superuser, one.client, one.backend_type, one.state) == (
            "postgres",
            True,
            None,
            "client backend",
            "idle",
        )
        assert one.since is not None
        assert str(one) == f'process {one.pid} of superuser "postgres" ("web 1")'
        assert not_terminable(maintenance, oid) == []
        assert terminate(maintenance, oid) == []
        until(lambda: sessions(maintenance, oid) == [])


@pytest.mark.postgres(15, 16, 17, 18)
def test_an_operator_who_is_no_superuser(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    oid = database.describe(maintenance, live).oid
    make_role(maintenance, "operator", "CREATEDB")
    make_role(maintenance, "web")
    make_role(maintenance, "stranger")
    maintenance.execute("GRANT web TO operator")
    try:
        with ExitStack() as stack:
            for user in ("operator", "web", "stranger", "postgres"):
                stack.enter_context(server.target(live, user=user).connect())
            mine = stack.enter_context(server.target("postgres", user="operator").connect())
            assert {(s.user, s.is_superuser, s.state is None) for s in sessions(mine, oid)} == {
                ("operator", False, False),
                ("web", False, False),
                ("stranger", False, True),
                ("postgres", True, True),
            }
            assert {s.user for s in not_terminable(mine, oid)} == {"stranger", "postgres"}
            assert terminate(mine, oid) == ["stranger", "postgres"]
            until(lambda: {s.user for s in sessions(mine, oid)} == {"stranger", "postgres"})
            maintenance.execute("GRANT pg_signal_backend TO operator")
            assert {s.user for s in not_terminable(mine, oid)} == {"postgres"}
            assert terminate(mine, oid) == ["postgres"]
            until(lambda: {s.user for s in sessions(mine, oid)} == {"postgres"})
    finally:
        drop_roles(maintenance, "operator", "web", "stranger")


@pytest.mark.postgres(16, 17, 18)
def test_membership_without_inherit_cannot_terminate_sessions(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live = new_database("app")
    oid = database.describe(maintenance, live).oid
    make_role(maintenance, "operator")
    make_role(maintenance, "web")
    maintenance.execute("GRANT web TO operator WITH INHERIT FALSE")
    try:
        with (
            server.target(live, user="web").connect(),
            server.target("postgres", user="operator").connect() as mine,
        ):
            assert [s.user for s in not_terminable(mine, oid)] == ["web"]
            assert terminate(mine, oid) == ["web"]
    finally:
        drop_roles(maintenance, "operator", "web")


def kinds(found: list[Holder]) -> list[tuple[str, bool]]:
    return sorted((holder.kind, holder.blocking) for holder in found)


@pytest.mark.postgres(15, 18)
def test_nothing_holds_an_ordinary_database(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    with server.target(live).connect() as inside:
        assert holders(maintenance, live, inside) == []


@pytest.mark.postgres(15, 18)
def test_a_prepared_transaction(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    with server.target(live).connect() as inside:
        for statement in ("BEGIN", "CREATE TABLE public.t ()", "PREPARE TRANSACTION 'it''s'"):
            inside.execute(statement.encode())
        try:
            (found,) = holders(maintenance, live)
            assert (found.kind, found.blocking) == ("prepared transaction", True)
            assert found.what.startswith('"it\'s" of "postgres", prepared 2')
            assert found.command == (
                f"In the database \"{live}\": COMMIT PREPARED 'it''s', or ROLLBACK PREPARED 'it''s'"
            )
        finally:
            inside.execute("ROLLBACK PREPARED 'it''s'")
    assert holders(maintenance, live) == []


@pytest.mark.postgres(15, 18)
def test_replication_on_both_sides(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    """A database that publishes, one that subscribes to it, and their processes; seen by an ordinary role too."""
    source, copy = new_database("source"), new_database("copy")
    make_role(maintenance, "operator")
    with server.target(source).connect() as publisher, server.target(copy).connect() as subscriber:
        publisher.execute("CREATE TABLE public.t (n int PRIMARY KEY)")
        publisher.execute("CREATE PUBLICATION p1 FOR TABLE public.t")
        publisher.execute("SELECT pg_create_logical_replication_slot('s1', 'pgoutput')")
        subscriber.execute("CREATE TABLE public.t (n int PRIMARY KEY)")
        conninfo = sql.Literal(f"host={server.folder} port=5432 user=postgres dbname={source}")
        subscriber.execute(
            # Without copy_data: while tables are synchronized, more processes and slots come and go.
            sql.SQL(
                "CREATE SUBSCRIPTION s1 CONNECTION {} PUBLICATION p1 WITH (create_slot = false, copy_data = false)"
            ).format(conninfo)
        )
        try:
            settled = [("background process", False), ("logical replication slot", True), ("publication", True)]
            until(lambda: kinds(holders(maintenance, source, publisher)) == settled)
            until(lambda: ("background process", False) in kinds(holders(maintenance, copy)))
            assert ("subscription", True) in kinds(holders(maintenance, copy, subscriber))
            subscription = next(h for h in holders(maintenance, copy) if h.kind == "subscription")
            assert subscription.what == '"s1" (enabled, slot "s1" on the publisher)'
            assert subscription.command == 'In the live database: ALTER SUBSCRIPTION "s1" DISABLE'
            with server.target("postgres", user="operator").connect() as ordinary:
                assert kinds(holders(ordinary, source)) == [("logical replication slot", True)]
                assert kinds(holders(ordinary, copy)) == [("subscription", True)]
                maintenance.execute("REVOKE SELECT (subname) ON pg_subscription FROM PUBLIC")
                (hidden,) = holders(ordinary, copy)
                assert (hidden.kind, hidden.what, hidden.blocking) == ("subscription", "unknown", False)
        finally:
            maintenance.execute("GRANT SELECT (subname) ON pg_subscription TO PUBLIC")
            subscriber.execute("ALTER SUBSCRIPTION s1 DISABLE")
            subscriber.execute("ALTER SUBSCRIPTION s1 SET (slot_name = NONE)")
            subscription = next(h for h in holders(maintenance, copy) if h.kind == "subscription")
            assert (subscription.what, subscription.explanation, subscription.command) == (
                '"s1" (disabled, no slot)',
                "It remains with the old database; even if it is enabled, the restored database receives nothing.",
                "To carry it over, create it again in the restored database after the switchover, and drop it here "
                'now: DROP SUBSCRIPTION "s1"',
            )
            subscriber.execute("DROP SUBSCRIPTION s1")
            until(
                lambda: (
                    maintenance.execute("SELECT FROM pg_replication_slots WHERE slot_name = 's1' AND active").rowcount
                    == 0
                )
            )
            maintenance.execute("SELECT pg_drop_replication_slot('s1')")
            drop_roles(maintenance, "operator")


@pytest.mark.postgres(18)
def test_extensions_that_hold_on(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    extensions = server.folder / "share" / "extension"
    extensions.mkdir(parents=True)
    for name in EXTENSIONS:
        (extensions / f"{name}.control").write_text("default_version = '1'\nrelocatable = true\n")
        (extensions / f"{name}--1.sql").write_text("")
    with server.target(live).connect() as inside:
        inside.execute(
            sql.SQL("SET extension_control_path = {}").format(sql.Literal(f"{server.folder / 'share'}:$system"))
        )
        for name in EXTENSIONS:
            inside.execute(sql.SQL("CREATE EXTENSION {} SCHEMA public").format(sql.Identifier(name)))
        found = holders(maintenance, live, inside)
    assert [(holder.kind, holder.what, holder.blocking) for holder in found] == [
        ("extension", f'"{name}"', EXTENSIONS[name][0]) for name in sorted(EXTENSIONS)
    ]
    assert found[0].command == ("In the live database: SELECT jobid, schedule, command, database, active FROM cron.job")


def test_a_walsender_in_no_database_is_a_standby(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live = new_database("app")
    receive = [str(server.bin / "pg_receivewal"), "-h", str(server.folder), "-U", "postgres", "-D"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([*receive, folder], stderr=subprocess.DEVNULL)
        try:
            until(lambda: ("standby", False) in kinds(holders(maintenance, live)))
            (found,) = holders(maintenance, live)
            assert found.what.startswith('"pg_receivewal", process ')
        finally:
            process.terminate()
            process.wait()
