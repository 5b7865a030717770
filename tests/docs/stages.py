"""What stands around the commands of each page: the database that they meet, and what must hold after each of them.

A page without a stage of its own gets ``Stage``.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import ClassVar

from demo import crm
from lastgood import playground
from lastgood.config.tables import Tables
from tests.cli.conftest import Outcome
from tests.docs.page import Block, Command, blocks
from tests.docs.platforms import Rds, SelfHosted, Supabase
from tests.docs.stage import Stage, create
from tests.mission.deployments import alembic_project
from tests.mission.site import Site
from tests.support.web import Web


class Readme(Stage):
    """The tour: a backup, a deployment that goes wrong, the rollback, the undo."""

    backup = False

    def after(self, command: Command, outcome: Outcome) -> None:
        if command.call is None:
            return
        assert outcome.out
        name, *others = command.call.arguments
        if name == "backup":
            self.execute("DELETE FROM public.deals")
        if name in ("rollback", "undo") and "--yes" in others:
            assert self.deals() == (2 if name == "rollback" else 0)

    def prepare(self) -> None:
        super().prepare()
        host = str(self.server.folder).replace("/", "%2F")
        self.shell.substitutions["app_owner@db.example.org"] = f"postgres@{host}"


class Application(Stage):
    """The page's hooks are programs that write down their calls, its application is a real one."""

    PROGRAM = '#!/bin/sh\necho "$(basename "$0")" "$@" >> calls\n'
    STOPPED: ClassVar = ["maintenance on", "workers stop"]
    STARTED: ClassVar = ["workers start", "maintenance off"]

    def prepare(self) -> None:
        super().prepare()
        self.site = Site(self.server, self.live, self.here.folder)
        self.here.request.addfinalizer(self.site.close)
        self.here.monkeypatch.setenv("HEALTH_AUTH", "Bearer of-the-page")
        self.shell.substitutions |= {
            "http://127.0.0.1:8000": self.site.url,
            'length = "60s"': 'length = "1s"',
            'every = "5s"': 'every = "0.5s"',
            "--watch 5s": "--watch 1s",
        }
        around = [*self.STOPPED, *self.STARTED, "smoke-test"]
        self.expected = iter([[], around, [], around, self.STOPPED, [], self.STARTED])

    def content(self, block: Block) -> str:
        text = super().content(block)
        hooks = Tables.model_validate({"hooks": self.shown(text)["hooks"]}).hooks
        for command in (hooks.maintenance_on, hooks.stop, hooks.start, hooks.maintenance_off, hooks.smoke):
            assert command is not None
            Path(command[0]).parent.mkdir(exist_ok=True)
            Path(command[0]).write_text(self.PROGRAM)
            Path(command[0]).chmod(0o755)
        return text

    @staticmethod
    def shown(text: str) -> dict[str, object]:
        return tomllib.loads(text)

    def before(self, command: Command) -> None:
        Path("calls").write_text("")

    def after(self, command: Command, outcome: Outcome) -> None:
        assert Path("calls").read_text().splitlines() == next(self.expected)

    def finish(self) -> None:
        assert list(self.expected) == []
        assert self.site.asked[-1] == ("/health", "Bearer of-the-page")
        assert self.deals() == 2


class Checking(Stage):
    """Every verdict is GO WITH WARNINGS: no item is attested, and no rehearsal took place."""

    def after(self, command: Command, outcome: Outcome) -> None:
        if "--json" not in command.text:
            assert "GO WITH WARNINGS: " in outcome.out


class Comparing(Stage):
    """The deployment changed a contact, too."""

    def prepare(self) -> None:
        super().prepare()
        self.execute("UPDATE public.contacts SET name = 'Bob' WHERE id = 2")
        (path,) = Path("backups").glob("*.sql")
        self.shell.substitutions["backups/crm_20261123_084005.sql"] = str(path)

    def finish(self) -> None:
        assert {path.name for path in Path("differences").iterdir()} == {
            "public.contacts.parquet",
            "public.deals.parquet",
        }
        assert "public.contacts" in Path("difference.html").read_text()


