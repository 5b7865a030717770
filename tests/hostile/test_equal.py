"""A restore by a role without rights gives what a superuser's restore gives: definitions, rows, owners, grants."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.plan.plan import CodePolicy
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.acceptance.test_matrix import OPTIONS
from tests.hostile.conftest import LONG
from tests.support.real_dumps import NAME, make_database, run

ODD = """
CREATE ROLE equal_owner;
CREATE ROLE equal_reader;
"""
DATABASE = """
CREATE SCHEMA inner_one AUTHORIZATION equal_owner;
CREATE FUNCTION public.leak(int) RETURNS boolean LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT $1 > 0';
CREATE FUNCTION public.logs(int) RETURNS int LANGUAGE sql SET log_min_duration_statement = 0 AS 'SELECT $1';
CREATE FUNCTION public.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
REVOKE ALL ON FUNCTION public.definer() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.definer() TO equal_reader WITH GRANT OPTION;
ALTER FUNCTION public.definer() OWNER TO equal_owner;
CREATE TABLE inner_one.t (id serial PRIMARY KEY, a int CHECK (public.leak(a)), b text DEFAULT public.definer()::text);
ALTER TABLE inner_one.t OWNER TO equal_owner;
INSERT INTO inner_one.t (a) SELECT i FROM generate_series(1, 100) i;
GRANT SELECT (a), UPDATE (b) ON inner_one.t TO equal_reader;
GRANT USAGE ON SCHEMA inner_one TO equal_reader;
ALTER TABLE inner_one.t ENABLE ROW LEVEL SECURITY;
ALTER TABLE inner_one.t FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON inner_one.t TO equal_reader USING (public.leak(a));
CREATE VIEW public.v AS SELECT count(*) AS n FROM inner_one.t;
CREATE MATERIALIZED VIEW public.m AS SELECT a, public.leak(a) AS b FROM (VALUES (1), (2)) x (a);
CREATE INDEX ON public.m (public.leak(a));
CREATE TYPE public.c AS (x int);
CREATE FUNCTION public.to_c(int) RETURNS public.c LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1)::public.c';
CREATE CAST (int AS public.c) WITH FUNCTION public.to_c(int);
CREATE CAST (boolean AS date) WITH INOUT;
CREATE TYPE public.name_only;
CREATE OPERATOR CLASS public.empty FOR TYPE int USING btree AS STORAGE int;
CREATE PUBLICATION every FOR ALL TABLES;
CREATE PUBLICATION few FOR TABLE inner_one.t WHERE (a > 1);
CREATE FUNCTION public.ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION public.ef();
COMMENT ON EVENT TRIGGER ev IS 'again';
COMMENT ON SCHEMA public IS 'ours';
COMMENT ON EXTENSION plpgsql IS 'changed';
GRANT CREATE ON SCHEMA public TO equal_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE equal_owner IN SCHEMA inner_one GRANT SELECT ON TABLES TO equal_reader;
SELECT lo_from_bytea(4711, 'abc'), lo_from_bytea(4712, 'abc');
ALTER LARGE OBJECT 4711 OWNER TO equal_owner;
GRANT SELECT ON LARGE OBJECT 4711 TO equal_reader;
CREATE STATISTICS inner_one.s ON a, (a + 1) FROM inner_one.t;
ALTER STATISTICS inner_one.s OWNER TO equal_owner;
"""


def text(server: EmbeddedServer, database: str) -> list[str]:
    """The database as pg_dump writes it, without the keys of \\restrict. Rows of one table may be in another order."""
    done = subprocess.run(
        [str(server.bin / "pg_dump"), "-d", server.url(database)], capture_output=True, text=True, check=True
    )
    return sorted(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def compare(server: EmbeddedServer, source: str, live: str, store: Path, *options: str, user: str = "postgres") -> None:
    """Restore a dump of ``source``, made with these options, both ways, and compare the results."""
    run(server, "pg_dump", "-d", server.url(source), "-f", store / "good.sql", *options)
    for name, reason in ((f"{live}_apart", ""), (f"{live}_trusted", "compared")):
        restore(server.target(live, user=user), store, "good.sql", name, policy=CodePolicy(reason))
    assert text(server, f"{live}_apart") == text(server, f"{live}_trusted")
    with server.target("postgres").connect() as connection:
        found = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'lastgood%'").fetchall()
    assert found == []


@pytest.mark.postgres(15, 16, 17, 18)
@pytest.mark.parametrize("option", OPTIONS if LONG else ["plain"])
def test_a_database_of_nearly_every_kind_of_object(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path, option: str
) -> None:
    make_database(server)
    live = new_database("app")
    try:
        compare(server, NAME, live, store, *OPTIONS[option])
    finally:
        with server.target("postgres").connect() as connection:
            for name in (f"{live}_apart", f"{live}_trusted"):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_database_with_odd_owners_and_grants(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path
) -> None:
    live, source = new_database("app"), new_database("odd")
    with server.target("postgres").connect() as connection:
        connection.execute(ODD.encode())
    with server.target(source).connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute(DATABASE.encode())
    try:
        compare(server, source, live, store)
    finally:
        with server.target("postgres").connect() as connection:
            for name in (source, f"{live}_apart", f"{live}_trusted"):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute("DROP ROLE equal_owner; DROP ROLE equal_reader")


OWNED = """
CREATE SCHEMA s;
CREATE FUNCTION s.f(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE TABLE s.t (id serial PRIMARY KEY, a int CHECK (s.f(a)));
INSERT INTO s.t (a) SELECT i FROM generate_series(1, 100) i;
CREATE TABLE public.u (id int PRIMARY KEY REFERENCES s.t (id));
CREATE MATERIALIZED VIEW s.m AS SELECT a FROM s.t WHERE s.f(a);
CREATE INDEX ON s.t ((a + 1)) WHERE s.f(a);
GRANT USAGE ON SCHEMA s TO equal_reader;
GRANT SELECT ON s.t, s.m TO equal_reader;
SELECT lo_from_bytea(4713, 'abc');
GRANT SELECT ON LARGE OBJECT 4713 TO equal_reader;
"""


@pytest.mark.postgres(15, 18)
def test_an_operator_who_is_no_superuser(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path
) -> None:
    live, source = new_database("app"), new_database("odd")
    with server.target("postgres").connect() as connection:
        connection.execute(
            b"CREATE ROLE equal_reader; CREATE ROLE equal_owner; CREATE ROLE equal_operator LOGIN CREATEDB CREATEROLE"
        )
        connection.execute("GRANT equal_owner TO equal_operator")
        for name in (live, source):
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO equal_owner").format(sql.Identifier(name)))
    with server.target(source).connect() as connection:
        connection.execute("SET ROLE equal_owner")
        connection.execute(OWNED.encode())
    try:
        compare(server, source, live, store, user="equal_operator")
    finally:
        with server.target("postgres").connect() as connection:
            for name in (source, live, f"{live}_apart", f"{live}_trusted"):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute(b"DROP ROLE equal_operator; DROP ROLE equal_owner; DROP ROLE equal_reader")
