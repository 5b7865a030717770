"""The switch among other sessions: who waits for whom, who is refused, and what a fault leaves."""

from __future__ import annotations

import itertools
import re
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from psycopg import sql

from lastgood import fault
from lastgood.errors import Failed, Interrupted, Refused
from lastgood.in_place import marks, names
from lastgood.in_place.exchange import locking, reconnect, snapshots, switch
from lastgood.in_place.exchange.completion import complete, validate
from lastgood.in_place.exchange.locking import Blocker
from lastgood.in_place.exchange.move import Moved, committed, move
from lastgood.in_place.exchange.snapshots import OpenSession
from lastgood.in_place.survey import Object, objects, survey
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.lock import lock_key
from lastgood.postgres.server import Connection
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, FOLDER, OWN, Project, Staged, account_of, stage
from tests.support.waiting import until

ALL = (*OWN, "crm")
UNDO = "20261122-031500-00000001"


@pytest.fixture
def staged(project: Project, broken: str) -> Staged:
    return stage(project, "postgres", broken)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as running:
        yield running


def swapped(
    connection: Connection, staged: Staged, waiting: Callable[[int, list[Blocker]], None] = lambda *_: None
) -> Moved:
    return switch.swap(connection, staged.run, schemas=ALL, wished=staged.ties, manifest="digest", waiting=waiting)


def in_thread(pool: ThreadPoolExecutor, project: Project, staged: Staged) -> Future[Moved]:
    def work() -> Moved:
        with project.connect(staged.live) as connection:
            return swapped(connection, staged)

    return pool.submit(work)


def waits(connection: Connection, relation: str, mode: str) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE relation = to_regclass(%s) AND mode = %s AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [relation, mode],
    ).fetchone()
    return row is not None and row[0] > 0


# Snapshots


@pytest.mark.postgres(15, 17)
def test_a_snapshot_older_than_staging_is_not_left_to_find_empty_tables(project: Project, broken: str) -> None:
    with project.connect(broken, user=ADMIN) as dump, project.connect(broken) as connection:
        dump.execute("SET application_name = 'nightly dump'")
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        dump.execute("SELECT")
        dump.execute("SELECT txid_current_snapshot()")
        staged = stage(project, "postgres", broken)
        found = [each.mark for each in marks.marked(connection, run=staged.run)]
        seen: list[list[OpenSession]] = []
        with pytest.raises(Refused) as refused:
            snapshots.wait(connection, found, seconds=0, waiting=seen.append)
        assert refused.value.message.startswith(
            "cannot switch: these transactions are older than the restored tables and would see them empty: process "
        )
        assert f'"nightly dump" of role "{ADMIN}", in a transaction since' in refused.value.message
        assert [[each.application for each in sessions] for sessions in seen] == [["nightly dump"]]
        with pytest.raises(Refused, match="nightly dump"):
            swapped(connection, staged)
        with pytest.raises(Interrupted):
            snapshots.wait(connection, found, seconds=60, cancelled=lambda: True)
        dump.execute("COMMIT")
        snapshots.wait(connection, found, seconds=60)
        assert swapped(connection, staged).tries == 1


def test_a_newer_snapshot_does_not_wait_for_an_old_writer(project: Project, broken: str) -> None:
    with project.connect(broken) as writer, project.connect(broken) as dump, project.connect(broken) as connection:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')")
        staged = stage(project, "postgres", broken)
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        dump.execute("SELECT txid_current_snapshot()")
        assert snapshots.older(connection, [each.mark for each in marks.marked(connection, run=staged.run)]) == []
        swapped(connection, staged)
        row = dump.execute("SELECT count(*) FROM public.contacts WHERE name LIKE 'Contact%'").fetchone()
        assert row == (200,)


# Locks


def test_autovacuum_gives_way(project: Project) -> None:
    busy = Project(project.major, settings={"autovacuum_naptime": "1s"})
    try:
        live = busy.copy()
        # A vacuum of this table would take a minute.
        busy.psql(
            live,
            """
            CREATE TABLE public.big (id int, filler text) WITH (fillfactor = 10,
                autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
                autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
            INSERT INTO public.big SELECT n, repeat('x', 400) FROM generate_series(1, 2000) n;
            UPDATE public.big SET id = -id;
            """,
        )
        staged = stage(busy, "postgres", live)
        with busy.connect(live, user=ADMIN) as admin, busy.connect(live) as connection:
            until(
                lambda: (
                    admin.execute("SELECT FROM pg_stat_progress_vacuum WHERE relid = 'public.big'::regclass").fetchone()
                    is not None
                )
            )
            assert swapped(connection, staged).tries == 1
    finally:
        busy.close()


