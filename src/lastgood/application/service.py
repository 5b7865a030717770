"""Stops the application and starts it again, and remembers which of the two is the case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lastgood.application import Application, hooks, record, turns
from lastgood.application.record import Record
from lastgood.application.results import HookResult
from lastgood.errors import NotStarted
from lastgood.events import Caution, Emit, Note
from lastgood.postgres.server import Target

# What takes back what.
AGAIN = {"stop": "start", "maintenance_on": "maintenance_off"}
BEFORE = tuple(reversed(AGAIN))
START_IT = "Start it by hand, or mend the hook and run: lastgood maintenance off"


class HookFailed(Exception):
    """A hook did not do what it should; ``result`` says why."""

    def __init__(self, result: HookResult) -> None:
        super().__init__(f'the hook "{result.hook}" {result.problem}')
        self.result = result


class Service:
    """The application of one live database. ``target`` leads to that database; ``facts`` is what hooks find in their
    environment; ``told`` is given the result of each hook as soon as it has ended."""

    def __init__(
        self,
        application: Application,
        target: Target,
        state: Path,
        facts: Mapping[str, str],
        emit: Emit,
        told: Callable[[HookResult], None] = lambda result: None,
    ) -> None:
        self._application = application
        self._target = target
        self._state = state
        self._facts = facts
        self._emit = emit
        self._told = told
        self.results: list[HookResult] = []

    @property
    def record(self) -> Record | None:
        """What is remembered; None when nothing is stopped."""
        return record.read(self._state, self._target)

    def stop(self, by: str, stage: str, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Maintenance mode on, then the application stopped. Raises HookFailed, Interrupted, OSError.

        May be called again, after any end of an earlier call: hooks may find already done what they do. An application
        that somebody has stopped by hand is left to him.
        """
        before = self.record
        if before is not None and before.by == record.BY_HAND and by != record.BY_HAND and before.state == "stopped":
            self._emit(Note(f"the application is stopped already, by {before.by}"))
            return
        kept = before.hooks if before is not None else ()
        current = record.begin(self._target.dbname, by).model_copy(update={"hooks": kept})
        for hook in BEFORE:
            if self._application.command(hook) is not None:
                current = current.model_copy(update={"hooks": tuple(dict.fromkeys((*current.hooks, hook)))})
                record.write(self._state, self._target, current)
                self.hook(hook, stage, cancelled)

    def start(self, stage: str, *, begun_only: bool = False, cancelled: Callable[[], bool] = lambda: False) -> None:
        """The application started, then maintenance mode off; with ``begun_only`` what takes back the hooks that were
        begun. What it leaves remembered is that the application runs; ``well`` forgets that too.

        Raises HookFailed, Interrupted, and what ``told`` raises. May be called again.
        """
        current = self.record
        begun = current.hooks if current is not None else ()
        for before, after in AGAIN.items():
            if begun_only and before not in begun:
                continue
            if self._application.command(after) is not None:
                self.hook(after, stage, cancelled)
            elif before in begun:
                self._emit(Note(f'there is no hook "{after}" in lastgood.toml: what "{before}" did stays as it is'))
        if current is not None:
            try:
                record.write(self._state, self._target, current.model_copy(update={"state": "started", "hooks": ()}))
            except OSError as error:
                self._emit(Caution(f"the application runs, but that could not be written down: {error.strerror}"))

    def start_again(self, stage: str, what: str = "start the application again", state: str = "") -> None:
        """Takes back the hooks that were begun: ``what`` is done, and ``state`` is the database's where it can't be.
        Raises NotStarted, also when Ctrl+C ended a hook: who stops here must know that the application is stopped."""
        try:
            self.start(stage, begun_only=True)
        except (HookFailed, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            raise NotStarted(f"cannot {what}: {why}", hint=START_IT, state=state) from error

    def well(self) -> None:
        """Nothing is left to remember."""
        try:
            record.forget(self._state, self._target)
        except OSError as error:
            self._emit(Caution(f"the application is well, but that could not be written down: {error.strerror}"))

    def hook(self, hook: str, stage: str, cancelled: Callable[[], bool] = lambda: False) -> HookResult:
        """Runs one hook that is configured. Raises HookFailed, Interrupted, OSError (of ``told``)."""
        with turns.turn(self._state, self._target, self._emit, cancelled) as mine:
            result = hooks.run(self._application, hook, stage, self._facts, cancelled, mine)
        self.results.append(result)
        self._told(result)
        if result.problem:
            raise HookFailed(result)
        return result
