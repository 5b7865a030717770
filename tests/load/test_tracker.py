"""The progress of a running load, with a scripted clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lastgood.events import Event, Phase, Progress
from lastgood.facts.of_dump import facts_of_dump
from lastgood.load.costs import Costs, Effort, Known
from lastgood.load.graph import tasks_of
from lastgood.load.tasks import Task, Work
from lastgood.load.tracker import Tracker

ROW = "1\t" + "x" * 97 + "\n"
DUMP = (
    """--
-- PostgreSQL database dump
--

CREATE TABLE public.a (id integer, t text);
CREATE TABLE public.b (id integer, t text);
COPY public.a (id, t) FROM stdin;
"""
    + ROW * 30
    + """\\.

COPY public.b (id, t) FROM stdin;
"""
    + ROW * 10
    + """\\.

CREATE INDEX a_idx ON public.a USING btree (id);
ALTER TABLE ONLY public.b ADD CONSTRAINT b_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.a ADD CONSTRAINT a_fk FOREIGN KEY (id) REFERENCES public.b(id);
SELECT pg_catalog.lo_create('4242');

BEGIN;
SELECT pg_catalog.lo_open('4242', 131072);
SELECT pg_catalog.lowrite(0, '\\x61');
SELECT pg_catalog.lo_close(0);
COMMIT;

--
-- PostgreSQL database dump complete
--

