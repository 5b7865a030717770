"""The guide's own commands on the stand-in, executed as an operator would who has nothing but psql."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from lastgood.command.guide import guide
from lastgood.dump.formats import DumpSource
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed, Interrupted, Refused
from lastgood.events import Emit, Progress
from lastgood.postgres import binaries
from lastgood.postgres.server import Target

PROGRAMS: tuple[Literal["psql", "pg_dump", "pg_restore"], ...] = ("psql", "pg_dump", "pg_restore")
STAGE = "guide"
# What a block printed before it failed, as much of it as an error has room for.
TAIL_LINES = 6


def impossible(source: DumpSource, summary: DumpSummary, major: int) -> str:
    """Why nobody could do it by hand here; empty when nothing speaks against it."""
    if summary.cluster:
        return "the restore point is of a whole cluster, and a guide is written for a dump of one database"
    if source.kind == "set":
        return "the restore point is made of several files, and a guide is written for one"
    try:
        for program in PROGRAMS:
            binaries.find(program, at_least=major)
    except Refused as error:
        return f"{error.message}; a guide needs it"
    return ""


def follow(
    target: Target,
    point: Path,
    store: Path,
    major: int,
    undo: bool,
    emit: Emit,
    cancelled: Callable[[], bool],
) -> int:
    """Writes the guide for ``target`` and this restore point and runs its blocks of a rollback, or of the undo, one
    after the other; how many. Emits Progress of stage ``guide``. Raises Failed at the first one that fails,
    Interrupted."""
    subject = guide.look(target, store, point=str(point))
    every = guide.executable(subject)
    chosen = guide.chosen(every, guide.UNDO if undo else guide.ROLLBACK)
    environment = {"PATH": _path(major), **target.child()[1]}
    done = 0
    for ran in guide.run(every, chosen, environment, folder=store, cancelled=cancelled):
        if not ran.well:
            if cancelled():
                raise Interrupted("interrupted")
            raise Failed(
                f'cannot follow the guide: its block "{ran.block.id}" ({ran.block.title}) '
                + (f"ended with status {ran.status}" if ran.status is not None else "did not end in time")
                + _tail(ran.output.splitlines()),
                hint="Whoever follows the guide at night will stand here too. Look at that block: lastgood guide",
            )
        done += 1
        emit(Progress(STAGE, done, len(chosen), "blocks", detail=ran.block.id))
    return done


def _path(major: int) -> str:
    """The programs of the right version first."""
    folders = [str(binaries.find(program, at_least=major).path.parent) for program in PROGRAMS]
    return os.pathsep.join([*dict.fromkeys(folders), os.environ.get("PATH", os.defpath)])


def _tail(lines: Sequence[str]) -> str:
    said = [line for line in lines if line.strip()][-TAIL_LINES:]
    return "".join(f"\n  {line}" for line in said)