class Deploying(Stage):
    """An Alembic project and a script, as a deployment finds them."""

    backup = False

    def prepare(self) -> None:
        super().prepare()
        alembic_project(Path(), ["CREATE TABLE public.notes (id int PRIMARY KEY)"])
        Path("next.sql").write_text("ALTER TABLE public.contacts ADD COLUMN email text;")
        self.here.monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{Path(sys.executable).parent}")
        self.shell.substitutions["/var/backups/crm"] = "backups"

    def after(self, command: Command, outcome: Outcome) -> None:
        there = "notes" if "alembic" in command.text else "contacts"
        migrated = self.value(f"SELECT to_regclass('public.{there}') IS NOT NULL")
        assert migrated is ("--dry-run" not in command.text)


class Explaining(Stage):
    """A log of psql, and the journal of a run that was killed."""

    JOURNAL = (
        '{"at": "2026-11-22T03:15:00.000+00:00", "event": "begun", "kind": "rollback", "plan": {"live": "crm"}}\n'
        '{"at": "2026-11-22T03:15:01.000+00:00", "event": "doing", "step": "fence"}\n'
    )

    def prepare(self) -> None:
        Path("restore.log").write_text('SET\nERROR:  relation "contacts" does not exist\ninvalid command \\N\n')
        runs = Path("state") / "runs"
        runs.mkdir(parents=True)
        (runs / "20261122-031500-9f3c1a70.jsonl").write_text(self.JOURNAL)
        self.here.monkeypatch.setenv("PGHOST", str(self.server.folder))
        self.here.monkeypatch.setenv("PGUSER", "postgres")


class Guide(Stage):
    """A repository with a README."""

    def prepare(self) -> None:
        super().prepare()
        (settings,) = (each for each in blocks("docs/guide.md") if each.title)
        Path(settings.title).write_text(settings.text)
        Path("docs").mkdir()
        Path("README.md").write_text("# CRM\n")

    def finish(self) -> None:
        written = Path("manual-rollback-procedure.md").read_text()
        assert "| Owner | the platform team |" in written
        assert "- [Incident process](<https://wiki.example.org/incidents>)" in written
        assert Path("manual-rollback-procedure.html").read_text().startswith("<!doctype html>")
        assert "OTHER_POINT" in Path("docs/rollback.md").read_text()
        assert "(manual-rollback-procedure.md#troubleshooting)" in Path("README.md").read_text()
        assert self.lastgood("guide", "--output", "-").out.startswith("# Rollback by hand: `crm`")


class Install(Stage):
    """A new user, whose database has no restore point."""

    backup = False

    def prepare(self) -> None:
        super().prepare()
        host = str(self.server.folder).replace("/", "%2F")
        self.shell.substitutions["db.example.org"] = host


class KindsOfDumps(Stage):
    """A compressed dump that is cut off."""

    def prepare(self) -> None:
        super().prepare()
        (path,) = Path("backups").glob("*.sql")
        Path("broken.sql.gz").write_bytes(gzip.compress(path.read_bytes())[:-100])


class Notifications(Stage):
    """Two webhooks of our own."""

    def prepare(self) -> None:
        super().prepare()
        self.web = Web(lambda path: (200, b"ok", {}))
        self.here.request.addfinalizer(self.web.close)
        self.shell.substitutions["hooks.example.org"] = self.web.url.removeprefix("http://")

    def received(self) -> list[tuple[str, str]]:
        """The messages since the last call, with their targets."""
        found = [
            (path.partition("?")[0], json.loads(body)["title"].partition(": ")[2]) for path, body in self.web.posted
        ]
        self.web.posted.clear()
        return found

    def after(self, command: Command, outcome: Outcome) -> None:
        received = [path for path, _ in self.received()]
        expected = {
            "lastgood notify --test team": ["/team"],
            "lastgood notify --test": ["/on-call", "/team"],
            "lastgood rollback": ["/team"] * 2,
            "lastgood undo": ["/on-call"] + ["/team"] * 2,
        }
        call = command.text.partition("#")[0].strip().removesuffix(" --yes")
        assert sorted(received) == expected.get(call, []), (command.text, outcome.err)
        assert "T0KEN" not in outcome.out + outcome.err


