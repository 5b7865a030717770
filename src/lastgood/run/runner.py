"""Execution of the steps of a run: announced in the journal, skipped if the server shows them complete, undone in
reverse order if one fails before the commit point, and reversed if the checks behind it fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from lastgood.errors import Interrupted, Stopped
from lastgood.events import Caution, Emit, StageDone, StageFailed, StageStarted
from lastgood.journal import Journal, caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a step. ``detail`` is shown to the user and journaled."""

    detail: str = ""

    @property
    def entry(self) -> Mapping[str, Any]:
        """The fields that the journal keeps besides ``detail``, for ``holds`` of a resumed run and for reports."""
        return {}


class AnyRun(Protocol):
    """The part of a run that the runner uses."""

    @property
    def journal(self) -> Journal:
        """The journal of the run."""

    @property
    def emit(self) -> Emit:
        """The receiver of events."""

    @property
    def seconds(self) -> dict[str, float]:
        """The duration of each step, filled by the runner."""

    def keep(self, result: Result) -> None:
        """Keep the result of a step for later steps and the report."""

    def cancelled(self) -> bool:
        """Whether the run is to stop: interrupted by the user, or another lane failed."""

    def stop(self) -> None:
        """Make ``cancelled`` true and cancel the queries of the run's sessions."""

    def carry_on(self) -> None:
        """Make ``cancelled`` false again, before steps are undone or after the commit point."""


R = TypeVar("R", bound=AnyRun, contravariant=True)


