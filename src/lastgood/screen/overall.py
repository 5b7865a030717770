"""The bar for a whole run: how much of it is done, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lastgood.events import Event, ExpectedStages, Progress, StageDone, StageFailed
from lastgood.text import units

WIDTH = 24


class Overall:
    """Follows the stages of a run. Its share never goes back, whatever the estimates do."""

    def __init__(self, course: ExpectedStages, clock: Callable[[], float]) -> None:
        self._course = course
        self._clock = clock
        self._began = clock()
        self._ended: set[str] = set()
        self._share = 0.0

    def follow(self, event: Event) -> None:
        if isinstance(event, StageDone | StageFailed) and event.name in self._course.stages:
            self._ended.add(event.name)

    def line(self, progress: Mapping[str, Progress]) -> str:
        """Render ``overall [######------] 50 %, 3 of 7 steps done, about 14 s left``. ``progress``: of the running
        stages."""
        elapsed, left = self._clock() - self._began, self._left(progress)
        share = elapsed / (elapsed + left) if left is not None and elapsed + left > 0 else self._by_steps(progress)
        self._share = max(self._share, min(share, 1.0))
        filled = int(self._share * WIDTH)
        text = f"overall [{'#' * filled}{'-' * (WIDTH - filled)}] {int(100 * self._share)} %"
        text += f", {len(self._ended)} of {len(self._course.stages)} steps done"
        return (
            text if left is None else f"{text}, {units.roughly(left)} left" if left >= 0.5 else f"{text}, nearly done"
        )

    def _left(self, progress: Mapping[str, Progress]) -> float | None:
        """The seconds to the end of the longest step, which measures itself; before that, what earlier runs took. The
        steps after it take no time worth an estimate."""
        measured = [each.seconds_left for each in progress.values() if each.seconds_left is not None]
        if measured:
            return max(measured)
        if self._course.seconds is None or self._course.longest in self._ended:
            return None
        return max(0.0, self._course.seconds - (self._clock() - self._began))

    def _by_steps(self, progress: Mapping[str, Progress]) -> float:
        running = sum(each.done / each.total for each in progress.values() if each.total and each.done <= each.total)
        return (len(self._ended) + running) / max(1, len(self._course.stages))
