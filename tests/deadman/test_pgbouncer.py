"""The dead-man switch, against a real PgBouncer: dismissed it does nothing, otherwise it resumes the clients."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.deadman.pgbouncer import QUIET_SECONDS, Order, WatchedConsole, armed_switch, pause_holds, resume_paused
from lastgood.journal import Journal
from lastgood.postgres.pgbouncer import Console
from lastgood.postgres.server import Target
from lastgood.process.companion import NotReady
from tests.support.pooler import PgBouncer
from tests.support.waiting import until

NewPooler = Callable[..., PgBouncer]


def order(pooler: PgBouncer, journal: Path, seconds: float = 60.0) -> Order:
    target = Target.parse(pooler.console())
    return Order((WatchedConsole(target, ("app", "other"), {"server_login_retry": "7"}),), seconds, journal)


def journaled(journal: Path) -> list[object]:
    return [(entry["event"], entry["by"], entry["databases"]) for entry in Journal(journal).replay()]


@pytest.fixture
def pooler(new_pooler: NewPooler) -> PgBouncer:
    return new_pooler(dict.fromkeys(("app", "other", "strange"), "host=/nowhere"))


def retry(pooler: PgBouncer) -> str:
    return next(row["value"] for row in pooler.ask("SHOW CONFIG") if row["key"] == "server_login_retry")


def test_the_order_is_sent_through_the_pipe() -> None:
    one = WatchedConsole(Target({"host": "h", "password": "secret"}), ('a"b', "ü"), {"x": "1"})
    order = Order((one,), 1.5, Path("/j"))
    assert Order.parse(order.text()) == order
    assert "\n" not in order.text()
    assert "secret" not in repr(order)


def test_dismissed_it_does_nothing(pooler: PgBouncer, tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run")
    with armed_switch(order(pooler, journal.path)) as switch:
        pooler.ask("PAUSE app")
        switch.dismiss()
    assert pooler.paused() == {"app"}
    assert retry(pooler) == "1"
    assert journaled(journal.path) == []


def test_at_the_end_of_the_pipe_only_the_ordered_databases_are_resumed(pooler: PgBouncer, tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run")
    with armed_switch(order(pooler, journal.path)):
        for name in ("app", "other", "strange"):
            pooler.ask(f"PAUSE {name}")
        pooler.ask("SET server_login_retry = 0")
    assert pooler.paused() == {"strange"}
    assert retry(pooler) == "7"
    until(lambda: journaled(journal.path) == [("pause over", "dead-man switch", ["app", "other"])])


def test_a_pause_that_comes_late_is_taken_back_too(pooler: PgBouncer, tmp_path: Path) -> None:
    target = Target.parse(pooler.console())
    pooler.ask("PAUSE app")

    def again() -> None:
        until(lambda: pooler.paused() == set())
        pooler.ask("PAUSE app")

    thread = threading.Thread(target=again)
    thread.start()
    with Console(target) as console:
        assert resume_paused((WatchedConsole(target, ("app",), {}),), {0: console}) == {"app"}
    thread.join()
    assert pooler.paused() == set()


def test_a_pause_that_holds_is_taken_back_once(pooler: PgBouncer, tmp_path: Path) -> None:
    """The next run may pause at once: that is none of its business."""
    journal = Journal.create(tmp_path, "run")
    with armed_switch(order(pooler, journal.path)) as switch:
        pooler.ask("PAUSE app")
        pause_holds(switch)
        began = time.monotonic()
    assert pooler.paused() == set()
    assert time.monotonic() - began < QUIET_SECONDS
    until(lambda: journaled(journal.path) == [("pause over", "dead-man switch", ["app"])])


def test_one_who_hangs_is_not_waited_for(pooler: PgBouncer, tmp_path: Path) -> None:
    with armed_switch(order(pooler, tmp_path / "no journal", seconds=0.2)):
        pooler.ask("PAUSE app")
        until(lambda: pooler.paused() == set())


def test_signals_do_not_end_it(pooler: PgBouncer, tmp_path: Path) -> None:
    with armed_switch(order(pooler, tmp_path / "no journal")) as switch:
        pooler.ask("PAUSE app")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(switch.pid, number)
        os.kill(switch.pid, 0)
        assert os.getsid(switch.pid) != os.getsid(0)
        command = Path(f"/proc/{switch.pid}/cmdline").read_bytes().split(b"\0")
        assert command[-4:] == [b"-P", b"-m", b"lastgood.deadman.pgbouncer", b""]
    assert pooler.paused() == set()


def test_without_a_way_to_the_console_there_is_none(tmp_path: Path) -> None:
    nowhere = WatchedConsole(Target({"host": "/nowhere", "port": "1"}), ("app",), {})
    with (
        pytest.raises(NotReady, match=r"^it cannot reach PgBouncer: No such file or directory$"),
        armed_switch(Order((nowhere,), 60.0, tmp_path / "no journal")),
    ):
        raise AssertionError("unreachable")
