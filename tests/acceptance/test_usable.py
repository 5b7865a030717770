"""Service first: the application comes back to a database that is right but not complete, and it gets complete."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lastgood import fault, restore, rollback, undo
from lastgood.command.prune import plan as planning
from lastgood.command.prune import removal
from lastgood.errors import Interrupted, Refused, Stopped
from lastgood.events import Event
from lastgood.load.rebuild import ProofFailed
from lastgood.plan.plan import Request
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.run.report import FinishReport, Report
from lastgood.status import read
from tests.support import deferrable_objects, forked_cli

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
# Since 18 those of partitioned tables can wait, too: themselves, and what the server makes of them for each part.
PARTITIONED = {"event_customer_fkey", "seen_event_day_fkey"}


class Stage:
    """The shop as a live database in which only the index customer_city is used, and a restore point of it."""

    def __init__(self, server: EmbeddedServer, live: str, store: Path, state: Path) -> None:
        self.server, self.live = server, live
        deferrable_objects.fill(server, live)
        (store / "good.sql").write_bytes(deferrable_objects.dump(server, live))
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

    @property
    def keys(self) -> set[str]:
        """The foreign keys that wait."""
        return KEYS | PARTITIONED if self.server.major >= 18 else KEYS

    def missing(self) -> tuple[set[str], set[str]]:
        """Indexes of WAITING that are not there, and foreign keys that are not valid."""
        with self.connect() as connection:
            there = {row[0] for row in connection.execute("SELECT indexname FROM pg_indexes")}
            keys = connection.execute(
                "SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT convalidated AND conname NOT LIKE 'k;%'"
                " AND conparentid = 0"
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
    assert seen == [(WAITING, stage.keys)]
    assert report.finished is not None
    assert (report.finished.indexes, report.finished.foreign_keys) == (len(WAITING), len(stage.keys))
    with stage.connect() as live, stage.connect(into) as whole:
        assert deferrable_objects.catalogue(live) == deferrable_objects.catalogue(whole)
        assert live.execute("SELECT count(*) FROM shop.customer WHERE note = 'lost'").fetchone() == (0,)
        never = live.execute(
            "SELECT relname FROM pg_stat_user_tables WHERE last_analyze IS NULL AND last_autoanalyze IS NULL"
        )
        assert never.fetchall() == []
        assert live.execute("SELECT count(*) FROM pg_stats_ext WHERE inherited IS NULL").fetchone() == (0,)
    assert read(stage.request.target).finishing == ()


def lastgood(stage: Stage, *arguments: str, state: Path, faulty: str = "") -> subprocess.CompletedProcess[str]:
    """The command line on a machine whose journals are in ``state``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD"))}
    options = ["--db", stage.server.url(stage.live), "--store", str(stage.request.store), "--state", str(state)]
    environment |= {"LASTGOOD_FAULT": faulty} if faulty else {}
    return forked_cli.run(*options, *arguments, environment=environment)


@pytest.mark.postgres(15, 18)
def test_killed_while_it_finishes_another_machine_goes_on(stage: Stage, tmp_path: Path) -> None:
    killed = lastgood(
        stage, "rollback", "--yes", "--reopen-when", "usable", state=tmp_path / "one", faulty="finish.after_index:kill"
    )
    assert killed.returncode == -9
    status = lastgood(stage, "status", "--json", state=tmp_path / "two")
    assert status.returncode == 7
    keys = len(stage.keys)
    (left,) = json.loads(status.stdout)["finishing"]
    assert (left["tasks"], left["left"], left["indexes_left"], left["foreign_keys_left"]) == (
        10 + keys,
        9 + keys,
        9,
        keys,
    )
    assert (left["working"], left["commands"]) == ("", [f"lastgood resume {left['run']}"])
    shown = lastgood(stage, "status", state=tmp_path / "two").stdout
    assert "In service, but not finished" in shown
    assert f"{left['run']}: 1 of {10 + keys} tasks done; left: 9 indexes to build, {keys}" in shown
    # Without its restore point and its journal.
    (stage.request.store / "good.sql").unlink()
    resumed = lastgood(stage, "resume", "--yes", "--json", state=tmp_path / "two")
    assert resumed.returncode == 0, resumed.stderr
    document = json.loads(resumed.stdout)
    assert (document["run"], document["live"], document["status"]) == (left["run"], stage.live, "done")
    assert (document["finished"]["indexes"], document["finished"]["foreign_keys"]) == (9, keys)
    assert stage.missing() == (set(), set())
    assert lastgood(stage, "status", state=tmp_path / "two").returncode == 0
    again = lastgood(stage, "resume", "--yes", state=tmp_path / "two")
    assert again.returncode == 3
    assert f'no run of "{stage.live}" is unfinished' in again.stderr


