"""The inspection of a live database in any state, which waits for no session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from psycopg import sql

from lastgood.command.recover.evidence import Evidence
from lastgood.command.recover.live import Inspection
from lastgood.command.recover.recover import Goal, RecoverInquiry, gather, inspect
from lastgood.facts.objects import read_objects
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support import deferrable_objects


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    """A database with a table of each kind that matters here."""
    name = new_database("app")
    deferrable_objects.fill(server, name)
    with server.target(name).connect() as connection:
        connection.execute("CREATE TABLE public.notes (id int PRIMARY KEY, text text, created_at timestamptz)")
        connection.execute(
            "INSERT INTO public.notes SELECT i, 'x', '2026-01-01 00:00+00'::timestamptz + i * interval '1 day'"
            " FROM generate_series(1, 10) i"
        )
        connection.execute("CREATE SEQUENCE public.numbers")
        connection.execute("CREATE TABLE public.parts (id int, at date) PARTITION BY RANGE (id)")
        connection.execute("CREATE TABLE public.part_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (10)")
        connection.execute("INSERT INTO public.parts VALUES (1, '2026-01-01'), (2, '2026-01-02')")
    return server.target(name)


def evidence(target: Target, tmp_path: Path, goal: Goal | None = None) -> Evidence:
    inquiry = RecoverInquiry(target, tmp_path / "store", goal=goal or Goal(), home=tmp_path, here=tmp_path)
    return gather(inquiry)


@pytest.mark.postgres(15, 16, 17, 18)
def test_objects_are_named_as_facts_name_them(target: Target, tmp_path: Path) -> None:
    found = evidence(target, tmp_path)
    assert found.live is not None and found.live.objects is not None
    kinds = {kind for kind, _ in found.live.objects}
    with target.connect() as connection:
        expected = {(one.kind, one.identity) for one in read_objects(connection) if one.kind in kinds}
    assert found.live.objects == expected
    assert {"table", "index", "primary key", "foreign key", "sequence"} <= kinds
    assert found.unseen == ()


def test_rows_are_counted_with_their_times_and_partitions_under_their_root(target: Target, tmp_path: Path) -> None:
    found = evidence(target, tmp_path).live
    assert found is not None
    notes, parts = found.tables["public", "notes"], found.tables["public", "parts"]
    assert (notes.rows, notes.exact, notes.by) == (10, True, "created_at")
    assert notes.newest == datetime(2026, 1, 11, tzinfo=UTC)
    assert (parts.rows, parts.exact, parts.partitioned) == (2, True, True)
    assert found.tables["public", "part_1"].root == ("public", "parts")


@pytest.fixture
def locked(target: Target) -> Iterator[int]:
    """Somebody's migration that stands still, with a lock on the notes; the number of its server process."""
    with target.connect(autocommit=False) as connection:
        connection.execute("LOCK TABLE public.notes IN ACCESS EXCLUSIVE MODE")
        yield connection.info.backend_pid
        connection.rollback()


def test_it_waits_for_no_lock(target: Target, tmp_path: Path, locked: int) -> None:
    started = monotonic()
    found = evidence(target, tmp_path)
    assert monotonic() - started < 10, "as long as a slow machine takes, not as long as the lock is held"
    assert found.live is not None
    (shut,) = found.live.shut
    assert shut.text == f'process {locked} holds a lock on "public"."notes" that blocks readers'
    assert not found.live.tables["public", "notes"].exact
    assert found.live.objects is not None


def test_an_index_that_the_server_does_not_use(target: Target, tmp_path: Path) -> None:
    with target.connect() as connection:
        connection.execute("INSERT INTO public.notes VALUES (11, 'x', now())")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY once ON public.notes (text)")
    found = inspect(RecoverInquiry(target, tmp_path / "store", home=tmp_path, here=tmp_path))
    assert found.damaged
    assert "1 invalid index: public.once" in [reason.text for reason in found.reasons]


def test_a_role_without_privileges_gets_a_diagnosis(server: EmbeddedServer, target: Target, tmp_path: Path) -> None:
    role = sql.Identifier(f"guest_{target.dbname}")
    with target.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    try:
        guest = Target({**target.keywords, "user": f"guest_{target.dbname}"})
        found = evidence(guest, tmp_path)
    finally:
        with target.connect() as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
    assert found.live is not None
    (unseen,) = found.unseen
    assert unseen.startswith("rows of ")
    assert f'role "guest_{target.dbname}" cannot read all of them: ' in unseen


def test_what_the_server_counts_of_deletions(target: Target, tmp_path: Path) -> None:
    with target.connect() as connection:
        connection.execute("DELETE FROM public.notes WHERE id > 6")
        connection.execute("SELECT pg_stat_force_next_flush()")
    found = evidence(target, tmp_path, Goal(since=datetime.now(UTC) - timedelta(hours=1)))
    (counter,) = [each for each in found.counters if each.table == "public.notes"]
    assert (counter.deleted, counter.dead) == (4, 4)
    diagnosis = inspect(RecoverInquiry(target, tmp_path / "store", home=tmp_path, here=tmp_path))
    (left,) = [each for each in diagnosis.left if each.kind == "deleted rows"]
    assert left.what == "4 in public.notes"
    assert left.commands == ("ALTER TABLE public.notes SET (autovacuum_enabled = false)",)


def test_nothing_is_changed(target: Target, tmp_path: Path) -> None:
    with target.connect() as connection:
        before = connection.execute("SELECT pg_current_xact_id()").fetchone()
    found = evidence(target, tmp_path, Goal(thorough=True))
    assert found.live is not None
    with target.connect() as connection:
        after = connection.execute("SELECT pg_current_xact_id()").fetchone()
    assert before is not None and after is not None
    assert int(after[0]) == int(before[0]) + 1, "looking has taken no transaction number: it wrote nothing"
    assert not (tmp_path / "store").exists()


def test_what_a_broken_connection_does_not_show_is_noted(server: EmbeddedServer) -> None:
    connection = server.target("postgres").connect()
    connection.close()
    inspection = Inspection(connection, until=0.0)
    with inspection.at("the schema"):
        connection.execute("SELECT")
    assert inspection.unseen == ["the schema: the connection is closed"]
