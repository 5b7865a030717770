"""What a migration does besides rows and tables: to the database itself, to its sequences, to the whole server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastgood.postgres import database as databases
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.sessions import locked_tables
from lastgood.postgres.state import DatabaseState
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood

Migration = Callable[..., list[str]]


@pytest.fixture
def migration(server: EmbeddedServer) -> Migration:
    """Statements, each by itself, in the maintenance database or in the live one."""

    def words(*statements: str, within: str = "postgres") -> list[str]:
        found = [str(server.bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", within]
        return [*found, *(word for each in statements for word in ("-c", each))]

    return words


@pytest.fixture
def role(server: EmbeddedServer) -> Iterator[str]:
    yield "lg_made_by_migration"
    with server.target("postgres").connect() as connection:
        connection.execute("DROP ROLE IF EXISTS lg_made_by_migration")


def test_database_properties_are_restored_and_server_changes_reported(
    lastgood: Lastgood, database: str, server: EmbeddedServer, migration: Migration, role: str
) -> None:
    with server.target("postgres").connect() as connection:
        databases.comment(connection, database, "ours")
        before = DatabaseState.read(connection, database)
    named = f'"{database}"'
    done = lastgood(
        *("deploy", "--json", "--"),
        *migration(
            f"ALTER DATABASE {named} CONNECTION LIMIT 0",
            f"ALTER DATABASE {named} SET default_transaction_read_only = on",
            f"ALTER DATABASE {named} SET session_preload_libraries = 'missing'",
            f"COMMENT ON DATABASE {named} IS 'theirs'",
            f"ALTER DATABASE {named} ALLOW_CONNECTIONS false",
            f"CREATE ROLE {role}",
            "SELECT 1 / 0",
        ),
    )
    assert done.status == 5, done.err
    assert done.document["error"]["deployment"]["remarks"] == [
        f'"{database}" was closed to connections during the deployment, and was opened again',
        f'settings, privileges, owner or comment of "{database}" itself changed during the deployment, and were '
        "restored",
        f'the role "{role}" was created since the deployment started, and remains',
    ]
    with server.target("postgres").connect() as connection:
        assert DatabaseState.read(connection, database) == before
        assert databases.describe(connection, database).comment == "ours"
    # A good one may say what its database is for.
    good = lastgood("deploy", "--json", "--", *migration(f"COMMENT ON DATABASE {named} IS 'theirs'"))
    assert good.status == 0, good.err
    with server.target("postgres").connect() as connection:
        assert databases.describe(connection, database).comment == "theirs"


def test_a_sequence_that_was_set_back_is_no_gap_in_its_numbers(
    lastgood: Lastgood, database: str, server: EmbeddedServer, migration: Migration
) -> None:
    with server.target(database).connect() as connection:
        connection.execute("CREATE SEQUENCE public.numbers; CREATE SEQUENCE public.down INCREMENT -1")
        connection.execute("SELECT setval('public.numbers', 100), setval('public.down', -100)")
    drawn = lastgood(
        *("deploy", "--json", "--"),
        *migration("SELECT nextval('public.numbers'), nextval('public.down')", "SELECT 1 / 0", within=database),
    )
    assert drawn.status == 5, drawn.err
    assert drawn.document["error"]["deployment"]["moved"] == ["public.down", "public.numbers"]
    back = lastgood(
        "deploy", "--json", "--", *migration("SELECT setval('public.numbers', 7)", "SELECT 1 / 0", within=database)
    )
    assert back.status == 6, back.err
    assert back.document["error"]["deployment"]["compared"] == (
        "sequence public.numbers: last value 101 in the restore point, 7 now"
    )
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT last_value FROM public.numbers").fetchone() == (101,)


def test_a_live_database_that_is_renamed_exchanged_or_dropped(
    lastgood: Lastgood, database: str, server: EmbeddedServer, migration: Migration
) -> None:
    elsewhere = f"{database}_elsewhere"
    renamed = lastgood("deploy", "--json", "--", *migration(f'ALTER DATABASE "{database}" RENAME TO "{elsewhere}"'))
    assert renamed.status == 5, renamed.err
    error = renamed.document["error"]
    assert error["message"] == f'cannot deploy: the live database was renamed to "{elsewhere}"'
    assert error["deployment"]["remarks"] == [
        f'the live database was renamed to "{elsewhere}" during the deployment, and was renamed back'
    ]
    drop = f'DROP DATABASE "{database}" WITH (FORCE)'
    exchanged = lastgood("deploy", "--json", "--", *migration(drop, f'CREATE DATABASE "{database}"'))
    assert exchanged.status == 6, exchanged.err
    assert exchanged.document["error"]["message"] == (
        f'cannot deploy: the live database was dropped, and another "{database}" was created'
    )
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (3,)
    dropped = lastgood("deploy", "--json", "--", *migration(drop))
    assert dropped.status == 7, dropped.err
    error = dropped.document["error"]
    point = error["deployment"]["point"]
    assert (
        error["state"] == f"The live database was dropped since the deployment started. The restore point is {point}."
    )
    assert error["hint"].endswith("Then run: lastgood recover")


def test_a_table_that_stays_locked_is_worse_and_a_restore_point_that_is_gone_is_not_promised(
    lastgood: Lastgood, database: str, server: EmbeddedServer, migration: Migration, tmp_path: Path
) -> None:
    left = "BEGIN; LOCK TABLE public.contacts; PREPARE TRANSACTION 'it''s left'"
    words = ["sh", "-c", 'rm -f "$LASTGOOD_POINT"; exec "$@"', "sh"]
    done = lastgood("deploy", "--json", "--", *words, *migration(*left.split("; "), within=database))
    try:
        assert done.status == 7, done.err
        error = done.document["error"]
        assert error["deployment"]["problem"].startswith("the data can no longer be checked: ")
        assert error["deployment"]["compared"] == (
            'comparison failed: the prepared transaction "it\'s left" holds a lock on "public"."contacts" that '
            "blocks readers"
        )
        point = error["deployment"]["point"]
        assert error["state"] == (
            f'"{database}" is as the migration left it, and open. The restore point {point} no longer exists.'
        )
        assert error["hint"] == "Run lastgood recover to find what can be restored."
        with server.target(database).connect() as connection:
            (shut,) = locked_tables(connection)
        assert (shut.holder, shut.end_command) == (
            'the prepared transaction "it\'s left"',
            "ROLLBACK PREPARED 'it''s left'",
        )
    finally:
        with server.target(database).connect() as connection:
            connection.execute("ROLLBACK PREPARED 'it''s left'")
