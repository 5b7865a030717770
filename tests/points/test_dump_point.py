"""Creation of a restore point: one snapshot, nothing left after a failure, no secrets."""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from lastgood import fault, points
from lastgood.context import Context
from lastgood.errors import Failed, Interrupted
from lastgood.events import Event, Progress
from lastgood.points.dump_point import take
from lastgood.points.manifest import Form, manifest_of, manifest_path
from lastgood.points.point import RestorePoint
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support.waiting import until

ALL = pytest.mark.postgres(15, 16, 17, 18)
DEADLINE = 30.0


@contextmanager
def locked(target: Target, table: str) -> Iterator[None]:
    """Lock the table against readers."""
    with target.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier("public", table)))
        yield
        connection.execute("ROLLBACK")


def our_pg_dump() -> psutil.Process | None:
    """The pg_dump process that this process has started."""
    for process in psutil.Process().children():
        if process.name() == "pg_dump":
            return process
    return None


@contextmanager
def in_background(work: Callable[[], RestorePoint]) -> Iterator[Future[RestorePoint]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


@ALL
@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
def test_a_backup_is_complete_and_known(crm: Target, store: Path, form: Form) -> None:
    seen: list[Event] = []
    with crm.connect() as connection:
        before = connection.execute("SELECT clock_timestamp()").fetchone()
        point = take(crm, store, label="before release/42", form=form, context=Context(seen.append))
        after = connection.execute("SELECT clock_timestamp()").fetchone()
    assert before is not None and after is not None
    assert before[0] <= point.made_at <= after[0]
    name = crm.keywords["dbname"]
    extension = {"plain": ".sql", "custom": ".dump", "directory": ""}[form]
    assert point.path == store / f"{name}_{point.made_at.astimezone(UTC):%Y%m%d_%H%M%S}_before_release_42{extension}"
    manifest = manifest_of(point.path)
    assert manifest is not None
    assert manifest == point.manifest
    assert (manifest.database, manifest.label, manifest.purpose, manifest.form) == (
        name,
        "before release/42",
        "backup",
        form,
    )
    assert (manifest.migration, manifest.facts.rows, manifest.facts.large_objects.count) == ("20251104140000", 552, 1)
    assert manifest.options == (f"--format={form}", "--encoding=UTF8", "--no-sync", "--no-password")
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", manifest.lsn or "")
    assert point.time_source == "manifest"
    assert sorted(path.name for path in store.iterdir()) == sorted([point.path.name, manifest_path(point.path).name])
    assert point.path.stat().st_mode & 0o077 == 0
    assert manifest_path(point.path).stat().st_mode & 0o077 == 0
    assert points.verify(point).state == "valid"
    assert points.list_points(store) == [point]
    assert {event.stage for event in seen if isinstance(event, Progress)} == {"backup"}


@ALL
def test_a_backup_agrees_with_one_moment_while_a_writer_writes(crm: Target, store: Path) -> None:
    stop = threading.Event()
    committed = 0

    def write() -> None:
        nonlocal committed
        with crm.connect() as connection:
            while not stop.is_set():
                committed += 1
                with connection.transaction():
                    amount, one, other = committed % 7, committed % 50 + 1, (committed * 13) % 50 + 1
                    move = "UPDATE public.accounts SET balance = balance + %s WHERE id = %s"
                    connection.execute(move, [-amount, one])
                    connection.execute(move, [amount, other])
                    connection.execute("INSERT INTO public.contacts (name) VALUES ('new')")
                    connection.execute("SELECT pg_catalog.lo_from_bytea(0, 'x')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: committed > 20)
        made = [take(crm, store) for _ in range(3)]
        before = committed
        until(lambda: committed > before)
    finally:
        stop.set()
        writer.join()
    rows = [point.manifest.facts.rows for point in made if point.manifest is not None]
    assert rows == sorted(rows)
    assert len({point.path for point in made}) == 3
    for point in made:
        assert points.verify(point).state == "valid"
        text = point.path.read_text()
        block = text[text.index("COPY public.accounts") :].split("\n\\.\n", 1)[0]
        balances = [int(line.split("\t")[1]) for line in block.splitlines()[1:]]
        assert sum(balances) == 5000


@ALL
def test_a_killed_pg_dump_leaves_nothing(crm: Target, store: Path) -> None:
    def kill() -> bool:
        process = our_pg_dump()
        if process is None:
            return False
        process.send_signal(signal.SIGKILL)
        return True

    with locked(crm, "contacts"), in_background(lambda: take(crm, store)) as work:
        until(kill)
        with pytest.raises(Failed) as error:
            work.result(DEADLINE)
    assert str(error.value) == f'cannot back up database "{crm.dbname}": pg_dump exited with status -9'
    assert error.value.hint == "Nothing is left behind. Create another one: lastgood backup"
    assert list(store.iterdir()) == []


@ALL
@pytest.mark.parametrize("form", ["plain", "directory"])
def test_an_interrupted_one_leaves_nothing(crm: Target, store: Path, form: Form) -> None:
    stop = threading.Event()
    context = Context(cancelled=stop.is_set)
    with locked(crm, "contacts"), in_background(lambda: take(crm, store, form=form, context=context)) as work:
        until(lambda: our_pg_dump() is not None)
        stop.set()
        with pytest.raises(Interrupted) as error:
            work.result(DEADLINE)
    assert str(error.value) == f'cannot finish the backup of database "{crm.dbname}": interrupted'
    assert list(store.iterdir()) == []
    assert our_pg_dump() is None


@ALL
def test_a_lost_connection_leaves_nothing(crm: Target, store: Path) -> None:
    def cut() -> bool:
        if our_pg_dump() is None:
            return False
        with crm.connect() as connection:
            found = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'lastgood backup' AND datname = current_database()"
                " AND wait_event_type = 'Lock'"
            ).fetchall()
        return bool(found)

    with locked(crm, "contacts"), in_background(lambda: take(crm, store)) as work:
        until(cut)
        with pytest.raises(Failed) as error:
            work.result(DEADLINE)
    assert str(error.value).startswith(f'cannot back up database "{crm.dbname}": terminating connection')
    assert list(store.iterdir()) == []
    assert our_pg_dump() is None


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
@pytest.mark.parametrize(
    ("place", "time_of_it"), [("emergency.after_dump", 1), ("durable.before_rename", 1), ("durable.before_rename", 2)]
)
def test_a_full_disk_leaves_nothing(
    server: EmbeddedServer, crm: Target, store: Path, form: Form, place: str, time_of_it: int
) -> None:
    passed = 0

    def fill() -> None:
        nonlocal passed
        passed += 1
        if passed == time_of_it:
            no_space()

    with fault.armed(place, fill), pytest.raises(Failed) as error:
        take(crm, store, form=form, kind="emergency")
    assert passed == time_of_it
    assert str(error.value) == f'cannot back up database "{crm.dbname}" to "{store}": no space left on device'
    assert error.value.hint == (
        "Nothing is left behind. Free space there or name another folder with --store, then run the command again."
    )
    assert list(store.iterdir()) == []


def test_what_pg_dump_wrote_is_read_back(server: EmbeddedServer, crm: Target, store: Path) -> None:
    def damage() -> None:
        (partial,) = store.iterdir()
        partial.write_bytes(partial.read_bytes().replace(b"contact 77\t", b"contact 78\t"))

    with fault.armed("emergency.after_dump", damage), pytest.raises(Failed) as error:
        take(crm, store)
    assert re.fullmatch(
        rf'cannot use the backup "{crm.dbname}_\d{{8}}_\d{{6}}.sql": it differs from the source database: '
        "content of public.contacts: digest [0-9a-f]{32} in the database, digest [0-9a-f]{32} in the dump",
        str(error.value),
    )
    assert list(store.iterdir()) == []

    def cut() -> None:
        (partial,) = store.iterdir()
        partial.write_bytes(partial.read_bytes()[:-100])

    with fault.armed("emergency.after_dump", cut), pytest.raises(Failed) as error:
        take(crm, store)
    assert str(error.value).startswith(f'cannot use the backup "{crm.dbname}_')
    assert list(store.iterdir()) == []


def test_a_backup_that_lacks_an_object_is_reported_with_its_kind(crm: Target, store: Path) -> None:
    def lose() -> None:
        (partial,) = store.iterdir()
        partial.write_bytes(re.sub(rb"CREATE POLICY .*?;\n", b"", partial.read_bytes(), flags=re.DOTALL))

    with crm.connect() as connection:
        connection.execute("CREATE POLICY mine ON public.contacts")
    with fault.armed("emergency.after_dump", lose), pytest.raises(Failed) as error:
        take(crm, store)
    assert re.fullmatch(
        rf'cannot use the backup "{crm.dbname}_\d{{8}}_\d{{6}}.sql": it differs from the source database: '
        r"number of policies: \d+ \(with mine on public.contacts.*\) in the database, 0 in the dump",
        str(error.value),
    )
    assert error.value.hint == (
        "Nothing is left behind. Run lastgood backup again while no schema change is in progress. "
        "If it fails again, report this message."
    )


def test_the_password_is_seen_nowhere(server: EmbeddedServer, crm: Target, store: Path) -> None:
    secret = "p@ss:w/rd%21"
    target = Target({**crm.keywords, "password": secret})
    texts: list[str] = []
    with locked(crm, "contacts"), in_background(lambda: take(target, store)) as work:
        until(lambda: our_pg_dump() is not None)
        process = our_pg_dump()
        assert process is not None
        texts.append(" ".join(process.cmdline()))
        process.kill()
        with pytest.raises(Failed) as error:
            work.result(DEADLINE)
        texts += [str(error.value), repr(error.value), error.value.hint, str(error.value.__cause__)]
    point = take(target, store)
    texts += [manifest_path(point.path).read_text(), point.path.read_text(), repr(point)]
    assert "--dbname=" in texts[0]
    assert [text for text in texts if secret in text or "p%40ss" in text] == []


def test_no_server_and_no_folder(server: EmbeddedServer, crm: Target, store: Path) -> None:
    nowhere = Target({**crm.keywords, "dbname": "nowhere"})
    with pytest.raises(Failed) as error:
        take(nowhere, store)
    assert str(error.value).startswith('cannot back up database "nowhere": ')
    assert 'database "nowhere" does not exist' in str(error.value)
    (store / "file").write_text("")
    with pytest.raises(Failed) as error:
        take(crm, store / "file" / "below")
    assert str(error.value) == f'cannot back up database "{crm.dbname}" to "{store}/file/below": not a directory'


@ALL
def test_settings_of_role_and_database_change_nothing(crm: Target, store: Path) -> None:
    plain = take(crm, store)
    with crm.connect() as connection:
        for name, value in (
            ("TimeZone", "Pacific/Chatham"),
            ("IntervalStyle", "iso_8601"),
            ("bytea_output", "escape"),
            ("default_transaction_read_only", "on"),
            ("lock_timeout", "1ms"),
        ):
            command = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(command.format(sql.Identifier(crm.dbname), sql.Identifier(name), sql.Literal(value)))
    again = take(crm, store)
    assert plain.manifest is not None and again.manifest is not None
    assert again.manifest.facts == plain.manifest.facts
    assert again.manifest.made_at.tzinfo is not None


def test_odd_names_make_harmless_files(server: EmbeddedServer, store: Path, new_database: Callable[..., str]) -> None:
    base = new_database('we "ird/../ näme')
    point = take(server.target(base), store, label="-x")
    assert point.path.parent == store
    assert re.fullmatch(r"we__ird_\.\.__näme_\d+_\d+_\d{8}_\d{6}_-x\.sql", point.path.name)
    assert point.manifest is not None
    assert point.manifest.database == base
    assert point.made_at <= datetime.now(UTC)


def test_two_in_one_second_have_two_names(server: EmbeddedServer, crm: Target, store: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: take(crm, store), range(4)))
    assert len({point.path for point in made}) == 4
    assert len(points.list_points(store)) == 4
    assert [point.problem for point in points.list_points(store)] == [""] * 4


@ALL
def test_row_level_security_is_an_error_not_a_smaller_backup(server: EmbeddedServer, crm: Target, store: Path) -> None:
    with crm.connect() as connection:
        with psycopg.Connection.transaction(connection):
            connection.execute("DO $$ BEGIN CREATE ROLE small LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
            connection.execute("GRANT USAGE ON SCHEMA supabase_migrations TO small")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public, supabase_migrations TO small")
            connection.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO small")
            connection.execute("GRANT SELECT ON LARGE OBJECT 4242 TO small")
        with_rights = take(server.target(crm.dbname, user="small"), store)
        assert with_rights.manifest is not None
        assert with_rights.manifest.facts.rows == 552
        connection.execute("ALTER TABLE public.contacts ENABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY only_some ON public.contacts USING (id < 10)")
    with pytest.raises(Failed) as error:
        take(server.target(crm.dbname, user="small"), store)
    assert str(error.value) == (
        f'cannot back up database "{crm.dbname}" as role "small": row-level security hides rows from it in '
        '"public"."contacts"'
    )
    assert len(list(store.iterdir())) == 2
