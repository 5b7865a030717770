"""A hosted project after a bad migration, for the campaign in place: what is done to a command there, and everything
that must hold afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from psycopg import sql

from lastgood.in_place import marks
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.support import forked_cli
from tests.support.account import differences
from tests.support.hosted import ADMIN, FOLDER, Project, account_of
from tests.support.waiting import until

# What a command leaves beside the live schemas while it works.
_SCRATCH = """
SELECT datname FROM pg_database WHERE starts_with(datname, 'lastgood_') OR datname ~ '_shadow_'
UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'lastgood_') ORDER BY 1
"""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'lastgood_') ORDER BY 1"
_OPEN = """
SELECT r.rolname || ' may enter ' || n.nspname FROM pg_namespace n, pg_roles r
WHERE starts_with(n.nspname, 'lastgood_') AND r.rolname IN ('anon', 'authenticated', 'service_role')
  AND has_schema_privilege(r.oid, n.oid, 'USAGE, CREATE')
"""
# An object outside that depends on one inside of a schema that is kept, and a foreign key that leads out of it.
_BOUND = """
WITH described AS (
  SELECT pg_describe_object(classid, objid, objsubid) AS one,
         pg_describe_object(refclassid, refobjid, refobjsubid) AS on
  FROM pg_depend WHERE deptype <> 'p' AND refobjid >= 16384)
SELECT one || ' depends on ' || "on" FROM described
WHERE "on" ~ 'lastgood_(kept|undone)_' AND one !~ 'lastgood_' AND one !~ '^(toast table|index pg_toast)'
  AND (one NOT LIKE 'constraint %' OR one LIKE '% on %')
UNION ALL
SELECT conname || ' of ' || conrelid::regclass || ' leads to ' || confrelid::regclass FROM pg_constraint
WHERE contype = 'f' AND conrelid::regclass::text ~ 'lastgood_(kept|undone)_'
  AND confrelid::regclass::text !~ 'lastgood_'
