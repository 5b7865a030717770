"""Statements that wait for other sessions of the server end in time, and say for whom they waited."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from lastgood.errors import Blocked, Failed
from lastgood.postgres import database, waits
from lastgood.postgres.embedded import EmbeddedServer, available
from tests.support import standby

New = Callable[..., str]


@pytest.fixture(autouse=True)
def short_wait_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits.WaitLimit, "seconds", 2.0)


@pytest.mark.parametrize("major", available())
def test_a_drop_does_not_wait_for_a_standby_for_ever(major: int) -> None:
    with EmbeddedServer(major, settings=standby.SETTINGS) as server, server.target("postgres").connect() as connection:
        connection.execute("CREATE DATABASE shadow TEMPLATE template0")
        connection.execute("COMMENT ON DATABASE shadow IS 'the mark'")
        oid = database.describe(connection, "shadow").oid
        with standby.commit_waiting_for_standby(server) as pid:
            with pytest.raises(Blocked) as blocked:
                database.drop(connection, "shadow", oid)
            text = blocked.value.message
            assert text.startswith('cannot drop the database "shadow": it waited ')
            assert text.endswith(
                f' s for process {pid} of "postgres" ("the other application", in "postgres"), waiting for a '
                "synchronous standby (SyncRep): TRUNCATE public.waits /*'…'*/"
            )
            assert blocked.value.hint == (
                f"Restart the synchronous standby, or terminate that session: SELECT pg_terminate_backend({pid})."
            )
            left = database.describe(connection, "shadow")
            assert (left.invalid, left.comment) == (True, "the mark")
        database.drop(connection, "shadow", oid)
        assert database.find(connection, "shadow") is None


@pytest.mark.postgres(15, 18)
def test_a_lock_on_a_database_is_not_waited_for_for_ever(server: EmbeddedServer, new_database: New) -> None:
    name, target = new_database(), server.target("postgres")
    with target.connect() as connection, target.connect(autocommit=False, application_name="somebody") as other:
        oid = database.describe(connection, name).oid
        other.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 5").format(sql.Identifier(name)))
        other.execute(sql.SQL("COMMENT ON DATABASE {} IS 'mine'").format(sql.Identifier(name)))
        with pytest.raises(Failed) as failed:
            database.comment(connection, name, "ours")
        assert failed.value.message.startswith(f'cannot set the comment of the database "{name}": it waited ')
        assert f's for process {other.info.backend_pid} of "postgres" ("somebody", in "postgres")' in str(failed.value)
        assert failed.value.hint == f"Terminate that session: SELECT pg_terminate_backend({other.info.backend_pid})."
        with pytest.raises(Blocked):
            database.drop(connection, name, oid)
        other.rollback()
        assert not database.describe(connection, name).invalid
        database.drop(connection, name, oid)


def test_a_statement_cancelled_by_another_session_is_not_reported_as_waiting(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection, server.target("postgres").connect() as other:
        threading.Timer(
            0.3, lambda: other.execute("SELECT pg_cancel_backend(%s)", [connection.info.backend_pid])
        ).start()
        with pytest.raises(psycopg.errors.QueryCanceled), waits.bounded(connection):
            connection.execute("SELECT pg_sleep(30)")


def test_without_room_for_a_second_session_time_decides(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits.WaitLimit, "seconds", 0.5)

    def full(connection: object) -> object:
        raise psycopg.OperationalError("sorry, too many clients already")

    monkeypatch.setattr(waits, "_second_session", full)
    with (
        server.target("postgres").connect() as connection,
        pytest.raises(waits.TimedOut, match="it exceeded its time limit of 2 s"),
        waits.bounded(connection),
    ):
        connection.execute("SELECT pg_sleep(30)")


def test_literals_of_a_query_are_left_out() -> None:
    text = waits._session_text(7, "app", "psql", "crm", "SyncRep", "ALTER ROLE x PASSWORD 'it''s $1';\n DO $a$ 'b' $a$")
    assert text == (
        'process 7 of "app" ("psql", in "crm"), waiting for a synchronous standby (SyncRep): ALTER ROLE x '
        "PASSWORD '…'; DO '…'"
    )
