"""The losses of a rollback on a real server: rows changed in place, rows written since, and tables not compared.
``recover`` reports the same for the same restore point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import loss, rollback
from lastgood.command.points.losses import of_points as of_store
from lastgood.command.recover import recover
from lastgood.command.recover.recover import Goal, RecoverInquiry
from lastgood.config.tables import CheckSettings
from lastgood.context import BACKGROUND
from lastgood.plan.loss import TableLoss, Totals
from lastgood.plan.plan import Choice, Request
from lastgood.points import dump_point
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support.same_database import dump

SCHEMA = """
CREATE TABLE contacts (id int PRIMARY KEY, name text, birthday date, valid_until timestamptz, scheduled_for timestamptz,
                       created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO contacts SELECT i, 'c', '1980-01-01', now() + '1 year', now() + '1 day', now() - '1 hour'::interval
FROM generate_series(1, 50) i;
CREATE TABLE prices (id int PRIMARY KEY, cents int);
INSERT INTO prices SELECT i, 100 FROM generate_series(1, 70) i;
CREATE TABLE same (id int PRIMARY KEY, at timestamptz);
INSERT INTO same SELECT i, '2026-01-01 00:00+02' FROM generate_series(1, 5) i;
CREATE TABLE jobs (id int PRIMARY KEY, due_on date, run_at timestamptz);
INSERT INTO jobs SELECT i, current_date, now() FROM generate_series(1, 5) i;
CREATE TABLE events (id int, kind text, noted timestamp DEFAULT now()) PARTITION BY LIST (kind);
CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a');
CREATE TABLE events_b PARTITION OF events FOR VALUES IN ('b');
INSERT INTO events SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 10) i;
CREATE TABLE nothing (id int);
CREATE TABLE wider (id int);
INSERT INTO wider VALUES (1);
"""
LATER = """
INSERT INTO contacts (id, name, birthday, created_at) VALUES
  (51, 'new', '2030-01-01', now()), (52, 'new', '2030-01-01', now()), (53, 'of the future', NULL, now() + '1 year');