class Retention(Stage):
    """Backups of one night."""

    def after(self, command: Command, outcome: Outcome) -> None:
        if "--dry-run" in command.text:
            assert "the newest, daily " in outcome.out and "days and weeks in time zone Europe/Berlin" in outcome.out
        elif "verify" in command.text:
            assert "1 of 1 restore point valid" in outcome.out
        elif "--pin" in command.text or command.text.startswith("lastgood points "):
            assert ("pinned" in self.lastgood("points").out) == ("unpin" not in command.text)


class PgBouncerPage(Stage):
    """A PgBouncer with the page's settings in front of the database; at the end its clients are paused."""

    backup = False

    def prepare(self) -> None:
        super().prepare()
        self.outputs: list[str] = []

    def content(self, block: Block) -> str:
        if block.title == "pgbouncer.ini":
            settings = dict(line.split(" = ") for line in block.text.splitlines())
            where = {"app": f"host={self.server.folder} port=5432 dbname={self.live}"}
            self.pooler = self.here.request.getfixturevalue("new_pooler")(where, ("postgres",), **settings)
            self.shell.substitutions["127.0.0.1"] = str(self.pooler.folder)
            assert self.lastgood("backup", "--quiet").status == 0
        return super().content(block)

    def before(self, command: Command) -> None:
        if "RESUME" in command.text:
            self.pooler.ask("PAUSE app")
            outcome = self.lastgood("status")
            assert outcome.status == 7
            assert 'PgBouncer is PAUSED for "app": 0 queries wait. To resume it:' in outcome.out
            assert 'RESUME "app"' in outcome.out

    def after(self, command: Command, outcome: Outcome) -> None:
        if "--dry-run" in command.text:
            assert re.search(r'Clients paused +clients of "app" of PgBouncer', outcome.out), outcome.out
            assert "caution" not in outcome.out
        elif "--yes" in command.text:
            received = r'Clients paused +clients of PgBouncer \("app"\), for \d+ ms; no query failed'
            assert re.search(received, outcome.out), outcome.out
            self.outputs.append(outcome.out)

    def finish(self) -> None:
        assert len(self.outputs) == 2
        assert self.lastgood("status").status == 0
        assert self.pooler.paused() == set()


class Recovering(Stage):
    """Before each command the deals are gone; only those with --yes bring them back."""

    def prepare(self) -> None:
        super().prepare()
        self.here.monkeypatch.setenv("HOME", str(self.here.folder))

    def before(self, command: Command) -> None:
        self.execute("DELETE FROM public.deals")

    def after(self, command: Command, outcome: Outcome) -> None:
        assert self.deals() == (2 if "--yes" in command.text else 0)


class Restoring(Stage):
    """A dump with a table that is worth more than one connection."""

    backup = False

    def prepare(self) -> None:
        super().prepare()
        self.execute("CREATE TABLE public.wide AS SELECT i, repeat('x', 900) t FROM generate_series(1, 2000) i")
        subprocess.run([self.server.bin / "pg_dump", "--file=nightly.sql", self.server.url(self.live)], check=True)

    def after(self, command: Command, outcome: Outcome) -> None:
        (copy,) = re.findall(r"--into (\w+)", command.text)
        assert self.value("SELECT count(*) FROM public.wide", copy) == 2000


class Ci(Stage):
    """The migration of a repository, and a pipeline's variables."""

    backup = False
    not_run: ClassVar = {"python -m pip install": "it would install lastgood over the one that is tested"}

    def prepare(self) -> None:
        super().prepare()
        migrate = Path("migrate")
        migrate.write_text(
            '#!/bin/sh\npsql --quiet -c "INSERT INTO public.deals SELECT count(*) + 1 FROM public.deals"\n'
        )
        migrate.chmod(0o755)
        self.here.monkeypatch.setenv("LASTGOOD_PACKAGE", "lastgood")
        self.here.monkeypatch.setenv("GITHUB_SHA", "0ff1ce")
        self.here.monkeypatch.setenv("CI_COMMIT_SHORT_SHA", "0ff1ce")

    def finish(self) -> None:
        assert self.deals() == 5


