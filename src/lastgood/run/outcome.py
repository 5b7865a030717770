"""How a run ended that did not end well: asked of the server, and told with the state that everything is in."""

from __future__ import annotations

import psycopg

from lastgood.errors import Blocked, Failed, Interrupted, LastgoodError, NotStarted, Stopped
from lastgood.postgres import errors as server_errors
from lastgood.postgres.exchange import names
from lastgood.process.run import ChildFailed
from lastgood.run.context import Run
from lastgood.run.runner import AfterCommit, WalkBackFailed


def told(run: Run, error: BaseException) -> BaseException:
    """The error as the user is to see it: with the state that the live database is really in."""
    live, name = run.plan.live, run.plan.run
    after = switched(run)
    stopped = run.service.record
    asleep = " The application is stopped." if stopped is not None and stopped.state == "stopped" else ""
    if after is None and not isinstance(error, Stopped):
        return Stopped(
            f"cannot tell whether the switch took place: the server does not answer ({_words(error)})",
            hint=f"When it answers again, look at lastgood status, then run: lastgood resume {name}",
            state=f'"{live}" is either as it was or fully switched; never in between.{asleep}',
        )
    if after and not isinstance(error, Stopped):
        return Stopped(
            f"cannot finish the run after the switch: {_words(error)}",
            hint=f"Run: lastgood resume {name} to finish, or lastgood undo to go back.",
            state=f'"{live}" is the restored database; the previous one is kept as "{run.plan.kept}".{asleep}',
        )
    untouched = f'"{live}" was not touched and is open.'
    if run.findings.started_again:
        untouched += " The application was started again."
    if isinstance(error, WalkBackFailed) and isinstance(error.__cause__, NotStarted):
        return NotStarted(
            f"{error.__cause__}; the run had failed: {_words(error.__context__ or error)}",
            hint=error.__cause__.hint,
            state=f'"{live}" was not touched and is open. The application is stopped.',
        )
    if isinstance(error, WalkBackFailed | AfterCommit | KeyboardInterrupt):
        cause = error.__cause__
        why = f"{cause}" if cause else "interrupted twice"
        first = f"{cause.hint} Then run" if isinstance(cause, Blocked) else "Run"
        return Stopped(
            f"cannot walk the run back: {why}",
            hint=f'{first}: lastgood abort {name} to remove "{run.plan.shadow}", or lastgood resume {name} '
            "to continue.",
            state=f'"{live}" was not touched.{asleep}',
        )
    if run.findings.shadow_kept:
        untouched += f' The restored database is kept for inspection as "{run.plan.shadow}".'
    if run.interrupted and not isinstance(error, Stopped):
        return Interrupted("interrupted: everything was walked back", state=untouched)
    if isinstance(error, Blocked):
        return Failed(error.message, hint=f"{error.hint} Then run the rollback again.", state=untouched)
    if isinstance(error, LastgoodError):
        if not isinstance(error, Stopped):
            error.state = untouched
        return error
    if isinstance(error, psycopg.OperationalError):
        return Failed(
            f"cannot go on: a connection to the server was lost or refused: {str(error).strip()}",
            hint="When the server lets us in again, look at lastgood status and run the rollback again.",
            state=untouched,
        )
    if isinstance(error, psycopg.Error):
        failed = server_errors.failed(error, f'roll back "{live}"')
        failed.state = untouched
        return failed
    if isinstance(error, ChildFailed):
        hint = f"{error.tail.strip()[-500:]}\nRun: lastgood explain {name} to see what that means."
        return Failed(f"cannot go on: {error}", hint=hint.strip(), state=untouched)
    if isinstance(error, OSError):
        return Failed(
            f"cannot go on: {error.strerror or error}" + (f' ("{error.filename}")' if error.filename else ""),
            hint="Make room or mend the folder, and run the rollback again.",
            state=untouched,
        )
    return error


def _words(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).strip()


def switched(run: Run) -> bool | None:
    """Whether the database that was live has the kept name now; None when it may, and the server can't be asked.

    Asked of the server, by OID, whatever the run believes: an interrupt or a lost connection may come at any moment.
    """
    if not run.at_swap:
        return False
    try:
        with run.server.connect() as connection:
            found = names(connection, [run.plan.live_oid])
    except psycopg.Error:
        return None
    return found.get(run.plan.live_oid) == run.plan.kept
