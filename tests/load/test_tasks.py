"""What must come before what: the tasks of small dumps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lastgood.dump.names import Relation
from lastgood.dump.script import Bulk, ScriptStep, Section
from lastgood.facts.of_dump import facts_of_dump
from lastgood.load.graph import tasks_of
from lastgood.load.rows import Shared
from lastgood.load.schedule import Schedule, simulate
from lastgood.load.tasks import Lock, Task, Work, conflict

HEAD = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
"""
FOOT = "\n--\n-- PostgreSQL database dump complete\n--\n\n"
VIEW = "CREATE VIEW public.v AS SELECT id FROM public.a GROUP BY id"
TWO_TABLES = """
CREATE TABLE public.a (id integer, b integer);
CREATE TABLE public.b (id integer);
COPY public.a (id, b) FROM stdin;
1\t1
2\t1
\\.

COPY public.b (id) FROM stdin;
1
\\.

"""


class Text:
    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def chunks(self) -> Iterator[bytes]:
        yield self._text


def tasks(body: str, *, read_back: bool = False) -> list[Task]:
    _, summary = facts_of_dump(Text(HEAD + body + FOOT))
    return tasks_of(summary.script.items, summary, read_back=read_back)


def name_of(task: Task) -> str:
    item = task.items[0]
    if isinstance(item, Section):
        return f"{task.work.value} {item.start.relation}"
    if isinstance(item, Bulk):
        return task.work.value
    return item.command.statement.text.decode().split("\n")[0]


def before(found: list[Task]) -> dict[str, set[str]]:
    """Each task and those that it waits for, in words."""
    return {name_of(task): {name_of(found[number]) for number in task.after} for task in found}


def test_rows_wait_for_definitions_and_indexes_for_rows_of_their_own_table() -> None:
    found = before(
        tasks(
            TWO_TABLES
            + "CREATE INDEX i ON public.a USING btree (id);\n"
            + "ALTER TABLE ONLY public.b ADD CONSTRAINT b_pkey PRIMARY KEY (id);\n"
            + "ALTER TABLE ONLY public.a ADD CONSTRAINT a_fk FOREIGN KEY (b) REFERENCES public.b(id);\n"
        )
    )
    definitions = "CREATE TABLE public.a (id integer, b integer)"
    assert found == {
        definitions: set(),
        "rows public.a": {definitions},
        "rows public.b": {definitions},
        "CREATE INDEX i ON public.a USING btree (id)": {definitions, "rows public.a"},
        "ALTER TABLE ONLY public.b ADD CONSTRAINT b_pkey PRIMARY KEY (id)": {definitions, "rows public.b"},
        "ALTER TABLE ONLY public.a ADD CONSTRAINT a_fk FOREIGN KEY (b) REFERENCES public.b(id)": {
            definitions,
            "rows public.a",
            "rows public.b",
            "ALTER TABLE ONLY public.b ADD CONSTRAINT b_pkey PRIMARY KEY (id)",
        },
    }


def test_what_is_not_recognised_is_a_barrier() -> None:
    found = before(
        tasks(
            TWO_TABLES
            + "CREATE INDEX i ON public.a USING btree (id);\n"
            + f"{VIEW};\n"
            + "CREATE INDEX j ON public.b USING btree (id);\n"
        )
    )
    assert {"rows public.a", "rows public.b", "CREATE INDEX i ON public.a USING btree (id)"} <= found[VIEW]
    assert found["CREATE INDEX j ON public.b USING btree (id)"] == {VIEW}


def test_comments_wait_for_the_end_and_nothing_waits_for_them() -> None:
    found = before(
        tasks(
            TWO_TABLES
            + "CREATE INDEX i ON public.a USING btree (id);\n"
            + "COMMENT ON INDEX public.i IS 'x';\n"
            + "CREATE INDEX j ON public.b USING btree (id);\n"
        )
    )
    assert found["CREATE INDEX j ON public.b USING btree (id)"] == {
        "CREATE TABLE public.a (id integer, b integer)",
        "rows public.b",
    }
    comment = "COMMENT ON INDEX public.i IS 'x'"
    assert {
        "CREATE INDEX i ON public.a USING btree (id)",
        "CREATE INDEX j ON public.b USING btree (id)",
    } <= found[comment]


