"""The application that uses the live database: stopping and starting it, health checks, and the watch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lastgood.config.tables import Health, Hooks, WatchSettings
from lastgood.text.redact import Scrubber

OnFailure = Literal["undo", "ask", "keep"]
HOOKS = ("maintenance_on", "stop", "start", "maintenance_off", "smoke")


@dataclass(frozen=True, slots=True)
class HookProblem:
    """A fault of the configuration. ``stops``: a run must not begin with it."""

    stops: bool
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Application:
    """The settings from ``lastgood.toml`` and the command line. Hooks run in ``folder`` (None: the current folder);
    ``scrub`` removes secrets from their output and from HTTP responses before either is kept."""

    hooks: Hooks = field(default_factory=Hooks)
    health: Health | None = None
    watch: WatchSettings | None = None
    on_failure: OnFailure = "ask"
    folder: Path | None = None
    scrub: Scrubber = field(default_factory=Scrubber)

    @property
    def stops(self) -> bool:
        """Whether a hook runs before the switch."""
        return self.hooks.maintenance_on is not None or self.hooks.stop is not None

    @property
    def starts(self) -> bool:
        """Whether a hook runs after the switch."""
        return self.hooks.start is not None or self.hooks.maintenance_off is not None

    @property
    def checked(self) -> bool:
        """Whether the application is checked after the switch."""
        return self.health is not None or self.hooks.smoke is not None

    def command(self, hook: str) -> tuple[str, ...] | None:
        """The program and the arguments of a hook of HOOKS."""
        command: tuple[str, ...] | None = getattr(self.hooks, hook)
        return command

    def problems(self) -> Iterator[HookProblem]:
        """Faults that are visible without running anything."""
        for hook in HOOKS:
            command = self.command(hook)
            if command is not None and not self._executable(command[0]):
                yield HookProblem(
                    True,
                    f'cannot run hook "{hook}": program "{self.scrub(command[0])}" is not on this machine',
                    "Correct [hooks] in lastgood.toml, or run this command where the program is installed.",
                )
        for before, after in (("stop", "start"), ("maintenance_on", "maintenance_off")):
            if self.command(before) is not None and self.command(after) is None:
                yield HookProblem(
                    False,
                    f'hook "{before}" has no counterpart "{after}": an operator must do that by hand',
                    f'Add "{after}" to [hooks] in lastgood.toml.',
                )
        for header, variable in (self.health.headers if self.health is not None else {}).items():
            if not os.environ.get(variable):
                yield HookProblem(
                    True,
                    f'cannot send header "{header}" of the health check: variable "{variable}" is not set',
                    f"Set {variable}, or remove the header from [health] in lastgood.toml.",
                )
        sentry = self.watch.sentry if self.watch is not None else None
        if sentry is not None and not os.environ.get(sentry.token_variable):
            yield HookProblem(
                False,
                f'cannot query Sentry: variable "{sentry.token_variable}" is not set',
                f"Set {sentry.token_variable} to a token that may read the project.",
            )

    def _executable(self, program: str) -> bool:
        if os.sep not in program:
            return shutil.which(program) is not None
        return os.access((self.folder or Path()) / Path(program).expanduser(), os.X_OK)