class Tutorial(Stage):
    """The playground's database, on a server that is there already; the test of the playground starts its own."""

    def prepare(self) -> None:
        playground.fill(self.server.target("postgres"))
        found = playground.environment(self.server)
        for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
            self.here.monkeypatch.setenv(name, found[name])


class Validating(Stage):
    """The CRM, with the tables that the page's own rules name."""

    def prepare(self) -> None:
        create(self.server, self.live)
        with self.connect() as connection:
            crm.create(connection, 0.02)
            connection.execute(
                "CREATE TABLE public.comments (id int PRIMARY KEY, commentable_type text, commentable_id bigint)"
            )
            connection.execute("INSERT INTO public.comments VALUES (1, 'Contact', 1), (2, 'Deal', 1)")
        self.use(self.server.url(self.live))

    def finish(self) -> None:
        found = self.lastgood("validate", "--full", "--json").document
        own = {each["name"]: each["outcome"] for each in found["rules"] if each["kind"] in ("own", "polymorphic")}
        written = Path("lastgood.toml").read_text()
        assert len(own) == written.count("[[validate.rules]]") + written.count("[[validate.polymorphic]]")
        assert set(own.values()) <= {"PASS", "WARN"}
        assert found["quality"] > 85
        # Another database of the same server.
        elsewhere = ("--db", self.server.url("postgres"))
        other = self.lastgood("validate", "--database", self.live, *elsewhere, "--only", "check", "--json")
        assert other.document["database"] == self.live


class Configuration(Stage):
    """The file alone; no server is asked."""

    def prepare(self) -> None:
        """The file is there from the beginning."""
        (example,) = (each for each in blocks("docs/configuration.md") if each.title)
        Path(example.title).write_text(example.text)


class Salvaging(Stage):
    """A database that was rolled back behind a migration, with rows that users wrote before and after the rollback."""

    def prepare(self) -> None:
        super().prepare()
        self.execute("INSERT INTO public.deals VALUES (1, 1), (2, 3)")
        self.execute("ALTER TABLE public.contacts ADD score int; UPDATE public.contacts SET name = 'lost'")
        self.execute("INSERT INTO public.contacts VALUES (4, 'Di', '2025-11-04')")
        self.execute("INSERT INTO public.deals VALUES (3, 4)")
        self.execute("UPDATE public.contacts SET created_at = '2025-11-05' WHERE id = 2")
        assert self.lastgood("rollback", "--latest", "--yes", "--quiet").status == 0
        (path,) = Path("backups").glob("*_emergency.sql")
        self.shell.substitutions["backups/crm_20261123_084211_emergency.sql"] = str(path)


STAGES: dict[str, type[Stage]] = {
    "README.md": Readme,
    "docs/application.md": Application,
    "docs/checking.md": Checking,
    "docs/ci.md": Ci,
    "docs/comparing.md": Comparing,
    "docs/configuration.md": Configuration,
    "docs/deploying.md": Deploying,
    "docs/explaining.md": Explaining,
    "docs/guide.md": Guide,
    "docs/install.md": Install,
    "docs/kinds-of-dumps.md": KindsOfDumps,
    "docs/notifications.md": Notifications,
    "docs/pgbouncer.md": PgBouncerPage,
    "docs/rds.md": Rds,
    "docs/recovering.md": Recovering,
    "docs/restoring.md": Restoring,
    "docs/retention.md": Retention,
    "docs/salvaging.md": Salvaging,
    "docs/self-hosted.md": SelfHosted,
    "docs/supabase.md": Supabase,
    "docs/tutorial.md": Tutorial,
    "docs/validating.md": Validating,
}