def test_an_interrupt_during_the_deferred_work_reports_the_state(stage: Stage, tmp_path: Path) -> None:
    stopped = lastgood(
        stage, "rollback", "-y", "--reopen-when", "usable", state=tmp_path / "s", faulty="finish.before_task:interrupt"
    )
    assert stopped.returncode == 7
    (left,) = read(stage.request.target).finishing
    assert "cannot finish the run after the switch: interrupted" in stopped.stderr
    assert f"lastgood resume {left.run}" in " ".join(stopped.stderr.split())
    assert left.left == len(WAITING) + len(stage.keys)


def stop_at(point: str, stage: Stage) -> None:
    """A run that is interrupted at a point of its finishing."""

    def interrupt() -> None:
        raise Interrupted("interrupted")

    with fault.armed(point, interrupt), pytest.raises(Stopped):
        stage.rollback()


@pytest.mark.postgres(15, 18)
def test_an_undo_takes_back_what_is_not_finished_and_an_undo_of_it_brings_it_back(stage: Stage) -> None:
    stop_at("finish.after_index", stage)
    target, context = stage.request.target, stage.request.context()
    (left,) = read(target).finishing
    first = undo.undo(target, undo.plan(target, stage.live), context)
    assert stage.missing() == (set(), set())
    assert read(target).finishing == ()
    with pytest.raises(Refused) as raised:
        rollback.resume(replace(stage.request, run=left.run))
    assert str(raised.value) == f'cannot find run "{left.run}": no database or schema of this run exists on the server'
    undo.undo(target, undo.plan(target, stage.live, first.run), context)
    assert read(target).finishing == (left,)
    done = rollback.resume(replace(stage.request, run=left.run))
    assert isinstance(done, FinishReport)
    assert (done.finished.indexes, done.finished.foreign_keys) == (left.indexes_left, left.foreign_keys_left)
    assert stage.missing() == (set(), set())


def test_an_undo_does_not_wait_for_the_one_who_finishes(stage: Stage) -> None:
    target = stage.request.target
    undone: list[undo.UndoReport] = []

    def undo_it() -> None:
        if not undone:
            with ThreadPoolExecutor(1) as pool:  # as on another machine
                plan = undo.plan(target, stage.live)
                undone.append(pool.submit(undo.undo, target, plan, stage.request.context()).result())

    with fault.armed("finish.after_index", undo_it), pytest.raises(Stopped) as raised:
        stage.rollback()
    assert str(raised.value).endswith(f'"{stage.live}" is now another database')
    assert stage.missing() == (set(), set())
    with stage.connect() as live:
        assert live.execute("SELECT count(*) > 0 FROM shop.customer WHERE note = 'lost'").fetchone() == (True,)


def test_pruning_needs_nothing_of_it(stage: Stage) -> None:
    stop_at("finish.before_task", stage)
    target = stage.request.target
    (kept,) = read(target).kept
    plan = planning.plan(
        target,
        stage.request.store,
        planning.Criteria(
            named=(
                kept.name,
                "good.sql",
            )
        ),
    )
    assert [(each.name, each.remove) for each in plan.candidates if each.name == kept.name] == [(kept.name, True)]
    removal.run(target, plan)
    rollback.resume(replace(stage.request, run=None))
    assert stage.missing() == (set(), set())