def test_what_belongs_to_a_table_keeps_its_place_among_what_belongs_to_it() -> None:
    found = before(
        tasks(
            TWO_TABLES
            + "CREATE INDEX i ON public.a USING btree (id);\n"
            + "ALTER TABLE public.a CLUSTER ON i;\n"
            + "CREATE INDEX k ON public.a USING btree (b);\n"
            + "CREATE INDEX j ON public.b USING btree (id);\n"
        )
    )
    cluster = "ALTER TABLE public.a CLUSTER ON i"
    assert "CREATE INDEX i ON public.a USING btree (id)" in found[cluster]
    assert cluster in found["CREATE INDEX k ON public.a USING btree (b)"]
    assert cluster not in found["CREATE INDEX j ON public.b USING btree (id)"]


def test_partitions_are_loaded_and_indexed_by_themselves() -> None:
    found = before(
        tasks(
            "CREATE TABLE public.p (id integer) PARTITION BY RANGE (id);\n"
            "CREATE TABLE public.p1 (id integer);\n"
            "ALTER TABLE ONLY public.p ATTACH PARTITION public.p1 FOR VALUES FROM (0) TO (9);\n"
            "COPY public.p1 (id) FROM stdin;\n1\n\\.\n\n"
            "CREATE INDEX pi ON ONLY public.p USING btree (id);\n"
            "CREATE INDEX p1i ON public.p1 USING btree (id);\n"
            "ALTER INDEX public.pi ATTACH PARTITION public.p1i;\n"
        )
    )
    definitions = "CREATE TABLE public.p (id integer) PARTITION BY RANGE (id)"
    assert found["CREATE INDEX pi ON ONLY public.p USING btree (id)"] == {definitions}
    assert found["CREATE INDEX p1i ON public.p1 USING btree (id)"] == {definitions, "rows public.p1"}
    assert {
        "CREATE INDEX pi ON ONLY public.p USING btree (id)",
        "CREATE INDEX p1i ON public.p1 USING btree (id)",
    } <= found["ALTER INDEX public.pi ATTACH PARTITION public.p1i"]


def test_rows_through_a_partitioned_table_make_what_follows_wait() -> None:
    found = before(
        tasks(
            "CREATE TABLE public.p (id integer) PARTITION BY HASH (id);\n"
            "CREATE TABLE public.p1 (id integer);\n"
            "COPY public.p (id) FROM stdin;\n1\n\\.\n\n"
            "CREATE INDEX p1i ON public.p1 USING btree (id);\n"
        )
    )
    assert "rows public.p" in found["CREATE INDEX p1i ON public.p1 USING btree (id)"]


def test_large_objects_are_one_task_next_to_the_rows() -> None:
    found = tasks(
        "CREATE TABLE public.a (id integer);\n"
        "SELECT pg_catalog.lo_create('4242');\nALTER LARGE OBJECT 4242 OWNER TO postgres;\n"
        "COPY public.a (id) FROM stdin;\n1\n\\.\n\n"
        "BEGIN;\nSELECT pg_catalog.lo_open('4242', 131072);\nSELECT pg_catalog.lowrite(0, '\\x61');\n"
        "SELECT pg_catalog.lo_close(0);\nCOMMIT;\n\nCREATE INDEX i ON public.a USING btree (id);\n"
    )
    assert [task.work for task in found] == [Work.COMMANDS, Work.DATA, Work.ROWS, Work.DATA, Work.INDEX]
    second = found[3].items[0]
    assert isinstance(second, Bulk)
    assert not second.inserts


def test_only_ordinary_tables_of_one_section_are_read_back() -> None:
    found = tasks(TWO_TABLES + "COPY public.b (id) FROM stdin;\n2\n\\.\n\n", read_back=True)
    assert [name_of(task) for task in found if task.work is Work.READ] == ["read back public.a"]


