"""A server that looks like a hosted platform's, as far as a client can see: its roles, and whom things belong to."""

from __future__ import annotations

from lastgood.postgres.embedded import EmbeddedServer

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
    # The first superuser can't cease to be one, and nobody can rename himself.
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
