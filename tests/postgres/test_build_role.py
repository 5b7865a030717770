"""The role that loads restore points: its login, its end, and servers that accept no second login."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from lastgood.errors import Failed, Refused
from lastgood.load.builder import RENEW_SECONDS, Builder
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.second_login import NoSecondLogin
from lastgood.postgres.server import Connection
from tests.postgres.made_roles import roles

pytestmark = pytest.mark.usefixtures("no_other_roles")
ENDS = pytest.mark.postgres(15, 18)
RUN = "20261130-120000-0a1b2c3d"
NAME = "lastgood_build_20261130_120000_0a1b2c3d"


def made(server: EmbeddedServer, maintenance: Connection, database: str) -> build_role.BuildRole:
    return build_role.make(maintenance, server.target(database), run=RUN, live=database, database=database)


@ENDS
def test_it_logs_in_without_any_right_and_ends(server: EmbeddedServer, new_database: Callable[[str], str]) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as maintenance:
        role = made(server, maintenance, live)
        with role.target.connect() as connection:
            assert connection.execute(
                "SELECT session_user::text, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
                " rolvaliduntil > now() FROM pg_roles WHERE rolname = session_user"
            ).fetchone() == (NAME, False, False, False, False, False, True)
            for attack in (
                "ALTER ROLE {role} SUPERUSER",
                "COMMENT ON ROLE {role} IS 'another run'",
                "COMMENT ON DATABASE {database} IS 'another mark'",
                "ALTER ROLE {role} VALID UNTIL 'infinity'",
                "RESET SESSION AUTHORIZATION; CREATE ROLE made_by_it",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL(attack).format(role=sql.Identifier(NAME), database=sql.Identifier(live)))
            connection.execute("CREATE SCHEMA its_own")
            assert [(each.name, each.mark.run, each.mark.database) for each in build_role.left(maintenance)] == [
                (NAME, RUN, live)
            ]
            assert not build_role.changed_password(maintenance, role)
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD 'known'").format(sql.Identifier(NAME)))
            assert build_role.changed_password(maintenance, role)
            build_role.close(maintenance, role.name)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            role.target.connect()
        build_role.end(maintenance, server.target(live), role.name)
        build_role.end(maintenance, server.target(live), role.name)  # nothing is left to do
        assert roles(maintenance) == []


def test_what_keeps_the_role_from_ending_is_named(
    server: EmbeddedServer, new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as maintenance:
        role = made(server, maintenance, live)
        with role.target.connect() as connection:
            pid = connection.info.backend_pid
            with monkeypatch.context() as patch, pytest.raises(Failed) as raised:
                patch.setattr(build_role, "ENDED_WITHIN", 0.0)
                build_role.close(maintenance, NAME)
        assert str(raised.value) == f'cannot terminate 1 session of role "{NAME}" within 0 s: process {pid}'
        waiting, then = raised.value.hint.split(NAME)
        assert waiting == (
            "Find what they wait for: SELECT pid, wait_event, query FROM pg_stat_activity WHERE usename = '"
        )
        assert then == "'. Then run: lastgood status"
        role = made(server, maintenance, live)
        with role.target.connect() as connection:
            connection.execute("CREATE SCHEMA its_own")
            connection.execute("BEGIN; CREATE TABLE its_own.t (); PREPARE TRANSACTION 'it''s'")
        with pytest.raises(Failed) as raised:
            build_role.close(maintenance, NAME)
        assert (raised.value.message, raised.value.hint) == (
            'cannot continue: code in the restore point left the prepared transaction "it\'s"',
            f"In database \"{live}\", run: ROLLBACK PREPARED 'it''s'. Then run: lastgood status",
        )
        with server.target(live).connect() as connection:
            connection.execute("ROLLBACK PREPARED 'it''s'")
        build_role.end(maintenance, server.target(live), NAME)


@ENDS
def test_a_resumed_run_logs_in_again(server: EmbeddedServer, new_database: Callable[[str], str]) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as maintenance:
        first = made(server, maintenance, live)
        again = made(server, maintenance, live)
        assert first.verifier != again.verifier
        again.target.connect().close()
        assert build_role.orphaned(maintenance, live) == []
        with maintenance.transaction(force_rollback=True):
            maintenance.execute(sql.SQL("ALTER DATABASE {} RENAME TO away").format(sql.Identifier(live)))
            assert [each.name for each in build_role.orphaned(maintenance, live)] == [NAME]
        build_role.end(maintenance, server.target(live), NAME)


@ENDS
def test_an_operator_who_is_no_superuser_can_use_it(server: EmbeddedServer, new_database: Callable[[str], str]) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE its_operator LOGIN CREATEROLE")
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO its_operator").format(sql.Identifier(live)))
    operator = server.target("postgres", user="its_operator")
    with operator.connect() as maintenance:
        role = build_role.make(maintenance, operator, run=RUN, live=live, database=live)
        with role.target.connect() as connection:
            connection.execute("CREATE SCHEMA its_own CREATE TABLE t (i int)")
        build_role.close(maintenance, role.name)
        with operator.at(live).connect() as inside:
            inside.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(role.name)))
        build_role.end(maintenance, operator, role.name)
        assert roles(maintenance) == []
    with server.target(live).connect() as connection:
        assert connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 't'").fetchone() == (
            "its_operator",
        )
        connection.execute("DROP OWNED BY its_operator CASCADE")
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(live)))
        connection.execute("DROP ROLE its_operator")


def test_an_operator_who_may_not_create_roles_is_refused(
    server: EmbeddedServer, new_database: Callable[[str], str]
) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE only_login LOGIN")
    operator = server.target("postgres", user="only_login")
    with operator.connect() as maintenance, pytest.raises(NoSecondLogin) as raised:
        build_role.probe(maintenance, operator, live)
    assert str(raised.value) == (
        'cannot run code in the restore point as a role without rights: role "only_login" may not create a role '
        "(permission denied to create role)"
    )
    assert raised.value.hint == (
        'As a superuser, run once: ALTER ROLE "only_login" CREATEROLE. Or name a role that can log in: --build-as URL. '
        "If you trust the code: --trust-code REASON"
    )
    assert raised.value.exit_status == 3
    with server.target("postgres").connect() as connection:
        connection.execute("DROP ROLE only_login")


@pytest.fixture
def closed_server() -> Iterator[EmbeddedServer]:
    """A server that only its superuser may log in to."""
    with EmbeddedServer(18) as server:
        (server.data / "pg_hba.conf").write_text("local all postgres trust\n")
        with server.target("postgres").connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server


def test_a_server_without_a_second_login_is_refused_until_a_line_admits_its_group(
    closed_server: EmbeddedServer,
) -> None:
    target = closed_server.target("postgres")
    with target.connect() as maintenance:
        with pytest.raises(NoSecondLogin) as raised:
            build_role.probe(maintenance, target, "app")
        message = str(raised.value)
        assert message.startswith(
            "cannot run code in the restore point as a role without rights: the server accepts no login by password "
            "from here\n  /"
        )
        assert message.count("no pg_hba.conf entry") == 1
        assert raised.value.hint == (
            'Run: CREATE ROLE lastgood_builders. Then add "local all +lastgood_builders scram-sha-256" as the first '
            "line of pg_hba.conf, and run: SELECT pg_reload_conf(). Or name a role that can log in: --build-as URL. "
            "If you trust the code: --trust-code REASON"
        )
        assert roles(maintenance) == []
        maintenance.execute("CREATE ROLE lastgood_builders; CREATE ROLE its_operator LOGIN CREATEROLE")
        hba = closed_server.data / "pg_hba.conf"
        hba.write_text(hba.read_text() + "local all its_operator trust\n")
        maintenance.execute("SELECT pg_reload_conf()")
        weaker = closed_server.target("postgres", user="its_operator")
        with weaker.connect() as connection, pytest.raises(NoSecondLogin) as raised:
            build_role.probe(connection, weaker, "app")
        assert raised.value.hint == (
            'As a superuser, run: GRANT lastgood_builders TO "its_operator" WITH ADMIN OPTION. Then add "local all '
            '+lastgood_builders scram-sha-256" as the first line of pg_hba.conf, and run: SELECT pg_reload_conf(). Or '
            "name a role that can log in: --build-as URL. If you trust the code: --trust-code REASON"
        )
        maintenance.execute("DROP ROLE its_operator")
        hba.write_text("local all +lastgood_builders scram-sha-256\n" + hba.read_text())
        maintenance.execute("SELECT pg_reload_conf()")
        build_role.probe(maintenance, target, "app")
        assert roles(maintenance) == ["lastgood_builders"]


def test_a_changed_password_is_found_by_a_login_where_it_cannot_be_read(closed_server: EmbeddedServer) -> None:
    hba = closed_server.data / "pg_hba.conf"
    hba.write_text("local all operator trust\nlocal all +lastgood_builders scram-sha-256\n" + hba.read_text())
    with closed_server.target("postgres").connect() as maintenance:
        maintenance.execute(b"CREATE ROLE lastgood_builders; CREATE ROLE operator LOGIN CREATEDB CREATEROLE")
        if maintenance.info.server_version >= 160000:
            maintenance.execute("GRANT lastgood_builders TO operator WITH ADMIN OPTION")
        maintenance.execute("SELECT pg_reload_conf()")
        maintenance.execute("CREATE DATABASE app OWNER operator")
    target = closed_server.target("postgres", user="operator")
    with target.connect() as connection:
        role = build_role.make(connection, target, run=RUN, live="app", database="app")
        assert not build_role.changed_password(connection, role)
        with role.target.connect() as session:
            session.execute("ALTER ROLE CURRENT_USER PASSWORD 'known'")
        assert build_role.changed_password(connection, role)
        build_role.end(connection, target, role.name)


def test_a_role_of_that_name_that_is_not_the_runs_stays(
    server: EmbeddedServer, new_database: Callable[[str], str]
) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as maintenance:
        maintenance.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(NAME)))
        with pytest.raises(Refused) as raised:
            made(server, maintenance, live)
        assert str(raised.value) == (
            f'cannot create the role "{NAME}": a role of that name exists, and it is not one of this run'
        )
        assert raised.value.hint == (f'Run: ALTER ROLE "{NAME}" RENAME TO "{NAME}_old". Then run the command again.')
        assert roles(maintenance) == [NAME]
        maintenance.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(NAME)))


@ENDS
def test_a_long_build_renews_the_login(server: EmbeddedServer, new_database: Callable[[str], str]) -> None:
    """The server accepts no login after VALID UNTIL, and a build opens sessions until its end."""
    live = new_database("app")
    ends = "SELECT rolvaliduntil > now() FROM pg_roles WHERE rolname = %s"
    with server.target("postgres").connect() as maintenance:
        role = made(server, maintenance, live)
        maintenance.execute(sql.SQL("ALTER ROLE {} VALID UNTIL 'yesterday'").format(sql.Identifier(NAME)))

        def login(_purpose: str) -> Connection:
            return role.target.connect()

        def operator(_purpose: str) -> Connection:
            return server.target(live).connect()

        with Builder(role, login, operator).connect("young"):
            assert maintenance.execute(ends, [NAME]).fetchone() == (False,)
        old = Builder(role, login, operator, renewed=time.monotonic() - RENEW_SECONDS - 1)
        with old.connect("old"):
            assert maintenance.execute(ends, [NAME]).fetchone() == (True,)
        assert time.monotonic() - old.renewed < RENEW_SECONDS
        build_role.end(maintenance, server.target(live), role.name)
