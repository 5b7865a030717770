"""The commit point: both names change in one transaction, or nothing does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from lastgood import fault
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.exchange import ExchangeResult, NameExchange, NamesChanged, Renaming, current_names, exchange

POINTS = ("swap.between_renames", "swap.before_commit", "swap.after_commit")


def oid_of(server: EmbeddedServer, name: str) -> int:
    with server.target("postgres").connect() as connection:
        row = connection.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])


@dataclass
class Pair:
    """A live database with one row 'old', and another one with one row 'new'."""

    server: EmbeddedServer
    live: str
    shadow: str
    kept: str = ""
    live_oid: int = 0
    shadow_oid: int = 0
    statements: list[sql.Composed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = self.live + "_old"
        for name, value in ((self.live, "old"), (self.shadow, "new")):
            with self.server.target(name).connect() as connection:
                connection.execute(
                    sql.SQL("CREATE TABLE public.state AS SELECT {}::text AS value").format(sql.Literal(value))
                )
        self.live_oid, self.shadow_oid = oid_of(self.server, self.live), oid_of(self.server, self.shadow)

    def swap(self) -> ExchangeResult:
        server = self.server.target("postgres")
        with server.connect() as connection:
            return exchange(
                connection,
                server,
                NameExchange(
                    leaving=Renaming(self.live_oid, self.live, self.kept),
                    arriving=Renaming(self.shadow_oid, self.shadow, self.live),
                    statements=self.statements,
                    fault_points=POINTS,
                ),
            )

    def read(self) -> str:
        with self.server.target(self.live).connect() as connection:
            row = connection.execute("SELECT value FROM public.state").fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture
def database_pair(server: EmbeddedServer, new_database: Callable[..., str]) -> Pair:
    live = new_database()
    return Pair(server, live, new_database(live + "_shadow"))


@pytest.mark.postgres(15, 16, 17, 18)
def test_names_change_and_the_old_database_is_closed(database_pair: Pair) -> None:
    database_pair.swap()
    assert database_pair.read() == "new"
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        database_pair.server.target(database_pair.kept).connect()


@pytest.mark.postgres(15, 18)
def test_sessions_that_come_back_at_once_do_not_stop_it(database_pair: Pair) -> None:
    stop = threading.Event()
    reads: list[str] = []
    failures: list[list[str]] = []
    longest: list[float] = []
    reading: set[int] = set()

    def client() -> None:
        failed: list[str] = []
        failures.append(failed)
        connection: psycopg.Connection | None = None
        last = time.monotonic()
        wait = 0.0
        while not stop.is_set():
            try:
                connection = connection or database_pair.server.target(database_pair.live).connect()
                row = connection.execute("SELECT value FROM public.state").fetchone()
                assert row is not None
                reads.append(row[0])
                reading.add(threading.get_ident())
                wait, last = max(wait, time.monotonic() - last), time.monotonic()
            except psycopg.Error as error:
                failed.append(str(error))
                connection = None
        longest.append(wait)
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while (len(reads) < 100 or len(reading) < 8) and time.monotonic() < deadline:
        stop.wait(0.01)
    done = database_pair.swap()
    seen = len(reads)
    while len(reads) < seen + 100 and time.monotonic() < deadline:
        stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert done.tries == 1
    assert done.ended >= 8
    assert done.outage < 4.5
    first_new = reads.index("new")
    assert "old" in reads[:first_new]
    assert max(len(failed) for failed in failures) <= 10


@pytest.mark.parametrize("name", POINTS[:2])
def test_nothing_changes_when_it_fails_before_the_commit(database_pair: Pair, name: str) -> None:
    def fail() -> None:
        raise RuntimeError("here")

    with fault.armed(name, fail), pytest.raises(RuntimeError, match="here"):
        database_pair.swap()
    assert database_pair.read() == "old"
    with database_pair.server.target("postgres").connect() as connection:
        found = current_names(connection, [database_pair.live_oid, database_pair.shadow_oid])
    assert found == {database_pair.live_oid: database_pair.live, database_pair.shadow_oid: database_pair.shadow}


def test_a_statement_that_fails_takes_the_renames_back(database_pair: Pair) -> None:
    database_pair.statements.append(
        sql.SQL("ALTER DATABASE {} OWNER TO nobody_of_that_name").format(sql.Identifier(database_pair.live))
    )
    with pytest.raises(psycopg.errors.UndefinedObject):
        database_pair.swap()
    assert database_pair.read() == "old"


def test_a_renamed_database_is_noticed_first(database_pair: Pair) -> None:
    with database_pair.server.target("postgres").connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(database_pair.shadow), sql.Identifier(database_pair.shadow + "_x")
            )
        )
    with pytest.raises(NamesChanged):
        database_pair.swap()
    assert database_pair.read() == "old"


def test_a_commit_whose_answer_is_lost_is_found_out_by_oid(database_pair: Pair) -> None:
    """The session ends right after the commit: the names show that it took place."""

    def lose() -> None:
        raise psycopg.OperationalError("the connection was lost")

    server = database_pair.server.target("postgres")
    with server.connect() as connection:

        def lose_it_for_real() -> None:
            connection.pgconn.finish()
            lose()

        with fault.armed("swap.after_commit", lose_it_for_real):
            done = exchange(
                connection,
                server,
                NameExchange(
                    leaving=Renaming(database_pair.live_oid, database_pair.live, database_pair.kept),
                    arriving=Renaming(database_pair.shadow_oid, database_pair.shadow, database_pair.live),
                    statements=[],
                    fault_points=POINTS,
                ),
            )
    assert done.tries == 1
    assert database_pair.read() == "new"
