"""Forecasts that can be worked out by hand: the engine's schedule with the costs of a made-up dump."""

from __future__ import annotations

import pytest

from bench.costs import Costs, ForeignKey, Index, Table
from bench.simulate import forecast, longest_chain, named, scaled, table_of
from lastgood.load.tasks import Task, Work

DEFINITIONS = """--
-- PostgreSQL database dump
--

-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE TABLE public.large (id bigint NOT NULL, small_id bigint);
CREATE TABLE public.small (id bigint NOT NULL);
COPY public.large (id, small_id) FROM stdin;
\\.
COPY public.small (id) FROM stdin;
\\.
ALTER TABLE ONLY public.small ADD CONSTRAINT small_pkey PRIMARY KEY (id);
CREATE INDEX large_small ON public.large USING btree (small_id);
ALTER TABLE ONLY public.large ADD CONSTRAINT large_key FOREIGN KEY (small_id) REFERENCES public.small(id);
--
-- PostgreSQL database dump complete
--
"""
COSTS = Costs(
    major=18,
    plain_bytes=1_000_000_000,
    definitions=DEFINITIONS,
    reading=2.0,
    tables=(
        Table(
            name="public.large",
            bytes=750_000_000,
            rows=1000,
            load=6,
            analyze=0.5,
            proof=3,
            indexes=(Index(name="public.large_small", seconds=4),),
        ),
        Table(
            name="public.small",
            bytes=250_000_000,
            rows=1000,
            load=2,
            analyze=0.5,
            proof=1,
            indexes=(Index(name="public.small_pkey", seconds=1),),
        ),
    ),
    foreign_keys=(ForeignKey(name="large_key", table="public.large", references="public.small", seconds=1),),
)
WORK = 6 + 0.5 + 3 + 4 + 2 + 0.5 + 1 + 1 + 1


def test_every_task_has_the_cost_that_was_measured() -> None:
    assert {named(task): task.cost for task in scaled(COSTS, 1.0) if task.work is not Work.COMMANDS} == {
        "rows of public.large": 6,
        "rows of public.small": 2,
        "statistics of public.large": 0.5,
        "statistics of public.small": 0.5,
        "reading back public.large": 3,
        "reading back public.small": 1,
        "index public.large_small": 4,
        "primary key small_pkey on public.small": 1,
        "foreign key large_key on public.large": 1,
    }


def test_one_core_does_all_the_work() -> None:
    done = forecast(COSTS, cores=1, gigabytes=1)
    assert done.makespan == pytest.approx(WORK, abs=0.05)
    assert done.total == pytest.approx(2 + WORK, abs=0.05)
    assert done.efficiency == pytest.approx(1)


def test_many_cores_wait_for_the_longest_chain() -> None:
    done = forecast(COSTS, cores=64, gigabytes=1)
    # Sixty-four load the rows.
    assert done.chain_seconds == pytest.approx(6 / 64 + 4, abs=0.05)
    # Neither can the statistics be gathered nor the key be added while the index is built.
    assert done.makespan == pytest.approx(6 / 64 + 4 + 0.5 + 1, abs=0.05)
    assert done.chain[1:] == ("rows of public.large", "index public.large_small")
    assert done.possible == 4 + 0.5 + 1
    assert "The longest chain: definitions → rows of public.large → index public.large_small." in table_of([done])


def test_lines_are_digested_where_several_load_a_table() -> None:
    tables = tuple(table.model_copy(update={"lines": 6.4}) for table in COSTS.tables)
    costs = COSTS.model_copy(update={"tables": tables})
    rows = [task.cost for task in scaled(costs, 1.0, 64) if named(task) == "rows of public.large"]
    assert rows == pytest.approx([(6 + 6.4) / len(rows)] * len(rows))
    assert len(rows) > 16
    assert [task.cost for task in scaled(costs, 1.0, 2) if named(task) == "rows of public.large"] == [6]


def test_a_larger_dump_costs_more() -> None:
    one, ten = (forecast(COSTS, cores=1, gigabytes=gigabytes) for gigabytes in (1, 10))
    assert ten.reading == 20
    # Ten times the work, and some more for the sorts (by the ratio of logarithms); ANALYZE's sample does not grow.
    assert ten.makespan == pytest.approx(10 * (WORK - 1) + 1 + 50 / 3, abs=0.05)
    assert one.makespan < ten.makespan


def test_the_longest_chain() -> None:
    tasks = [
        Task(0, Work.COMMANDS, (), cost=1),
        Task(1, Work.COMMANDS, (), {0}, cost=2),
        Task(2, Work.COMMANDS, (), {0}, cost=5),
        Task(3, Work.COMMANDS, (), {1, 2}, cost=1),
    ]
    assert longest_chain(tasks)[1] == 7
    assert longest_chain([]) == ((), 0.0)
