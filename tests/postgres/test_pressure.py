"""The watcher on real servers: slots, an archive that fails, a standby that is late, and what a role can't see."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from lastgood.errors import Failed
from lastgood.events import Caution, Event, Note
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure.monitor import Pressure
from lastgood.postgres.pressure.rules import Limits
from lastgood.postgres.pressure.wal import WalReader, read_wal
from lastgood.postgres.server import Connection
from tests.support.waiting import until

MB = 1 << 20
# The disk of the machine that tests run on is no matter here.
SMALL = Limits(max_wal_lag=20 * MB, least_free=0, free_share=0)
IMPATIENT = replace(SMALL, patience=0)
NEVER = 3600.0
DEADLINE_SECONDS = 60.0


def no() -> bool:
    return False


def write_wal(connection: Connection, megabytes: int) -> None:
    connection.execute(
        "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576)) FROM generate_series(1, %s)", [megabytes]
    )
    connection.execute("SELECT pg_switch_wal()")


@contextmanager
def watched(
    server: EmbeddedServer, limits: Limits = SMALL, *, user: str = "postgres", interval: float = NEVER
) -> Iterator[tuple[Pressure, list[Event]]]:
    emitted: list[Event] = []
    with Pressure(server.target("postgres", user=user).connect, limits, emitted.append, interval=interval) as pressure:
        yield pressure, emitted


@pytest.fixture
def connection(server: EmbeddedServer) -> Iterator[Connection]:
    with server.target("postgres").connect() as connection:
        yield connection


@pytest.fixture
def slot(server: EmbeddedServer) -> Iterator[str]:
    """A physical slot without a reader."""
    with server.target("postgres").connect() as connection:
        # A new slot begins where the last checkpoint did.
        connection.execute("CHECKPOINT")
        connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        yield "forgotten"
        connection.execute("SELECT pg_drop_replication_slot('forgotten')")


@pytest.fixture
def app(server: EmbeddedServer) -> Iterator[str]:
    """A role without any rights of its own."""
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE pressure_app LOGIN")
        yield "pressure_app"
        connection.execute("DROP ROLE pressure_app")


@pytest.mark.postgres(15, 16, 17, 18)
def test_all_is_well(server: EmbeddedServer, connection: Connection) -> None:
    found = read_wal(connection)
    assert (found.readers, found.archive_trouble, found.hidden) == ((), "", ())
    assert [disk.what for disk in found.disks] == ["pg_wal"] and found.room_known
    assert found.size is not None and found.size >= 16 * MB
    with watched(server) as (pressure, emitted):
        write_wal(connection, 30)
        pressure.check()
        pressure.wait_if_needed(no)
        pressure.throttle(1 << 40, no)
    assert read_wal(connection).written - found.written >= 30 * MB
    assert (emitted, pressure.waited) == ([], 0.0)


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_slot_without_a_reader(server: EmbeddedServer, connection: Connection, slot: str) -> None:
    with watched(server) as (pressure, emitted):
        write_wal(connection, 30)
        pressure.check()
        pressure.wait_if_needed(no)
    assert emitted == [Caution('the replication slot "forgotten" has no consumer: the server keeps all WAL for it')]
    (reader,) = read_wal(connection).readers
    assert (reader.kind, reader.name, reader.active, reader.left) == ("slot", slot, False, None)
    assert reader.behind >= 30 * MB


@pytest.mark.postgres(15, 18)
def test_a_slot_without_a_reader_where_the_role_sees_no_disk(
    server: EmbeddedServer, connection: Connection, slot: str, app: str
) -> None:
    with watched(server, IMPATIENT, user=app) as (pressure, emitted):
        write_wal(connection, 30)
        pressure.check()
        for _ in range(2):
            with pytest.raises(
                Failed,
                match=r'^cannot continue loading: the replication slot "forgotten" is \d\d MB behind and has no '
                r"consumer, and the free space for WAL is not visible, without progress for 0 s$",
            ) as caught:
                pressure.wait_if_needed(no)
    assert caught.value.hint == (
        "Allow more with --max-wal-lag; if the slot is no longer needed: SELECT pg_drop_replication_slot('forgotten')"
    )
    assert emitted == [
        Note("not monitored, because it is not visible from here: the size of pg_wal, the free space for WAL")
    ]


@pytest.mark.postgres(15, 18)
def test_a_slot_that_the_server_would_give_up(server: EmbeddedServer, connection: Connection, slot: str) -> None:
    connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
    connection.execute("SELECT pg_reload_conf()")
    try:
        until(lambda: read_wal(connection).readers[0].left is not None)
        # What a slot has left counts whole segments up to the next checkpoint.
        while (read_wal(connection).readers[0].left or 0) >= 64 * MB:
            write_wal(connection, 5)
        with (
            watched(server, IMPATIENT) as (pressure, _),
            pytest.raises(Failed, match=r"server invalidates it after \d+ (MB|bytes) more \(max_slot_wal_keep_size\)"),
        ):
            pressure.wait_if_needed(no)
    finally:
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.postgres(15, 18)
def test_an_archive_that_fails(server: EmbeddedServer) -> None:
    settings = {"archive_mode": "on", "archive_command": "false", "wal_level": "replica"}
    with EmbeddedServer(server.major, settings=settings) as own, own.target("postgres").connect() as connection:
        with watched(own, IMPATIENT) as (pressure, emitted):
            assert emitted == []
            write_wal(connection, 5)
            until(lambda: read_wal(connection).archive_trouble != "")
            pressure.check()
            pressure.wait_if_needed(no)
            (caution,) = emitted
            assert isinstance(caution, Caution)
            assert caution.text.startswith("archiving fails, last for 0000000100000000000000")
            assert caution.text.endswith(": WAL accumulates on the server")
            write_wal(connection, 30)
            pressure.check()
            with pytest.raises(
                Failed, match=r"^cannot continue loading: archiving fails, last for 0{7}1\S+, and \d+ MB"
            ):
                pressure.wait_if_needed(no)
        connection.execute("ALTER SYSTEM SET archive_command = 'true'")
        connection.execute("SELECT pg_reload_conf()")
        write_wal(connection, 1)
        until(lambda: bool(read_wal(connection).readers))
        (archive,) = read_wal(connection).readers
        assert (archive.kind, archive.active) == ("archive", True)
        until(lambda: read_wal(connection).readers[0].behind <= 16 * MB)
        connection.execute("ALTER SYSTEM SET archive_command = ''")
        connection.execute("SELECT pg_reload_conf()")
        until(
            lambda: (
                read_wal(connection).archive_trouble
                == "archive_mode is on, but neither archive_command nor archive_library is set"
            )
        )


@contextmanager
def standby(server: EmbeddedServer) -> Iterator[Connection]:
    """A streaming standby of the server; a connection to it."""
    data = server.folder / "standby"
    copy = server._popen(
        "pg_basebackup",
        *("-D", str(data), "-h", str(server.folder), "-p", "5432", "-U", "postgres", "-R", "-c", "fast"),
        output=subprocess.PIPE,
    )
    emitted, _ = copy.communicate(timeout=DEADLINE_SECONDS)
    assert copy.returncode == 0, emitted
    with (server.folder / "standby.log").open("ab") as log:
        process = server._popen("postgres", "-D", str(data), "-c", "port=5433", output=log.fileno())
    try:
        target = server.target("postgres")
        target = type(target)({**target.keywords, "port": "5433"})

        def answers() -> bool:
            try:
                target.connect().close()
            except psycopg.OperationalError:
                return False
            return True

        until(answers)
        with target.connect() as connection:
            yield connection
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=DEADLINE_SECONDS)
        shutil.rmtree(data)


def behind(connection: Connection, kind: str) -> int:
    return max((each.behind for each in read_wal(connection).readers if each.kind == kind), default=-1)


@pytest.mark.postgres(15, 18)
def test_a_standby_is_waited_for(server: EmbeddedServer, connection: Connection, app: str) -> None:
    with standby(server) as other:
        until(lambda: behind(connection, "standby") == 0 and behind(connection, "replay") == 0)
        (receiver,) = other.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone() or (0,)
        with watched(server, interval=0.02) as (pressure, emitted):
            os.kill(receiver, signal.SIGSTOP)
            try:
                write_wal(connection, 40)
                until(lambda: bool(emitted))
                worker = threading.Thread(target=pressure.wait_if_needed, args=[no])
                worker.start()
                pressure.wait_if_needed(lambda: True)  # a worker that is to stop does not wait
                assert worker.is_alive() and pressure.waited > 0
            finally:
                os.kill(receiver, signal.SIGCONT)
            worker.join(DEADLINE_SECONDS)
            assert not worker.is_alive()
            waited = pressure.waited
        first, last = emitted
        assert isinstance(first, Caution) and isinstance(last, Note)
        assert re.fullmatch(
            r'loading is paused: the standby "walreceiver" (is \d\d MB behind|has \d\d MB left to replay); '
            r"it may add up to 20 MB",
            first.text,
        )
        assert last.text == f"loading continues after {waited:.0f} s"
        with server.target("postgres", user=app).connect() as blind:
            found = read_wal(blind)
        assert (found.readers, found.hidden[0]) == ((), "the lag of standbys")


@pytest.mark.postgres(15, 18)
def test_a_standby_that_does_not_apply_is_not_waited_for_in_vain(
    server: EmbeddedServer, connection: Connection
) -> None:
    limits = replace(SMALL, patience=0.2)
    with standby(server) as other:
        until(lambda: behind(connection, "replay") == 0)
        other.execute("SELECT pg_wal_replay_pause()")
        with watched(server, limits) as (pressure, emitted):
            write_wal(connection, 40)
            until(lambda: behind(connection, "standby") < 20 * MB)
            pressure.check()
            assert len(emitted) == 1 and isinstance(emitted[0], Caution)
            assert emitted[0].text.startswith('loading is paused: the standby "walreceiver" has ')

            def given_up() -> bool:
                pressure.check()
                return len(emitted) > 1

            until(given_up)
            pressure.wait_if_needed(no)
        assert isinstance(emitted[1], Caution)
        assert emitted[1].text.endswith(" left to replay and makes no progress: loading no longer waits for it")
        assert [type(each) for each in emitted] == [Caution, Caution, Note]


def test_a_server_without_an_answer_does_not_delay_the_load(server: EmbeddedServer) -> None:
    with EmbeddedServer(18) as own, watched(own) as (pressure, emitted):
        own.stop()
        pressure.check()
        pressure.check()
        pressure.wait_if_needed(no)
        assert len(emitted) == 1 and isinstance(emitted[0], Caution)
        assert emitted[0].text.startswith("cannot monitor the server for now: ")
        own.start()
        pressure.check()
        with own.target("postgres").connect() as connection:
            connection.execute("SELECT pg_create_physical_replication_slot('s', true)")
            write_wal(connection, 30)
        pressure.check()
        pressure.check()
        assert len(emitted) == 1  # the slot came later, and what it had then does not count


def test_the_first_look_may_be_the_last(server: EmbeddedServer, tmp_path: Path) -> None:
    emitted: list[Event] = []
    limits = Limits(least_free=1 << 60, most_free=1 << 60)
    with (
        Pressure(server.target("postgres").connect, limits, emitted.append, interval=NEVER) as pressure,
        pytest.raises(Failed, match=r"^cannot continue loading: the disk of pg_wal has .* 1,048,576 TB must remain"),
    ):
        pressure.wait_if_needed(no)
    with pytest.raises(psycopg.OperationalError):
        Pressure(server.target("none").connect, SMALL, emitted.append).__enter__()


def test_the_rate_is_shared_by_all_workers(server: EmbeddedServer) -> None:
    with Pressure(server.target("postgres").connect, SMALL, print, rate=10 * MB, interval=NEVER) as pressure:
        began = time.monotonic()
        workers = [threading.Thread(target=pressure.throttle, args=[2 * MB, no]) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert 0.6 <= time.monotonic() - began < 10
        pressure.throttle(1 << 40, lambda: True)  # a worker that is to stop does not wait


@pytest.mark.postgres(15, 18)
def test_a_logical_slot_is_not_held_back_by_our_own_transaction(server: EmbeddedServer, connection: Connection) -> None:
    connection.execute("SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')")
    try:
        write_wal(connection, 1)
        (reader,) = read_wal(connection).readers
        assert reader == WalReader("slot", "cdc", reader.behind, active=False) and reader.behind > MB
        reading = server._popen(
            "pg_recvlogical",
            *("-d", "postgres", "-h", str(server.folder), "-p", "5432", "-U", "postgres"),
            *("-S", "cdc", "--start", "-f", "-", "-s", "1", "-F", "1"),
            output=subprocess.DEVNULL,
        )
        try:
            with server.target("postgres").connect() as worker, worker.transaction():
                worker.execute("SELECT pg_logical_emit_message(true, 'test', 'the beginning of a long COPY')")
                write_wal(connection, 30)
                connection.execute("CHECKPOINT")
                until(lambda: any(each.kind == "slot" and each.active for each in read_wal(connection).readers))
                until(lambda: behind(connection, "slot") < MB)
                (kept,) = connection.execute(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_replication_slots"
                ).fetchone() or (0,)
                assert kept > 30 * MB
        finally:
            reading.send_signal(signal.SIGINT)
            reading.wait(timeout=DEADLINE_SECONDS)
            until(lambda: not any(each.active for each in read_wal(connection).readers))
    finally:
        connection.execute("SELECT pg_drop_replication_slot('cdc')")