UNION ALL
SELECT 'publication ' || pubname || ' has ' || schemaname || '.' || tablename FROM pg_publication_tables
WHERE starts_with(schemaname, 'lastgood_')
"""


# Seconds. A campaign is to disturb no other work of the machine, and is slow then.
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Site:
    """A project's server with the database ``broken``, which the migration changed, and a restore point from before it.
    ``good`` and ``bad``: the accounts of both states."""

    project: Project
    broken: str
    point: Path
    good: dict[str, object]
    bad: dict[str, object]


def site(project: Project, folder: Path) -> Site:
    """Make a site; the restore point is in ``folder``."""
    broken = project.copy()
    project.psql(broken, ledger.TABLE)
    good = without_ledger(account_of(project, broken))
    point = take(project.target(broken), folder).path
    project.psql(broken, (FOLDER / "migration.sql").read_text())
    return Site(project, broken, point, good, without_ledger(account_of(project, broken)))


def without_ledger(account: dict[str, object]) -> dict[str, object]:
    """An account without the rows of the client that writes all the time, and without those of a view that is left to
    be refreshed on PostgreSQL 15."""
    left_out = ("TABLE DATA public ledger", "MATERIALIZED VIEW DATA public totals")
    return {key: value for key, value in account.items() if not key.startswith(left_out)}


class SchemaLedger(Ledger):
    """A ledger whose rows are in the live database, or in kept schemas of it."""

    def __init__(self, site: Site, live: str) -> None:
        super().__init__(site.project.server, live)
        self._site = site

    def kept(self) -> set[int]:
        found: set[int] = set()
        with self._site.project.connect(self._live, user=ADMIN) as connection:
            for each in marks.marked(connection):
                there = connection.execute(
                    "SELECT to_regclass(%s)", [sql.Identifier(each.name, "ledger").as_string(connection)]
                ).fetchone()
                if each.mark.role != "staging" and there is not None and there[0] is not None:
                    rows = sql.SQL("SELECT id FROM {}").format(sql.Identifier(each.name, "ledger"))
                    found |= {int(number) for (number,) in connection.execute(rows)}
        return found


@dataclass
class Scene:
    """The database ``live`` of a site, and the operator's machine: its folder is ``state``."""

    site: Site
    live: str
    state: Path
    machines: int = 1
    options: tuple[str, ...] = field(default=())

    @property
    def server(self) -> EmbeddedServer:
        return self.site.project.server

    @cached_property
    def point(self) -> str:
        return self.site.point.name

    def another_machine(self) -> None:
        """The next commands run on a machine that has only the server and the restore points."""
        self.machines += 1
        self.state = self.state.with_name(f"machine {self.machines}")

    def start(self, *arguments: str, fault: str = "") -> forked_cli.Process:
        """A command, which meets the fault ``POINT:KIND``."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD"))}
        if fault:
            environment["LASTGOOD_FAULT"] = fault.replace(":cut", ":stop").replace(":crash", ":stop")
        options = [
            "--db",
            f"{self.server.url(self.live)}&connect_timeout={PATIENCE:.0f}",
            "--store",
            str(self.site.point.parent),
            "--state",
            str(self.state),
        ]
        return forked_cli.Process(*options, *self.options, *arguments, environment=environment)

    def run(self, *arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        """A command to its end. At the point, ``cut`` ends all its sessions; ``crash`` stops the server at once, and
        starts it again."""
        process = self.start(*arguments, fault=fault)
        if fault.endswith((":cut", ":crash")):
            self.wait_for_stop(process)
            if fault.endswith(":cut"):
                self.cut()
            else:
                self.crash()
            process.send_signal(signal.SIGCONT)
        output, errors = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.wait(), output, errors)

    def wait_for_stop(self, process: forked_cli.Process) -> None:
        """Wait until a command has stopped itself at its fault point."""
        watched = psutil.Process(process.pid)
        until(lambda: watched.status() == psutil.STATUS_STOPPED, "the command at its fault point", seconds=PATIENCE)

    def rollback(self, fault: str = "") -> subprocess.CompletedProcess[str]:
        """A rollback in place to the restore point."""
        return self.run("rollback", self.point, "--in-place", "--yes", "--json", fault=fault)

    def cut(self) -> None:
        """End all sessions of lastgood."""
        with self.site.project.connect("postgres", user=ADMIN) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name ~ '^(lastgood|pg_dump)' AND pid <> pg_backend_pid()"
            )

    def crash(self) -> None:
        """Stop the server without a shutdown, and start it again."""
        self.server.stop(signal.SIGQUIT)
        self.server.start()

    def account(self) -> dict[str, object]:
        """The independent account of the live database, without the ledger's rows."""
        return without_ledger(account_of(self.site.project, self.live))

    def good(self) -> bool:
        """Whether the live database is the restore point; it is as before otherwise, and nothing in between. Foreign
        keys that are still to be validated do not count."""
        found = self.account()
        with self.site.project.connect(self.live) as connection:
            left = [key.name for each in marks.rest(connection) for key in each.foreign_keys]
        of_bad, of_good = (
            [each for each in differences(one, found) if not any(name in each for name in left)]
            for one in (self.site.bad, self.site.good)
        )
        assert not of_bad or not of_good, "a mixture:\n" + "\n".join(of_bad if len(of_bad) < len(of_good) else of_good)
        return not of_good

    def schemas(self, *roles: str) -> list[str]:
        """The schemas of lastgood with one of these roles."""
        with self.site.project.connect(self.live, user=ADMIN) as connection:
            return [each.name for each in marks.marked(connection) if each.mark.role in roles]

    def scratch(self) -> list[str]:
        """The databases that a command left."""
        with self.site.project.connect("postgres", user=ADMIN) as connection:
            return _column(connection, _SCRATCH)

    def status(self) -> tuple[int, Any]:
        """The exit status of ``lastgood status``, and what it says."""
        done = self.run("status", "--json")
        return done.returncode, json.loads(done.stdout)

    def verify(self) -> None:
        """What holds at any time: every schema of lastgood is marked, closed and bound to nothing, and status names
        the run of each."""
        with self.site.project.connect(self.live, user=ADMIN) as connection:
            connection.execute("SET search_path = ''")
            assert _column(connection, _SCHEMAS) == [each.name for each in marks.marked(connection)]
            assert _column(connection, _OPEN) == []
            bound = _column(connection, _BOUND)
            assert not bound, "\n".join(bound)
            found = marks.marked(connection)
        code, seen = self.status()
        staged = {each.mark.run for each in found if each.mark.role == "staging"}
        kept = {each.mark.run for each in found if each.mark.role != "staging"}
        assert {each["run"] for each in seen["unfinished"] if each["kind"] == "rollback"} == staged
        assert {each["shadow"] for each in seen["unfinished"] if each["kind"] != "rollback"} <= {*self.scratch()}
        assert {each["run"] for each in seen["kept"]} == kept
        assert (code == 7) == bool(seen["unfinished"] or seen["leftovers"] or seen["finishing"]), seen


def _column(connection: Connection, query: str) -> list[str]:
    return [str(value) for (value,) in connection.execute(query)]


@contextmanager
def writing(scene: Scene) -> Iterator[SchemaLedger]:
    """A client that writes for the length of a block; afterwards each acknowledged row is there."""
    client = SchemaLedger(scene.site, scene.live)
    client.start()
    try:
        yield client
    finally:
        client.end()
    lost = client.lost()
    assert not lost, f"{len(lost)} of {len(client.acknowledged)} acknowledged rows are lost: {sorted(lost)[:10]}"
    assert client.acknowledged