class Step(Protocol[R]):
    """One step of a run. ``name`` is stable, because journals contain it. ``commits`` marks the commit point: after
    that step, an error undoes no step."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def commits(self) -> bool: ...

    def do(self, run: R) -> Result:
        """Execute the step; may run again after a crash."""

    def undo(self, run: R) -> None:
        """Reverse a complete or partial ``do``; may run again."""

    def holds(self, run: R, result: Mapping[str, Any]) -> bool:
        """Whether the server or the disk shows the step complete; ``result`` is from the journal."""


@runtime_checkable
class MayBeLeftOut(Protocol[R]):
    """A step that some runs skip."""

    def wanted(self, run: R) -> bool: ...


@runtime_checkable
class Tidies(Protocol):
    """A step whose undo only removes leftovers: it may take long or fail, and no user waits for it. The other steps are
    undone first."""

    @property
    def tidies(self) -> bool: ...


B = TypeVar("B", contravariant=True)


@runtime_checkable
class Reversible(Protocol[B]):
    """A step whose effect can be undone after the commit point too."""

    def reverse(self, back: B) -> None:
        """Undo the step when the checks after the commit point failed; may run again."""


Lane = Sequence[Step[R]]


def wanted(stages: Sequence[Sequence[Lane[R]]], run: R) -> list[list[Lane[R]]]:
    """The stages without the steps that this run does not need."""
    needed = [
        [[step for step in lane if not isinstance(step, MayBeLeftOut) or step.wanted(run)] for lane in lanes]
        for lanes in stages
    ]
    return [list(lanes) for lanes in needed if any(lanes)]


class AfterCommit(Exception):
    """A failure after the commit point; the error is its cause."""


class UndoFailed(Exception):
    """A step could not be undone. Its cause is that error; its context the failure of the run."""

    def __init__(self, step: str) -> None:
        super().__init__(f'cannot undo step "{step}"')
        self.step = step


def drive(run: R, stages: Sequence[Sequence[Lane[R]]]) -> None:
    """Run stages one after the other, the lanes of a stage in parallel, the steps of a lane in order. Unwanted steps
    are skipped.

    After an error before the commit point, every begun step is undone in reverse order and the error is raised; an
    error of an undo is journaled, shown, and raised as UndoFailed. After the commit point nothing is undone: the
    error is raised as AfterCommit, and a resumed run finishes the rest.
    """
    begun: list[Step[R]] = []
    finished = run.journal.results()
    try:
        for lanes in wanted(stages, run):
            if len(lanes) == 1:
                for step in lanes[0]:
                    _take(run, step, begun, finished)
            else:
                _side_by_side(run, lanes, begun, finished)
    except BaseException as error:
        _journal_quietly(run, "failed", reason=caller.current().scrub(str(error)), error=type(error).__name__)
        if isinstance(error, KeyboardInterrupt):
            raise  # interrupted twice: the rest is left to resume or abort
        run.carry_on()
        if isinstance(error, Stopped):
            raise  # the step requires that nothing is undone now
        if _committed(run, begun):
            raise AfterCommit(str(error)) from error
        undo_steps(run, begun)
        raise


def _committed(run: R, begun: Sequence[Step[R]]) -> bool:
    """Whether the commit point is passed, or may be: without an answer of the server, nothing may be undone."""
    try:
        return any(step.commits and step.holds(run, {}) for step in begun)
    except Exception:
        return True


def _take(run: R, step: Step[R], begun: list[Step[R]], finished: Mapping[str, Mapping[str, Any]]) -> None:
    if run.cancelled():
        raise Interrupted("interrupted")
    begun.append(step)
    run.emit(StageStarted(step.name, step.title))
    started = time.monotonic()
    if step.name in finished and step.holds(run, finished[step.name]):
        run.emit(StageDone(step.name, 0.0, "already done"))
        return
    run.journal.doing(step.name)
    try:
        result = step.do(run)
    except BaseException as error:
        run.emit(StageFailed(step.name, time.monotonic() - started, str(error)))
        raise
    run.keep(result)
    run.seconds[step.name] = time.monotonic() - started
    if step.commits:
        run.carry_on()
    run.journal.done(step.name, **result.entry, detail=result.detail)
    run.emit(StageDone(step.name, run.seconds[step.name], result.detail))


def _side_by_side(
    run: R, lanes: Sequence[Lane[R]], begun: list[Step[R]], finished: Mapping[str, Mapping[str, Any]]
) -> None:
    """Run each lane in a thread. The first failure stops the others, whose errors are dropped as consequences."""
    first: list[BaseException] = []
    lock = threading.Lock()

    def work(lane: Lane[R]) -> None:
        try:
            for step in lane:
                _take(run, step, begun, finished)
        except BaseException as error:
            with lock:
                if not first:
                    first.append(error)
                    run.stop()
            raise

    with ThreadPoolExecutor(len(lanes), thread_name_prefix="lastgood-lane") as pool:
        wait([pool.submit(work, lane) for lane in lanes], return_when=FIRST_EXCEPTION)
    if first:
        raise first[0]


def undo_steps(run: R, begun: Sequence[Step[R]]) -> None:
    """Undo the steps in reverse order, with those that only tidy up at the end. Continue after an error, and raise the
    first one as UndoFailed."""
    failed: UndoFailed | None = None
    in_order = list(reversed(begun))
    in_order.sort(key=lambda each: isinstance(each, Tidies) and each.tidies)
    for step in in_order:
        try:
            step.undo(run)
        except Exception as error:
            _journal_quietly(run, "undo failed", step=step.name, reason=caller.current().scrub(str(error)))
            if failed is None:
                failed = UndoFailed(step.name)
                failed.__cause__ = error
        else:
            _journal_quietly(run, "undone", step=step.name)
    if failed is not None:
        raise failed


def reverse(back: B, steps: Iterable[Step[Any]]) -> None:
    """Undo a run after its commit point, the last step first. Unlike ``undo_steps`` it ends at the first error: the
    application is started only when the switch is undone."""
    for step in reversed(list(steps)):
        if isinstance(step, Reversible):
            step.reverse(back)


def _journal_quietly(run: AnyRun, event: str, **data: Any) -> None:
    """Write to the journal, ignoring a full disk: it must not stop the undo of the steps."""
    try:
        run.journal.write(event, **data)
    except OSError as error:
        run.emit(Caution(f'cannot write the journal "{run.journal.path}": {error.strerror}'))
