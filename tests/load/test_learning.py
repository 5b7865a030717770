"""Costs learned from a real load appear in the next plan."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import rollback
from lastgood.command.rollback import show_plan as shown
from lastgood.context import Context, Pace
from lastgood.events import Event, Progress
from lastgood.load import costs
from lastgood.load.costs import Costs, Effort
from lastgood.plan.plan import Choice, Plan, Request
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from lastgood.screen.screen import Screen

TWO = Pace(jobs=2)
# Above the minimum size for learning.
FILL = """
CREATE TABLE public.parent (id integer, t text);
INSERT INTO public.parent SELECT i, repeat('x', 200) || i FROM generate_series(1, 100000) i;
CREATE TABLE public.child (id integer, parent integer, t text);
INSERT INTO public.child SELECT i, 1 + i % 100000, md5(i::text) FROM generate_series(1, 60000) i;
ALTER TABLE public.parent ADD PRIMARY KEY (id);
CREATE INDEX parent_t ON public.parent (t);
ALTER TABLE public.child ADD FOREIGN KEY (parent) REFERENCES public.parent;
CREATE TABLE public.parts (id integer, t text) PARTITION BY RANGE (id);
CREATE TABLE public.part PARTITION OF public.parts FOR VALUES FROM (0) TO (100);
INSERT INTO public.parts VALUES (1, 'one');
"""


def a_point(server: EmbeddedServer, database: str, store: Path) -> Path:
    with server.target(database).connect() as connection:
        connection.execute(FILL)
    path = store / "point.sql"
    subprocess.run([server.bin / "pg_dump", "-d", server.url(database), "-f", path], check=True)
    return path


def text(plan: Plan, *, build: float, backup: float | None = None) -> str:
    """The plan's text about its duration."""
    stream = io.StringIO()
    expected = {"expected_seconds": build, "expected_backup_seconds": backup}
    shown.show(Screen(stdout=stream, width=100), plan.model_copy(update=expected))
    (line,) = [line for line in stream.getvalue().splitlines() if line.startswith("  Expected")]
    return line.removeprefix("  Expected").strip()


@pytest.mark.postgres(18, also=(15,))
def test_the_second_restore_uses_the_costs_of_the_first(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    database, state = new_database(), tmp_path / "state"
    point = a_point(server, database, store)
    request = Request(server.target(database), store, state, Choice(point=point.name))
    plan = rollback.plan(request).plan
    assert plan.expected_seconds is None
    events: list[Event] = []

    def once(pace: Pace = TWO) -> list[Progress]:
        events.clear()
        into = f"{database}_again"
        restore(server.target(database), store, point.name, into, Context(events.append, pace=pace, state=state))
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(into)))
        return [event for event in events if isinstance(event, Progress) and event.stage == "build"]

    once(Pace(throttle=1 << 30))
    assert not (state / costs.FOLDER).exists()  # a throttled load is not learned
    once()
    with server.target(database).connect() as connection:
        file = costs.place(state, connection)
    assert list((state / "costs").iterdir()) == [file]
    known = costs.read(file)
    assert known.learned
    assert set(known.learned_from) <= set(Effort)
    assert known.costs.load_byte != Costs().load_byte
    assert known.costs.data_byte == Costs().data_byte  # there is no such data

    found = once()
    first, last = found[0], found[-1]
    # The remaining time of each phase is shown from the beginning.
    assert first.seconds_left is not None
    assert first.seconds_left > 0
    assert [(phase.name, phase.done, phase.unit) for phase in first.phases] == [
        ("rows", 0, "bytes"),
        ("indexes", 0, "indexes"),
        ("keys", 0, "foreign keys"),
        ("reading back", 0, "bytes"),
    ]
    assert (last.done, last.seconds_left, last.share, last.detail) == (last.total, 0.0, 1.0, "")
    assert [(phase.name, phase.total) for phase in last.phases if phase.unit != "bytes"] == [
        ("indexes", 2),
        ("keys", 1),
        ("statistics", 2),  # of a partitioned table, and of a small one
    ]
    assert all(phase.done == phase.total for phase in last.phases)
    shares = [each.share for each in found]
    assert shares == sorted(shares, key=lambda share: share or 0.0)
    assert [each.done for each in found] == sorted(each.done for each in found)
    assert len(found) < 200

    prepared = rollback.plan(request)
    plan = prepared.plan
    assert plan.expected_seconds is not None
    assert plan.expected_backup_seconds is None
    assert 0.05 < plan.expected_seconds < 120
    assert text(plan, build=40.2) == "about 40 s to build and prove it, based on earlier runs on this server"

    rollback.run(prepared)
    plan = rollback.plan(request).plan
    assert plan.expected_backup_seconds is not None
    assert 0.05 < plan.expected_backup_seconds < 120
    assert text(plan, build=40.2, backup=12.0) == "about 40 s until the switch, based on earlier runs on this server"
    assert (
        text(plan, build=40.2, backup=80.0) == "about 1 min 20 s until the switch, based on earlier runs on this server"
    )

    file.write_text("damaged")
    assert rollback.plan(request).plan.expected_seconds is None
