"""The platform's own commands: run without a shell, with a time limit, with the facts of the run around them."""

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
    """``run="…"`` as LASTGOOD_RUN and so on; a fact that is empty is left out."""
    return {f"LASTGOOD_{name.upper()}": value for name, value in facts.items() if value}


def run(
    application: Application,
    hook: str,
    stage: str,
    facts: Mapping[str, str],
    cancelled: Callable[[], bool] = lambda: False,
    turn: int | None = None,
) -> HookResult:
    """Runs a hook that is configured, to its end or to its time limit. ``facts`` is what ``environment`` made; ``turn``
    is what ``turns.turn`` gave: it lasts as long as the hook is at work, even when we don't.

    Whatever goes wrong with it stands in the result. Raises Interrupted.
    """
    command = application.command(hook)
    assert command is not None, f"the hook {hook!r} is not configured"
    program, limit, began = command[0], application.hooks.time_limit, time.monotonic()
    if program.startswith("~"):
        program = str(Path(program).expanduser())
    status, said, problem = None, "", ""
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
        status, said = ended.status, _tail(application.scrub(ended.output))
        if status is None:
            problem = f"did not end within {limit:g} s and was ended with all that it had started"
        elif status != 0:
            problem = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        if problem and said:
            problem += f": {said.splitlines()[-1]}"
    return HookResult(
        hook=hook,
        program=application.scrub(command[0]),
        stage=stage,
        seconds=round(time.monotonic() - began, 3),
        status=status,
        output=said,
        problem=problem,
    )


def _tail(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-OUTPUT_LINES:])[-OUTPUT_CHARACTERS:]
