"""Restore of a missing or invalid live database: there is nothing to swap with, so a restore point is restored under
another name, proved, and renamed to the live name in one transaction."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from lastgood import restore
from lastgood.context import BACKGROUND, Context
from lastgood.errors import Failed, Refused
from lastgood.events import reported
from lastgood.journal import recording
from lastgood.journal.run_names import new_run, suffix
from lastgood.load import made_beside
from lastgood.load.repairs import Rules
from lastgood.models import Document
from lastgood.plan.plan import CONFINED, CodePolicy
from lastgood.postgres import clock, database, lock
from lastgood.postgres import errors as server_errors
from lastgood.postgres.lock import lock_live
from lastgood.postgres.server import Connection, Target
from lastgood.restore import RestoreReport


class ReinstateReport(Document):
    """The restore of a missing database. ``set_aside``: the new name of the invalid one, if there was one. ``remarks``:
    what no restore point holds, and could not be carried over."""

    run: str
    status: Literal["done"] = "done"
    live: str
    point: str
    set_aside: str | None
    restored: RestoreReport
    remarks: tuple[str, ...]
    seconds: float


def reinstate(
    target: Target,
    store: Path,
    point: str,
    context: Context = BACKGROUND,
    *,
    rules: Rules = restore.AS_DUMPED,
    policy: CodePolicy = CONFINED,
) -> ReinstateReport:
    """Restore ``point`` as ``target``'s database, which must be missing or invalid.

    Raises Refused when it is neither, BadPoint, Failed, Interrupted. The live name is then unchanged.
    """
    live, started = target.dbname, time.monotonic()
    maintenance = database.maintenance_name(live)
    with database.connect_maintenance(target, live) as connection, ExitStack() as stack:
        _invalid(connection, live)
        run = new_run(clock.now(connection))
        name = database.fit_name(live, suffix("recovered", run))
        kept = recording.begin_if_possible(context, run, "recover", skew=clock.skew(connection), live=live, point=point)
        emit = stack.enter_context(recording.recording(kept, context.emit))
        lock.claim_copy(connection, name)
        restored = restore.restore(
            target.at(maintenance),
            store,
            point,
            name,
            replace(context, emit=emit),
            rules=rules,
            policy=policy,
            live=live,
            kind="recover",
        )
        with reported(emit, "swap", f"rename it to {live}") as stage:
            aside = _take_name(connection, live, name, run)
            stage.detail = live
    report = ReinstateReport(
        run=run,
        live=live,
        point=restored.point,
        set_aside=aside,
        restored=restored.model_copy(update={"into": live}),
        remarks=(
            f'no restore point holds the owner, privileges, settings and connection limit of database "{live}": set '
            "them again",
        ),
        seconds=round(time.monotonic() - started, 3),
    )
    recording.write_end(kept, "done", report=report.document())
    return report


def _invalid(connection: Connection, live: str) -> database.Database | None:
    """Return the invalid database of that name, None if there is none. Raises Refused when a valid one exists."""
    found = database.find(connection, live)
    if found is not None and not found.invalid:
        raise Refused(
            f'cannot restore as "{live}": a database with that name exists',
            hint="To repeat the diagnosis: lastgood recover",
        )
    return found


def _take_name(connection: Connection, live: str, name: str, run: str) -> str | None:
    aside = None
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    try:
        # A database with that name may have been created since.
        invalid = lock_live(connection, live, lambda held: _invalid(held, live))
        with connection.transaction():
            if invalid is not None:
                aside = database.fit_name(live, suffix("invalid", run))
                connection.execute(rename.format(sql.Identifier(live), sql.Identifier(aside)))
            # The commit point: the database that gets the name is proved, and the one that had it was unusable.
            connection.execute(rename.format(sql.Identifier(name), sql.Identifier(live)))
            for statement in made_beside.opened(live):
                connection.execute(statement)
    except (Refused, psycopg.Error) as error:
        kept = f'The restored and proved database remains as "{name}".'
        if isinstance(error, psycopg.Error):
            refused = server_errors.failed(error, f'rename "{name}" to "{live}"', context="swap", state=kept)
            raise refused from error
        raise Failed(str(error), hint=error.hint, state=kept) from error
    return aside