UPDATE prices SET cents = cents * 2;
UPDATE jobs SET due_on = '2035-01-01', run_at = '2035-01-01';
INSERT INTO events VALUES (11, 'a');
ALTER TABLE wider ADD COLUMN note text DEFAULT 'x';
"""


def request(target: Target, store: Path, seconds: float = 10.0) -> Request:
    return Request(target=target, store=store, state=store.parent / "state", check=CheckSettings(compare_limit=seconds))


def rows_by_name(
    losses: tuple[TableLoss, ...],
) -> dict[str, tuple[int | None, int | None, int | None, str | None, str | None]]:
    return {
        each.name: (each.live_rows, each.point_rows, each.written_since, each.by, each.content)
        for each in losses
    }  # fmt: skip


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str], store: Path) -> Target:
    """A database with a restore point, and later changes."""
    target = server.target(new_database("app"))
    with target.connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute(SCHEMA)
        dump_point.take(target, store)
        connection.execute(LATER)
    return target


# lost, returns, changed
ROWS = {
    "contacts": (3, 0, 0),
    "events_a": (1, 0, None),
    "events_b": (0, 0, 0),
    "jobs": (0, 0, 5),
    "nothing": (0, 0, 0),
    "prices": (0, 0, 70),
    "same": (0, 0, 0),
    "wider": (0, 0, None),
}
EXPECTED = {
    "contacts": (53, 50, 2, "created_at", "changed"),
    "events_a": (6, 5, 1, "noted", "changed"),
    "events_b": (5, 5, 0, "noted", "equal"),
    "jobs": (5, 5, None, None, "changed"),
    "nothing": (0, 0, None, None, "equal"),
    "prices": (70, 70, None, None, "changed"),
    "same": (5, 5, None, None, "equal"),
    "wider": (1, 1, None, None, "changed"),
}


@pytest.mark.postgres(16, 18)
def test_the_plan_and_recover_report_the_same(target: Target, store: Path) -> None:
    planned = rollback.plan(request(target, store), lambda event: None).plan.loss
    assert rows_by_name(planned) == EXPECTED

    found = recover.inspect(RecoverInquiry(target, store, goal=Goal(thorough=True), home=store, here=store))
    (point,) = [each for each in found.timeline if each.kind == "dump"]
    assert point.loss is not None
    assert rows_by_name(point.loss) == {name: each for name, each in EXPECTED.items() if each[4] != "equal"}


def numbers(losses: tuple[TableLoss, ...]) -> dict[str, tuple[int | None, int | None, int | None]]:
    return {each.name: (each.lost, each.returns, each.changed) for each in losses}


@pytest.mark.postgres(15, 18)
def test_plan_recover_and_points_count_the_same_for_each_restore_point(target: Target, store: Path) -> None:
    with target.connect() as connection:
        dump_point.take(target, store, label="later")
        connection.execute("DELETE FROM public.prices WHERE id <= 20")
        connection.execute("INSERT INTO public.prices SELECT i, 1 FROM generate_series(101, 120) i")
    found = recover.inspect(RecoverInquiry(target, store, goal=Goal(thorough=True), home=store, here=store))
    of_recover = [each for each in found.timeline if each.kind == "dump"]
    of_points, more = of_store(target, store, loss.Comparing(), BACKGROUND)
    assert (len(of_recover), len(of_points), more) == (2, 2, 0)
    for one, other in zip(of_recover, of_points, strict=True):
        asked = replace(request(target, store), choice=Choice(point=one.path))
        planned = rollback.plan(asked, lambda event: None).plan.loss
        assert one.loss is not None
        assert numbers(other.loss) == numbers(planned)
        assert numbers(one.loss).items() <= numbers(planned).items()
        totals = Totals.of(planned)
        assert totals.exact
        assert (one.rows_lost, one.rows_back, one.rows_changed, one.exact) == (
            totals.lost, totals.returns, totals.changed, True,
        )  # fmt: skip
        assert (other.lost, other.returns, other.changed, other.exact) == (
            totals.lost, totals.returns, totals.changed, True,
        )  # fmt: skip
    assert [(each.lost, each.returns, each.changed) for each in of_points] == [(20, 20, 0), (24, 20, 55)]


@pytest.mark.postgres(15, 18)
def test_the_plan_counts_the_rows_that_go_come_back_and_change(target: Target, store: Path) -> None:
    planned = rollback.plan(request(target, store), lambda event: None).plan.loss
    assert {each.name: (each.lost, each.returns, each.changed) for each in planned} == ROWS


def test_rows_that_were_deleted_and_added_in_the_same_number_are_counted(target: Target, store: Path) -> None:
    with target.connect() as connection:
        connection.execute("DELETE FROM public.prices WHERE id <= 20")
        connection.execute("INSERT INTO public.prices SELECT i, 1 FROM generate_series(101, 120) i")
    planned = rollback.plan(request(target, store), lambda event: None).plan.loss
    (prices,) = [each for each in planned if each.name == "prices"]
    assert (prices.lost, prices.returns, prices.changed) == (20, 20, 50)
    assert (prices.live_rows, prices.point_rows, prices.content) == (70, 70, "changed")


def test_what_there_was_no_time_for_is_named_and_not_equal(target: Target, store: Path) -> None:
    planned = rollback.plan(request(target, store, 0.0), lambda event: None).plan.loss
    by_name = {each.name: each for each in planned}
    assert (by_name["prices"].content, by_name["prices"].why) == ("not compared", "content comparison is turned off")
    assert (by_name["nothing"].content, by_name["wider"].content) == ("equal", "changed")
    assert not by_name["prices"].differs


def test_the_report_compares_what_the_plan_had_no_time_for(target: Target, store: Path) -> None:
    report = rollback.run(rollback.plan(request(target, store, 0.0), lambda event: None), lambda event: None)
    assert {name: each[4] for name, each in rows_by_name(report.loss).items()} == {
        name: each[4] for name, each in EXPECTED.items()
    }
    with target.connect() as connection:
        assert connection.execute("SELECT sum(cents) FROM public.prices").fetchone() == (7000,)


@pytest.mark.postgres(15, 18)
def test_the_report_counts_the_last_writes_too(target: Target, store: Path) -> None:
    prepared = rollback.plan(request(target, store), lambda event: None)
    with target.connect() as connection:
        connection.execute("UPDATE public.same SET at = now() WHERE id <= 2")
        connection.execute("DELETE FROM public.prices WHERE id <= 20")
        connection.execute("INSERT INTO public.prices SELECT i, 1 FROM generate_series(101, 120) i")
    report = rollback.run(prepared, lambda event: None)
    assert numbers(report.loss) == {**ROWS, "same": (0, 0, 2), "prices": (20, 20, 50)}
    (wider,) = [each for each in report.loss if each.name == "wider"]
    assert (wider.columns_lost, wider.columns_back) == (("note",), ())


def test_a_plan_without_a_free_connection_names_what_it_did_not_compare(
    server: EmbeddedServer, target: Target, store: Path
) -> None:
    role = f"few_{target.dbname}"
    with target.connect() as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB CONNECTION LIMIT 2; GRANT pg_read_all_data TO {}").format(
                sql.Identifier(role), sql.Identifier(role)
            )
        )
    try:
        limited = replace(request(server.target(target.dbname, user=role), store), way="by-name")
        found = {each.name: each for each in rollback.plan(limited, lambda event: None).plan.loss}
    finally:
        with target.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
    assert found["prices"].content == "not compared"
    assert "too many connections for role" in found["prices"].why
    assert (found["contacts"].content, found["nothing"].content) == ("changed", "equal")


def test_content_is_compared_once_for_all_points(target: Target, store: Path) -> None:
    facts = rollback.plan(request(target, store), lambda event: None).facts
    with target.connect() as connection, target.connect() as writer:
        tables, _ = loss.listing(connection)
        with loss.snapshot_of(connection) as snapshot:
            reader = loss.Reader(target, snapshot)
            first = reader.compare(tables, facts, loss.TimeLimit.of(None))
            writer.execute("UPDATE public.same SET at = now()")
            again = reader.compare(tables, facts, loss.TimeLimit.of(None))
    assert first == again
    assert first["public", "same"].state == "equal"


def test_a_table_that_is_locked_is_not_compared(target: Target, store: Path) -> None:
    with target.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE public.prices IN ACCESS EXCLUSIVE MODE")
        found = recover.inspect(RecoverInquiry(target, store, home=store, here=store))
        (point,) = [each for each in found.timeline if each.kind == "dump"]
        assert point.loss is not None
        prices = next(each for each in point.loss if each.name == "prices")
        assert (prices.content, prices.why) == ("not compared", "another session has locked it")


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize(("options", "then"), [(["--no-blobs"], None), ([], 1)])
def test_large_objects_count(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, options: list[str], then: int | None
) -> None:
    name = new_database("app")
    target = server.target(name)
    with target.connect() as connection:
        connection.execute("CREATE TABLE public.t (i int)")
        connection.execute("SELECT lo_from_bytea(0, 'abc')")
        dump(server, name, store / "point.sql", *options)
    prepared = rollback.plan(replace(request(target, store), choice=Choice(point="point.sql")), lambda event: None)
    (found,) = [each for each in prepared.plan.loss if each.name == "pg_largeobject_metadata"]
    assert (found.live_rows, found.point_rows, found.differs) == (1, then, then is None)
    report = rollback.run(prepared)
    (found,) = [each for each in report.loss if each.name == "pg_largeobject_metadata"]
    assert found.content == ("changed" if then is None else "equal")
