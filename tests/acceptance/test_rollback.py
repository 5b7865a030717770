"""The guarantees of a rollback, on a real server: nothing lost, nothing half-done, everything reported."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lastgood import fault, rollback, undo
from lastgood.command.prune import plan as planning
from lastgood.command.prune import removal
from lastgood.errors import Refused
from lastgood.events import Caution, Event
from lastgood.load.rebuild import ProofFailed
from lastgood.plan.plan import Choice, Request
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer, programs
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.postgres.mark import marked
from lastgood.postgres.state import DatabaseState
from lastgood.run.report import Report
from lastgood.status import read
from tests.support.waiting import until

MAJORS = (15, 16, 17, 18)


@dataclass
class Stage:
    """A live database with accounts at 100 each in the restore point "good.sql", and at 0 in the live database."""

    server: EmbeddedServer
    live: str
    request: Request

    def execute(self, statement: str, *, database: str | None = None, user: str = "postgres") -> None:
        with self.server.target(database or self.live, user=user).connect() as connection:
            connection.execute(statement.encode())

    def value(self, query: str, *, database: str | None = None) -> object:
        with self.server.target(database or self.live).connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def balance(self) -> object:
        return self.value("SELECT sum(balance)::int FROM public.account")

    def maintenance(self) -> psycopg.Connection:
        return self.server.target("template1" if self.live == "postgres" else "postgres").connect()

    def names(self) -> list[str]:
        with self.maintenance() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [self.live])
            return sorted(row[0] for row in rows)

    def sessions(self) -> list[int]:
        """Who is in the live database."""
        with self.maintenance() as connection:
            rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [self.live])
            return [row[0] for row in rows]

    def open_kept(self, name: str) -> None:
        with self.maintenance() as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))

    def rollback(self, emit: Callable[[Event], None] = lambda event: None) -> Report:
        return rollback.run(rollback.plan(self.request), emit)


def stage_of(server: EmbeddedServer, live: str, store: Path, state: Path) -> Stage:
    stage = Stage(server, live, Request(server.target(live), store, state))
    stage.execute(
        "CREATE TABLE public.account (id int PRIMARY KEY, balance int NOT NULL, made_at timestamptz DEFAULT now())"
    )
    stage.execute("INSERT INTO public.account SELECT i, 100 FROM generate_series(1, 500) i")
    folder = programs(server.major)
    assert folder is not None
    subprocess.run([str(folder / "pg_dump"), "-d", server.url(live), "-f", str(store / "good.sql")], check=True)
    stage.execute("UPDATE public.account SET balance = 0")
    return stage


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Stage:
    return stage_of(server, new_database(), store, tmp_path / "state")


@contextmanager
def running(*clients: Callable[[threading.Event], None]) -> Iterator[None]:
    """Clients in threads for the length of a block; they end when their event is set."""
    over = threading.Event()
    threads = [threading.Thread(target=client, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.postgres(*MAJORS)
def test_there_and_back_and_there_again(stage: Stage) -> None:
    assert stage.balance() == 0
    first = stage.rollback()
    assert stage.balance() == 50_000
    assert [(t.schema_name, t.name, t.rows, t.equal) for t in first.tables] == [("public", "account", 500, True)]
    target = stage.request.target
    back = undo.undo(target, undo.plan(target, stage.live), stage.request.context())
    assert stage.balance() == 0
    again = undo.undo(target, undo.plan(target, stage.live, back.run), stage.request.context())
    assert stage.balance() == 50_000
    assert again.kept in stage.names()
    assert back.seconds["total"] < 10


def test_the_report_matches_the_server(stage: Stage) -> None:
    report = stage.rollback()
    assert stage.names() == sorted([stage.live, report.kept])
    assert report.fence.kind == "table locks"
    assert report.fence.writes_after == 0
    assert report.undo_command == f"lastgood undo {report.run}"
    assert report.emergency_backup is not None
    assert Path(report.emergency_backup).exists()
    status = read(stage.request.target)
    assert [kept.name for kept in status.kept] == [report.kept]
    assert status.unfinished == ()
    assert status.live.open


def test_a_database_named_postgres_too(store: Path, tmp_path: Path) -> None:
    with EmbeddedServer(18) as server:
        stage = stage_of(server, "postgres", store, tmp_path / "state")
        stage.rollback()
        assert stage.balance() == 50_000


@pytest.mark.postgres(15, 18)
def test_writers_wait_and_no_acknowledged_write_is_lost(stage: Stage) -> None:
    """With the default fence a write is either in the kept database, from before the fence, or in the restored one."""
    acknowledged: list[int] = []
    reads: list[float] = []
    longest: list[float] = []

    def writer(over: threading.Event) -> None:
        number = 10_000
        connection: psycopg.Connection | None = None
        while not over.is_set():
            number += 1
            try:
                connection = connection or stage.server.target(stage.live).connect(application_name="app writer")
                connection.execute("INSERT INTO public.account (id, balance) VALUES (%s, 1)", [number])
                acknowledged.append(number)
            except psycopg.Error:
                connection = None
        if connection is not None:
            connection.close()

    def reader(over: threading.Event) -> None:
        connection: psycopg.Connection | None = None
        while not over.is_set():
            began = time.monotonic()
            while not over.is_set():
                try:
                    connection = connection or stage.server.target(stage.live).connect(application_name="app reader")
                    connection.execute("SELECT sum(balance) FROM public.account")
                    break
                except psycopg.Error:
                    connection = None
            reads.append(time.monotonic())
            longest.append(time.monotonic() - began)
        if connection is not None:
            connection.close()

    with running(writer, reader):
        report = stage.rollback()
        seen = len(acknowledged)
        until(lambda: len(acknowledged) >= seen + 5, "the writer continues")
    stage.open_kept(report.kept)
    query = "SELECT array_agg(id) FROM public.account WHERE id > 10000"
    in_kept = set(stage.value(query, database=report.kept) or [])  # type: ignore[call-overload]  # an array of int
    in_live = set(stage.value(query) or [])  # type: ignore[call-overload]  # an array of int
    assert set(acknowledged) <= in_kept | in_live
    assert in_live, "writers continue in the restored database"
    assert not in_kept & in_live
    assert report.fence.writes_after == 0
    assert report.seconds.read_outage < 4.5
    assert max(longest) < 5


def test_with_the_fence_at_the_swap_writes_go_on_and_are_counted(stage: Stage) -> None:
    stage.request = replace(stage.request, fence="at-swap")
    prepared = rollback.plan(stage.request)
    # What a session has written is counted when it has ended, which is a moment after its client has gone.
    until(lambda: not stage.sessions(), "no session is left in the live database")

    def write() -> None:
        stage.execute("INSERT INTO public.account (id, balance) SELECT i, 7 FROM generate_series(9001, 9010) i")

    with fault.armed("prove.before_verdict", write):
        report = rollback.run(prepared)
    assert report.fence.kind == "at-swap"
    assert report.fence.writes_after == 10
    assert stage.balance() == 50_000
    stage.open_kept(report.kept)
    assert stage.value("SELECT count(*)::int FROM public.account WHERE balance = 7", database=report.kept) == 10


def test_a_write_transaction_left_open_is_ended_by_the_fence(stage: Stage) -> None:
    emitted: list[Event] = []
    forgotten = stage.server.target(stage.live).connect(autocommit=False, application_name="forgotten")
    forgotten.execute("UPDATE public.account SET balance = 5 WHERE id = 1")
    pid = forgotten.info.backend_pid
    report = stage.rollback(emitted.append)
    with pytest.raises(psycopg.errors.AdminShutdown):
        forgotten.execute("SELECT 1")
    forgotten.close()
    assert stage.balance() == 50_000
    assert report.fence.writes_after == 0
    assert (
        Caution(f'terminated session {pid} of "postgres" (forgotten): its write transaction remained open') in emitted
    )


def test_a_second_run_is_refused_with_who_and_since_when(stage: Stage) -> None:
    prepared = rollback.plan(stage.request)
    with stage.maintenance() as other:
        other.execute("SET application_name = 'lastgood rollback of a colleague'")
        lock_live(other, stage.live, read_nothing)
        with pytest.raises(Refused) as raised:
            rollback.run(prepared)
    message = str(raised.value)
    assert message.startswith(
        f'cannot work on the database "{stage.live}": another run holds its lock ("lastgood rollback of a colleague", '
        'as "postgres", through a local socket, since 20'
    )
    assert raised.value.exit_status == 3
    assert stage.balance() == 0


def test_a_shadow_that_differs_in_one_row_is_never_switched_to(stage: Stage) -> None:
    prepared = rollback.plan(stage.request)

    def tamper() -> None:
        stage.execute("UPDATE public.account SET balance = 101 WHERE id = 77", database=prepared.plan.shadow)

    with fault.armed("carry_over.after_objects", tamper), pytest.raises(ProofFailed) as raised:
        rollback.run(prepared)
    error = raised.value
    assert str(error).startswith(
        f'cannot use "{prepared.plan.shadow}": 1 difference from the restore point\n  public.account: expected digest '
    )
    assert error.exit_status == 5
    assert error.state == f'"{stage.live}" was not touched and is open.'
    assert [d.what for d in error.comparison.differences] == ["public.account"]
    assert stage.balance() == 0
    assert stage.names() == [stage.live]


def test_a_shadow_that_fails_its_proof_is_kept_on_request(stage: Stage) -> None:
    stage.request = replace(stage.request, keep_shadow=True)
    prepared = rollback.plan(stage.request)

    def tamper() -> None:
        stage.execute("DELETE FROM public.account WHERE id = 77", database=prepared.plan.shadow)

    with fault.armed("carry_over.after_objects", tamper), pytest.raises(ProofFailed) as raised:
        rollback.run(prepared)
    assert "public.account: expected 500 rows, found 499 rows" in str(raised.value)
    assert raised.value.state == (
        f'"{stage.live}" was not touched and is open. The restored database is kept for inspection as '
        f'"{prepared.plan.shadow}".'
    )
    assert stage.names() == [stage.live, prepared.plan.shadow]
    removed = rollback.abort(stage.request)
    assert removed["removed"] == [prepared.plan.shadow]
    assert stage.names() == [stage.live]


@pytest.mark.postgres(*MAJORS)
def test_what_belongs_to_the_database_itself_survives(stage: Stage) -> None:
    name = sql.Identifier(stage.live)
    with stage.maintenance() as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'state_app'").fetchone() is None:
            connection.execute("CREATE ROLE state_app LOGIN")
        for statement in (
            "ALTER DATABASE {} SET search_path = api, public",
            "ALTER DATABASE {} SET app.tenant = 'acme; -- \"x\"'",
            "ALTER ROLE state_app IN DATABASE {} SET statement_timeout = '5s'",
            "COMMENT ON DATABASE {} IS 'the books'",
            "ALTER DATABASE {} CONNECTION LIMIT 33",
            "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {} TO state_app",
        ):
            connection.execute(sql.SQL(statement).format(name))
        before = DatabaseState.read(connection, stage.live)
        report = stage.rollback()
        assert report.carried_over.settings == 3
        assert DatabaseState.read(connection, stage.live) == before
        target = stage.request.target
        undo.undo(target, undo.plan(target, stage.live), stage.request.context())
        assert DatabaseState.read(connection, stage.live) == before
    assert stage.balance() == 0


@pytest.mark.parametrize(
    ("hold", "release", "text"),
    [
        (
            "BEGIN; INSERT INTO public.account VALUES (7001, 1); PREPARE TRANSACTION 'held'",
            "ROLLBACK PREPARED 'held'",
            "prepared transaction",
        ),
        pytest.param(
            "SELECT pg_create_logical_replication_slot('held_slot', 'test_decoding')",
            "SELECT pg_drop_replication_slot('held_slot')",
            "replication slot",
            marks=pytest.mark.postgres(15, 17, 18),  # the server of 16 has no decoding plugin
        ),
    ],
)
def test_what_a_rename_would_break_is_refused_before_anything_begins(
    stage: Stage, hold: str, release: str, text: str
) -> None:
    stage.execute(hold)
    try:
        prepared = rollback.plan(stage.request)
        assert any(text in finding.text for finding in prepared.plan.refusals)
        with pytest.raises(Refused) as raised:
            rollback.run(prepared)
    finally:
        stage.execute(release)
    assert text in str(raised.value)
    assert raised.value.exit_status == 3
    assert not (stage.request.state / "runs").exists()
    assert stage.names() == [stage.live]


def test_a_plan_changes_nothing(stage: Stage) -> None:
    before = sorted(path.name for path in stage.request.store.iterdir())
    plan = rollback.plan(stage.request).plan
    assert sorted(path.name for path in stage.request.store.iterdir()) == before
    assert not stage.request.state.exists()
    assert stage.names() == [stage.live]
    (loss,) = plan.loss
    assert (loss.live_rows, loss.point_rows) == (500, 500)


def test_prune_keeps_the_last_undo_and_the_last_valid_point(stage: Stage) -> None:
    first = stage.rollback()
    stage.request = replace(stage.request, choice=Choice(point="good.sql"))
    second = stage.rollback()
    target, store = stage.request.target, stage.request.store
    plan = planning.plan(target, store, planning.Criteria(older_than=timedelta(0)), post_mortem_within=0)
    stays = {each.name: each.why for each in plan.candidates if not each.remove}
    removed = [each.name for each in plan.going]
    assert stays[second.kept] == "the undo of the last run; name it to remove it"
    assert first.kept in removed
    assert stays["good.sql"] == f"run {second.run} restored it and can be undone"
    done = removal.run(target, plan)
    assert done["removed"] == removed
    assert first.kept not in stage.names()
    assert second.kept in stage.names()
    named = planning.plan(target, store, planning.Criteria(named=(second.kept,)))
    assert [each.name for each in named.going] == [second.kept]
    removal.run(target, named)
    assert stage.names() == [stage.live]
    everything = planning.plan(target, store, planning.Criteria(older_than=timedelta(0)), post_mortem_within=0)
    assert {each.name: each.why for each in everything.candidates} == {"good.sql": "the last valid restore point"}


def test_prune_leaves_what_belongs_to_another_database(stage: Stage, new_database: Callable[..., str]) -> None:
    target, store = stage.request.target, stage.request.store
    neighbour = take(stage.server.target(new_database("billing")), store)
    stage.rollback()
    plan = planning.plan(target, store, planning.Criteria(keep=0), post_mortem_within=0)
    assert neighbour.path.name not in {each.name for each in plan.candidates}
    # An emergency backup is no restore point to go back to: it does not count as the last valid one.
    stays = {each.name for each in plan.candidates if not each.remove and each.kind == "restore point"}
    assert stays == {"good.sql"}


def test_an_empty_database_can_be_put_back(stage: Stage, new_database: Callable[..., str]) -> None:
    empty = stage.server.target(new_database("empty"))
    point = take(empty, stage.request.store)
    with empty.connect() as connection:
        connection.execute("CREATE TABLE public.later (i int)")
    request = replace(stage.request, target=empty, choice=Choice(point=point.path.name))
    assert rollback.run(rollback.plan(request)).status == "done"
    with empty.connect() as connection:
        assert connection.execute("SELECT to_regclass('public.later')").fetchone() == (None,)


def test_marks_hold_no_secret(stage: Stage) -> None:
    report = stage.rollback()
    with stage.maintenance() as connection:
        (mark,) = [mark for _, mark in marked(connection) if mark.live == stage.live]
    assert mark.run == report.run
    assert "password" not in mark.text()
