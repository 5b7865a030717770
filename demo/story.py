"""The story of the demo: a migration breaks a CRM, the old procedure fails, lastgood rolls the CRM back.

The demo checks every claim on the screen itself, with SQL of its own (demo.evidence, demo.migration) and with the
application's measurements (demo.application). It quotes lastgood's reports only for facts that only lastgood knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg import sql

from demo import application, claims, crm, evidence, migration, naive
from demo.application import Application, Lap
from demo.claims import StoryEnds, duration, first, noticed
from demo.command import Answer, Lastgood
from demo.evidence import Evidence
from demo.screen import Screen
from lastgood.postgres.embedded import EmbeddedServer

LIVE = "crm"
COPY = "crm_copy_for_the_old_procedure"


@dataclass
class Tale:
    """The state that the acts share."""

    screen: Screen
    server: EmbeddedServer
    lastgood: Lastgood
    folder: Path
    size: crm.Size = field(default_factory=lambda: crm.Size.of(1))
    good: Evidence | None = None
    broken: Evidence | None = None
    naive_errors: int = 0
    naive_wrong: int = 0
    rollback: Lap = field(default_factory=Lap)
    rollback_seconds: float = 0.0
    undo: Lap = field(default_factory=Lap)
    undo_seconds: float = 0.0
    writes: int = 0

    @property
    def dump(self) -> Path:
        return self.folder / "cloud_backup_20260112_093000.sql"

    def take(self, database: str = LIVE) -> Evidence:
        with evidence.opened(self.server.target(LIVE), database) as connection:
            return evidence.take(connection)

    def damage(self, database: str = LIVE) -> migration.Damage:
        with evidence.opened(self.server.target(LIVE), database) as connection:
            return migration.damage(connection)

    def databases(self) -> dict[int, str]:
        """OID → name of every database that holds a CRM: the live one and the kept ones."""
        with self.server.target("postgres").connect() as admin:
            rows = admin.execute(
                "SELECT oid, datname FROM pg_database WHERE datname = %s OR starts_with(datname, %s)",
                [LIVE, LIVE + "_"],
            )
            return {oid: name for oid, name in rows if name != COPY}

    def nowhere(self, references: tuple[str, ...]) -> set[str]:
        """The acknowledged writes that are in none of the databases."""
        missing = set(references)
        for name in self.databases().values():
            with evidence.opened(self.server.target(LIVE), name) as connection:
                missing -= application.written(connection, missing)
        return missing

    def run(self, *arguments: str) -> Answer:
        """Run lastgood for the story. Raises StoryEnds unless it ends with status 0."""
        return claims.run(self.screen, self.lastgood, *arguments)


def run(screen: Screen, server: EmbeddedServer, folder: Path, scale: float) -> None:
    """Run the whole story, in order. Raises StoryEnds."""
    store = folder / "backups"
    store.mkdir()
    lastgood = Lastgood(server.url(LIVE), store=store, state=folder / "state")
    tale = Tale(screen, server, lastgood, folder, crm.Size.of(scale))
    a_crm_with_a_backup(tale, scale)
    target = server.target(LIVE)
    with Application(target, organizations=tale.size.organizations, contacts=tale.size.contacts) as app:
        app.wait_for_work(reads=50, writes=20)
        a_bad_migration(tale, app)
        the_old_procedure(tale)
        the_plan(tale)
        the_rollback(tale, app)
        the_undo(tale, app)
        the_rollback_again(tale, app)
        tale.writes = len(app.ledger)
    the_sum(tale)


def a_crm_with_a_backup(tale: Tale, scale: float) -> None:
    screen, server = tale.screen, tale.server
    screen.act("A CRM with a restore point")
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(LIVE)))
    with screen.working("loading the CRM"), server.target(LIVE).connect() as connection:
        crm.create(connection, scale)
    tale.good = tale.take()
    screen.say(
        f"A CRM on PostgreSQL {server.major}: {tale.good.rows:,} rows, circular foreign keys, partitions, policies, "
        "grants, settings that belong to the database."
    )
    tale.run("backup", "--label", "before-lead-scoring")
    naive.backup(server.bin, server.url(LIVE), tale.dump)
    # The copy for the old procedure is made now, because without sessions in the database it is fast.
    with server.target("postgres").connect() as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(COPY), sql.Identifier(LIVE), sql.Identifier(crm.OWNER)
            )
        )
    screen.say(f"The old backup script makes {tale.dump.name} as well.")


def a_bad_migration(tale: Tale, app: Application) -> None:
    screen = tale.screen
    screen.act("A migration goes wrong while the application is running")
    with screen.working("the migration runs"), tale.server.target(LIVE).connect() as connection:
        migration.apply(connection)
    found = tale.damage()
    tale.broken = tale.take()
    app.wait_for_work(reads=20, writes=10)
    screen.say("The migration ended without an error, but changed the data:")
    screen.table(
        ("", "before", "now"),
        (
            ("opportunities", f"{tale.size.opportunities:,}", f"{found.opportunities:,}"),
            ("contacts overwritten", "0", f"{found.contacts_overwritten:,}"),
            ("opportunities without their contact", "0", f"{found.orphans:,}"),
            ("an unwanted table, view and column", "no", "yes" if found.new_table else "no"),
            ("the organizations' notes", "present", "missing" if found.column_gone else "present"),
        ),
    )
    screen.claim(
        "the live database is broken",
        found.new_table and found.new_view and found.new_column and found.column_gone and found.orphans > 0,
    )


def the_old_procedure(tale: Tale) -> None:
    screen, server = tale.screen, tale.server
    assert tale.good is not None
    screen.act("The old procedure, on a copy with the same damage")
    with server.target(COPY).connect() as connection:
        migration.apply(connection)
    screen.command(f'psql "$DATABASE_URL" < {tale.dump.name}; echo "exit status: $?"')
    with screen.working("psql is running"):
        outcome = naive.restore(server.bin, server.url(COPY), tale.dump)
    for message, count in outcome.most_frequent(3):
        screen.quote(f"{count} × ERROR:  {message}")
    screen.quote(f"exit status: {outcome.status}")
    left = tale.damage(COPY)
    after = tale.take(COPY)
    # A copied database does not have the settings of the live one, so they are not compared.
    wrong = tale.good.differences(replace(after, settings=tale.good.settings))
    tale.naive_errors, tale.naive_wrong = len(outcome.errors), len(wrong)
    screen.claim(
        f"psql reported {len(outcome.errors)} errors, continued, and ended with status 0: to a script, that is success",
        outcome.status == 0 and len(outcome.errors) > 0,
    )
    screen.claim(
        f"the migration's table, view and column are still there, and {left.contacts_overwritten:,} contacts are still "
        "overwritten",
        left.new_table and left.new_view and left.new_column and left.contacts_overwritten > 0,
    )
    with server.target(COPY).connect() as connection:
        (public,) = connection.execute(
            "SELECT has_function_privilege('crm_anon', 'public.export_contacts()', 'EXECUTE')"
        ).fetchone() or (False,)
        (allowed,) = connection.execute(
            "SELECT has_table_privilege('crm_app', 'public.organizations', 'SELECT')"
        ).fetchone() or (True,)
    screen.claim("anonymous visitors may now export all contacts; this privilege had been revoked", bool(public))
    screen.claim("the application may no longer read its organizations", not allowed)
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(COPY)))


def the_plan(tale: Tale) -> None:
    screen = tale.screen
    screen.act("lastgood: first the plan")
    before = tale.databases()
    screen.command("lastgood rollback --dry-run")
    with screen.working("lastgood makes the plan; the application continues"):
        answer = tale.lastgood("rollback", "--dry-run", as_json=False)
    screen.quote(answer.printed)
    screen.claim("the dry run ends with status 0", answer.status == 0, f"status {answer.status}: {answer.stderr}")
    screen.claim("the dry run changed nothing", tale.databases() == before and tale.take() == tale.broken)
    if answer.status != 0:
        raise StoryEnds


def the_rollback(tale: Tale, app: Application) -> None:
    screen = tale.screen
    assert tale.good is not None and tale.broken is not None
    screen.act("lastgood: the rollback, while the application is running")
    oid = _oid(tale)
    app.lap()
    answer = tale.run("rollback", "--latest", "--yes")
    _it_is_as_it_was(tale)
    kept = tale.databases().get(oid, "")
    screen.claim(
        f'the broken database is kept, unchanged, as "{kept}"',
        kept not in ("", LIVE) and tale.take(kept).content == tale.broken.content,
    )
    tale.rollback, tale.rollback_seconds = _what_users_noticed(tale, app), answer.seconds


def the_undo(tale: Tale, app: Application) -> None:
    screen = tale.screen
    assert tale.broken is not None
    screen.act("lastgood: the undo, because a rollback may be a mistake too")
    oid = _oid(tale)
    app.lap()
    answer = tale.run("undo", "--yes")
    now = tale.take()
    screen.claim(
        "the live database is the one from before the rollback again, with every row",
        now == tale.broken,
        first(tale.broken.differences(now)),
    )
    screen.claim("the restored database is now the kept one", tale.databases().get(oid, LIVE) != LIVE)
    tale.undo, tale.undo_seconds = _what_users_noticed(tale, app), answer.seconds


def the_rollback_again(tale: Tale, app: Application) -> None:
    tale.screen.act("lastgood: the rollback again, to keep")
    app.lap()
    tale.run("rollback", "--latest", "--yes")
    _it_is_as_it_was(tale)
    _what_users_noticed(tale, app)


def _it_is_as_it_was(tale: Tale) -> None:
    screen = tale.screen
    assert tale.good is not None
    now = tale.take()
    screen.claim(
        f"every table has exactly the rows that it had at the backup: {now.rows:,} rows, by count and hash",
        now.content == tale.good.content,
        first(tale.good.differences(now)),
    )
    screen.claim(
        f"tables, columns, keys, triggers, policies, owners and grants are equal: {len(now.structure)} lines compared",
        now.structure == tale.good.structure,
        first(tale.good.differences(now)),
    )
    screen.claim(
        "owner, grants, settings, connection limit and comment of the database are equal, which no dump holds",
        now.settings == tale.good.settings,
        first(tale.good.differences(now)),
    )
    found = tale.damage()
    screen.claim("no change of the migration is left", found.none and found.opportunities == tale.size.opportunities)


def _what_users_noticed(tale: Tale, app: Application) -> Lap:
    """Let the application work a little longer, and claim what it noticed since the last lap."""
    return noticed(tale.screen, app, tale.nowhere, kept="the live database or a kept one")


def the_sum(tale: Tale) -> None:
    screen = tale.screen
    screen.act("Summary")
    screen.table(
        ("", "the old procedure", "lastgood"),
        (
            ("reports success", f"yes, after {tale.naive_errors} errors", "yes"),
            (
                "the data is restored",
                f"no, {tale.naive_wrong:,} differences",
                f"{'no' if screen.failed else 'yes'}, all tables compared",
            ),
            ("users could not read for", "not measured", f"{duration(tale.rollback.longest_read)} at most"),
            ("users waited to write for", "not measured", f"{duration(tale.rollback.longest_write)} at most"),
            ("requests of users that failed", "not measured", str(_failed(tale.rollback) + _failed(tale.undo))),
            ("the whole rollback took", "", f"{tale.rollback_seconds:.1f} s"),
            ("undoing the rollback", "not possible", f"{tale.undo_seconds:.1f} s, with one command"),
            ("data written since the backup", "up to the operator", f"kept: all {tale.writes:,} writes"),
        ),
    )


def _failed(lap: Lap) -> int:
    return lap.failed_reads + lap.failed_writes


def _oid(tale: Tale) -> int:
    return next(oid for oid, name in tale.databases().items() if name == LIVE)