@pytest.mark.postgres(15, 17)
def test_a_long_reader_is_named_and_then_the_swap_goes_on(project: Project, broken: str, staged: Staged) -> None:
    with project.connect(broken) as reader, project.connect(broken) as connection:
        reader.execute("SET application_name = 'report'")
        reader.execute("BEGIN")
        reader.execute("SELECT FROM public.contacts")
        seen: list[tuple[int, list[str]]] = []

        def waiting(attempt: int, sessions: list[Blocker]) -> None:
            seen.append((attempt, [each.application for each in sessions if isinstance(each, OpenSession)]))
            reader.execute("COMMIT")

        moved = swapped(connection, staged, waiting)
    assert moved.tries == 2
    assert seen == [(1, ["report"])]


def test_a_prepared_transaction_is_named(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    """It holds its locks without a session."""
    with server.target(new_database()).connect() as connection:
        connection.execute("CREATE TABLE public.held (id int)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO public.held VALUES (1)")
        connection.execute("PREPARE TRANSACTION 'of the shop''s queue'")
        (found,) = locking.blockers(connection, ["public"], [])
        connection.execute("ROLLBACK PREPARED 'of the shop''s queue'")
    assert re.fullmatch(
        r"""prepared transaction "of the shop's queue" of role "postgres" since \S+ \S+ \S+, which ends with """
        r"COMMIT PREPARED 'of the shop''s queue' or ROLLBACK PREPARED 'of the shop''s queue'",
        str(found),
    )


def test_a_reader_that_stays_fails_the_swap_and_nothing_is_changed(
    project: Project, broken: str, staged: Staged
) -> None:
    before = account_of(project, broken)
    with project.connect(broken) as reader, project.connect(broken) as connection:
        reader.execute("SET application_name = 'report'")
        reader.execute("BEGIN")
        reader.execute("SELECT FROM public.people")
        wanted = switch.prepare_swap(connection, staged.run, schemas=ALL, wished=staged.ties, manifest="digest")
        with pytest.raises(Failed) as failed:
            move(connection, wanted, tries=1)
    assert failed.value.message.startswith(
        "cannot switch: could not lock all tables in 1 attempt; blocked by: process "
    )
    assert '"report" of role "postgres"' in failed.value.message
    assert_same(before, account_of(project, broken))


def test_a_waiting_writer_ends_up_in_the_restored_table(
    project: Project, broken: str, staged: Staged, pool: ThreadPoolExecutor
) -> None:
    with (
        project.connect(broken) as reader,
        project.connect(broken) as writer,
        project.connect(broken, user=ADMIN) as admin,
    ):
        writer.execute("PREPARE add AS INSERT INTO public.contacts (name) VALUES ('waited')")
        writer.execute("EXECUTE add")
        reader.execute("BEGIN")
        reader.execute("SELECT FROM public.contacts")
        swap = in_thread(pool, project, staged)
        until(lambda: waits(admin, "public.contacts", "AccessExclusiveLock"))
        write = pool.submit(writer.execute, "EXECUTE add")
        until(lambda: waits(admin, "public.contacts", "RowExclusiveLock"))
        reader.execute("COMMIT")
        write.result()
        swap.result()
        assert _count(admin, "public", "waited") == 1
        assert _count(admin, names.kept(staged.run, "public"), "waited") == 1


def test_a_sign_up_under_way_ends_before_the_swap_without_a_deadlock(
    project: Project, broken: str, staged: Staged, pool: ThreadPoolExecutor
) -> None:
    with project.connect(broken) as auth, project.connect(broken, user=ADMIN) as admin:
        auth.execute("BEGIN")
        auth.execute("LOCK TABLE auth.users IN ROW EXCLUSIVE MODE")
        swap = in_thread(pool, project, staged)
        until(lambda: waits(admin, "auth.users", "AccessExclusiveLock"))
        # Its trigger writes into a table of the application.
        auth.execute("INSERT INTO auth.users (id, email) VALUES (%s, 'under@way')", [uuid.uuid4()])
        auth.execute("COMMIT")
        assert swap.result().tries <= 2
        row = admin.execute(
            sql.SQL("SELECT count(*) FROM {}.sales WHERE name = 'new'").format(
                sql.Identifier(names.kept(staged.run, "public"))
            )
        ).fetchone()
        assert row == (1,)


def test_a_view_being_read_does_not_deadlock(
    project: Project, broken: str, staged: Staged, pool: ThreadPoolExecutor
) -> None:
    with project.connect(broken) as reader, project.connect(broken, user=ADMIN) as admin:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM public.people LIMIT 0")
        swap = in_thread(pool, project, staged)
        until(lambda: waits(admin, "public.people", "AccessExclusiveLock"))
        # The swap holds no lock yet on what the view reads.
        reader.execute("SELECT FROM auth.users")
        reader.execute("SELECT FROM public.profiles")
        reader.execute("COMMIT")
        swap.result()


def test_a_client_that_locks_in_another_order_does_not_die_of_a_deadlock(
    project: Project, broken: str, staged: Staged, pool: ThreadPoolExecutor
) -> None:
    with project.connect(broken) as client, project.connect(broken, user=ADMIN) as admin:
        client.execute("BEGIN")
        client.execute("SELECT FROM public.tags")
        swap = in_thread(pool, project, staged)
        # The swap has locked the view and most tables, and waits for this one; it must let go of the others.
        until(lambda: waits(admin, "public.tags", "AccessExclusiveLock"))
        client.execute("SELECT FROM public.people")
        client.execute("INSERT INTO public.contacts (name) VALUES ('in between')")
        client.execute("COMMIT")
        assert swap.result().tries == 1
        assert _count(admin, names.kept(staged.run, "public"), "in between") == 1


@pytest.mark.postgres(15, 17)
def test_every_acknowledged_write_is_in_the_live_or_the_kept_table(
    project: Project, broken: str, staged: Staged, pool: ThreadPoolExecutor
) -> None:
    over = threading.Event()
    numbers = itertools.count()

    def write(signs_up: bool) -> list[str]:
        acknowledged = []
        with project.connect(broken) as connection:
            while not over.is_set():
                name = f"w{next(numbers)}"
                if signs_up:
                    connection.execute("INSERT INTO auth.users (id, email) VALUES (%s, %s)", [uuid.uuid4(), name])
                else:
                    connection.execute("INSERT INTO public.contacts (name) VALUES (%s)", [name])
                    acknowledged.append(name)
        return acknowledged

    try:
        writers = [pool.submit(write, signs_up) for signs_up in (False, False, True)]
        with project.connect(broken) as connection:
            until(lambda: _count(connection, "public", "w%") > 20)
            swapped(connection, staged)
            until(lambda: _count(connection, "public", "w%") > 20)
            back = switch.undo(connection, staged.run, UNDO)
            until(lambda: next(numbers) > 200)
            over.set()
            written = [name for each in writers for name in each.result()]
            assert validate(connection, back.unvalidated) == []
            found = []
            for schema in ("public", names.undone(UNDO, "public")):
                query = sql.SQL("SELECT name FROM {}.contacts WHERE name LIKE 'w%'").format(sql.Identifier(schema))
                found += [name for (name,) in connection.execute(query)]
    finally:
        over.set()
    assert sorted(found) == sorted(written)


def _count(connection: Connection, schema: str, name: str) -> int:
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {}.contacts WHERE name LIKE {}").format(sql.Identifier(schema), sql.Literal(name))
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.postgres(15, 17)
def test_sessions_from_before_the_swap_are_counted_and_can_be_made_to_reconnect(
    project: Project, broken: str, staged: Staged
) -> None:
    with project.connect(broken) as stale, project.connect(broken, user=ADMIN) as admin:
        with project.connect(broken) as connection:
            stale.execute("SET application_name = 'api'")
            swapped(connection, staged)
            at = marks.marked(connection, run=staged.run, role="kept")[0].mark.made_at
            found = reconnect.sessions(connection, at)
            # This role may not terminate a superuser's session.
            assert [each.application for each in found] == ["api"]
            with project.connect(broken):
                assert reconnect.sessions(connection, at) == found
            assert reconnect.terminate(connection, found) == 1
            assert reconnect.sessions(connection, at) == []
        with pytest.raises(psycopg.OperationalError):
            stale.execute("SELECT")
        admin.execute("SELECT")


# Refusals


def test_nothing_switches_without_a_proved_mark_of_the_run(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken, prove=False)
    before = account_of(project, broken)
    with project.connect(broken) as connection:
        with pytest.raises(Refused) as refused:
            swapped(connection, staged)
        assert refused.value.message == (
            f'cannot switch: staging schema "{names.staging(staged.run, "app_private")}" is not proved'
        )
        with pytest.raises(Refused) as refused:
            switch.swap(connection, UNDO, schemas=ALL, wished=staged.ties, manifest="digest")
        assert refused.value.message == f'cannot switch: run "{UNDO}" has no staging schemas'
        for each in marks.marked(connection, run=staged.run):
            with connection.transaction():
                marks.write(connection, each.name, marks.proved(connection, each.mark, "another digest"))
        with pytest.raises(Refused, match="is not proved"):
            swapped(connection, staged)
    assert_same(before, account_of(project, broken))


def test_a_mark_that_another_role_wrote_is_not_believed(project: Project, broken: str, staged: Staged) -> None:
    with project.connect(broken, user=ADMIN) as admin:
        with pytest.raises(Refused) as refused:
            swapped(admin, staged)
        assert refused.value.message == (
            f'cannot switch: schema "{names.staging(staged.run, "app_private")}" belongs to role "postgres"'
        )
        with project.connect(broken) as connection:
            swapped(connection, staged)
        with pytest.raises(Refused, match=r'cannot undo: schema ".*" belongs to role "postgres"'):
            switch.undo(admin, staged.run, UNDO)


def test_one_run_at_a_time_switches(project: Project, broken: str, staged: Staged) -> None:
    with project.connect(broken) as other, project.connect(broken) as connection:
        other.execute("SET application_name = 'lastgood elsewhere'")
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(broken)])
            with pytest.raises(Refused) as refused:
                swapped(connection, staged)
        assert refused.value.message.startswith(
            'cannot switch: another run is switching this database ("lastgood elsewhere", as "postgres"'
        )
        swapped(connection, staged)


