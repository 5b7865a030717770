"""The hold on the live database during a deployment: one at a time, visible on the server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import PurePath

import psycopg

from lastgood.dump.names import shown
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, Refused
from lastgood.events import Caution, Emit, Note
from lastgood.journal import caller
from lastgood.journal.run_names import new_run
from lastgood.postgres import clock, database
from lastgood.postgres.deployment import (
    ACTIVITY,
    DeploymentMark,
    Stage,
    clear_deployment,
    find_deployment,
    mark_deployment,
    own_comment,
)
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.postgres.server import Connection, Target
from lastgood.text.units import ago, duration

POLL_SECONDS = 0.2


class Hold:
    """The lock on the live database, and the mark that records its purpose. If the connection is lost, both are
    re-established when it is back."""

    def __init__(self, target: Target, connection: Connection, run: str, oid: int, wait: float, emit: Emit) -> None:
        self.target = target
        self.live = target.dbname
        self.oid = self._oid = oid
        self.run = run
        self.started: datetime = clock.now(connection)
        self.mark: DeploymentMark | None = None
        self._connection = connection
        self._wait = wait
        self._emit = emit

    @property
    def pid(self) -> int:
        """The process id of our session."""
        return self._connection.info.backend_pid

    @property
    def maintenance(self) -> str:
        """The maintenance database that the session is connected to."""
        return self._connection.info.dbname

    def connection(self, cancelled: Callable[[], bool] = lambda: False) -> Connection:
        """Return a session that holds the lock: the existing one, or a new one if that was lost.

        Raises Failed when the server does not come back in time, Refused when another session has the lock by then.
        """
        try:
            self._connection.execute("SELECT 1")
            return self._connection
        except psycopg.Error:
            self._connection.close()
        began, reported = time.monotonic(), False
        while True:
            try:
                connection = _locked(self.target, self.live, self.run)
                break
            except (psycopg.OperationalError, LastgoodError) as error:
                # The server may be restarting, or may not have noticed yet that the old session is gone.
                if time.monotonic() - began > self._wait or cancelled():
                    if isinstance(error, Refused):
                        raise
                    raise Failed(
                        f"cannot continue: the server was not available again within {duration(self._wait)}",
                        hint="Start the server first.",
                        state="The state is unknown: the server is unreachable.",
                    ) from error
                if not reported:
                    self._emit(Caution(f"lost connection to the server; retrying for up to {duration(self._wait)}"))
                    reported = True
            time.sleep(POLL_SECONDS)  # there is no event for its return
        self._connection = connection
        if reported:
            self._emit(Note(f"reconnected to the server after {duration(time.monotonic() - began)}"))
        return connection

    def there(self, connection: Connection) -> database.Database | None:
        """Return the database that the deployment started with, under any name; None if it was dropped."""
        return database.by_oid(connection, self._oid)

    def exchanged(self, connection: Connection) -> str:
        """Describe what happened to the live database if another one or none has its name; empty if it is unchanged."""
        named, there = database.find(connection, self.live), self.there(connection)
        if named is not None and named.oid == self._oid:
            return ""
        gone = f'was renamed to "{shown(there.name)}"' if there is not None else "was dropped"
        return f"the live database {gone}" + (f', and another "{self.live}" was created' if named is not None else "")

    def record_stage(self, stage: Stage, point: str = "", label: str = "", program: str = "") -> None:
        """Write the stage of the deployment to the server. From then on it is unfinished, even after a kill."""
        connection = self.connection()
        found = database.describe(connection, self.live)
        # A migration may change the comment of the database, and even replace the database.
        self.oid, comment = found.oid, own_comment(found.comment)
        if self.mark is None:
            self.mark = DeploymentMark(
                run=self.run,
                stage=stage,
                live=self.live,
                live_oid=self.oid,
                point=point,
                label=label,
                program=PurePath(program).name,
                host=caller.host(),
                pid=os.getpid(),
                user=caller.user(),
                started=self.started,
                original_comment=comment,
            )
        else:
            self.mark = self.mark.model_copy(update={"stage": stage, "live_oid": self.oid, "original_comment": comment})
        mark_deployment(connection, self.mark)

    def settle(self) -> None:
        """End the deployment: restore the live database's own comment."""
        if self.mark is not None:
            clear_deployment(self.connection(), self.mark)
            self.mark = None

    def close(self) -> None:
        """Release the lock."""
        with suppress(psycopg.Error):
            self._connection.close()


@contextmanager
def hold(target: Target, wait: float, emit: Emit) -> Iterator[Hold]:
    """Hold the live database of ``target`` for the length of a block.

    Raises Refused when a run is in progress, or a deployment is unfinished; Failed.
    """
    live = target.dbname
    with database.connect_maintenance(target, live) as connection:
        found, unfinished = lock_live(
            connection, live, lambda held: (database.describe(held, live), find_deployment(held, live))
        )
        if unfinished is not None:
            raise Refused(
                f'cannot deploy: deployment {unfinished.run} of "{live}" is unfinished (started '
                f"{ago(unfinished.started, clock.now(connection))} by {unfinished.user} on {unfinished.host}; "
                f"interrupted while {ACTIVITY[unfinished.stage]})",
                hint="Run lastgood recover to roll back to its restore point. To accept the database as it is: "
                f"lastgood deploy --accept {unfinished.run}",
                state=f'"{live}" is as that deployment left it.',
            )
        run = new_run(clock.now(connection))
        name(connection, run)
        held = Hold(target, connection, run, found.oid, wait, emit)
        try:
            yield held
        finally:
            held.close()


def _locked(target: Target, live: str, run: str) -> Connection:
    connection = database.connect_maintenance(target, live)
    try:
        lock_live(connection, live, read_nothing)  # the caller checks ``exchanged`` before it continues
        name(connection, run)
    except BaseException:
        connection.close()
        raise
    return connection


def name(connection: Connection, run: str) -> None:
    """Set the application_name of the deployment's own session."""
    connection.execute("SELECT set_config('application_name', %s, false)", [f"lastgood deploy {run}"])


def accept(target: Target, run: str) -> DeploymentMark:
    """Accept the database of an unfinished deployment as it is. Raises Refused when there is no such deployment, or a
    run is in progress."""
    live = target.dbname
    with database.connect_maintenance(target, live) as connection:
        database.describe(connection, live)
        found = lock_live(connection, live, lambda held: find_deployment(held, live))
        if found is None or found.run != run:
            there = f"the unfinished one is {found.run}" if found is not None else "no deployment is unfinished"
            raise Refused(
                f'cannot accept the deployment "{run}" of "{live}": {there}',
                hint="Run lastgood status to see unfinished deployments.",
                state=NOT_REACHED,
            )
        clear_deployment(connection, found)
        return found
