"""The live database, held for the length of a deployment: one at a time, known to everybody who asks the server."""

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
from lastgood.journal import person
from lastgood.journal.run_names import new_run
from lastgood.postgres import database
from lastgood.postgres.deployment import (
    ACTIVITY,
    DeploymentMark,
    Stage,
    clear_deployment,
    find_deployment,
    mark_deployment,
    own_comment,
)
from lastgood.postgres.lock import lock_live, nothing
from lastgood.postgres.mark import server_clock
from lastgood.postgres.server import Connection, Target
from lastgood.text.units import ago, duration

POLL_SECONDS = 0.2


class Hold:
    """The lock of the live database, and the mark that says what it is held for. When the server goes away, both are
    taken up again as soon as it is back."""

    def __init__(self, target: Target, connection: Connection, run: str, oid: int, wait: float, emit: Emit) -> None:
        self.target = target
        self.live = target.dbname
        self.oid = self._oid = oid
        self.run = run
        self.started: datetime = server_clock(connection)
        self.mark: DeploymentMark | None = None
        self._connection = connection
        self._wait = wait
        self._emit = emit

    @property
    def pid(self) -> int:
        """Our server process."""
        return self._connection.info.backend_pid

    @property
    def maintenance(self) -> str:
        """The database from which the live one is worked on."""
        return self._connection.info.dbname

    def connection(self, cancelled: Callable[[], bool] = lambda: False) -> Connection:
        """A session that holds the lock: the one we had, or when that was lost a new one, once the server answers.

        Raises Failed when it does not come back in time, Refused when somebody else has the lock by then.
        """
        try:
            self._connection.execute("SELECT 1")
            return self._connection
        except psycopg.Error:
            self._connection.close()
        began, told = time.monotonic(), False
        while True:
            try:
                connection = _locked(self.target, self.live, self.run)
                break
            except (psycopg.OperationalError, LastgoodError) as error:
                # The server may be restarting; or it has not noticed yet that our old session is gone.
                if time.monotonic() - began > self._wait or cancelled():
                    if isinstance(error, Refused):
                        raise
                    raise Failed(
                        f"cannot go on: the server did not come back within {duration(self._wait)}",
                        hint="Bring the server back first.",
                        state="Nobody knows: the server does not answer.",
                    ) from error
                if not told:
                    self._emit(Caution(f"the server went away; waiting up to {duration(self._wait)} for it"))
                    told = True
            time.sleep(POLL_SECONDS)  # nothing announces its return
        self._connection = connection
        if told:
            self._emit(Note(f"the server is back after {duration(time.monotonic() - began)}"))
        return connection

    def there(self, connection: Connection) -> database.Database | None:
        """The very database that the deployment began with, whatever it is called now; None when it was dropped."""
        return database.by_oid(connection, self._oid)

    def exchanged(self, connection: Connection) -> str:
        """What became of the live database when its name does not lead to it any more, in words; empty when it does."""
        named, there = database.find(connection, self.live), self.there(connection)
        if named is not None and named.oid == self._oid:
            return ""
        gone = f'was renamed to "{shown(there.name)}"' if there is not None else "was dropped"
        return f"the live database {gone}" + (f', and another "{self.live}" was made' if named is not None else "")

    def say(self, stage: Stage, point: str = "", label: str = "", program: str = "") -> None:
        """Writes on the server how far the deployment is. From here on it is unfinished, whatever happens to us."""
        connection = self.connection()
        found = database.describe(connection, self.live)
        # A migration may give the database another comment, and even put another database in its place.
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
                host=person.host(),
                pid=os.getpid(),
                user=person.user(),
                started=self.started,
                original_comment=comment,
            )
        else:
            self.mark = self.mark.model_copy(update={"stage": stage, "live_oid": self.oid, "original_comment": comment})
        mark_deployment(connection, self.mark)

    def settle(self) -> None:
        """The deployment is over: the live database has its own comment again."""
        if self.mark is not None:
            clear_deployment(self.connection(), self.mark)
            self.mark = None

    def close(self) -> None:
        """Lets go."""
        with suppress(psycopg.Error):
            self._connection.close()


@contextmanager
def hold(target: Target, wait: float, emit: Emit) -> Iterator[Hold]:
    """The live database of ``target``, for the length of a block.

    Raises Refused when a run is at work on it, or a deployment of it is not finished; Failed.
    """
    live = target.dbname
    with database.connect_maintenance(target, live) as connection:
        found, unfinished = lock_live(
            connection, live, lambda held: (database.describe(held, live), find_deployment(held, live))
        )
        if unfinished is not None:
            raise Refused(
                f'cannot deploy: the deployment {unfinished.run} of "{live}" is not finished: begun '
                f"{ago(unfinished.started, server_clock(connection))} by {unfinished.user} on {unfinished.host}, it "
                f"stopped while {ACTIVITY[unfinished.stage]}",
                hint="Run lastgood recover to go back to the restore point that it made. If the database is good as it "
                f"is: lastgood deploy --accept {unfinished.run}",
                state=f'"{live}" is open, and as that deployment left it. Nothing was changed now.',
            )
        run = new_run(server_clock(connection))
        name(connection, run)
        held = Hold(target, connection, run, found.oid, wait, emit)
        try:
            yield held
        finally:
            held.close()


def _locked(target: Target, live: str, run: str) -> Connection:
    connection = database.connect_maintenance(target, live)
    try:
        lock_live(connection, live, nothing)  # who goes on asks ``exchanged`` what became of the live database
        name(connection, run)
    except BaseException:
        connection.close()
        raise
    return connection


def name(connection: Connection, run: str) -> None:
    """The name under which a deployment's own session shows in pg_stat_activity."""
    connection.execute("SELECT set_config('application_name', %s, false)", [f"lastgood deploy {run}"])


def accept(target: Target, run: str) -> DeploymentMark:
    """Declares an unfinished deployment's database good as it is. Raises Refused when there is none of that name, or
    somebody is at work."""
    live = target.dbname
    with database.connect_maintenance(target, live) as connection:
        database.describe(connection, live)
        found = lock_live(connection, live, lambda held: find_deployment(held, live))
        if found is None or found.run != run:
            there = f"{found.run} is the one that is not finished" if found is not None else "none is unfinished"
            raise Refused(
                f'cannot accept the deployment "{run}" of "{live}": {there}',
                hint="Look at lastgood status.",
                state=NOT_REACHED,
            )
        clear_deployment(connection, found)
        return found