@pytest.mark.postgres(15, 18)
def test_rows_without_a_match_are_found_before_the_switch(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    live = new_database()
    with server.target(live).connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int)")
        connection.execute("ALTER TABLE c ADD CONSTRAINT c_p FOREIGN KEY (p) REFERENCES p")
        connection.execute("SET session_replication_role = replica; INSERT INTO c VALUES (1, 7), (2, 7), (3, NULL)")
    (store / "bad.sql").write_bytes(deferrable_objects.dump(server, live))
    request = Request(server.target(live), store, tmp_path / "state", reopen_when="usable")
    with pytest.raises(ProofFailed) as raised:
        rollback.run(rollback.plan(request))
    assert str(raised.value).endswith(
        "1 difference from the restore point\n"
        "  foreign key c_p of public.c: 2 rows have no match in public.p, for example 7"
    )
    assert read(server.target(live)).kept == ()
    allowed = rollback.run(rollback.plan(replace(request, allow_orphans=True)))
    assert [each.what for each in allowed.repaired] == ["foreign key c_p on public.c"]
    with server.target(live).connect() as connection:
        row = connection.execute("SELECT convalidated FROM pg_constraint WHERE conname = 'c_p'").fetchone()
    assert row == (False,)
    assert read(server.target(live)).finishing == ()


