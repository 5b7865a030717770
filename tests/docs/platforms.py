"""A server that looks like a hosted platform's, as far as a client can see (its roles, and whom things belong to), with
the stages of the pages on such servers."""

from __future__ import annotations

import os
import shlex

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Outcome
from tests.conftest import OURS, require
from tests.docs.page import Command
from tests.docs.stage import Here, Stage
from tests.support.hosted import ADMIN, FOLDER, Project

SUPERUSERS = ("rdsadmin", "supabase_admin")
# ``postgres`` is what both platforms give their customers; attributes and memberships are those that they document.
_ROLES = """
CREATE ROLE supabase_admin SUPERUSER LOGIN;
CREATE ROLE postgres LOGIN NOSUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS;
GRANT pg_monitor, pg_signal_backend TO postgres WITH ADMIN OPTION;
CREATE ROLE rds_superuser NOLOGIN;
GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO rds_superuser WITH ADMIN OPTION;
GRANT rds_superuser TO postgres;
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE supabase_auth_admin LOGIN NOINHERIT CREATEROLE;
CREATE ROLE supabase_storage_admin LOGIN NOINHERIT CREATEROLE;
GRANT anon, authenticated, service_role TO authenticator, postgres;
ALTER DATABASE postgres OWNER TO postgres;
"""


def platform(major: int) -> EmbeddedServer:
    """A new server whose role ``postgres`` is no superuser; close it."""
    server = EmbeddedServer(major)
    # The first superuser cannot lose that attribute, and no role can rename itself.
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE temporary SUPERUSER LOGIN")
    with server.target("postgres", user="temporary").connect() as connection:
        connection.execute("ALTER ROLE postgres RENAME TO rdsadmin")
    with server.target("postgres", user="rdsadmin").connect() as connection:
        connection.execute("DROP ROLE temporary")
        connection.execute(_ROLES.encode())
    return server


class Rds(Stage):
    """A server like Amazon's: its customer is no superuser."""

    backup = False
    HOST = "crm.abc123.eu-central-1.rds.amazonaws.com:5432"

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        self.server, self.superuser = here.request.getfixturevalue("platform_server"), "rdsadmin"

    def prepare(self) -> None:
        self.here.monkeypatch.setenv("HOME", str(self.here.folder))
        self.shell.substitutions[self.HOST] = self.host
        super().prepare()

    @property
    def host(self) -> str:
        """The text encoded for a URL."""
        return str(self.server.folder).replace("/", "%2F")

    def before(self, command: Command) -> None:
        if "rollback --dry-run" in command.text:
            self.execute("DELETE FROM public.deals")

    def after(self, command: Command, outcome: Outcome) -> None:
        if "--yes" in command.text:
            assert self.deals() == (0 if "undo" in command.text else 2)


class SelfHosted(Rds):
    """A server of one's own: the page makes the role that lastgood works as."""

    HOST = "db.internal:5432"

    def __init__(self, here: Here) -> None:
        Stage.__init__(self, here)

    def prepare(self) -> None:
        super().prepare()
        with self.connect("postgres") as connection:
            if connection.execute("SELECT FROM pg_roles WHERE rolname = 'crm_owner'").fetchone() is None:
                connection.execute("CREATE ROLE crm_owner")
            connection.execute("ALTER DATABASE crm OWNER TO crm_owner")
        for table in ("contacts", "deals", "schema_migrations"):
            self.execute(
                f"ALTER TABLE {'supabase_migrations' if '_' in table else 'public'}.{table} OWNER TO crm_owner"
            )
        self.execute("ALTER SCHEMA supabase_migrations OWNER TO crm_owner")
        self.here.monkeypatch.setenv("PGHOST", str(self.server.folder))
        self.shell.substitutions["/var/backups/crm"] = str(self.here.folder / "backups")
        self.here.request.addfinalizer(lambda: self.execute("DROP ROLE lastgood, lastgood_builders", "postgres"))

    def before(self, command: Command) -> None:
        if "rollback" in command.text:
            self.execute("DELETE FROM public.deals")


class Supabase(Rds):
    """A stand-in for a hosted project, in whose database the platform's services have sessions."""

    HOST = "db.abcdefghijklmnopqrst.supabase.co:5432"
    SIGN_UP = "INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-0000000000aa', 'new@example.com')"

    def __init__(self, here: Here) -> None:
        Stage.__init__(self, here)
        require(17)
        self.project = Project(17, settings=OURS)
        here.request.addfinalizer(self.project.close)
        self.server, self.superuser = self.project.server, ADMIN
        # The programs of another version must not read this server.
        here.monkeypatch.setenv("PATH", f"{here.shell.bin}:{self.server.bin}:{os.environ['PATH']}")

    def prepare(self) -> None:
        self.live = "postgres"
        self.here.monkeypatch.setenv("HOME", str(self.here.folder))
        self.shell.substitutions |= {self.HOST: self.host, "localhost:5432": self.host}
        for user in (ADMIN, "authenticator"):
            self.here.request.addfinalizer(self.project.connect(self.live, user=user).close)
        migration = self.here.folder / "migration.sql"
        migration.write_text((FOLDER / "migration.sql").read_text() + "SELECT 1 / 0;")
        programs = {
            "docker": 'echo "$@" >> "$HOME/docker"',
            "supabase": f"psql -X -q -v ON_ERROR_STOP=1 -f {shlex.quote(str(migration))}",
        }
        for program, does in programs.items():
            path = self.shell.bin / program
            path.write_text(f"#!/bin/sh\n{does}\n")
            path.chmod(0o755)
        self.good = self.notes()

    def notes(self) -> object:
        return self.value("SELECT count(*) FROM public.notes")

    def users_unknown(self) -> object:
        """Users whom the application does not know."""
        return self.value(
            "SELECT count(*) FROM auth.users u LEFT JOIN public.sales s ON s.user_id = u.id WHERE s IS NULL"
        )

    def before(self, command: Command) -> None:
        if "recover" in command.text:
            self.execute("DELETE FROM public.notes WHERE id % 2 = 0")
            self.project.psql(self.live, self.SIGN_UP, user="supabase_auth_admin")

    def after(self, command: Command, outcome: Outcome) -> None:
        if "deploy" in command.text:
            assert "The migrated objects are kept in the schemas" in outcome.err
            assert self.notes() == self.good
        if "recover" in command.text:
            assert "can read" not in outcome.out
        if "rollback" in command.text and "--yes" in command.text:
            assert self.notes() == self.good
        if "rollback --latest --dry-run" in command.text:
            assert "caution auth.users is not rolled back and has 1 row more than at the restore point" in outcome.out
        if "switches back" in command.text:
            assert self.notes() != self.good
        if "restored state again" in command.text:
            assert (self.notes(), self.users_unknown()) == (self.good, 1)
        if "INSERT INTO public.sales" in command.text:
            assert self.users_unknown() == 0
        if "prune" in command.text:
            kept = self.value(
                "SELECT count(DISTINCT split_part(nspname, '_', 3)) FROM pg_namespace WHERE nspname ~ '^lastgood_'"
            )
            assert kept == 1

    def finish(self) -> None:
        stopped, started, *others = (self.here.folder / "docker").read_text().splitlines()
        assert (stopped.split()[:2], started.split()[:2], others) == (["compose", "stop"], ["compose", "start"], [])
        owners = "SELECT string_agg(DISTINCT tableowner, ', ') FROM pg_tables WHERE schemaname = 'auth'"
        assert self.value(owners) == "supabase_auth_admin"