"""
)
# A row of 100 bytes is a second of loading, half a second of reading; an index of a row, and a key of one, 0.1 seconds.
COSTS = Costs(
    load_byte=0.01, read_byte=0.005, index_row=0.1, index_byte=1e-12, key_row=0.1, command=1e-9, data_byte=1e-9
)


class Text:
    def chunks(self) -> Iterator[bytes]:
        yield DUMP.encode()


class Story:
    """A load of one worker whose clock we turn."""

    def __init__(self, known: Known, *, in_order: bool = False, after: float = 0.0) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        _, summary = facts_of_dump(Text())
        self.tasks = tasks_of(summary.script.items, summary, costs=known.costs)
        self.tracker = Tracker(
            self.tasks,
            1,
            self.events.append,
            known=known,
            in_order=in_order,
            after=after,
            clock=lambda: self.now,
        )
        self.tracker.start(1)

    def one(self, work: Work, number: int = 0) -> Task:
        return [task for task in self.tasks if task.work is work][number]

    def do(self, task: Task, took: float, *sizes: int) -> None:
        self.tracker.begin([task])
        for size in sizes:
            self.now += took / len(sizes)
            self.tracker.move(task, size)
        self.now += 0 if sizes else took
        self.tracker.done([task])

    @property
    def last(self) -> Progress:
        progress = self.events[-1]
        assert isinstance(progress, Progress)
        return progress


@pytest.fixture
def story() -> Story:
    return Story(Known(COSTS, {Effort.ROWS: 60.0}))


def test_each_phase_is_reported_from_the_beginning_where_costs_are_known(story: Story) -> None:
    story.tracker.begin([story.one(Work.COMMANDS)])
    # 40 s of rows, then the longest first: 15 and 5 of reading back, 1 of the index that the key waits for, 3 of the
    # other, 3 of the key.
    assert story.events == [
        Progress(
            "build",
            0,
            4000,
            "bytes",
            detail="table public.a",
            phases=(
                Phase("rows", 0, 4000, "bytes", 40.0),
                Phase("indexes", 0, 2, "indexes", 64.0),
                Phase("keys", 0, 1, "foreign keys", 67.0),
                Phase("reading back", 0, 4000, "bytes", 60.0),
            ),
            seconds_left=67.0,
            share=0.0,
        )
    ]


def test_a_whole_load(story: Story) -> None:
    story.do(story.one(Work.COMMANDS), 0.0)
    story.do(story.one(Work.ROWS), 30.0, *[300] * 10)
    progress = story.last
    assert (progress.done, progress.total, progress.rows, progress.rate) == (3000, 4000, 30, 100)
    assert progress.seconds_left == pytest.approx(37, abs=2)
    story.do(story.one(Work.ROWS, 1), 10.0, *[100] * 10)
    progress = story.last
    assert (progress.done, progress.total, progress.rows, progress.rate) == (4000, 4000, 40, None)
    assert progress.seconds_left == pytest.approx(27, abs=1)
    story.tracker.begin([story.one(Work.INDEX)])
    story.now += 1.0
    story.tracker.report()
    assert story.last.detail == "index public.a_idx"
    story.now += 2.0
    story.tracker.done([story.one(Work.INDEX)])
    story.do(story.one(Work.INDEX, 1), 1.0)
    story.do(story.one(Work.KEY), 3.0)
    story.do(story.one(Work.DATA), 1.0)
    story.do(story.one(Work.READ), 15.0, 1000, 1000)  # and the rest, which is no whole block
    story.do(story.one(Work.READ, 1), 5.0, 1000)
    story.now += 1
    story.tracker.statistics(2, 1)
    assert [(phase.name, phase.done, phase.total) for phase in story.last.phases] == [
        ("rows", 4000, 4000),
        ("indexes", 2, 2),
        ("keys", 1, 1),
        ("reading back", 4000, 4000),
        ("statistics", 0, 2),
    ]
    assert story.last.detail == "statistics"
    story.now += 1
    story.tracker.analyzed(1, 0, 1.0)
    assert story.last.phases[-1].done == 1
    story.tracker.analyzed(1, 1, 0.01)
    story.tracker.end()
    assert story.last == Progress(
        "build",
        4000,
        4000,
        "bytes",
        rows=40,
        phases=(
            Phase("rows", 4000, 4000, "bytes", 0.0),
            Phase("indexes", 2, 2, "indexes", 0.0),
            Phase("keys", 1, 1, "foreign keys", 0.0),
            Phase("reading back", 4000, 4000, "bytes", 0.0),
            Phase("statistics", 2, 2, "tables", 0.0),
        ),
        seconds_left=0.0,
        share=1.0,
    )


def test_nothing_is_guessed_before_there_is_a_reason() -> None:
    story = Story(Known(COSTS))
    story.do(story.one(Work.COMMANDS), 0.0)
    rows = story.one(Work.ROWS)
    story.tracker.begin([rows])
    story.now += 2.9
    story.tracker.move(rows, 290)
    assert (story.last.seconds_left, story.last.share) == (None, None)
    assert {phase.seconds_left for phase in story.last.phases} == {None}
    story.now += 0.6
    story.tracker.move(rows, 60)
    assert story.last.seconds_left == pytest.approx(63.5, abs=1)


def test_ten_times_a_second_is_enough(story: Story) -> None:
    rows = story.one(Work.ROWS)
    story.do(story.one(Work.COMMANDS), 0.0)
    story.tracker.begin([rows])
    story.events.clear()
    for _ in range(3000):
        story.now += 0.001
        story.tracker.move(rows, 1)
    assert 25 <= len(story.events) <= 30


def test_rows_of_a_stream_take_no_time_before_they_come() -> None:
    story = Story(Known(COSTS, {Effort.ROWS: 60.0}), in_order=True)
    first, second = story.one(Work.ROWS), story.one(Work.ROWS, 1)
    story.do(story.one(Work.COMMANDS), 0.0)
    story.tracker.begin([second])  # by another worker, which waits
    story.do(first, 30.0, *[300] * 10)
    story.now += 1.0
    story.tracker.move(second, 100)
    story.now += 9.0
    story.tracker.move(second, 900)
    story.tracker.done([second])
    spent = story.tracker._estimate.lessons[Effort.ROWS]
    # The first from its first block on.
    assert (spent.actual, spent.expected) == pytest.approx((27.0 + 9.0, 40.0))


def test_rows_that_were_not_read_back_are_not_learned(story: Story) -> None:
    story.do(story.one(Work.READ), 0.001)
    story.tracker.report(now=True)
    assert Effort.READ not in story.tracker._estimate.lessons
    assert story.last.phases[3] == Phase("reading back", 3000, 4000, "bytes", story.last.phases[3].seconds_left)


def test_of_several_tasks_at_once_each_has_its_share(story: Story) -> None:
    both = [story.one(Work.INDEX), story.one(Work.KEY)]
    story.tracker.begin(both)
    story.now += 12.0
    story.tracker.done(both)
    lessons = story.tracker.lessons()
    assert (lessons[Effort.INDEX].actual, lessons[Effort.KEY].actual) == pytest.approx((6.0, 6.0))


def test_small_tasks_do_not_show_what_a_row_costs() -> None:
    story = Story(Known())
    story.do(story.one(Work.COMMANDS), 0.5)
    story.do(story.one(Work.ROWS), 0.5, 3000)
    story.do(story.one(Work.INDEX), 0.5)
    assert set(story.tracker.lessons()) == {Effort.COMMANDS}
