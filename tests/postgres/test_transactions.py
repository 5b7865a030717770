"""The outcome of a transaction is asked for only when its server process has ended it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from lastgood.postgres import transactions
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.transactions import OutcomeUnknown, outcome_after_loss, server_process
from tests.support.waiting import Clock


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    return server.target(new_database())


def exists(connection: Connection) -> bool:
    row = connection.execute("SELECT to_regclass('public.written') IS NOT NULL").fetchone()
    assert row is not None
    return bool(row[0])


def test_a_commit_that_takes_place_after_the_loss_is_seen(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look meets the process in its transaction, which is committed then."""
    looks = threading.Event()
    pause = threading.Event()

    def wait(_: float) -> None:
        looks.set()
        pause.wait(30)

    monkeypatch.setattr(transactions, "time", Clock(wait))
    with target.connect(autocommit=False) as connection:
        pid = server_process(connection)
        connection.execute("CREATE TABLE public.written ()")

        def commit() -> None:
            assert looks.wait(30)
            connection.commit()
            pause.set()

        committing = threading.Thread(target=commit, daemon=True)
        committing.start()
        outcome = outcome_after_loss(target, pid, exists)
        committing.join()
    assert (outcome, looks.is_set()) == (True, True)


def test_a_transaction_that_was_rolled_back_is_not_committed(target: Target) -> None:
    connection = target.connect(autocommit=False)
    pid = server_process(connection)
    connection.execute("CREATE TABLE public.written ()")
    connection.close()
    assert not outcome_after_loss(target, pid, exists)


def test_a_process_that_does_not_end_leaves_the_outcome_unknown(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "SECONDS", 0.0)
    with target.connect(autocommit=False) as connection:
        pid = server_process(connection)
        with pytest.raises(OutcomeUnknown, match=r"^the server process of the transaction does not end$"):
            outcome_after_loss(target, pid, exists)


def test_a_transaction_in_progress_leaves_the_outcome_unknown(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "SECONDS", 0.0)
    with pytest.raises(OutcomeUnknown, match=r"^the server process of the transaction does not end$"):
        outcome_after_loss(target, 0, lambda _: None)


def test_a_server_that_does_not_answer_leaves_the_outcome_unknown(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "SECONDS", 0.0)
    with pytest.raises(OutcomeUnknown, match=r'database "gone" does not exist'):
        outcome_after_loss(target.at("gone"), 0, exists)
