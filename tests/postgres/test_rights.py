"""Owners, privileges, comments: whatever changes one of them is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lastgood.postgres.access.rights import rights
from lastgood.postgres.embedded import EmbeddedServer

_MADE = """
CREATE SCHEMA s; CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE VIEW s."a view" AS SELECT id FROM public.t;
CREATE FUNCTION public.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE public.e AS ENUM ('a');
CREATE SEQUENCE public.q; CREATE STATISTICS public.st ON id, v FROM public.t; SELECT lo_create(4711);
"""
# The statement, and the beginning of the line that reports it.
_CHANGES = {
    "GRANT SELECT ON public.t TO pg_monitor": "owner and privileges of table public.t: ",
    "GRANT UPDATE (v) ON public.t TO pg_monitor": "privileges of column public.t.v: ",
    "REVOKE EXECUTE ON FUNCTION public.f(int) FROM PUBLIC": "owner and privileges of function public.f(integer): ",
    "GRANT USAGE ON SCHEMA s TO pg_monitor": "owner and privileges of schema s: ",
    "GRANT CREATE ON SCHEMA public TO pg_monitor": "owner and privileges of schema public: ",
    "ALTER SEQUENCE public.q OWNER TO pg_monitor": "owner and privileges of sequence public.q: ",
    "ALTER TYPE public.e OWNER TO pg_monitor": "owner and privileges of type public.e: ",
    "ALTER LARGE OBJECT 4711 OWNER TO pg_monitor": "owner and privileges of large object 4711: ",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO pg_monitor": "default privileges of postgres in s ",
    "COMMENT ON VIEW s.\"a view\" IS 'one'": 'comment on view s."a view": one',
    "COMMENT ON COLUMN public.t.v IS 'two'": "comment on table column public.t.v: two",
    "COMMENT ON SCHEMA public IS 'three'": "comment on schema public: three",
    "ALTER STATISTICS public.st SET STATISTICS 7": "owner and privileges of statistics object public.st",
}


@pytest.mark.postgres(15, 18)
def test_every_change_is_seen(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    with server.target(new_database()).connect() as connection:
        connection.execute(_MADE.encode())
        before = rights(connection)
        assert rights(connection) == before
        for statement, line_start in _CHANGES.items():
            connection.execute(statement.encode())
            now = rights(connection)
            assert any(line.startswith(line_start) for line in now - before), (statement, now ^ before)
            before = now
