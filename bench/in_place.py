"""A rollback in place and its undo on a stand-in for a hosted project, under clients as such a project has them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench import host, measure
from bench.results import Lines
from lastgood.in_place import marks
from lastgood.points.dump_point import take
from lastgood.postgres import binaries
from tests.support.hosted import ADMIN, Project

NOTES = 1_200_000
CONTACTS = 100_000
TABLES = 1_000
# The size of the lock table depends on them.
_DEFAULTS = {"wal_level": "logical", "max_connections": "100", "max_locks_per_transaction": "64"}
_FILL = """
SET LOCAL session_replication_role = replica;
INSERT INTO public.contacts (email, stage, home, name, owner)
  SELECT 'c' || n || '@example.com', (ARRAY['lead', 'won', 'lost'])[1 + n % 3]::public.stage,
         ROW('Street ' || n, 'City ' || n % 500)::public.address, 'Contact ' || n, 1 + n % 20
  FROM generate_series(1, {contacts}) n;
INSERT INTO public.notes (contact, author, body)
  SELECT 1 + n % {contacts}, ('00000000-0000-0000-0000-' || lpad((1 + n % 20)::text, 12, '0'))::uuid,
         repeat(md5(n::text), 4)
  FROM generate_series(1, {notes}) n;
"""
_DAMAGE = """
DROP SCHEMA private CASCADE;
ALTER TABLE public.contacts ADD COLUMN score int NOT NULL DEFAULT 0;
UPDATE public.contacts SET name = 'damaged' WHERE id % 5 = 0;
"""
_LONG_READ = "SELECT count(*), pg_sleep({}) FROM (SELECT FROM public.contacts LIMIT 1) c"
_MANY = """
DO $$ BEGIN FOR n IN 1..{tables} LOOP
  EXECUTE format('CREATE TABLE public.t%s (id bigint PRIMARY KEY, parent bigint REFERENCES public.contacts)', n);
  EXECUTE format('CREATE INDEX ON public.t%s (parent)', n);
  EXECUTE format('INSERT INTO public.t%s SELECT i, i FROM generate_series(1, 10) i', n);
  IF n % 100 = 0 THEN COMMIT; END IF;
END LOOP; END $$
"""

_Rows = list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client: when it began and ended (time.time), and the SQLSTATE of its error."""

    client: str
    began: float
    ended: float
    error: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def _longest(requests: Sequence[Request], kind: str) -> Request:
    """The longest read or write."""
    of_kind = [one for one in requests if (kind == "read") == one.client.startswith("reader")]
    return max(of_kind, key=lambda one: one.seconds)


