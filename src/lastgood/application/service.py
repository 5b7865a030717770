"""Stop the application and start it again, and record its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lastgood.application import Application, hooks, record
from lastgood.application.record import StopRecord
from lastgood.application.results import HookResult
from lastgood.context import Context
from lastgood.errors import NotStarted
from lastgood.events import Caution, Note
from lastgood.postgres.server import Target

# The hook that reverses each hook.
COUNTERPARTS = {"stop": "start", "maintenance_on": "maintenance_off"}
STOP_HOOKS = tuple(reversed(COUNTERPARTS))
START_HINT = "Start it by hand, or fix the hook and run: lastgood maintenance off"


class HookFailed(Exception):
    """A hook failed; ``result`` has the reason."""

    def __init__(self, result: HookResult) -> None:
        super().__init__(f'hook "{result.hook}" {result.problem}')
        self.result = result


class Service:
    """The application of one live database. ``target`` is that database; ``facts`` are variables in the environment of
    hooks; ``on_result`` is called with the result of each hook as soon as it has ended. The records are in the state
    folder of ``context``; its ``cancelled`` is ignored, because each call has its own."""

    def __init__(
        self,
        application: Application,
        target: Target,
        facts: Mapping[str, str],
        context: Context,
        on_result: Callable[[HookResult], None] = lambda result: None,
    ) -> None:
        self._application = application
        self._target = target
        self._state = context.records
        self._facts = facts
        self._context = context
        self._emit = context.emit
        self._on_result = on_result
        self.results: list[HookResult] = []

    @property
    def record(self) -> StopRecord | None:
        """The record; None when nothing is stopped."""
        return record.read(self._state, self._target)

    def stop(self, by: str, stage: str, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Switch maintenance mode on, then stop the application. Raises HookFailed, Interrupted, OSError.

        May be called again, after any end of an earlier call: hooks may run a second time. An application that an
        operator has stopped with ``lastgood maintenance`` is left alone.
        """
        before = self.record
        if before is not None and before.by == record.BY_HAND and by != record.BY_HAND and before.state == "stopped":
            self._emit(Note(f"the application was already stopped by {before.by}"))
            return
        begun = before.hooks if before is not None else ()
        current = record.new_record(self._target.dbname, by).model_copy(update={"hooks": begun})
        for hook in STOP_HOOKS:
            if self._application.command(hook) is not None:
                current = current.model_copy(update={"hooks": tuple(dict.fromkeys((*current.hooks, hook)))})
                record.write(self._state, self._target, current)
                self.hook(hook, stage, cancelled)

    def start(self, stage: str, *, begun_only: bool = False, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Start the application, then switch maintenance mode off; with ``begun_only`` run only the counterparts of
        hooks that were begun. The record then has the state "started"; ``forget`` removes it.

        Raises HookFailed, Interrupted, and any error of ``on_result``. May be called again.
        """
        current = self.record
        begun = current.hooks if current is not None else ()
        for before, after in COUNTERPARTS.items():
            if begun_only and before not in begun:
                continue
            if self._application.command(after) is not None:
                self.hook(after, stage, cancelled)
            elif before in begun:
                self._emit(Note(f'cannot reverse hook "{before}": lastgood.toml has no hook "{after}"'))
        if current is not None:
            try:
                record.write(self._state, self._target, current.model_copy(update={"state": "started", "hooks": ()}))
            except OSError as error:
                self._emit(
                    Caution(f"the application is running, but its state file could not be updated: {error.strerror}")
                )

    def start_again(self, stage: str, what: str = "start the application again", state: str = "") -> None:
        """Reverse the hooks that were begun; ``what`` names the action and ``state`` the database's state in the error.
        Raises NotStarted, also when Ctrl+C ended a hook: the operator must know that the application is stopped."""
        try:
            self.start(stage, begun_only=True)
        except (HookFailed, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            raise NotStarted(f"cannot {what}: {why}", hint=START_HINT, state=state) from error

    def forget(self) -> None:
        """Remove the record: the application runs and is healthy."""
        try:
            record.forget(self._state, self._target)
        except OSError as error:
            self._emit(
                Caution(f"the application is healthy, but its state file could not be updated: {error.strerror}")
            )

    def hook(self, hook: str, stage: str, cancelled: Callable[[], bool] = lambda: False) -> HookResult:
        """Run one configured hook. Raises HookFailed, Interrupted, OSError (of ``on_result``)."""
        with hooks.hook_lock(self._target, replace(self._context, cancelled=cancelled)) as lock:
            result = hooks.run(self._application, hook, stage, self._facts, cancelled, lock)
        self.results.append(result)
        self._on_result(result)
        if result.problem:
            raise HookFailed(result)
        return result
