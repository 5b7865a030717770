"""Databases that make a rollback hard: what hangs in them, what hides in them, what fires in them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from lastgood import fault, rollback, undo
from lastgood.command.prune import plan as planning
from lastgood.context import Context
from lastgood.errors import Failed, Interrupted, Stopped
from lastgood.plan.plan import Choice
from lastgood.points.dump_point import take
from lastgood.postgres import binaries
from lastgood.postgres.embedded import EmbeddedServer, programs
from tests.acceptance.test_rollback import Stage, stage_of


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Stage:
    return stage_of(server, new_database(), store, tmp_path / "state")


def dump(stage: Stage, *options: str) -> None:
    """Make "good.sql" again."""
    folder = programs(stage.server.major)
    assert folder is not None
    file = stage.request.store / "good.sql"
    subprocess.run([str(folder / "pg_dump"), *options, "-d", stage.server.url(stage.live), "-f", str(file)], check=True)


@pytest.mark.postgres(15, 18)
def test_a_view_that_reads_another_one_through_a_function_is_filled_in_time(stage: Stage) -> None:
    """pg_dump sees no dependency between them and sorts them by name."""
    stage.execute("CREATE MATERIALIZED VIEW public.zbase AS SELECT count(*) AS n FROM public.account")
    stage.execute(
        "CREATE FUNCTION public.base() RETURNS bigint LANGUAGE plpgsql"
        " AS 'BEGIN RETURN (SELECT n FROM public.zbase); END'"
    )
    stage.execute("CREATE MATERIALIZED VIEW public.atop AS SELECT public.base() AS n")
    dump(stage)
    stage.rollback()
    assert stage.value("SELECT n::int FROM public.atop") == 500


def test_rows_without_a_match_stop_the_run_with_the_cause(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.entry (id int PRIMARY KEY, account int REFERENCES public.account)")
    with stage.server.target(stage.live).connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO public.entry VALUES (1, 99999)")
    dump(stage)
    with pytest.raises(Failed) as raised:
        stage.rollback()
    assert "violates foreign key constraint" in str(raised.value)
    assert raised.value.hint == (
        "Rows refer to rows that the restore point lacks: it was already inconsistent when it was made. Run lastgood "
        "points to choose another restore point. Or allow it: with --allow-orphans the key is added NOT VALID."
    )
    assert stage.names() == [stage.live]


def test_a_plan_does_not_wait_for_a_deployment_that_hangs(stage: Stage) -> None:
    with stage.server.target(stage.live).connect(autocommit=False) as hung:
        hung.execute("LOCK TABLE public.account IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        plan = rollback.plan(stage.request).plan
    assert time.monotonic() - began < 30
    (loss,) = plan.loss
    assert loss.written_since is None


@contextmanager
def elsewhere(stage: Stage, statement: str) -> Iterator[list[str]]:
    """Begins a statement of the application behind the fence, in a thread; gives what became of it."""
    became: list[str] = []

    def work() -> None:
        try:
            with stage.server.target(stage.live).connect(application_name="app") as connection:
                connection.execute(statement.encode())
                became.append("done")
        except psycopg.Error as error:
            became.append(error.sqlstate or "connection lost")

    thread = threading.Thread(target=work)

    def begin() -> None:
        thread.start()
        deadline = time.monotonic() + 10
        waiting = (
            "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'app' AND wait_event_type = 'Lock'"
        )
        while not became and not stage.value(waiting) and time.monotonic() < deadline:
            pass

    with fault.armed("fence.after_lock", begin):
        yield became
    thread.join()


@pytest.mark.postgres(15, 18)
def test_readers_do_not_wait_behind_a_command_that_waits_for_the_fence(stage: Stage) -> None:
    """Neither does our own backup, which would wait for ever: the fence stays until the backup is done."""
    texts: list[str] = []
    with elsewhere(stage, "TRUNCATE public.account") as became:
        stage.rollback(lambda event: texts.append(getattr(event, "text", "")))
    assert became == ["57014"]
    assert any("waited for an ACCESS EXCLUSIVE lock, and readers would have queued behind it" in text for text in texts)
    assert stage.balance() == 50_000


def test_large_objects_are_not_reported_as_fenced(stage: Stage) -> None:
    stage.execute("SELECT lo_from_bytea(4242, 'before')")
    dump(stage)
    with elsewhere(stage, "SELECT lo_put(4242, 0, 'behind')") as became:
        report = stage.rollback()
    assert became == ["done"]
    assert report.fence.writes_after is None
    assert report.fence.proof.endswith("s until the swap; large objects cannot be locked")
    stage.open_kept(report.kept)
    assert stage.value("SELECT convert_from(lo_get(4242), 'UTF8')", database=report.kept) == "behind"
    assert stage.value("SELECT convert_from(lo_get(4242), 'UTF8')") == "before"


def with_role(stage: Stage, role: str) -> None:
    with stage.maintenance() as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())


@pytest.mark.postgres(15, 18)
def test_an_event_trigger_that_forbids_ddl_does_not_stop_the_carrying_over(stage: Stage) -> None:
    with_role(stage, "later_app")
    stage.execute("GRANT SELECT ON public.account TO later_app")
    stage.execute(
        "CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no ddl'; END$$"
    )
    stage.execute("CREATE EVENT TRIGGER forbid ON ddl_command_start EXECUTE FUNCTION public.forbid()")
    dump(stage, "--no-owner", "--no-acl")
    report = stage.rollback()
    assert report.carried_over.privileges > 0
    assert "later_app" in report.carried_over.roles_tried
    with psycopg.connect(stage.server.url(stage.live)) as client, pytest.raises(psycopg.errors.RaiseException):
        client.execute("CREATE TABLE public.t ()")


def test_a_grant_made_after_the_restore_point_is_reported_and_does_not_stop_the_run(stage: Stage) -> None:
    with_role(stage, "sooner_app")
    with_role(stage, "later_app")
    stage.execute("GRANT SELECT ON public.account TO sooner_app")
    dump(stage)
    stage.execute("GRANT SELECT ON public.account TO later_app")
    report = stage.rollback()
    assert report.carried_over.remarks == (
        'role "later_app" can read public.account today, and could not at the restore point',
    )
    assert "sooner_app" in report.carried_over.roles_tried


def test_a_record_that_can_not_be_written_after_the_switch_does_not_hide_that_it_is_done(stage: Stage) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    stage.rollback()
    texts: list[str] = []
    target = stage.request.target
    with fault.armed("journal.before_done", full):
        undo.undo(
            target,
            undo.plan(target, stage.live),
            stage.request.context(lambda event: texts.append(getattr(event, "text", ""))),
        )
    assert stage.balance() == 0
    assert any(text.startswith("the undo is done, but ") for text in texts)


@pytest.mark.postgres(15, 18)  # the server of 16 has no decoding plugin
def test_what_came_since_the_plan_is_looked_at_again_before_the_switch(stage: Stage) -> None:
    prepared = rollback.plan(stage.request)

    def subscribe() -> None:
        stage.execute("SELECT pg_create_logical_replication_slot('came_later', 'test_decoding')")

    try:
        with fault.armed("prove.before_verdict", subscribe), pytest.raises(Failed) as raised:
            rollback.run(prepared)
    finally:
        stage.execute("SELECT pg_drop_replication_slot('came_later')")
    assert str(raised.value).startswith(
        'cannot switch: logical replication slot "came_later" (test_decoding, not in use)'
    )
    assert raised.value.state == f'"{stage.live}" was not touched and is open.'
    assert stage.names() == [stage.live]


def test_a_second_interrupt_right_after_the_commit_reports_the_switch(stage: Stage) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    prepared = rollback.plan(stage.request)
    with fault.armed("swap.after_commit", interrupt), pytest.raises(Stopped) as raised:
        rollback.run(prepared)
    assert str(raised.value) == "cannot finish the run after the switch: interrupted"
    assert raised.value.state == (
        f'"{stage.live}" is the restored database; the previous one is kept as "{prepared.plan.kept}".'
    )
    assert stage.balance() == 50_000


def test_a_finished_switch_whose_resume_fails_is_not_called_untouched(stage: Stage) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def full() -> None:
        raise OSError(28, "No space left on device")

    prepared = rollback.plan(stage.request)
    with fault.armed("swap.after_commit", stop), pytest.raises(Stopped):
        rollback.run(prepared)
    again = replace(stage.request, run=prepared.plan.run)
    with fault.armed("journal.after_doing", full), pytest.raises(Stopped) as raised:
        rollback.resume(again)
    assert str(raised.value) == "cannot finish the run after the switch: [Errno 28] No space left on device"
    assert f'"{stage.live}" is the restored database' in raised.value.state
    rollback.resume(again)
    assert stage.balance() == 50_000


def test_a_backup_that_waits_for_a_lock_can_be_interrupted(stage: Stage) -> None:
    over = threading.Event()
    with stage.server.target(stage.live).connect(autocommit=False) as hung:
        hung.execute("LOCK TABLE public.account IN ACCESS EXCLUSIVE MODE")
        timer = threading.Timer(1, over.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            take(stage.request.target, stage.request.store, context=Context(cancelled=over.is_set))
        timer.join()
    assert time.monotonic() - began < 30
    assert [path.name for path in stage.request.store.iterdir()] == ["good.sql"]


def test_without_pg_dump_the_plan_refuses_before_anything_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "places", list)
    (refusal,) = rollback.plan(stage.request).plan.refusals
    assert refusal.text == (
        f"cannot make an emergency backup: cannot find pg_dump {stage.server.major} or newer: it is not installed"
    )


def test_databases_that_share_a_store_do_not_get_each_others_points(
    stage: Stage, new_database: Callable[..., str]
) -> None:
    (stage.request.store / "good.sql").unlink()
    own = take(stage.request.target, stage.request.store)
    other = new_database("other")
    stage.execute("CREATE TABLE public.t AS SELECT 1 AS a", database=other)
    newer = take(stage.server.target(other), stage.request.store)
    assert rollback.plan(stage.request).plan.point.path == str(own.path)
    candidates = planning.plan(
        stage.request.target, stage.request.store, planning.Criteria(older_than=timedelta(0))
    ).candidates
    assert [(each.name, each.remove, each.why) for each in candidates] == [
        (own.path.name, False, "the last valid restore point")
    ]
    named = replace(stage.request, choice=Choice(point=newer.path.name))
    assert "other_database" in {finding.code for finding in rollback.plan(named).plan.findings}


@pytest.mark.postgres(17, 18)
def test_a_login_trigger_that_rejects_all_logins_does_not_prevent_the_rollback_by_a_superuser(stage: Stage) -> None:
    with stage.server.target(stage.live).connect() as connection:
        connection.execute(
            "CREATE FUNCTION public.shut() RETURNS event_trigger LANGUAGE plpgsql"
            " AS $$BEGIN RAISE EXCEPTION 'nobody comes in'; END$$"
        )
        connection.execute("CREATE EVENT TRIGGER shut ON login EXECUTE FUNCTION public.shut()")
    with pytest.raises(psycopg.OperationalError, match="nobody comes in"):
        psycopg.connect(stage.server.url(stage.live))
    report = stage.rollback()
    assert stage.balance() == 50_000
    assert report.emergency_backup is not None
