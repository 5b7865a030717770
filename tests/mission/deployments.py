"""A small live database that is deployed to again and again, and the migrations that do it well and badly."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.command.facts import account
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.cli.conftest import Outcome
from tests.support import forked_cli

SCHEMA = """
COMMENT ON DATABASE {name} IS 'The CRM of record';
CREATE TABLE public.contacts (id int PRIMARY KEY, name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.deals (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contact int NOT NULL REFERENCES public.contacts, created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO public.contacts SELECT i, 'contact ' || i FROM generate_series(1, 200) i;
INSERT INTO public.deals (contact) SELECT i FROM generate_series(1, 100) i;
CREATE SCHEMA supabase_migrations;
CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY);
INSERT INTO supabase_migrations.schema_migrations VALUES ('20251101');
"""
# What half a migration does before it fails: each statement is committed.
HALF = """
CREATE TABLE public.leads (id int PRIMARY KEY);
ALTER TABLE public.contacts ADD COLUMN email text;
UPDATE public.contacts SET name = 'overwritten' WHERE id <= 50;
"""
# What the application does meanwhile.
WRITES = "INSERT INTO public.deals (contact) VALUES (7), (8);"
FAILS = "SELECT 1 / 0;"
HANGS = "SELECT pg_sleep(600);"
# It ends with status 0, and deals have no owner.
ORPHANS = "SET session_replication_role = replica; DELETE FROM public.contacts WHERE id <= 20;"


@dataclass(frozen=True)
class Ended(Outcome):
    """How a call of lastgood ended."""

    @property
    def deployment(self) -> dict[str, Any]:
        """The report of a deployment, however it ended."""
        found = self.document
        report: dict[str, Any] = found["error"]["deployment"] if "error" in found else found
        return report


@dataclass
class Site:
    """The live database, its store and its state; the environment of lastgood and psql."""

    server: EmbeddedServer
    name: str
    folder: Path

    @classmethod
    def made(cls, server: EmbeddedServer, name: str, folder: Path) -> Site:
        """With its tables, in an empty database."""
        with server.target(name).connect() as connection:
            connection.execute(SCHEMA.format(name=name).encode())
        return cls(server, name, folder)

    @property
    def target(self) -> Target:
        return self.server.target(self.name)

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    @property
    def environment(self) -> dict[str, str]:
        """What every call has: nothing of ours, and programs that are found."""
        found = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD")) and k != "DATABASE_URL"}
        return {
            **found,
            "PATH": os.pathsep.join([str(self.server.bin), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "LASTGOOD_DB": self.server.url(self.name),
            "LASTGOOD_STORE": str(self.backups),
            "LASTGOOD_STATE": str(self.folder / "state"),
        }

    def lastgood(self, *words: str, environment: Mapping[str, str] | None = None) -> Ended:
        """A call to its end."""
        done = forked_cli.run(*words, environment={**self.environment, **(environment or {})}, folder=self.folder)
        return Ended(done.returncode, done.stdout, done.stderr)

    def started(self, *words: str) -> forked_cli.Process:
        """A call that is at work, in a session of its own."""
        return forked_cli.Process(*words, environment=self.environment, folder=self.folder, session=True)

    def deploy(self, *migration: str, options: Sequence[str] = ()) -> Ended:
        """A deployment, as JSON."""
        return self.lastgood("deploy", "--json", *options, "--", *migration)

    def psql(self, sql: str) -> tuple[str, ...]:
        """A migration that is a plain SQL script."""
        script = self.folder / "migration.sql"
        script.write_text(sql)
        return ("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script))

    def facts(self) -> Facts:
        """What is in the live database, exactly."""
        return account.of_database(self.target)

    def same_as(self, before: Facts) -> bool:
        """Whether nothing differs, sequences that moved on aside."""
        return all(each.kind == "sequence" for each in compare(before, self.facts()).differences)

    def comment(self) -> str | None:
        """The live database's comment."""
        with self.target.connect() as connection:
            row = connection.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        return row[0] if row[0] is None else str(row[0])

    def journal(self, run: str) -> list[dict[str, Any]]:
        """The entries of a run's journal."""
        text = (self.folder / "state" / "runs" / f"{run}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def sessions(self) -> list[str]:
        """The names of the sessions in the live database."""
        with self.server.target("postgres").connect() as connection:
            return [
                str(name)
                for (name,) in connection.execute(
                    "SELECT application_name FROM pg_stat_activity WHERE datname = %s", [self.name]
                )
            ]


_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine

url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
with create_engine(url).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""


def alembic_project(folder: Path, revisions: Sequence[str]) -> None:
    """An Alembic project whose revisions are these statements, each in a transaction of its own."""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = migrations\npath_separator = os\n")
    (folder / "migrations" / "env.py").write_text(_ENV)
    for number, statement in enumerate(revisions, 1):
        before = f'"{number - 1:04}"' if number > 1 else "None"
        (versions / f"{number:04}.py").write_text(
            f'from alembic import op\n\nrevision = "{number:04}"\ndown_revision = {before}\n\n\n'
            f"def upgrade():\n    op.execute({statement!r})\n"
        )
