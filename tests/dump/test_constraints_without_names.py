"""Constraints within CREATE TABLE that have no name: the server chooses one, and the reading knows which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.points import find, verify
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore

LONG = "a_table_with_a_very_long_name_of_fifty_four_characters"
TABLES = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

CREATE TABLE public.a (id integer PRIMARY KEY, code text UNIQUE, price integer CHECK (price > 0));
CREATE TABLE public.b (a integer REFERENCES public.a, code text, n integer, PRIMARY KEY (a, n), UNIQUE (code, n),
    FOREIGN KEY (code) REFERENCES public.a (code));
CREATE TABLE public.a_table_with_a_very_long_name_of_fifty_four_characters (
    a_column_whose_name_is_long_too integer PRIMARY KEY REFERENCES public.a, "Größe des Ärgers" integer UNIQUE);
CREATE TABLE public.checked (a integer CHECK (a > 0) CHECK (a < 100), b integer CHECK (b > a), c integer CHECK (true),
    CHECK (b > 0 AND checked.b < 90), CHECK (a + b > 1), CHECK (a IS NOT NULL), UNIQUE (a) INCLUDE (b, c),
    UNIQUE (b), UNIQUE (c, b), FOREIGN KEY (a) REFERENCES public.a, FOREIGN KEY (a) REFERENCES public.a (id),
    EXCLUDE USING btree (a WITH =), EXCLUDE USING btree (a WITH =) WHERE (b > 3),
    EXCLUDE USING btree ((a + 1) WITH =, (b + 1) WITH =, c WITH =));

COPY public.a (id, code, price) FROM stdin;
1\tx\t2
\\.

COPY public.b (a, code, n) FROM stdin;
1\tx\t3
\\.

--
-- PostgreSQL database dump complete
--

"""


@pytest.mark.postgres(15, 18)
def test_the_servers_names_are_known(server: EmbeddedServer, new_database: Callable[..., str], store: Path) -> None:
    name = new_database("app")
    (store / "dump.sql").write_text(TABLES)
    assert verify(find(store, "dump.sql")).state == "valid"
    report = restore(server.target(name), store, "dump.sql", f"{name}_copy")
    assert {(table.name, table.rows) for table in report.tables} == {("a", 1), ("b", 1), ("checked", 0), (LONG, 0)}
