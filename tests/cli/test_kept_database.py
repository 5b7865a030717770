"""A kept database is identified as closed, with the command that reads it, which leaves it closed."""

from __future__ import annotations

import json
import re

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood


@pytest.fixture
def kept(lastgood: Lastgood, server: EmbeddedServer, database: str) -> str:
    """The name of the database that a rollback replaced: without deals, of which the live one has two."""
    assert lastgood("backup").status == 0
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    done = lastgood("rollback", "--yes")
    assert done.status == 0, done.err
    found = re.search(rf"{database}_old_[0-9a-f]{{8}}", done.out)
    assert found is not None
    assert f"To inspect it lastgood facts {found[0]}" in " ".join(done.out.split())
    return found[0]


def is_open(server: EmbeddedServer, name: str) -> bool:
    with server.target("postgres").connect() as connection:
        row = connection.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [name]).fetchone()
    assert row is not None
    return bool(row[0])


def test_facts_and_validate_accept_it(lastgood: Lastgood, server: EmbeddedServer, database: str, kept: str) -> None:
    by_name = lastgood("facts", kept, "--json")
    assert by_name.status == 0, by_name.err
    tables = {each["name"]: each["rows"] for each in json.loads(by_name.out)["facts"]["tables"]}
    assert tables["deals"] == 0
    url = server.url(kept)
    assert lastgood("facts", url).out.splitlines()[0] == by_text(lastgood, kept)
    assert lastgood("facts", kept, "--live").status == 3
    assert f'GO: "{kept}"' in lastgood("validate", "--db", url).out
    assert not is_open(server, kept)
    assert f"To show its contents: lastgood facts {kept}" in lastgood("status").out


def by_text(lastgood: Lastgood, name: str) -> str:
    return lastgood("facts", name).out.splitlines()[0]


def test_commands_that_cannot_use_it_explain_it(
    lastgood: Lastgood, server: EmbeddedServer, database: str, kept: str
) -> None:
    outcome = lastgood("backup", "--db", server.url(kept))
    assert outcome.status == 5
    assert outcome.err.splitlines()[-3:] == [
        f'error: cannot back up database "{kept}": "{kept}" is a kept database of "{database}", closed to connections',
        "state: Nothing was changed.",
        f"next:  Read it with lastgood facts {kept}, as its owner or as a superuser. For psql, open it first and "
        f'close it again afterwards: ALTER DATABASE "{kept}" ALLOW_CONNECTIONS true',
    ]
    named = lastgood("rollback", kept, "--dry-run")
    assert named.status == 4
    assert (
        "A kept database is not a restore point: lastgood status has the command for undo, lastgood facts "
        f"{kept} shows its contents."
    ) in named.err


def test_a_role_without_the_privilege_to_open_it_gets_an_error(
    lastgood: Lastgood, server: EmbeddedServer, database: str, kept: str
) -> None:
    role = f"{database}_plain"
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        outcome = lastgood("facts", server.url(kept, user=role))
        assert outcome.status == 5
        assert f'"{kept}" is a kept database of "{database}", closed to connections' in outcome.err
        assert not is_open(server, kept)
    finally:
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_another_closed_database_is_reported_as_closed(
    lastgood: Lastgood, server: EmbeddedServer, database: str
) -> None:
    name = sql.Identifier(database)
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS 'not JSON'").format(name))
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    outcome = lastgood("backup")
    assert outcome.err.splitlines()[-3:] == [
        f'error: cannot back up database "{database}": "{database}" is closed to connections',
        "state: Nothing was changed.",
        f'next:  Open it: ALTER DATABASE "{database}" ALLOW_CONNECTIONS true',
    ]