@dataclass
class Client(threading.Thread):
    """A client that makes requests in a loop on one connection, with a short pause in between."""

    project: Project
    database: str
    what: str
    role: str
    statements: Sequence[str]
    settings: Sequence[str] = ()
    pause: float = 0.005
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name=self.what, daemon=True)
        self._over = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with self.project.connect(self.database, user=self.role) as connection:
                    connection.prepare_threshold = 1
                    for setting in self.settings:
                        connection.execute(setting.encode())
                    while not self._over.is_set():
                        self._request(connection)
                        self._over.wait(self.pause)
            except psycopg.OperationalError:
                self._over.wait(0.05)

    def _request(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        began, error = time.time(), ""
        try:
            with connection.transaction():
                for statement in self.statements:
                    connection.execute(statement.encode())
        except psycopg.Error as failure:
            error = failure.sqlstate or "connection"
            if connection.broken:
                raise
        finally:
            self.requests.append(Request(self.what, began, time.time(), error))

    def end(self) -> None:
        self._over.set()
        self.join(60)


def _clients(project: Project, database: str) -> list[Client]:
    jwt = "SELECT set_config('request.jwt.claims', '{}', true)"
    return [
        Client(
            project,
            database,
            "reader of the API",
            "authenticator",
            [jwt, "SET LOCAL ROLE service_role", "SELECT id, name FROM public.contacts WHERE id = 77"],
        ),
        Client(project, database, "reader with SELECT *", "postgres", ["SELECT * FROM public.contacts WHERE id = 5"]),
        Client(
            project,
            database,
            "writer of the API",
            "authenticator",
            [jwt, "SET LOCAL ROLE service_role", "INSERT INTO public.notes (contact, body) VALUES (7, 'w')"],
            ["SET statement_timeout = '8s'"],
        ),
        Client(
            project,
            database,
            "sign-up",
            "supabase_auth_admin",
            ["INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), gen_random_uuid() || '@example.com')"],
            pause=0.05,
        ),
    ]


@contextmanager
def _working(project: Project, database: str, behind: int) -> Iterator[list[Client]]:
    """Clients for the length of a block; ``behind``: with a reader whose queries take so many seconds each, 0 for
    none."""
    clients = _clients(project, database)
    if behind:
        clients.append(Client(project, database, "long reader", "postgres", [_LONG_READ.format(behind)], pause=1.0))
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.end()


@dataclass(frozen=True, slots=True)
class Rig:
    """A project's server, and the folder of restore points and of lastgood's state."""

    project: Project
    folder: Path

    def lastgood(self, database: str, *arguments: str) -> dict[str, object]:
        done = measure.run(
            [sys.executable, "-m", "lastgood", *arguments, "--yes", "--json"],
            environment={
                "LASTGOOD_DB": self.project.server.url(database),
                "LASTGOOD_STORE": str(self.folder / "backups"),
                "LASTGOOD_STATE": str(self.folder / "state"),
            },
        )
        found: dict[str, object] = json.loads(done.output)
        return {**found, "wall": done.seconds}

    def switched_at(self, database: str, run: str) -> float:
        """The server's time of a switch, just before its commit."""
        with self.project.connect(database) as connection:
            return max(each.mark.made_at.timestamp() for each in marks.marked(connection, run=run))


def measured(scale: float, major: int, log: Callable[[str], None], reader: int = 6) -> Lines:
    """Measure once, on a server of its own; ``reader``: the seconds of each query of the long reader,
    0 for a measurement without one."""
    rows: _Rows = []
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder, ExitStack() as stack:
        project = Project(major, settings={**host.SETTINGS, **_DEFAULTS})
        stack.callback(project.close)
        rig = Rig(project, Path(folder))
        log("in place: data")
        database = project.copy()
        fill = _FILL.format(contacts=round(CONTACTS * scale), notes=round(NOTES * scale))
        project.psql(database, fill, user=ADMIN)
        with project.connect(database, user=ADMIN) as connection:
            connection.execute("VACUUM ANALYZE")
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        point = take(project.target(database), rig.folder / "backups").path
        project.psql(database, _DAMAGE)
        rows += _against_psql(rig, database, point, log)
        for behind in dict.fromkeys((0, reader)):
            rows += _under_clients(rig, database, point, behind=behind, log=log)
        rows += _many_tables(rig, scale, log)
    return Lines(
        how=f"PostgreSQL {major}, one run; an application on a hosted project, database {int(str(row[0])) / 1e6:,.0f} "
        f"MB; four looping clients: two readers, a writer and sign-ups.",
        rows=tuple(rows),
    )


def _against_psql(rig: Rig, database: str, point: Path, log: Callable[[str], None]) -> _Rows:
    """Build and proof without clients and without an emergency backup, between two loads by psql."""
    project = rig.project
    plain = rig.folder / "plain.sql"
    program = binaries.find("pg_restore", at_least=project.major).path
    if point.suffix == ".sql":
        plain = point
    else:
        subprocess.run([str(program), "-f", str(plain), str(point)], check=True)

    def psql() -> float:
        log("in place: psql")
        with project.connect("template1", user=ADMIN) as admin:
            admin.execute("DROP DATABASE IF EXISTS loaded")
            admin.execute("CREATE DATABASE loaded TEMPLATE template0")
        url = project.server.url("loaded", user=ADMIN)
        seconds = measure.run([project.server.bin / "psql", "-X", "-q", "-f", plain, url]).seconds
        with project.connect("template1", user=ADMIN) as admin:
            admin.execute("DROP DATABASE loaded")
            admin.execute("CHECKPOINT")
        return seconds

    before = psql()
    log("in place: build and proof")
    skips = ("--override", "emergency_backup", "--reason", "measurement")
    done = rig.lastgood(database, "rollback", point.name, "--in-place", *skips)
    steps = _seconds(done)["steps"]
    assert isinstance(steps, dict)
    build, proof = float(steps["build"]), float(steps["prove"])
    undone = rig.lastgood(database, "undo")
    _prune(rig, database)
    after = psql()
    loads = (before + after) / 2
    return [
        ("psql loading the same dump", f"{loads:.1f} s", f"before {before:.1f} s, after {after:.1f} s"),
        (
            "build and proof, without clients",
            f"{build + proof:.1f} s, {(build + proof) / loads:.2f} × psql",
            f"build {build:.1f} s, proof {proof:.1f} s; goal ≤ 1.3 ×",
        ),
        ("the switch, without clients", f"{1000 * _outage(done):.0f} ms", "its transaction"),
        ("the undo, without clients", f"{1000 * _outage(undone):.0f} ms", "its transaction; goal < 500 ms"),
    ]


def _under_clients(rig: Rig, database: str, point: Path, *, behind: int, log: Callable[[str], None]) -> _Rows:
    where = f"behind a {behind} s reader" if behind else "quiet"
    goal = "goal < 1.5 s" if behind else "goal < 0.5 s"
    rows: _Rows = []
    for command in (("rollback", point.name, "--in-place"), ("undo",)):
        log(f"in place: {command[0]}, {where}")
        with _working(rig.project, database, behind) as clients:
            time.sleep(1)  # each client has prepared its statements
            done = rig.lastgood(database, *command)
            time.sleep(1)
        at = rig.switched_at(database, str(done["run"]))
        every = [one for client in clients if client.what != "long reader" for one in client.requests]
        # Tries before the last one held the clients back, too.
        near = [one for one in every if one.ended > at - 30 and one.began < at + 1]
        failed = Counter((one.client, one.error) for one in every if one.error)
        shown = ", ".join(f"{count} × {error} ({client})" for (client, error), count in sorted(failed.items()))
        for kind in ("read", "write"):
            longest, in_run = (_longest(requests, kind) for requests in (near, every))
            rows.append(
                (
                    f"{command[0]}, {where}: longest {kind} at the switch",
                    f"{longest.seconds:.2f} s",
                    f"{longest.client}; {goal}; longest of the whole run {in_run.seconds:.2f} s",
                )
            )
        rows.append(
            (
                f"{command[0]}, {where}: failed requests",
                f"{sum(failed.values())} of {len(every):,}",
                f"{shown or 'none'}; transaction {1000 * _outage(done):.0f} ms",
            )
        )
    _prune(rig, database)
    return rows


def _many_tables(rig: Rig, scale: float, log: Callable[[str], None]) -> _Rows:
    """A thousand small tables, with the default lock table."""
    project = rig.project
    tables = round(TABLES * max(scale, 0.05))
    log(f"in place: {tables} tables")
    database = project.copy()
    with project.connect(database) as connection:
        connection.execute(_MANY.format(tables=tables).encode())
        connection.execute("ANALYZE")
    point = take(project.target(database), rig.folder / "backups").path
    project.psql(database, _DAMAGE)
    what = f"{tables:,} tables with 2 indexes and a foreign key each"
    try:
        done = rig.lastgood(database, "rollback", point.name, "--in-place")
        undone = rig.lastgood(database, "undo")
    except measure.ProgramFailed as error:
        return [(what, "refused", _message(error.output))]
    return [
        (what, f"switch {1000 * _outage(done):.0f} ms, undo {1000 * _outage(undone):.0f} ms", f"{done['wall']:.0f} s")
    ]


def _message(output: str) -> str:
    """The message of the error at the end of the output of --json."""
    start = output.rfind('{\n  "format"')
    error = json.loads(output[start:])["error"] if start >= 0 else {"message": output[-200:]}
    return str(error["message"])


def _prune(rig: Rig, database: str) -> None:
    rig.lastgood(database, "prune", "--keep", "0")


def _seconds(done: dict[str, object]) -> dict[str, object]:
    seconds = done["seconds"]
    assert isinstance(seconds, dict)
    return seconds


def _outage(done: dict[str, object]) -> float:
    return float(str(_seconds(done)["read_outage"]))
