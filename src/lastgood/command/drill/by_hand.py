"""The commands of the guide, run on the stand-in as an operator with only psql would run them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lastgood.command.drill.scratch import DrillServer
from lastgood.command.guide import guide
from lastgood.context import Context
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed, Refused
from lastgood.events import Progress
from lastgood.postgres import binaries
from lastgood.postgres.server import Target, only_row

PROGRAMS: tuple[Literal["psql", "pg_dump", "pg_restore"], ...] = ("psql", "pg_dump", "pg_restore")
STAGE = "guide"
# How many lines of a failed block's output an error shows.
TAIL_LINES = 6


def impossible(source: DumpSource, summary: DumpSummary, major: int) -> str:
    """Return why the guide cannot be followed here; empty if it can."""
    if summary.cluster:
        return "the restore point is a dump of a whole cluster, but a guide needs a dump of one database"
    if source.kind == "set":
        return "the restore point consists of several files, but a guide needs one"
    try:
        for program in PROGRAMS:
            binaries.find(program, at_least=major)
    except Refused as error:
        return f"the guide cannot be written: {error.message}"
    return ""


def not_the_owner(target: Target, schemas: Sequence[str]) -> str:
    """Return why the guide in place cannot be followed on the stand-in; empty if it can: its commands take the schemas
    of the role that runs them."""
    query = (
        "SELECT string_agg(nspname, ', ' ORDER BY nspname) FROM pg_catalog.pg_namespace "
        "WHERE nspname = ANY (%s) AND nspname <> 'public' AND nspowner <> current_user::regrole"
    )
    with target.connect(application_name="lastgood drill") as connection:
        (others,) = only_row(connection, query, [list(schemas)])
    return f"the role of the drill does not own the schemas {others}, as the guide's commands need" if others else ""


def follow(
    scratch: DrillServer, point: Path, store: Path, schemas: tuple[str, ...], undo: bool, context: Context
) -> int:
    """Write the guide for the stand-in and this restore point, and run its blocks of a rollback or of the undo. Return
    their number. ``schemas``: those to exchange in place; none by name.

    Emits Progress of stage ``guide``. Raises Failed at the first failing block, Interrupted.
    """
    target = scratch.target.at(scratch.name)
    subject = guide.subject_of(target, store, point=str(point), in_place=schemas)
    every = guide.executable(subject)
    chosen = guide.select(every, guide.UNDO if undo else guide.IN_PLACE if schemas else guide.ROLLBACK)
    environment = {"PATH": _path(scratch.major), **target.child()[1]}
    done = 0
    for ran in guide.run(every, chosen, environment, folder=store, cancelled=context.cancelled):
        if not ran.succeeded:
            context.check("interrupted")
            raise Failed(
                f'cannot follow the guide: block "{ran.block.id}" ({ran.block.title}) '
                + (f"exited with status {ran.status}" if ran.status is not None else "exceeded its time limit")
                + _tail(ran.output.splitlines()),
                hint="Check this block of the guide, because it would fail in an emergency, too: lastgood guide",
            )
        done += 1
        context.emit(Progress(STAGE, done, len(chosen), "blocks", detail=ran.block.id))
    return done


def _path(major: int) -> str:
    """Return a PATH with the programs of the right version first."""
    folders = [str(binaries.find(program, at_least=major).path.parent) for program in PROGRAMS]
    return os.pathsep.join([*dict.fromkeys(folders), os.environ.get("PATH", os.defpath)])


def _tail(lines: Sequence[str]) -> str:
    tail = [line for line in lines if line.strip()][-TAIL_LINES:]
    return "".join(f"\n  {line}" for line in tail)
