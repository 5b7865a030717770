"""The role that reads a database for a superuser, and the tables that a superuser's session must not query."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import IsolationLevel, sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.reader_role import reader_role
from lastgood.postgres.roles.table_code import not_to_query
from tests.postgres.made_roles import roles
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("no_other_roles")
ENDS = pytest.mark.postgres(15, 18)
New = Callable[..., str]


@ENDS
def test_it_reads_all_rows_and_writes_nothing(server: EmbeddedServer, new_database: New) -> None:
    live = new_database("app")
    with server.target(live).connect() as operator:
        operator.execute(
            """
            CREATE SCHEMA hidden; REVOKE ALL ON SCHEMA hidden FROM PUBLIC;
            CREATE TABLE hidden.t AS SELECT 1 AS i; ALTER TABLE hidden.t ENABLE ROW LEVEL SECURITY;
            """
        )
        operator.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(live)))
        before = operator.execute("SELECT datacl::text FROM pg_database WHERE datname = %s", [live]).fetchone()
        with reader_role(server.target(live), operator) as role:
            assert (role.made, role.why_not, role.caution) == (True, "", "")
            (name,) = roles(operator)
            with role.target.connect_unchanged() as connection:
                connection.isolation_level = IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                connection.autocommit = False
                assert connection.execute("SELECT session_user::text, count(*) FROM hidden.t").fetchone() == (name, 1)
                for attack in (
                    "SET transaction_read_only = off",
                    "SET SESSION AUTHORIZATION postgres",
                    "SET ROLE postgres",
                    "CREATE SCHEMA its_own",
                    sql.SQL("ALTER ROLE {} PASSWORD 'known'").format(sql.Identifier(name)),
                    "SELECT pg_read_file('postgresql.conf')",
                    "COPY (SELECT 1) TO PROGRAM 'true'",
                ):
                    with pytest.raises(psycopg.Error), connection.transaction():
                        connection.execute(attack)
                    assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
                # In use, and so not what a killed process left.
                assert build_role.orphaned(operator, live) == []
        assert roles(operator) == []
        after = operator.execute("SELECT datacl::text FROM pg_database WHERE datname = %s", [live]).fetchone()
        assert after == before


@ENDS
def test_what_a_killed_process_left_is_listed(server: EmbeddedServer, new_database: New) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as maintenance:
        build_role.make_reader(maintenance, server.target("postgres"), run="read-1", live=live, grants=[])
        # The session of the login's probe may take a moment to end.
        until(lambda: [each.name for each in build_role.orphaned(maintenance, live)] == ["lastgood_build_read_1"])
        build_role.end(maintenance, server.target("postgres"), "lastgood_build_read_1")
        assert roles(maintenance) == []


def test_an_ordinary_owner_reads_by_itself(server: EmbeddedServer, new_database: New) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE ordinary LOGIN CREATEDB")
    owner = server.target(live, user="ordinary")
    with owner.connect() as session, reader_role(owner, session) as role:
        assert (role.target, role.made, role.confined) == (owner, False, True)
        assert not_to_query(session) == frozenset()
    with server.target("postgres").connect() as connection:
        connection.execute("DROP ROLE ordinary")


@pytest.fixture
def closed_server() -> Iterator[EmbeddedServer]:
    """A server that only its superuser may log in to."""
    with EmbeddedServer(18) as server:
        (server.data / "pg_hba.conf").write_text("local all postgres trust\n")
        with server.target("postgres").connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server


def test_a_server_without_a_second_login_is_told(closed_server: EmbeddedServer) -> None:
    target = closed_server.target("postgres")
    with target.connect() as session, reader_role(target, session) as role:
        assert (role.target, role.made, role.confined) == (target, False, False)
        assert role.caution == (
            'code in the database runs with the rights of role "postgres": cannot read it as a role without rights: '
            "the server accepts no login by password from here"
        )
        assert roles(session) == []


HARMLESS: tuple[LiteralString, ...] = (
    "CREATE INDEX ON public.t (lower(x)) WHERE i > 0",
    "CREATE INDEX ON public.t (i) WHERE m = 'a'",
    "CREATE STATISTICS public.s ON (i + 1), x FROM public.t",
    "ALTER TABLE public.t ADD CHECK (i > 0)",
    "ALTER TABLE public.t ALTER x SET DEFAULT public.f(1)::text",
    "CREATE VIEW public.v AS SELECT public.f(i) FROM public.t",
)
CODE: tuple[LiteralString, ...] = (
    "CREATE INDEX ON public.t (public.f(i))",
    "CREATE INDEX ON public.t (i) WHERE i > public.f(0)",
    "CREATE INDEX ON public.t (i) WHERE x = ANY (ARRAY['a'::public.d])",
    "CREATE INDEX ON public.t (i public.own_ops)",
    "CREATE INDEX ON public.t (i) WHERE i OPERATOR(public.===) 1",
    "CREATE STATISTICS public.s ON (i + public.f(1)), x FROM public.t",
    "ALTER TABLE public.t ADD CHECK (i > public.f(0))",
    "CREATE TABLE public.below () INHERITS (public.t); CREATE INDEX ON public.below (public.f(i))",
)


@ENDS
@pytest.mark.parametrize(("statement", "code"), [(each, each in CODE) for each in (*HARMLESS, *CODE)])
def test_tables_whose_definitions_run_code(
    server: EmbeddedServer, new_database: New, statement: LiteralString, code: bool
) -> None:
    with server.target(new_database("app")).connect() as connection:
        connection.execute(
            """
            CREATE FUNCTION public.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
            CREATE FUNCTION public.cmp(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 - $2; END';
            CREATE FUNCTION public.eq(int, int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 = $2; END';
            CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = public.eq);
            CREATE OPERATOR CLASS public.own_ops FOR TYPE int USING btree AS
              OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 public.cmp(int, int);
            CREATE DOMAIN public.d AS text CHECK (public.f(1) > 0);
            CREATE TYPE public.m AS ENUM ('a', 'b');
            CREATE TABLE public.t (i int, x text, m public.m, d public.d)
            """
        )
        connection.execute(statement)
        assert (("public", "t") in not_to_query(connection)) is code
