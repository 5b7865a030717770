"""The application that uses the live database: how it is stopped and started, asked whether it works, and watched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lastgood.config.tables import Health, Hooks, Watch
from lastgood.text.redact import Scrubber

OnFailure = Literal["undo", "ask", "keep"]
HOOKS = ("maintenance_on", "stop", "start", "maintenance_off", "smoke")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the configuration that can't work. ``stops``: a run must not begin with it."""

    stops: bool
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Application:
    """What ``lastgood.toml`` and the command line say of it. Hooks run in ``folder`` (None: where we are); what they
    print, and what is answered by HTTP, goes through ``scrub`` before anybody keeps it."""

    hooks: Hooks = field(default_factory=Hooks)
    health: Health | None = None
    watch: Watch | None = None
    on_failure: OnFailure = "ask"
    folder: Path | None = None
    scrub: Scrubber = field(default_factory=Scrubber)

    @property
    def stops(self) -> bool:
        """Whether something is to be done before the switch."""
        return self.hooks.maintenance_on is not None or self.hooks.stop is not None

    @property
    def starts(self) -> bool:
        """Whether something is to be done after it."""
        return self.hooks.start is not None or self.hooks.maintenance_off is not None

    @property
    def checked(self) -> bool:
        """Whether it is asked how it is after the switch."""
        return self.health is not None or self.hooks.smoke is not None

    def command(self, hook: str) -> tuple[str, ...] | None:
        """The program and the arguments of a hook of HOOKS."""
        found: tuple[str, ...] | None = getattr(self.hooks, hook)
        return found

    def problems(self) -> Iterator[Problem]:
        """What can be seen to be wrong without running anything."""
        for hook in HOOKS:
            command = self.command(hook)
            if command is not None and not self._found(command[0]):
                yield Problem(
                    True,
                    f'the program "{self.scrub(command[0])}" of the hook "{hook}" is not on this machine',
                    "Correct [hooks] in lastgood.toml, or run this where the program is.",
                )
        for before, after in (("stop", "start"), ("maintenance_on", "maintenance_off")):
            if self.command(before) is not None and self.command(after) is None:
                yield Problem(
                    False,
                    f'there is a hook "{before}" and no "{after}": somebody must do that by hand',
                    f'Add "{after}" to [hooks] in lastgood.toml.',
                )
        for header, variable in (self.health.headers if self.health is not None else {}).items():
            if not os.environ.get(variable):
                yield Problem(
                    True,
                    f'the variable "{variable}" for the header "{header}" of the health check is not set',
                    f"Set {variable}, or take the header out of [health] in lastgood.toml.",
                )
        sentry = self.watch.sentry if self.watch is not None else None
        if sentry is not None and not os.environ.get(sentry.token_variable):
            yield Problem(
                False,
                f'the variable "{sentry.token_variable}" is not set: Sentry will not be asked',
                f"Set {sentry.token_variable} to a token that may read the project.",
            )

    def _found(self, program: str) -> bool:
        if os.sep not in program:
            return shutil.which(program) is not None
        return os.access((self.folder or Path()) / Path(program).expanduser(), os.X_OK)
