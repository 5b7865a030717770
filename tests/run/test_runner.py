"""What the runner promises, as tables: set-up → what happened, one line each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastgood.errors import Interrupted
from lastgood.events import Caution, Emit, Event, silent
from lastgood.journal import Journal
from lastgood.run.runner import AfterCommit, Result, UndoFailed, drive, reverse

RUN = "20261122-031500-9f3c1a70"


@dataclass
class World:
    """A run over letters: a capital is a step that commits."""

    journal: Journal
    happened: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    fails: str = ""
    undo_fails: str = ""
    holds: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    emit: Emit = silent

    def keep(self, result: Result) -> None:
        pass

    def cancelled(self) -> bool:
        return self.stopped.is_set()

    def stop(self) -> None:
        self.stopped.set()

    def carry_on(self) -> None:
        self.stopped.clear()


@dataclass
class Letter:
    name: str

    @property
    def title(self) -> str:
        return self.name

    @property
    def commits(self) -> bool:
        return self.name.isupper()

    def do(self, run: World) -> Result:
        run.happened.append(self.name)
        if self.name in run.fails:
            raise ValueError(f"{self.name} failed")
        run.done.add(self.name)
        return Result()

    def undo(self, run: World) -> None:
        run.happened.append(f"-{self.name}")
        if self.name in run.undo_fails:
            raise OSError(f"{self.name} stays")
        run.done.discard(self.name)

    def holds(self, run: World, result: Mapping[str, Any]) -> bool:
        return self.name in run.holds or (self.commits and self.name in run.done)


def play(tmp_path: Path, steps: str, **world: str) -> tuple[World, str]:
    run = World(Journal.create(tmp_path, RUN), **world)  # type: ignore[arg-type]  # only the text fields are set
    ended = "done"
    try:
        drive(run, [[[Letter(name)]] for name in steps])
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    return run, ended


@pytest.mark.parametrize(
    ("steps", "world", "happened", "ended"),
    [
        ("abC", {}, "a b C", "done"),
        ("abC", {"fails": "a"}, "a -a", "ValueError: a failed"),
        ("abC", {"fails": "b"}, "a b -b -a", "ValueError: b failed"),
        ("abC", {"fails": "C"}, "a b C -C -b -a", "ValueError: C failed"),
        ("aCd", {"fails": "d"}, "a C d", "AfterCommit: d failed"),
        ("abC", {"fails": "b", "undo_fails": "b"}, "a b -b -a", 'UndoFailed: cannot undo step "b"'),
        ("abC", {"fails": "C", "undo_fails": "ab"}, "a b C -C -b -a", 'UndoFailed: cannot undo step "b"'),
    ],
)
def test_steps_in_order_and_back(tmp_path: Path, steps: str, world: dict[str, str], happened: str, ended: str) -> None:
    run, how = play(tmp_path, steps, **world)
    assert (" ".join(run.happened), how) == (happened, ended)


@dataclass
class Reversed(Letter):
    """A letter that is reversed after the commit point; ``undo_fails`` names those that fail then."""

    def reverse(self, back: World) -> None:
        back.happened.append(f"~{self.name}")
        if self.name in back.undo_fails:
            raise OSError(f"{self.name} stays")


@pytest.mark.parametrize(("fails", "happened"), [("", "~e ~C ~a"), ("C", "~e ~C")])
def test_steps_are_reversed_after_the_commit_point(tmp_path: Path, fails: str, happened: str) -> None:
    """Steps without ``reverse`` are left out. The first error ends it: what follows depends on it."""
    run = World(Journal.create(tmp_path, RUN), undo_fails=fails)
    with pytest.raises(OSError, match="C stays") if fails else nullcontext():
        reverse(run, [Reversed("a"), Letter("b"), Reversed("C"), Letter("d"), Reversed("e")])
    assert " ".join(run.happened) == happened


def test_a_step_that_holds_is_not_done_again(tmp_path: Path) -> None:
    run = World(Journal.create(tmp_path, RUN), holds="a")
    run.journal.done("a")
    drive(run, [[[Letter("a")]], [[Letter("b")]]])
    assert run.happened == ["b"]


def test_a_step_that_the_journal_calls_done_but_the_server_does_not_is_done_again(tmp_path: Path) -> None:
    run = World(Journal.create(tmp_path, RUN))
    run.journal.done("a")
    drive(run, [[[Letter("a")]]])
    assert run.happened == ["a"]


def test_a_step_that_was_begun_is_undone_though_it_had_held(tmp_path: Path) -> None:
    run = World(Journal.create(tmp_path, RUN), holds="a", fails="b")
    run.journal.done("a")
    with pytest.raises(ValueError, match="b failed"):
        drive(run, [[[Letter("a")]], [[Letter("b")]]])
    assert run.happened == ["b", "-b", "-a"]


def test_lanes_run_side_by_side_and_the_first_failure_stops_the_others(tmp_path: Path) -> None:
    run = World(Journal.create(tmp_path, RUN), fails="x")
    began, waited = threading.Event(), threading.Event()

    class Fails(Letter):
        def do(self, run: World) -> Result:
            assert began.wait(10), "the other lane begins"
            return super().do(run)

    class Waits(Letter):
        def do(self, run: World) -> Result:
            began.set()
            assert run.stopped.wait(10), "the other lane's failure stops this one"
            waited.set()
            raise Interrupted("a consequence")

    with pytest.raises(ValueError, match="x failed"):
        drive(run, [[[Letter("a")]], [[Fails("x")], [Waits("w")]]])
    assert waited.is_set()
    assert sorted(run.happened[-3:]) == ["-a", "-w", "-x"]
    assert not run.cancelled()


def test_nothing_begins_after_an_interruption(tmp_path: Path) -> None:
    run = World(Journal.create(tmp_path, RUN))

    class Interrupts(Letter):
        def do(self, run: World) -> Result:
            run.stop()
            return Result()

    with pytest.raises(Interrupted):
        drive(run, [[[Interrupts("a")]], [[Letter("b")]]])
    assert run.happened == ["-a"]


def test_an_interruption_during_the_commit_does_not_stop_what_follows(tmp_path: Path) -> None:
    run = World(Journal.create(tmp_path, RUN))

    class Commits(Letter):
        def do(self, run: World) -> Result:
            run.stop()
            return super().do(run)

    drive(run, [[[Commits("C")]], [[Letter("d")]]])
    assert run.happened == ["C", "d"]


def test_no_journal_write_no_progress(tmp_path: Path) -> None:
    class Full(Journal):
        def write(self, event: str, **data: Any) -> None:
            raise OSError(28, "No space left on device")

    emitted: list[Event] = []
    run = World(Full(Journal.create(tmp_path, RUN).path), emit=emitted.append)
    with pytest.raises(OSError, match="No space left"):
        drive(run, [[[Letter("a")]]])
    assert run.happened == ["-a"], "begun in doubt, hence undone; never done"
    assert Caution(f'cannot write the journal "{run.journal.path}": No space left on device') in emitted


@given(
    steps=st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=8),
    commit=st.integers(0, 8),
    fails=st.sampled_from("abcdefghZ"),
)
@settings(max_examples=60, deadline=None)
def test_either_all_is_undone_or_the_commit_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], commit: int, fails: str
) -> None:
    order = [*steps[:commit], "Z", *steps[commit:]]
    run, ended = play(tmp_path_factory.mktemp("run"), "".join(order), fails=fails)
    if ended == "done":
        assert run.done == set(order)
    elif ended.startswith(AfterCommit.__name__):
        assert "Z" in run.done and not any(entry.startswith("-") for entry in run.happened)
    else:
        assert not ended.startswith(UndoFailed.__name__)
        assert run.done == set()