def test_a_change_since_the_plan_is_refused(project: Project, broken: str, staged: Staged) -> None:
    with project.connect(broken) as connection:
        planned = survey(connection, ALL)
        connection.execute("CREATE TABLE public.newcomer ()")
        with pytest.raises(Refused) as refused:
            switch.swap(connection, staged.run, schemas=ALL, wished=staged.ties, manifest="digest", planned=planned)
        assert refused.value.message == (
            'cannot switch: the schemas changed since the plan was made (table "public.newcomer")'
        )
        connection.execute("DROP TABLE public.newcomer")
        connection.execute("DROP POLICY upload_for_all ON storage.objects")
        with pytest.raises(Refused, match="changed since the plan was made \\(ties to other schemas\\)"):
            switch.swap(connection, staged.run, schemas=ALL, wished=staged.ties, manifest="digest", planned=planned)


def test_an_undo_needs_all_kept_schemas(project: Project, broken: str, staged: Staged) -> None:
    with project.connect(broken) as connection:
        with pytest.raises(Refused) as refused:
            switch.undo(connection, staged.run, UNDO)
        assert refused.value.message == f'cannot undo: no kept schemas of run "{staged.run}" exist'
        swapped(connection, staged)
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(names.kept(staged.run, "crm"))))
        with pytest.raises(Refused) as refused:
            switch.undo(connection, staged.run, UNDO)
        assert refused.value.message == (f'cannot undo run "{staged.run}": its kept schema for "crm" no longer exists')