def test_the_state_in_force_goes_with_each_command() -> None:
    _, summary = facts_of_dump(
        Text(
            HEAD
            + "SET default_tablespace = '';\nCREATE TABLE public.a (id integer);\n"
            + "SET default_table_access_method = heap;\nCREATE TABLE public.b (id integer);\n"
            + FOOT
        )
    )
    steps = [item for item in summary.script.items if isinstance(item, ScriptStep) and item.command.creates]
    names = [[name for name, _ in step.state] for step in steps]
    assert names[0] == ["client_encoding", "search_path", "default_tablespace"]
    assert names[1] == [*names[0], "default_table_access_method"]


def test_the_greatest_work_comes_first() -> None:
    found = tasks(TWO_TABLES)
    rows = {name_of(task): task for task in found}
    assert rows["rows public.a"].rank > rows["rows public.b"].rank
    schedule = Schedule(found)
    first = schedule.take()
    assert first is not None
    assert schedule.take() is None  # all wait for the definitions
    schedule.done(first)
    assert [name_of(task) for task in iter(schedule.take, None)] == ["rows public.a", "rows public.b"]


def test_two_foreign_keys_of_one_table_never_run_at_once() -> None:
    found = tasks(
        TWO_TABLES
        + "ALTER TABLE ONLY public.a ADD CONSTRAINT k1 FOREIGN KEY (b) REFERENCES public.b(id);\n"
        + "ALTER TABLE ONLY public.b ADD CONSTRAINT k2 FOREIGN KEY (id) REFERENCES public.a(id);\n"
    )
    schedule = Schedule(found)
    running: list[Task] = []
    most = 0
    while not schedule.finished:
        while (task := schedule.take()) is not None:
            running.append(task)
        most = max(most, sum(task.work is Work.KEY for task in running))
        schedule.done(running.pop(0))
    assert most == 1


@pytest.mark.parametrize(
    ("one", "other", "wait"),
    [
        (Lock.READ, Lock.BUILD, False),
        (Lock.READ, Lock.KEY, False),
        (Lock.READ, Lock.ALONE, True),
        (Lock.READ, Lock.STATISTICS, False),
        (Lock.ROWS, Lock.STATISTICS, False),
        (Lock.STATISTICS, Lock.STATISTICS, True),
        (Lock.STATISTICS, Lock.BUILD, True),
        (Lock.STATISTICS, Lock.KEY, True),
        (Lock.STATISTICS, Lock.ALONE, True),
        (Lock.BUILD, Lock.BUILD, False),
        (Lock.BUILD, Lock.KEY, True),
        (Lock.KEY, Lock.KEY, True),
        (Lock.ALONE, Lock.ALONE, True),
    ],
)
def test_locks_conflict_as_the_server_has_it(one: Lock, other: Lock, wait: bool) -> None:
    assert conflict(one, other) is conflict(other, one) is wait


def test_sections_of_a_stream_begin_in_their_order() -> None:
    body = "".join(f"CREATE TABLE public.t{n} (id integer);\n" for n in range(6))
    body += "".join(f"COPY public.t{n} (id) FROM stdin;\n{'1' * n}\n\\.\n\n" for n in range(6))
    schedule = Schedule(tasks(body), in_order=True)
    definitions = schedule.take()
    assert definitions is not None
    schedule.done(definitions)
    assert [name_of(task) for task in iter(schedule.take, None)] == [f"rows public.t{n}" for n in range(6)]


def test_a_schedule_of_thousands_of_tables_takes_time_in_proportion() -> None:
    def of(count: int) -> list[Task]:
        body = "".join(f"CREATE TABLE public.t{n} (id integer);\n" for n in range(count))
        body += "".join(f"COPY public.t{n} (id) FROM stdin;\n1\n\\.\n\n" for n in range(count))
        body += "".join(
            f"ALTER TABLE ONLY public.t{n} ADD CONSTRAINT t{n}_pkey PRIMARY KEY (id);\n"
            f"CREATE TRIGGER g BEFORE INSERT ON public.t{n} FOR EACH ROW EXECUTE FUNCTION public.f();\n"
            for n in range(count)
        )
        body += "".join(
            f"ALTER TABLE ONLY public.t{n} ADD CONSTRAINT k{k}_{n} FOREIGN KEY (id) REFERENCES public.t{k}(id);\n"
            for n in range(count)
            for k in (0, 1)
        )
        return tasks(body, read_back=True)

    found = of(300)
    forecast = simulate(found, 4)
    assert len(found) == 1 + 6 * 300
    assert forecast.work / 4 <= forecast.seconds < forecast.work
    # Each task is looked at a bounded number of times, however many there are.
    looks = {count: _looks(of(count)) / count for count in (100, 400)}
    assert looks[400] < 1.5 * looks[100]


