"""What our sessions go by, whatever the database, the role or the operator's environment has set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from psycopg import sql

from lastgood.command.deploy import environment
from lastgood.postgres import server as server_module
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import SESSION, SINCE, SUPERUSERS_ONLY, Target

ALL = pytest.mark.postgres(15, 16, 17, 18)
# Over a Unix socket there is nothing to keep alive.
SHOWN = {name: value for name, value in SESSION if not name.startswith("tcp_")}


@pytest.fixture
def role_with_settings(server: EmbeddedServer) -> Iterator[str]:
    """A role without rights, whose own settings are all different."""
    role = f"plain_{os.getpid()}"
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        for name, value in (("lock_timeout", "7s"), ("search_path", "public"), ("DateStyle", "SQL, DMY")):
            connection.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(sql.Identifier(role), sql.SQL(name), sql.Literal(value))
            )
        yield role
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def found(target: Target) -> dict[str, str]:
    with target.connect() as connection:
        query = "SELECT name, pg_catalog.current_setting(name, true) FROM unnest(%s::text[]) name"
        return dict(connection.execute(query, [[*SHOWN]]).fetchall())


@ALL
def test_a_session_has_what_its_role_may_set(server: EmbeddedServer, role_with_settings: str) -> None:
    with server.target("postgres").connect() as connection:
        query = "SELECT name, context FROM pg_settings WHERE name = ANY (%s)"
        contexts: dict[str, str] = dict(connection.execute(query, [[name for name, _ in SESSION]]).fetchall())
    version = server.major * 10_000
    assert {name for name, context in contexts.items() if context == "superuser"} == SUPERUSERS_ONLY
    assert {name for name, _ in SESSION} - set(contexts) == {name for name in SINCE if version < SINCE[name]}
    expected = {name: value if name in contexts else None for name, value in SHOWN.items()}
    assert found(server.target("postgres")) == expected
    own = found(server.target("postgres", user=role_with_settings))
    assert {name for name in expected if own[name] != expected[name]} <= SUPERUSERS_ONLY


@pytest.mark.postgres(18)
def test_a_server_that_refuses_one_is_given_the_others(
    server: EmbeddedServer, role_with_settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not quite PostgreSQL."""
    monkeypatch.setattr(server_module, "SUPERUSERS_ONLY", frozenset())
    server_module._session_query.cache_clear()
    own = found(server.target("postgres", user=role_with_settings))
    server_module._session_query.cache_clear()
    assert {name for name, value in SHOWN.items() if own[name] != value} <= SUPERUSERS_ONLY


@pytest.mark.postgres(15, 17, 18)
def test_no_event_trigger_runs_at_the_login_of_a_superuser(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = new_database("app")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=123kB")
    target = server.target(live)
    with target.connect() as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("123kB",)
        if server.major >= 17:
            connection.execute(
                "CREATE FUNCTION public.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''it ran''; END'"
            )
            connection.execute("CREATE EVENT TRIGGER g ON login EXECUTE FUNCTION public.f()")
    with target.connect() as connection:
        if server.major >= 17:
            assert connection.execute("SHOW event_triggers").fetchone() == ("off",)
            migration = environment.resolved(target, live)
            assert migration["options"].startswith("-c work_mem=123kB")
            assert "event_triggers" not in migration["options"]
            connection.execute("DROP EVENT TRIGGER g")