def test_an_oid_of_a_dropped_object_may_name_another_one(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    """pg_dump writes a bare number; here the number is that of pg_class."""
    live = new_database()
    with server.target(live).connect() as connection:
        connection.execute("CREATE TABLE public.watched (id int, what regclass)")
        connection.execute("INSERT INTO public.watched VALUES (1, 3999999999)")
    dump = deferrable_objects.dump(server, live)
    assert b"\t3999999999\n" in dump
    (store / "bare.sql").write_bytes(dump.replace(b"\t3999999999\n", b"\t1259\n"))
    with pytest.raises(ProofFailed) as raised:
        rollback.run(rollback.plan(Request(server.target(live), store, tmp_path / "state")))
    assert str(raised.value).endswith(
        "\n  public.watched: column what has type regclass; an OID whose object was dropped before the restore "
        "point may be that of another object on this server"
    )


@pytest.mark.parametrize("trust", [("--trust-code", "ours"), ()], ids=["trusted", "confined"])
def test_a_resumed_build_knows_what_its_first_process_left_out(stage: Stage, trust: tuple[str, ...]) -> None:
    """The live database's statistics may have changed by then: the built indexes decide. What a role without rights
    built is built again, by the statistics of now."""
    killed = lastgood(
        stage,
        "rollback",
        "-y",
        "--reopen-when",
        "usable",
        *trust,
        state=stage.request.state,
        faulty="prove.before_verdict:kill",
    )
    assert killed.returncode == -9
    with stage.connect() as live:
        live.execute("SELECT pg_stat_reset()")
    seen: list[tuple[set[str], set[str]]] = []

    def look_at_it() -> None:
        seen.append(stage.missing())

    with fault.armed("finish.before_task", look_at_it):
        report = rollback.resume(replace(stage.request, reopen_when="full"))
    waiting = WAITING if trust else set()
    assert seen[0] == (waiting, stage.keys)
    assert isinstance(report, Report)
    assert report.finished is not None
    assert report.finished.indexes == len(waiting)


@pytest.mark.postgres(18)
def test_without_index_statistics_only_foreign_keys_are_deferred(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    live = new_database()
    deferrable_objects.fill(server, live)
    (store / "good.sql").write_bytes(deferrable_objects.dump(server, live))
    with server.target(live).connect() as connection:
        connection.execute("SELECT pg_stat_reset()")
    plan = rollback.plan(Request(server.target(live), store, tmp_path / "state", reopen_when="usable")).plan
    assert [each.split()[0] for each in plan.deferred] == ["foreign"] * 5
    (finding,) = [each for each in plan.findings if each.code == "deferral"]
    assert (finding.level, finding.text) == (
        "caution",
        f'no index of "{live}" has been used since its statistics were reset: 11 indexes '
        "that could be deferred are built before the reopening",
    )


def test_recent_statistics_are_used_with_a_remark(stage: Stage) -> None:
    plan = rollback.plan(stage.request).plan
    assert len(plan.deferred) == len(WAITING) + len(stage.keys)
    (finding,) = [each for each in plan.findings if each.code == "deferral"]
    assert finding.text == (
        f'the statistics of "{stage.live}" cover only 0 hours: an index that is used less often than that is built '
        "after the reopening"
    )
    assert plan.steps[-1].name == "finish"


def test_an_index_that_the_live_database_lacks_does_not_wait(stage: Stage) -> None:
    with stage.connect() as live:
        live.execute("DROP INDEX shop.order_made")
        live.execute("ALTER INDEX shop.customer_words RENAME TO another_name")
    plan = rollback.plan(stage.request).plan
    waiting = {each for each in plan.deferred if each.startswith("index")}
    assert "index shop.order_made" not in waiting
    assert "index shop.customer_words" not in waiting
    assert len(waiting) == len(WAITING) - 2


def test_a_restore_hands_over_what_is_usable_and_finishes_it(stage: Stage, new_database: Callable[..., str]) -> None:
    into = new_database("other") + "_new"
    with fault.armed("finish.before_forget", lambda: None):
        report = restore.restore(stage.request.target, stage.request.store, "good.sql", into, reopen_when="usable")
    assert report.finished is not None
    assert (report.finished.indexes, report.finished.foreign_keys) == (len(WAITING), len(stage.keys))
    assert report.seconds["usable"] <= report.seconds["total"]

    def stop() -> None:
        raise Interrupted("interrupted")

    second = into + "_2"
    with fault.armed("finish.after_index", stop), pytest.raises(Stopped) as raised:
        restore.restore(stage.request.target, stage.request.store, "good.sql", second, reopen_when="usable")
    assert str(raised.value) == "interrupted: work is left to finish"
    assert raised.value.state == f'"{second}" is restored, proved and open; only the deferred work is missing.'
    request = replace(stage.request, target=stage.server.target(second))
    (left,) = read(request.target).finishing
    assert raised.value.hint == f"To continue, with the URL of that database: lastgood resume {left.run} --db URL"
    rollback.resume(request)
    with stage.connect(into) as one, stage.connect(second) as other:
        assert deferrable_objects.catalogue(one) == deferrable_objects.catalogue(other)


@pytest.mark.postgres(15, 18)
def test_an_owner_who_is_no_superuser_can_do_all_of_it(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    live = new_database()
    role = sql.Identifier(f"owner_{live}")
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(live), role))
    target = server.target(live, user=f"owner_{live}")
    try:
        with target.connect() as connection:
            connection.execute("CREATE SCHEMA mine; CREATE TABLE mine.p (id int PRIMARY KEY)")
            connection.execute("CREATE TABLE mine.c (id int PRIMARY KEY, p int REFERENCES mine.p, v int)")
            connection.execute("CREATE INDEX c_v ON mine.c (v); CREATE INDEX c_p ON mine.c (p)")
            connection.execute(
                "INSERT INTO mine.p VALUES (1); INSERT INTO mine.c SELECT i, 1, i FROM generate_series(1, 9) i"
            )
        (store / "good.sql").write_bytes(deferrable_objects.dump(server, live))
        with target.connect() as connection:
            connection.execute(
                "SET enable_seqscan = off; SELECT FROM mine.c WHERE p = 1; DELETE FROM mine.c WHERE p = 1"
            )
            connection.execute("SELECT pg_stat_force_next_flush()")
        request = Request(target, store, tmp_path / "state", reopen_when="usable")

        def stop() -> None:
            raise Interrupted("interrupted")

        with fault.armed("finish.before_task", stop), pytest.raises(Stopped):
            rollback.run(rollback.plan(request))
        (left,) = read(target).finishing
        assert (left.indexes_left, left.foreign_keys_left) == (1, 1)
        rollback.resume(request)
        assert read(target).finishing == ()
        with target.connect() as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM pg_indexes WHERE indexname = 'c_v'),"
                " (SELECT convalidated FROM pg_constraint WHERE conname = 'c_p_fkey')"
            )
            assert found.fetchone() == (1, True)
    finally:
        with server.target("postgres").connect() as admin:
            for (name,) in admin.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", [live + "%"]
            ).fetchall():
                admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(name)))
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            admin.execute(sql.SQL("DROP ROLE {}").format(role))