def _looks(found: list[Task]) -> int:
    seen = 0

    class Counting(Schedule):
        def _stop_of(self, task: Task) -> Any:
            nonlocal seen
            seen += 1
            return super()._stop_of(task)

    schedule = Counting(found)
    running: list[Task] = []
    while not schedule.finished:
        while len(running) < 4 and (task := schedule.take()) is not None:
            running.append(task)
        schedule.done(running.pop(0))
    return seen


def test_a_table_that_dominates_is_loaded_by_several() -> None:
    _, summary = facts_of_dump(Text(HEAD + TWO_TABLES + FOOT))
    items = [
        replace(item, size=400 << 20, rows=1_000_000) if isinstance(item, Section) and item.number == 0 else item
        for item in summary.script.items
    ]
    alone = tasks_of(items, summary, workers=1)
    assert [task.parts for task in alone if task.work is Work.ROWS] == [1, 1]
    assert [task.parts for task in tasks_of(items, summary, workers=3) if task.work is Work.ROWS] == [1, 1]
    shared = [task for task in tasks_of(items, summary, workers=4) if task.work is Work.ROWS]
    assert [(name_of(task), task.parts) for task in shared] == [("rows public.a", 4)] * 4 + [("rows public.b", 1)]
    read = [task for task in tasks_of(items, summary, workers=4) if name_of(task) == "read back public.a"]
    assert [(task.parts, task.after) for task in read] == [(4, {t.number for t in shared if t.parts == 4})] * 4


def test_statistics_of_large_tables_wait_for_what_they_cover_and_keys_for_them() -> None:
    body = (
        TWO_TABLES
        + "ALTER TABLE ONLY public.b ADD CONSTRAINT b_pkey PRIMARY KEY (id);\n"
        + "CREATE INDEX plain ON public.a USING btree (id);\n"
        + "CREATE INDEX computed ON public.a USING btree (abs(id));\n"
        + "CREATE STATISTICS public.both ON id, b FROM public.a;\n"
        + "ALTER TABLE ONLY public.a ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES public.b(id);\n"
        + f"{VIEW};\n"
    )
    _, summary = facts_of_dump(Text(HEAD + body + FOOT))
    items = [
        replace(item, size=2 << 20) if isinstance(item, Section) and item.number == 0 else item
        for item in summary.script.items
    ]
    found = before(tasks_of(items, summary, read_back=False))
    definitions = "CREATE TABLE public.a (id integer, b integer)"
    assert found["statistics public.a"] == {
        definitions,
        "rows public.a",
        "CREATE INDEX computed ON public.a USING btree (abs(id))",
        "CREATE STATISTICS public.both ON id, b FROM public.a",
    }
    assert "statistics public.b" not in found  # it is small
    key = "ALTER TABLE ONLY public.a ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES public.b(id)"
    assert "statistics public.a" in found[key]
    assert "statistics public.a" in found[VIEW]


def test_several_sessions_get_each_line_once() -> None:
    blocks = [b"one\ntw", b"o\nthree\n", b"fo", b"u", b"r\n", b""]
    shared = Shared(iter(blocks))
    one, other = iter(shared), iter(shared)
    assert [next(one), next(other), *one, *other] == [b"one\n", b"two\nthree\n", b"four\n"]


def test_relations_are_those_of_the_dump() -> None:
    (table,) = {relation for task in tasks(TWO_TABLES)[1:2] for relation in task.locks}
    assert table == Relation("public", "a")
