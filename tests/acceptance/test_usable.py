"""Service first: the application comes back to a database that is right but not complete, and it gets complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from lastgood import fault, restore, rollback
from lastgood.events import Event
from lastgood.plan import Request
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.report import Report
from lastgood.status import look
from tests import shop

MAJORS = (15, 16, 17, 18)
WAITING = {
    "cities_n",
    "customer_born",
    "customer_upper",
    "customer_words",
    "elsewhere_x",
    "event_2_own",
    "line_order_only",
    "order; state",
    "order_customer_made",
    "order_made",
}
KEYS = {"own ä", "line_order", "order_customer_id_fkey"}


class Stage:
    """The shop as a live database in which only the index customer_city is used, and a restore point of it."""

    def __init__(self, server: EmbeddedServer, live: str, store: Path, state: Path) -> None:
        self.server, self.live = server, live
        shop.fill(server, live)
        (store / "good.sql").write_bytes(shop.dump(server, live))
        with self.connect() as connection:
            connection.execute("SET enable_seqscan = off")
            connection.execute("SELECT count(*) FROM shop.customer WHERE city = 'city 3'")
            connection.execute("UPDATE shop.customer SET note = 'lost'")
            connection.execute("SELECT pg_stat_force_next_flush()")
        self.request = Request(server.target(live), store, state, reopen_when="usable")

    def connect(self, name: str = "") -> psycopg.Connection:
        return self.server.target(name or self.live).connect()

    def rollback(self, emit: Callable[[Event], None] = lambda event: None) -> Report:
        return rollback.run(rollback.plan(self.request), emit)

    def missing(self) -> tuple[set[str], set[str]]:
        """Indexes of WAITING that are not there, and foreign keys that are not valid."""
        with self.connect() as connection:
            there = {row[0] for row in connection.execute("SELECT indexname FROM pg_indexes")}
            keys = connection.execute(
                "SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT convalidated AND conname NOT LIKE 'k;%'"
            )
            return WAITING - there, {row[0] for row in keys}


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Stage:
    return Stage(server, new_database(), store, tmp_path / "state")


@pytest.mark.postgres(*MAJORS)
def test_what_is_finished_later_equals_what_is_restored_at_once(stage: Stage, new_database: Callable[..., str]) -> None:
    into = new_database("whole") + "_full"
    restore.restore(stage.request.target, stage.request.store, "good.sql", into)
    seen: list[tuple[set[str], set[str]]] = []
    events: list[Event] = []

    def look_at_it() -> None:
        if not seen:
            seen.append(stage.missing())

    with fault.armed("finish.before_task", look_at_it):
        report = stage.rollback(events.append)
    assert seen == [(WAITING, KEYS)]
    assert report.finished is not None
    assert (report.finished.indexes, report.finished.foreign_keys) == (len(WAITING), len(KEYS))
    with stage.connect() as live, stage.connect(into) as whole:
        assert shop.catalogue(live) == shop.catalogue(whole)
        assert live.execute("SELECT count(*) FROM shop.customer WHERE note = 'lost'").fetchone() == (0,)
        never = live.execute(
            "SELECT relname FROM pg_stat_user_tables WHERE last_analyze IS NULL AND last_autoanalyze IS NULL"
        )
        assert never.fetchall() == []
        assert live.execute("SELECT count(*) FROM pg_stats_ext WHERE inherited IS NULL").fetchone() == (0,)
    assert look(stage.request.target).finishing == ()
