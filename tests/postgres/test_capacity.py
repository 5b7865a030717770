"""How much of the server a load may take: the rules by given figures, and the figures of real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure import capacity as capacity_module
from lastgood.postgres.pressure.capacity import Capacity, ConnectionLimit, Figures, capacity, divide, limits
from lastgood.postgres.pressure.machine import Machine
from lastgood.postgres.server import set_where_possible

MB, GB = 1 << 20, 1 << 30
SERVER = ConnectionLimit("the server allows", 97, 10)


def figures(
    *limits: ConnectionLimit, processes: int = 8, tuned: bool = False, memory: int = 64 * MB, hint: int | None = None
) -> Figures:
    return Figures(limits or (SERVER,), processes, tuned, memory, hint, "effective_cache_size" if hint else "")


def shared(given: Figures, found: Machine, jobs: int | None = None) -> Capacity:
    return divide(given, found, jobs=jobs, others=7)


@pytest.mark.parametrize(
    ("given", "found", "jobs", "expected", "reason"),
    [
        (figures(), Machine(2, 8 * GB), None, 2, "2 workers: the machine has 2 processors"),
        (figures(), Machine(1, 8 * GB), None, 1, "1 worker: the machine has 1 processor"),
        (figures(), Machine(2, 8 * GB), 6, 6, "6 workers: as requested"),
        (figures(), Machine(), None, 4, "4 workers: the server's processors are not visible from here"),
        (
            figures(processes=16, tuned=True),
            Machine(),
            None,
            8,
            "8 workers: the server may run 16 parallel workers; its processors are not visible from here",
        ),
        (
            figures(ConnectionLimit("the server allows", 22, 7)),
            Machine(8, 8 * GB),
            None,
            3,
            "3 workers instead of 8: the server allows 22 connections, 7 are in use; the run needs 7 more for itself, "
            "and 5 remain free",
        ),
        (
            figures(SERVER, ConnectionLimit('role "app" is allowed', 14, 1)),
            Machine(8, 8 * GB),
            16,
            1,
            '1 worker instead of 16: role "app" is allowed 14 connections, 1 are in use; the run needs 7 more for '
            "itself, and 5 remain free",
        ),
        (
            figures(ConnectionLimit("the server allows", 22, 22)),
            Machine(8, 8 * GB),
            None,
            1,
            "1 worker instead of 8: the server allows 22 connections, 22 are in use; the run needs 7 more for itself, "
            "and 5 remain free",
        ),
    ],
)
def test_workers(given: Figures, found: Machine, jobs: int | None, expected: int, reason: str) -> None:
    result = shared(given, found, jobs)
    assert (result.jobs, result.reasons[0]) == (expected, reason)


@pytest.mark.parametrize(
    ("given", "found", "jobs", "expected", "why"),
    [
        (figures(), Machine(2, 4 * GB), None, 512, "at most a quarter of 4.0 GB of memory for 2 processes"),
        (figures(), Machine(8, 4 * GB), None, 128, "at most a quarter of 4.0 GB of memory for 8 processes"),
        # One job on eight processors: the last index has them all.
        (figures(), Machine(8, 4 * GB), 1, 128, "at most a quarter of 4.0 GB of memory for 8 processes"),
        (figures(processes=0), Machine(8, 1 * GB), 1, 256, "at most a quarter of 1.0 GB of memory for 1 process"),
        (figures(), Machine(2, 256 * GB), None, 512, "at most a quarter of 256 GB of memory for 2 processes"),
        (figures(memory=2 * GB), Machine(2, 256 * GB), None, 2048, "the server's own setting"),
        (
            figures(memory=2 * GB),
            Machine(4, 8 * GB),
            None,
            512,
            "less than the server's own 2.0 GB, a quarter of 8.0 GB of memory for 4 processes",
        ),
        (figures(), Machine(), None, 64, "the server's own setting, since its memory is not visible from here"),
        (
            figures(hint=4 * GB),
            Machine(),
            None,
            256,
            "at most a quarter of 4.0 GB of memory, estimated from effective_cache_size for 4 processes",
        ),
        (
            figures(),
            Machine(64, 100 * MB),
            None,
            1,
            "less than the server's own 64 MB, a quarter of 100 MB of memory for 64 processes",
        ),
    ],
)
def test_memory(given: Figures, found: Machine, jobs: int | None, expected: int, why: str) -> None:
    result = shared(given, found, jobs)
    assert result.maintenance_work_mem == expected * MB
    assert result.reasons[1].partition(": ")[2] == why
    assert dict(result.settings)["maintenance_work_mem"] == f"{expected * 1024}kB"


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("jobs", [1, 2, 8, 40])
def test_all_memory_that_can_be_taken_at_once_is_a_quarter(cpus: int, jobs: int) -> None:
    result = shared(figures(ConnectionLimit("the server allows", 200, 1), processes=64), Machine(cpus, 64 * GB), jobs)
    for running in range(1, result.jobs + 1):
        processes = running * (1 + result.parallel_workers(running))
        assert processes * result.maintenance_work_mem <= 16 * GB
        assert running > cpus or processes <= cpus
    assert result.parallel_workers(cpus) == 0
    assert result.parallel_workers(1) == cpus - 1


@pytest.fixture
def small_server() -> Iterator[EmbeddedServer]:
    settings = {"max_connections": "20", "superuser_reserved_connections": "2", "effective_cache_size": "3GB"}
    with EmbeddedServer(18, settings={**settings, "reserved_connections": "3"}) as server:
        yield server


def test_a_server_with_few_connections(small_server: EmbeddedServer) -> None:
    with ExitStack() as stack:
        first, *_ = (stack.enter_context(small_server.target("postgres").connect()) for _ in range(2))
        result = capacity(first, jobs=8, others=4)
        assert (result.jobs, result.free) == (4, 4)
        assert result.reasons[0] == (
            "4 workers instead of 8: the server allows 15 connections, 2 are in use; the run needs 4 more for itself, "
            "and 5 remain free"
        )
        # What was granted fits, and others still come in.
        for _ in range(result.jobs + 4 + 5):
            stack.enter_context(small_server.target("postgres").connect())
        first.execute("CREATE ROLE app LOGIN")
        with pytest.raises(psycopg.OperationalError, match="remaining connection slots are reserved"):
            small_server.target("postgres", user="app").connect()


@pytest.fixture
def app(server: EmbeddedServer) -> Iterator[str]:
    """A role that sees nothing of other sessions and may have 15 of its own."""
    name = "capacity_app"
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE capacity_app LOGIN CONNECTION LIMIT 15")
        yield name
        connection.execute("DROP ROLE capacity_app")


@pytest.mark.postgres(15, 16, 17, 18)
def test_limits_of_the_role_and_of_the_database(
    server: EmbeddedServer, new_database: Callable[..., str], app: str
) -> None:
    name = new_database()
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 9").format(sql.Identifier(name)))
        assert [each.what for each in limits(connection, name)] == ["the server allows"]
    with server.target(name, user=app).connect() as one, server.target("postgres", user=app).connect() as other:
        assert limits(other, name)[1:] == (
            ConnectionLimit(f'role "{app}" is allowed', 15, 2),
            ConnectionLimit(f'database "{name}" allows', 9, 1),
        )
        assert capacity(one, jobs=8, others=2).jobs == 6
        assert capacity(one, jobs=8, into=name, others=2).jobs == 1
        (most,) = one.execute("SELECT current_setting('max_connections')::int").fetchone() or (0,)
        reserved = one.execute("SHOW superuser_reserved_connections").fetchone()
        assert reserved is not None and limits(one)[0].limit == most - int(reserved[0])
        # Autovacuum and the server's own processes, which this role sees without their kind, are no connections.
        assert 2 <= limits(one)[0].used <= 10


@pytest.mark.postgres(15, 16, 17, 18)
def test_the_roles_own_settings_do_not_cut_a_worker_short(
    server: EmbeddedServer, new_database: Callable[..., str], app: str
) -> None:
    name = new_database()
    with server.target("postgres").connect() as connection:
        for text in ("statement_timeout = '1s'", "row_security = on", "default_transaction_read_only = on", "jit = on"):
            connection.execute(sql.SQL("ALTER ROLE capacity_app SET {}").format(sql.SQL(text)))
    with psycopg.connect(str(server.target(name, user=app)), autocommit=True) as plain:
        assert plain.execute("SHOW statement_timeout").fetchone() == ("1s",)
        result = capacity(plain, jobs=2)
        result.apply(plain)
        for setting, value in (
            ("statement_timeout", "0"),
            ("row_security", "off"),
            ("default_transaction_read_only", "off"),
            ("synchronous_commit", "off"),
            ("client_connection_check_interval", "2s"),
            ("max_parallel_maintenance_workers", "0"),
        ):
            assert plain.execute("SELECT current_setting(%s)", [setting]).fetchone() == (value,)


def test_a_value_that_the_server_can_not_take_does_not_lose_the_others(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection:
        set_where_possible(connection, (("jit", "perhaps"), ("lock_timeout", "7s"), ("no_such_setting", "1")))
        assert connection.execute("SHOW lock_timeout").fetchone() == ("7s",)
        assert connection.execute("SHOW jit").fetchone() == ("off",)


def test_memory_is_supposed_from_what_was_set(small_server: EmbeddedServer) -> None:
    with small_server.target("postgres").connect() as connection:
        found = capacity_module.figures(connection)
        assert (found.ram_hint, found.hint_of, found.tuned) == (4 * GB, "effective_cache_size", False)
