"""A client that writes rows without a pause and remembers which were acknowledged: whatever happens, each of these is
in the live database or in a kept one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.mark import marked
from lastgood.postgres.server import Connection

TABLE = "CREATE TABLE IF NOT EXISTS public.ledger (id bigint PRIMARY KEY)"


class Ledger(threading.Thread):
    """Writes into ``live``, one row a transaction, and comes back after each error as an application would."""

    def __init__(self, server: EmbeddedServer, live: str, first: int = 1) -> None:
        super().__init__(name="ledger", daemon=True)
        self._server = server
        self._live = live
        self._numbers = itertools.count(first)
        self._over = threading.Event()
        self.acknowledged: list[int] = []
        self.errors = 0

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with psycopg.connect(
                    self._server.url(self._live), autocommit=True, application_name="ledger", connect_timeout=5
                ) as connection:
                    connection.execute("SET lock_timeout = '2s'")
                    connection.execute("SET synchronous_commit = local")
                    while not self._over.is_set():
                        number = next(self._numbers)
                        connection.execute("INSERT INTO public.ledger VALUES (%s)", [number])
                        self.acknowledged.append(number)
                        self._over.wait(0.002)
            except psycopg.Error:
                self.errors += 1
                self._over.wait(0.05)

    def end(self) -> None:
        """It has written its last row."""
        self._over.set()
        self.join(30)
        assert not self.is_alive(), "the ledger's client hangs"

    def lost(self) -> set[int]:
        """The acknowledged rows that are neither in the live database nor in a kept one."""
        with self._server.target(self._live).connect() as inside:
            return set(self.acknowledged) - _rows(inside) - self.kept()

    def kept(self) -> set[int]:
        """The rows of all kept databases, which are opened for a moment."""
        found: set[int] = set()
        with self._server.target("postgres").connect() as connection:
            for database, mark in marked(connection):
                if mark.live != self._live or mark.role != "kept" or database.invalid:
                    continue
                opened = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
                name = sql.Identifier(database.name)
                with suppress(psycopg.Error):  # another operator takes it back at this moment
                    connection.execute(opened.format(name, sql.SQL("true")))
                    with self._server.target(database.name).connect() as inside:
                        found |= _rows(inside)
                    connection.execute(opened.format(name, sql.SQL("false")))
        return found


def _rows(inside: Connection) -> set[int]:
    there = inside.execute("SELECT to_regclass('public.ledger')").fetchone()
    if there is None or there[0] is None:
        return set()
    return {int(number) for (number,) in inside.execute("SELECT id FROM public.ledger")}


@contextmanager
def writing(server: EmbeddedServer, live: str) -> Iterator[Ledger]:
    """A ledger for the length of a block."""
    with server.target(live).connect() as connection:
        connection.execute(TABLE)
    ledger = Ledger(server, live)
    ledger.start()
    try:
        yield ledger
    finally:
        ledger.end()
