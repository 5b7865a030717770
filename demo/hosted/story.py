"""The story of the demo's second act, the one that lastgood was made for: on a hosted project a deployment fails, its
automatic way back is killed, and an operator on another machine brings the CRM back.

The demo checks every claim on the screen itself, with SQL of its own and with the application's measurements.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from demo import application, claims, crm, migration
from demo.application import Application, Lap
from demo.claims import StoryEnds, duration, first, noticed
from demo.command import Answer, Lastgood
from demo.hosted import account
from demo.hosted.account import Account
from demo.hosted.platform import ADMIN, CUSTOMER, psql
from demo.migration import Damage
from demo.screen import Screen
from lastgood.postgres.embedded import EmbeddedServer

LIVE = "postgres"
KILLED = "build.after_load:kill"
_SIGN_UP = "INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-0000000000aa', 'ada@example.com');"
_ADA = "user_id = '00000000-0000-0000-0000-0000000000aa'"
_SQL = crm.SQL / "hosted"


@dataclass
class Tale:
    """The state that the acts share. ``first`` is the machine of the deployment, ``second`` that of the operator."""

    screen: Screen
    server: EmbeddedServer
    folder: Path
    size: crm.Size
    first: Lastgood
    second: Lastgood
    good: Account | None = None
    broken: Account | None = None
    back: Lap = field(default_factory=Lap)
    back_seconds: float = 0.0
    undo: Lap = field(default_factory=Lap)
    undo_seconds: float = 0.0
    writes: int = 0

    def connect(self) -> psycopg.Connection:
        return self.server.target(LIVE, user=ADMIN).connect()

    def take(self) -> Account:
        with self.connect() as connection:
            return account.take(connection)

    def damage(self) -> Damage:
        with self.connect() as connection:
            return migration.damage(connection)

    def kept(self) -> list[str]:
        """The schemas named public, from before a switch, that are kept."""
        with self.connect() as connection:
            rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^lastgood_.*_public$'")
            return [row[0] for row in rows]

    def count(self, schema: str, table: str, condition: LiteralString) -> int:
        with self.connect() as connection:
            query = sql.SQL("SELECT count(*) FROM {} WHERE ").format(sql.Identifier(schema, table))
            row = connection.execute(query + sql.SQL(condition)).fetchone()
            return int(row[0]) if row is not None else 0

    def nowhere(self, references: tuple[str, ...]) -> set[str]:
        """The acknowledged writes that are neither in the live schema nor in a kept one."""
        missing = set(references)
        with self.connect() as connection:
            for schema in ("public", *self.kept()):
                missing -= application.written(connection, missing, schema)
        return missing

    def run(self, *arguments: str) -> Answer:
        """Run lastgood on the second machine. Raises StoryEnds unless it ends with status 0."""
        return claims.run(self.screen, self.second, *arguments)

    def show(self, lastgood: Lastgood, *arguments: str, status: int, fault: str = "") -> Answer:
        """Run lastgood and quote what it prints. Raises StoryEnds unless it ends with this status."""
        self.screen.command("lastgood " + " ".join(arguments))
        with self.screen.working("lastgood is running; the application continues"):
            answer = lastgood(*arguments, as_json=False, environment={"LASTGOOD_FAULT": fault} if fault else None)
        if answer.status != status:
            self.screen.claim(f"it ends with status {status}", False, f"it ended with {answer.status}")
            self.screen.quote(answer.stderr + answer.printed)
            raise StoryEnds
        return answer


def run(screen: Screen, server: EmbeddedServer, folder: Path, scale: float) -> None:
    """Run the whole story, in order. Raises StoryEnds."""
    one, other = (_machine(server, folder / name) for name in ("first", "second"))
    tale = Tale(screen, server, folder, crm.Size.of(scale), first=one, second=other)
    a_hosted_project(tale)
    target, size = server.target(LIVE), tale.size
    # A service of the platform: its session never leaves the database.
    with (
        server.target(LIVE, user=ADMIN).connect(application_name="realtime") as service,
        Application(target, organizations=size.organizations, contacts=size.contacts) as app,
    ):
        app.wait_for_work(reads=50, writes=20)
        a_name_that_cannot_change(tale)
        a_deployment_fails(tale, app)
        another_machine(tale)
        back_in_place(tale, app, service)
        the_undo(tale, app)
        back_again(tale, app)
        tale.writes = len(app.ledger)
    the_sum(tale)


def _machine(server: EmbeddedServer, folder: Path) -> Lastgood:
    (folder / "backups").mkdir(parents=True)
    lastgood = Lastgood(server.url(LIVE, user=CUSTOMER), store=folder / "backups", state=folder / "state")
    # The migration is psql's, as with the platform's own tool.
    lastgood.environment["PATH"] = f"{server.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return lastgood


def a_hosted_project(tale: Tale) -> None:
    screen, server = tale.screen, tale.server
    screen.act("A CRM on a hosted project")
    with screen.working("loading the CRM"), tale.connect() as connection:
        connection.execute((_SQL / "services.sql").read_bytes())
        crm.fill(connection, tale.size, owner=CUSTOMER)
    psql(server, LIVE, (_SQL / "ties.sql").read_text())
    tale.good = tale.take()
    screen.say(
        f"A stand-in for a hosted project on PostgreSQL {server.major}: {tale.good.live.rows:,} rows. Salespeople are "
        "users of the platform's auth service: foreign keys, a trigger, a policy and a publication bind the CRM to it."
    )


def a_name_that_cannot_change(tale: Tale) -> None:
    screen = tale.screen
    with tale.server.target("template1", user=CUSTOMER).connect() as connection:
        try:
            connection.execute("ALTER DATABASE postgres RENAME TO postgres_old")
            refused = ""
        except psycopg.Error as error:
            refused = str(error.diag.message_primary)
        superuser = connection.info.parameter_status("is_superuser") == "on"
    screen.claim(
        f'the role "{CUSTOMER}" is no superuser, and the server refuses to rename the database: "{refused}"',
        bool(refused) and not superuser,
    )
    answer = tale.show(tale.first, "check", "--capabilities", status=0)
    screen.quote(answer.printed)


def a_deployment_fails(tale: Tale, app: Application) -> None:
    screen = tale.screen
    screen.act("A deployment fails, and its automatic way back is killed")
    script = tale.folder / "lead_scoring.sql"
    statements = [statement.decode() for _, statement in migration.steps()]
    script.write_text(";\n".join([*statements, "SELECT 1 / 0"]) + ";\n")
    arguments = ("deploy", "--", "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script))
    answer = tale.show(tale.first, *arguments, status=-signal.SIGKILL, fault=KILLED)
    screen.quote("\n".join(line for line in answer.stderr.splitlines() if "psql" in line or "error" in line.lower()))
    screen.say(
        "The migration fails at its last statement. lastgood starts to go back, and is killed (SIGKILL) when the "
        "restored schemas are loaded and not yet proved."
    )
    psql(tale.server, LIVE, _SIGN_UP, user="supabase_auth_admin")
    screen.say("Meanwhile Ada signs up; a trigger makes her a salesperson.")
    found = tale.damage()
    tale.broken = tale.take()
    app.wait_for_work(reads=20, writes=10)
    screen.table(
        ("", "before", "now"),
        (
            ("opportunities", f"{tale.size.opportunities:,}", f"{found.opportunities:,}"),
            ("contacts overwritten", "0", f"{found.contacts_overwritten:,}"),
            ("opportunities without their contact", "0", f"{found.orphans:,}"),
            ("the organizations' notes", "present", "missing" if found.column_gone else "present"),
        ),
    )
    screen.claim(
        "the live database is broken, and the application works on the broken data",
        found.new_table and found.column_gone and found.orphans > 0,
    )


def another_machine(tale: Tale) -> None:
    screen = tale.screen
    screen.act("Another machine, which has a copy of the restore point and nothing else")
    store = Path(tale.first.environment["LASTGOOD_STORE"])
    (point,) = store.glob("*_before_deployment.sql")
    for each in store.glob(f"{point.name}*"):
        shutil.copy(each, tale.second.environment["LASTGOOD_STORE"])
    store.rename(store.with_name("out of reach"))
    shutil.rmtree(tale.first.environment["LASTGOOD_STATE"])
    status = tale.show(tale.second, "status", status=7)
    screen.quote(status.printed)
    (stopped,) = set(re.findall(r"lastgood abort (\S+)", status.printed)) or {""}
    screen.claim("the run that was killed is found on the server", bool(stopped))
    tale.run("abort", stopped, "--yes")
    assert tale.broken is not None
    now = tale.take()
    screen.claim(
        "what the killed run had built is gone, and the live database is unchanged",
        now == Account(tale.broken.live, {}, ()),
        first(tale.broken.live.differences(now.live)),
    )
    recover = tale.show(tale.second, "recover", "--dry-run", status=0)
    screen.quote(recover.printed)
    screen.claim("it leads to the restore point of the deployment", f"roll back to {point.name}" in recover.printed)
    plan = tale.show(tale.second, "rollback", "--latest", "--dry-run", status=0)
    screen.quote(plan.printed)
    screen.claim(
        "the plan counts the user who signed up since, whom the restored tables do not know",
        "auth.users is not rolled back and has 1 row more than at the restore point" in " ".join(plan.printed.split()),
    )
    screen.claim("neither dry run changed anything", tale.take() == now)


def back_in_place(tale: Tale, app: Application, service: psycopg.Connection) -> None:
    screen = tale.screen
    assert tale.broken is not None
    screen.act("Back in place, while the application is running")
    app.lap()
    answer = tale.run("recover", "--yes")
    _it_is_as_it_was(tale)
    now = tale.take()
    # What the application wrote meanwhile is kept too, and left out of an account.
    different = sorted(name for name, rows in now.kept.items() if tale.broken.live.content.get(name) != rows)
    screen.claim(
        f"the broken objects are kept, with every row: {len(now.kept)} relations compared",
        len(now.kept) > 20 and not different,
        ", ".join(different[:3]),
    )
    screen.claim("nothing of the platform depends on a kept object", now.ties == (), first(now.ties))
    (kept,) = tale.kept() or [""]
    screen.claim(
        f'Ada can still log in; the CRM does not know her, and her row is in "{kept}"',
        tale.count("auth", "users", "email = 'ada@example.com'") == 1
        and tale.count("public", "sales", _ADA) == 0
        and tale.count(kept, "sales", _ADA) == 1,
    )
    tale.back, tale.back_seconds = _what_users_noticed(tale, app), answer.seconds
    row = service.execute("SELECT 1").fetchone()
    screen.claim(
        "no session was ended: neither the platform's nor one of the application's",
        row == (1,) and tale.back.reconnects == 0,
        f"{tale.back.reconnects} reconnected",
    )


def the_undo(tale: Tale, app: Application) -> None:
    screen = tale.screen
    assert tale.broken is not None
    screen.act("The undo, because a rollback may be a mistake too")
    app.lap()
    answer = tale.run("undo", "--yes")
    now = tale.take()
    screen.claim(
        "the live objects are those from before the rollback again, with every row and Ada",
        (now.live.content, now.live.structure) == (tale.broken.live.content, tale.broken.live.structure)
        and tale.count("public", "sales", _ADA) == 1,
        first(tale.broken.live.differences(now.live)),
    )
    tale.undo, tale.undo_seconds = _what_users_noticed(tale, app), answer.seconds


def back_again(tale: Tale, app: Application) -> None:
    tale.screen.act("Back again, to keep")
    app.lap()
    tale.run("rollback", "--latest", "--yes")
    _it_is_as_it_was(tale)
    _what_users_noticed(tale, app)


def _it_is_as_it_was(tale: Tale) -> None:
    screen = tale.screen
    assert tale.good is not None
    good, now = tale.good.without_users(), tale.take().without_users()
    screen.claim(
        f"every table has exactly the rows that it had before the deployment: {now.rows:,} rows, by count and hash",
        now.content == good.content,
        first(good.differences(now)),
    )
    screen.claim(
        f"tables, columns, keys, triggers, policies, owners and grants are equal: {len(now.structure)} lines compared, "
        "the platform's among them",
        now.structure == good.structure,
        first(good.differences(now)),
    )
    screen.claim(
        "owner, grants, settings and comment of the database are equal",
        now.settings == good.settings,
        first(good.differences(now)),
    )
    found = tale.damage()
    screen.claim("no change of the migration is left", found.none and found.opportunities == tale.size.opportunities)


def _what_users_noticed(tale: Tale, app: Application) -> Lap:
    return noticed(tale.screen, app, tale.nowhere, kept="the live schema or a kept one")


def the_sum(tale: Tale) -> None:
    screen = tale.screen
    screen.act("Summary")
    rows = (
        ("readers waited for", duration(tale.back.longest_read), duration(tale.undo.longest_read)),
        ("writers waited for", duration(tale.back.longest_write), duration(tale.undo.longest_write)),
        ("requests of users that failed", _failed(tale.back), _failed(tale.undo)),
        ("sessions that were ended", str(tale.back.reconnects), str(tale.undo.reconnects)),
        ("the whole command took", f"{tale.back_seconds:.1f} s", f"{tale.undo_seconds:.1f} s"),
    )
    screen.table(("", "back in place", "undo"), rows)
    screen.say(f"All {tale.writes:,} writes of the application are in the live schema or in a kept one.")


def _failed(lap: Lap) -> str:
    return str(lap.failed_reads + lap.failed_writes)