def test_a_tie_to_a_table_that_does_not_exist_is_refused(project: Project, broken: str, staged: Staged) -> None:
    key = staged.ties.foreign_keys[0].model_copy(update={"target_table": "people"})
    wished = staged.ties.model_copy(update={"foreign_keys": (*staged.ties.foreign_keys, key)})
    with project.connect(broken) as connection, pytest.raises(Refused) as refused:
        switch.swap(connection, staged.run, schemas=ALL, wished=wished, manifest="digest")
    assert (
        refused.value.message == 'cannot switch: the restore point refers to table "auth.people", which does not exist'
    )


def test_a_forgotten_object_fails_the_swap(
    project: Project, broken: str, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = account_of(project, broken)

    def all_but_one(connection: Connection, schemas: list[str]) -> tuple[list[Object], list[str]]:
        every, unknown = objects(connection, schemas)
        return [each for each in every if each.name.names[-1] != "plain"], unknown

    monkeypatch.setattr("lastgood.in_place.exchange.transaction.objects", all_but_one)
    with project.connect(broken) as connection, pytest.raises(Failed) as failed:
        swapped(connection, staged)
    assert failed.value.message.startswith("cannot switch: ")
    assert_same(before, account_of(project, broken))


# Faults

BEFORE_COMMIT = ("inplace.after_locks", "inplace.between_moves", "inplace.before_commit")


class Lost(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("point", BEFORE_COMMIT)
@pytest.mark.parametrize("kind", ["process", "connection"])
def test_a_fault_before_the_commit_changes_nothing(
    point: str, kind: str, project: Project, broken: str, staged: Staged
) -> None:
    before = account_of(project, broken)
    _with_fault(project, staged, point, kind)
    assert_same(before, account_of(project, broken))
    with project.connect(broken) as connection:
        assert not committed(connection, staged.run, "kept")
        # The same run continues, and can be undone.
        swapped(connection, staged)
        back = switch.undo(connection, staged.run, UNDO)
        assert validate(connection, back.unvalidated) == []
    assert_same(before, account_of(project, broken))


@pytest.mark.parametrize("kind", ["process", "connection"])
def test_a_fault_after_the_commit_is_a_swap_that_can_be_undone(
    kind: str, project: Project, broken: str, staged: Staged
) -> None:
    point, before = account_of(project, "postgres"), account_of(project, broken)
    _with_fault(project, staged, "inplace.after_commit", kind)
    assert_same(point, account_of(project, broken))
    with project.connect(broken) as connection:
        assert committed(connection, staged.run, "kept")
        back = switch.undo(connection, staged.run, UNDO)
        with fault.armed("inplace.before_validate", _raise), pytest.raises(Lost):
            list(complete(connection, UNDO))
        # Another process finds what is left to validate.
        (left,) = marks.rest(connection)
        assert (left.run, left.foreign_keys) == (UNDO, back.unvalidated)
        assert list(complete(connection, UNDO)) == []
        assert marks.rest(connection) == []
    assert_same(before, account_of(project, broken))


@pytest.mark.postgres(15, 17)
def test_a_crash_of_the_server_changes_nothing(project: Project) -> None:
    with_own = Project(project.major)
    try:
        broken = with_own.copy()
        with_own.psql(broken, (FOLDER / "migration.sql").read_text())
        staged = stage(with_own, "postgres", broken)
        before = account_of(with_own, broken)

        def crash() -> None:
            with_own.server.stop(signal.SIGQUIT)

        with (
            suppress(psycopg.OperationalError),
            with_own.connect(broken) as connection,
            fault.armed("inplace.before_commit", crash),
        ):
            swapped(connection, staged)
        with_own.server.start()
        assert_same(before, account_of(with_own, broken))
        with with_own.connect(broken) as connection:
            swapped(connection, staged)
    finally:
        with_own.close()


def _with_fault(project: Project, staged: Staged, point: str, kind: str) -> None:
    connection = project.connect(staged.live)
    pid = connection.info.backend_pid

    def cut() -> None:
        with project.connect(staged.live, user=ADMIN) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    with fault.armed(point, _raise if kind == "process" else cut), suppress(Lost, psycopg.OperationalError):
        swapped(connection, staged)
    connection.close()


def _raise() -> None:
    raise Lost


def test_an_interrupt_before_the_commit_changes_nothing(project: Project, broken: str, staged: Staged) -> None:
    before = account_of(project, broken)
    answers = iter([False, True])
    with project.connect(broken) as connection:
        with pytest.raises(Interrupted) as interrupted:
            switch.swap(
                connection,
                staged.run,
                schemas=ALL,
                wished=staged.ties,
                manifest="digest",
                cancelled=answers.__next__,
            )
        assert interrupted.value.message == "interrupted before the switch was committed"
    assert_same(before, account_of(project, broken))
