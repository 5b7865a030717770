"""The platform's own commands: run without a shell, with a time limit, with the facts of the run in the environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lastgood.application import Application
from lastgood.application.results import HookResult
from lastgood.errors import Interrupted
from lastgood.process import run as child

OUTPUT_LINES = 20
OUTPUT_CHARACTERS = 2000


def environment(**facts: str) -> dict[str, str]:
    """Environment variables from facts: ``run="…"`` becomes LASTGOOD_RUN; an empty fact is left out."""
    return {f"LASTGOOD_{name.upper()}": value for name, value in facts.items() if value}


def run(
    application: Application,
    hook: str,
    stage: str,
    facts: Mapping[str, str],
    cancelled: Callable[[], bool] = lambda: False,
    turn: int | None = None,
) -> HookResult:
    """Run a configured hook to its end or to its time limit. ``facts`` come from ``environment``; ``turn`` from
    ``turns.turn``: the hook inherits this lock and holds it while it runs, even if lastgood is killed.

    Every failure is part of the result. Raises Interrupted.
    """
    command = application.command(hook)
    assert command is not None, f"the hook {hook!r} is not configured"
    program, limit, began = command[0], application.hooks.time_limit, time.monotonic()
    if program.startswith("~"):
        program = str(Path(program).expanduser())
    status, output, problem = None, "", ""
    try:
        ended = child.run_foreign(
            (program, *command[1:]),
            environment={**facts, **environment(stage=stage)},
            seconds=limit,
            folder=application.folder,
            cancelled=cancelled,
            holding=turn,
        )
    except OSError as error:
        problem = f"could not be started: {error.strerror or error}"
    else:
        if ended is None:
            raise Interrupted(f'interrupted while the hook "{hook}" ran')
        status, output = ended.status, _tail(application.scrub(ended.output))
        if status is None:
            problem = f"exceeded its time limit of {limit:g} s and was terminated with all its child processes"
        elif status != 0:
            problem = f"exited with status {status}" if status > 0 else f"was terminated by signal {-status}"
        if problem and output:
            problem += f": {output.splitlines()[-1]}"
    return HookResult(
        hook=hook,
        program=application.scrub(command[0]),
        stage=stage,
        seconds=round(time.monotonic() - began, 3),
        status=status,
        output=output,
        problem=problem,
    )


def _tail(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-OUTPUT_LINES:])[-OUTPUT_CHARACTERS:]
