"""A stand-in for a hosted Supabase project: ``supabase_admin`` is the superuser, and the role ``postgres`` is none.

The platform is the demo's, the application is in ``tests/fixtures/hosted``. Databases are copies of a template, owned
by ``postgres``."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg import sql

from demo.hosted import platform
from lastgood.in_place import marks, names, survey
from lastgood.in_place.marks import SchemaMark
from lastgood.in_place.ties import Ties, queries
from lastgood.journal.run_names import new_run
from lastgood.postgres.server import Connection, Target
from lastgood.text.quoting import identifier
from tests.support.account import account

FOLDER = Path(__file__).parents[1] / "fixtures" / "hosted"
ADMIN = platform.ADMIN
OWN = ("app_private", "private", "public", "supabase_migrations")
_numbers = itertools.count(1)


class Project:
    """A server with the platform's roles, schemas and grants. ``copy`` makes a project's database."""

    def __init__(self, major: int, settings: Mapping[str, str] | None = None) -> None:
        self.server = platform.started(major, settings)
        self.major = major
        try:
            self._has_hstore = self._create_hstore()
            self.psql("postgres", (FOLDER / "application.sql").read_text())
        except BaseException:
            self.close()
            raise

    def _create_hstore(self) -> bool:
        """An extension of the platform in the application's schema, where the server has one."""
        with self.server.target("postgres", user=ADMIN).connect() as connection:
            if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'hstore'").fetchone() is None:
                return False
            connection.execute("CREATE EXTENSION hstore SCHEMA public")
            connection.execute("CREATE TABLE public.settings (id int PRIMARY KEY, options public.hstore)")
            connection.execute("ALTER TABLE public.settings OWNER TO postgres")
            connection.execute("INSERT INTO public.settings VALUES (1, 'a=>1')")
            # A table of the platform that uses the extension stays bound to it, not to the application.
            connection.execute("CREATE TABLE storage.labels (id int, options public.hstore[])")
        return True

    def psql(self, database: str, text: str, *, user: str = "postgres") -> None:
        """Execute a script in one transaction, which ends at the first error."""
        platform.psql(self.server, database, text, user=user)

    def dump(self, database: str, *options: str) -> str:
        """What pg_dump writes, as the superuser."""
        arguments = [str(self.server.bin / "pg_dump"), *options, "-d", self.server.url(database, user=ADMIN)]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def target(self, database: str, *, user: str = "postgres") -> Target:
        return self.server.target(database, user=user)

    def connect(self, database: str, *, user: str = "postgres") -> Connection:
        return self.target(database, user=user).connect()

    def copy(self, of: str = "postgres") -> str:
        """A copy of a database, owned by ``postgres``."""
        name = f"project_{next(_numbers)}"
        with self.server.target("template1", user=ADMIN).connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER postgres").format(
                    sql.Identifier(name), sql.Identifier(of)
                )
            )
        return name

    def drop(self, database: str) -> None:
        with self.server.target("template1", user=ADMIN).connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def close(self) -> None:
        self.server.close()


@dataclass(frozen=True, slots=True)
class Staged:
    """A restore point in staging schemas of the database ``live``: its run, and its ties."""

    run: str
    live: str
    ties: Ties
    schemas: tuple[str, ...]


def stage(
    project: Project,
    point: str,
    live: str,
    schemas: tuple[str, ...] = OWN,
    *,
    prove: bool = True,
    user: str = "postgres",
) -> Staged:
    """Build the database ``point`` in staging schemas of ``live``, which belong to ``user``: the server rewrites the
    names in a scratch copy, and pg_dump carries the result over."""
    run = new_run(datetime.now(UTC))
    scratch = project.copy(point)
    with project.connect(scratch, user=ADMIN) as connection:
        point_ties = queries.read(connection, schemas)
        found, unknown = survey.objects(connection, schemas)
        assert unknown == []
        for schema in schemas:
            name = sql.Identifier(names.staging(run, schema))
            connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(name, sql.Identifier(user)))
        for each in found:
            connection.execute(each.set_schema(names.staging(run, each.schema)))
    text = project.dump(scratch, *(f"--schema={identifier(names.staging(run, schema))}" for schema in schemas))
    project.drop(scratch)
    project.psql(live, text, user=user)
    with project.connect(live, user=user) as connection, connection.transaction():
        for schema in schemas:
            mark = SchemaMark(role="staging", run=run, live=schema, made_at=datetime.now(UTC), state="built")
            marks.write(
                connection, names.staging(run, schema), marks.proved(connection, mark, "digest") if prove else mark
            )
    return Staged(run, live, point_ties, schemas)


def account_of(project: Project, database: str) -> dict[str, object]:
    """The independent account of a project's database."""
    with project.connect(database, user=ADMIN) as connection:
        return account(connection, project.dump(database))
