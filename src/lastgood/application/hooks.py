"""The platform's own commands: run without a shell, with a time limit, with the facts of the run in the environment."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lastgood.application import Application, record
from lastgood.application.results import HookResult
from lastgood.context import Context
from lastgood.errors import Interrupted
from lastgood.events import Note
from lastgood.postgres.server import Target
from lastgood.process import durable
from lastgood.process import run as child

OUTPUT_LINES = 20
OUTPUT_CHARACTERS = 2000
POLL_SECONDS = 0.05


def environment(**facts: str) -> dict[str, str]:
    """Environment variables from facts: ``run="…"`` becomes LASTGOOD_RUN; an empty fact is left out."""
    return {f"LASTGOOD_{name.upper()}": value for name, value in facts.items() if value}


def run(
    application: Application,
    hook: str,
    stage: str,
    facts: Mapping[str, str],
    cancelled: Callable[[], bool] = lambda: False,
    lock: int | None = None,
) -> HookResult:
    """Run a configured hook to its end or to its time limit. ``facts`` come from ``environment``; ``lock`` from
    ``hook_lock``: the hook inherits this lock and holds it while it runs, even if lastgood is killed.

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
            lock=lock,
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


@contextmanager
def hook_lock(target: Target, context: Context) -> Iterator[int | None]:
    """Wait until no other hook of the application of ``target``'s database runs on this machine, and block others for
    the length of the block; yields the descriptor of the lock. After lastgood was killed, its hook may run for some
    seconds; the next run must not start the application while that hook still stops it. The lock is a file lock of the
    operating system: the end of the last process that has it releases it.

    Yields None where no lock is possible (a state folder without write permission, a file system without locks): that
    must not prevent the start of an application. Raises Interrupted.
    """
    file = record.record_path(context.records, target).with_suffix(".lock")
    try:
        durable.private_folder(file.parent)
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield lock if _acquire(lock, context) else None
    finally:
        os.close(lock)


def _acquire(lock: int, context: Context) -> bool:
    announced = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not announced:
                context.emit(Note("waiting for another hook of this application to end"))
                announced = True
            if context.cancelled():
                raise Interrupted("interrupted while waiting for another hook of the application") from None
            time.sleep(POLL_SECONDS)  # no event announces that a lock is free
        except OSError:
            return False
        else:
            return True
