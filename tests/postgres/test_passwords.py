"""A line of .pgpass that names the user's database only serves the other databases of that server too, as psql would
take it for the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lastgood.postgres import database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.roles import second_login
from lastgood.postgres.roles.second_login import NoSecondLogin
from lastgood.postgres.server import Target


@pytest.fixture(scope="module")
def password_server() -> Iterator[EmbeddedServer]:
    """A server that asks the role "app" for a password, whatever the database."""
    with EmbeddedServer(18, settings={"listen_addresses": "127.0.0.1", "port": "5432"}) as server:
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'geheim'")
            connection.execute("CREATE DATABASE crm")
        rules = server.folder / "data" / "pg_hba.conf"
        (found,) = [rules] if rules.exists() else list(server.folder.rglob("pg_hba.conf"))
        found.write_text(f"local all app scram-sha-256\n{found.read_text()}")
        with server.target("postgres").connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def target(password_server: EmbeddedServer, tmp_path: Path) -> Target:
    """The database as the user names it, without a password, and a password file of the test's own."""
    keywords = password_server.target("crm").keywords
    return Target({**keywords, "user": "app", "passfile": str(tmp_path / "pass")})


def passfile(tmp_path: Path, *lines: str) -> None:
    path = tmp_path / "pass"
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)


def test_the_line_of_the_live_database_serves_the_others(target: Target, tmp_path: Path) -> None:
    passfile(tmp_path, "*:*:crm:app:geheim")
    with database.connect_maintenance(target, "crm") as maintenance:
        assert maintenance.info.dbname == "postgres"
        for other in (target.at("template1"), target.at("postgres").at("template1"), target.at("crm")):
            other.connect().close()
    assert target.at("postgres").child()[1] == {"PGPASSWORD": "geheim"}
    assert target.child()[1] == {}
    for shown in (repr(target.at("postgres")), str(target.at("postgres")), target.at("postgres").child()[0]):
        assert "geheim" not in shown


def test_a_line_of_the_other_database_comes_first(target: Target, tmp_path: Path) -> None:
    passfile(tmp_path, "*:*:crm:app:wrong", "*:*:postgres:app:geheim")
    target.at("postgres").connect().close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        target.connect()


def test_without_a_line_the_error_names_the_database_of_the_user(target: Target, tmp_path: Path) -> None:
    passfile(tmp_path, "*:*:other:app:geheim")
    with pytest.raises(
        Exception, match=r'^cannot reach the server of "crm" \(maintenance database "postgres"\): .*fe_s'
    ):
        database.connect_maintenance(target, "crm")


def test_a_line_of_another_role_is_not_taken(target: Target, tmp_path: Path) -> None:
    passfile(tmp_path, "*:*:crm:somebody:geheim")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        target.at("postgres").connect()


def test_the_line_that_admits_a_second_login_fits_the_connection(password_server: EmbeddedServer) -> None:
    by_tcp = Target({**password_server.target("postgres").keywords, "host": "127.0.0.1"})
    with by_tcp.connect() as maintenance, pytest.raises(NoSecondLogin) as raised:
        second_login.log_in(maintenance, by_tcp, "nobody", "secret")
    assert raised.value.hint == (
        'Run: CREATE ROLE lastgood_builders. Then add "host all +lastgood_builders 127.0.0.1/32 scram-sha-256" as the '
        "first line of pg_hba.conf, and run: SELECT pg_reload_conf(). Or name a role that can log in: --build-as URL. "
        "If you trust the code: --trust-code REASON"
    )
