"""What a salvage reports when its transaction fails, is blocked, or loses its connection during the commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from lastgood.errors import Failed, Stopped
from lastgood.postgres import transactions
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.transactions import server_process
from lastgood.salvage import quiet, transaction
from lastgood.salvage.plan import Chosen
from tests.salvage import sides
from tests.support.waiting import Clock

HINT = "Fix the cause, then run the same command again."
OF_ROWS = "Leave the rows out, with --exclude TABLE or --where, or change them in the live database."


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    return server.target(new_database())


def in_progress(target: Target) -> tuple[Connection, int, int]:
    """A session in a transaction that wrote; the numbers of the transaction and of the server process."""
    connection = target.connect(autocommit=False)
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return connection, int(row[0]), server_process(connection)


def lost(target: Target) -> Connection:
    """A client's session that the server ended."""
    connection = target.connect(autocommit=False)
    connection.execute("SELECT 1")
    with target.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
    return connection


def test_a_commit_in_progress_is_waited_for(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's connection is lost, and the server commits after the client has looked once."""
    session, transaction_id, process = in_progress(target)
    looks = []

    def commit(_: float) -> None:
        looks.append(session.info.transaction_status)
        session.commit()
        session.close()

    with monkeypatch.context() as patch:
        client = lost(target)
        patch.setattr(transactions, "time", Clock(commit))
        transaction.committed(client, target, transaction_id, process)
    assert looks[0] == TransactionStatus.INTRANS


def test_a_commit_that_stays_in_progress_leaves_the_outcome_unknown(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, transaction_id, process = in_progress(target)
    client = lost(target)
    monkeypatch.setattr(transactions, "SECONDS", 0.0)
    for seen in (process, 0):  # by the server process; by the transaction, behind a pooler
        with pytest.raises(Stopped) as raised:
            transaction.committed(client, target, transaction_id, seen)
        assert (raised.value.message, raised.value.hint, raised.value.state) == (
            "cannot verify the salvage: the connection was lost during the commit",
            "When the server answers again, run the same command with --dry-run: it shows what is missing.",
            "Either all rows were salvaged, or none.",
        )
    session.close()


def test_a_session_that_ends_before_its_commit_wrote_nothing(target: Target) -> None:
    connection = target.connect(autocommit=False)
    process = server_process(connection)
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    with target.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [process])
    with pytest.raises(Failed) as raised:
        transaction.committed(connection, target, int(row[0]), process)
    assert (raised.value.hint, raised.value.state) == (HINT, "Nothing was changed.")


def test_a_writer_that_stays_fails_the_salvage(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "LOCK_SECONDS", 1)
    sides.everywhere(target, "CREATE TABLE t (id int PRIMARY KEY)")
    sides.inside(target, sides.THEIRS, "INSERT INTO t VALUES (1)")
    with target.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO live.t VALUES (2)")
        with pytest.raises(Failed) as raised:
            sides.salvaged(target, tmp_path, "run", Chosen())
        writer.rollback()
    assert (raised.value.exit_status, raised.value.message, raised.value.hint, raised.value.state) == (
        5,
        "cannot salvage rows: a session that writes did not end its transaction within 1 s",
        "Wait for that session, then run the same command again.",
        "Nothing was changed.",
    )
    with target.connect() as connection:
        assert connection.execute("SELECT * FROM live.t").fetchall() == []


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("SELECT 1 / 0", OF_ROWS),
        ("DO $$ BEGIN RAISE not_null_violation; END $$", OF_ROWS),
        ("DO $$ BEGIN RAISE disk_full; END $$", HINT),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)", HINT),
    ],
)
def test_rows_are_to_be_left_out_only_where_rows_are_the_cause(target: Target, statement: str, hint: str) -> None:
    with target.connect(autocommit=False) as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    assert transaction.failed(raised.value).hint == hint
