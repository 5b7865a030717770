"""A server that looks like a hosted platform's, as far as a client can see (its roles, and whom things belong to), with
the stages of the pages on such servers."""

from __future__ import annotations

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Outcome
from tests.docs.page import Command
from tests.docs.stage import Here, Stage

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
# What a Supabase project has in its database, as far as it matters here.
_SUPABASE = """
GRANT ALL ON SCHEMA public TO postgres;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
CREATE SCHEMA storage AUTHORIZATION supabase_storage_admin;
CREATE TABLE auth.users (id int PRIMARY KEY, email text);
CREATE TABLE storage.objects (id int PRIMARY KEY, name text, owner int);
ALTER TABLE auth.users OWNER TO supabase_auth_admin;
ALTER TABLE storage.objects OWNER TO supabase_storage_admin;
GRANT ALL ON SCHEMA auth, storage TO postgres;
GRANT ALL ON ALL TABLES IN SCHEMA auth, storage TO postgres;
INSERT INTO auth.users VALUES (1, 'ann@example.org'), (2, 'bo@example.org');
SET ROLE postgres;
CREATE TABLE public.contacts (id int PRIMARY KEY REFERENCES auth.users, name text);
INSERT INTO public.contacts VALUES (1, 'Ann'), (2, 'Bo');
ALTER TABLE public.contacts ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON public.contacts TO authenticated USING (true);
GRANT SELECT ON public.contacts TO anon, authenticated;
CREATE TABLE public.deals (id int PRIMARY KEY, contact int REFERENCES public.contacts);
INSERT INTO public.deals VALUES (1, 1), (2, 2);
GRANT SELECT ON public.deals TO authenticated;
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


def supabase(server: EmbeddedServer) -> None:
    """Makes the database ``postgres`` a small project of Supabase."""
    with server.target("postgres", user="supabase_admin").connect() as connection:
        connection.execute(_SUPABASE.encode())


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
        self.here.request.addfinalizer(lambda: self.execute("DROP ROLE lastgood", "postgres"))

    def before(self, command: Command) -> None:
        if "rollback" in command.text:
            self.execute("DELETE FROM public.deals")


class Supabase(Rds):
    """A project like Supabase's, in whose database the platform's services have sessions."""

    HOST = "db.abcdefghijklmnopqrst.supabase.co:5432"

    def prepare(self) -> None:
        self.live = "postgres"
        self.here.monkeypatch.setenv("HOME", str(self.here.folder))
        self.shell.substitutions |= {self.HOST: self.host, "localhost:5432": self.host}
        supabase(self.server)
        for user in ("supabase_admin", "authenticator"):
            self.here.request.addfinalizer(self.server.target(self.live, user=user).connect().close)
        for program in ("docker", "supabase"):
            path = self.shell.bin / program
            path.write_text(f'#!/bin/sh\necho "$@" >> "$HOME/{program}"\n')
            path.chmod(0o755)

    def before(self, command: Command) -> None:
        if "recover" in command.text:
            self.execute("DELETE FROM public.deals")

    def after(self, command: Command, outcome: Outcome) -> None:
        if "recover" in command.text:
            assert "can read" not in outcome.out
        if "TRUNCATE" in command.text:
            assert self.deals() == 2
        if "deploy" in command.text:
            assert '2 of "supabase_auth_admin"' in outcome.err
            assert not (self.here.folder / "supabase").exists()

    def finish(self) -> None:
        stopped, started, *others = (self.here.folder / "docker").read_text().splitlines()
        assert (stopped.split()[:2], started.split()[:2], others) == (["compose", "stop"], ["compose", "start"], [])
        with self.connect() as connection:
            owners = connection.execute("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'auth'")
            assert owners.fetchall() == [("users", "supabase_auth_admin")]
