"""Databases in which the order of a restore matters, and the state of the session that each command runs in.

Each is made, dumped, restored, and must be its own twin afterwards: nothing here knows how the restore goes about it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.plan.plan import CONFINED, CodePolicy
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import RestoreReport, restore
from tests.support.real_dumps import run
from tests.support.same_database import assert_same_database, assert_same_text, dump

BOTH = pytest.mark.postgres(15, 18)
# How often a restore that might end in a deadlock is done again.
AGAIN = 20 if os.environ.get("LASTGOOD_FUZZ") == "long" else 2
ROLES = tuple(f"order_{number}" for number in range(12))
FOLDER = Path(__file__).parent.parent / "fixtures" / "order"
DATABASES = sorted(path.stem for path in FOLDER.glob("*.sql"))
AS_INSERTS = (
    "hash_partitions_of_an_enum_through_the_root",
    "tables_filled_by_a_trigger_a_rule_and_a_default",
    "sequences",
)


@pytest.fixture
def roles(server: EmbeddedServer) -> None:
    """The roles that own things and are granted things; they stay as long as the server."""
    with server.target("postgres").connect() as connection:
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            if role not in there:
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def tablespace(server: EmbeddedServer) -> None:
    """A tablespace, in the data folder so that it needs no folder of its own; it stays, too."""
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_tablespace WHERE spcname = 'elsewhere'").fetchone() is None:
            connection.execute("SET allow_in_place_tablespaces = on")
            connection.execute("CREATE TABLESPACE elsewhere LOCATION ''")


Made = Callable[[str], str]


@pytest.fixture
def make_database(server: EmbeddedServer, new_database: Callable[..., str], roles: None, tablespace: None) -> Made:
    """Makes one of the databases."""

    def make(name: str) -> str:
        database = new_database()
        with server.target(database).connect() as connection:
            connection.execute((FOLDER / f"{name}.sql").read_bytes())
        return database

    return make


def restored(
    server: EmbeddedServer, point: Path, source: str, policy: CodePolicy = CONFINED
) -> tuple[str, RestoreReport]:
    """The point in a new database, which is dropped with its source."""
    into = f"{source}_again"
    return into, restore(server.target("postgres"), point.parent, point.name, into, policy=policy)


def comes_back(
    server: EmbeddedServer, source: str, store: Path, folder: Path, *options: str, policy: CodePolicy = CONFINED
) -> None:
    point = dump(server, source, store / "point.sql", *options)
    into, report = restored(server, point, source, policy)
    assert report.skipped == ()
    assert_same_database(server, source, into, point, folder)


# They need more rights than a role without rights has.
NEED_RIGHTS = {"tablespaces_and_access_methods"}
TRUSTED = CodePolicy(trusted="needs rights")


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize("name", DATABASES)
def test_what_comes_back_is_the_twin(
    server: EmbeddedServer, make_database: Made, store: Path, tmp_path: Path, name: str
) -> None:
    policy = TRUSTED if name in NEED_RIGHTS else CONFINED
    comes_back(server, make_database(name), store, tmp_path, policy=policy)


@BOTH
@pytest.mark.parametrize("name", AS_INSERTS)
def test_what_comes_back_of_inserts_is_the_twin(
    server: EmbeddedServer, make_database: Made, store: Path, tmp_path: Path, name: str
) -> None:
    comes_back(server, make_database(name), store, tmp_path, "--column-inserts", "--rows-per-insert=7")


@pytest.fixture
def superusers(server: EmbeddedServer, roles: None) -> Iterator[None]:
    """The roles are superusers for a while: others could not create what they own before their grants come, which are
    at the end of a dump."""
    for attribute in ("SUPERUSER", "NOSUPERUSER"):
        with server.target("postgres").connect() as connection:
            for role in ROLES:
                connection.execute(sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), sql.SQL(attribute)))
        if attribute == "SUPERUSER":
            yield


@BOTH
@pytest.mark.usefixtures("superusers")
def test_owners_come_back_where_a_dump_sets_the_role_of_the_session(
    server: EmbeddedServer, make_database: Made, store: Path, tmp_path: Path
) -> None:
    comes_back(
        server, make_database("owners_in_turns"), store, tmp_path, "--use-set-session-authorization", policy=TRUSTED
    )


@BOTH
def test_circular_foreign_keys_come_back_each_time(server: EmbeddedServer, make_database: Made, store: Path) -> None:
    """Two commands that lock the same tables in opposite order are a deadlock, some of the time."""
    source = make_database("circular_foreign_keys")
    point = dump(server, source, store / "point.sql")
    for _ in range(AGAIN):
        into, report = restored(server, point, source)
        assert report.skipped == ()
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(into)))


@BOTH
def test_a_subscription_is_skipped_and_reported(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    source = new_database()
    with server.target(source).connect() as connection:
        connection.execute("CREATE TABLE public.t AS SELECT 1 AS a")
        connection.execute(
            "CREATE SUBSCRIPTION far CONNECTION 'host=nowhere password=secret' PUBLICATION p"
            " WITH (connect = false, slot_name = 'live_slot')"
        )
        connection.execute("COMMENT ON SUBSCRIPTION far IS 'from far'")
        try:
            point = dump(server, source, store / "point.sql")
        finally:
            connection.execute("ALTER SUBSCRIPTION far SET (slot_name = NONE)")
            connection.execute("DROP SUBSCRIPTION far")
    into, report = restored(server, point, source)
    why = "names a subscription, which in a second database would take over the live one's replication slot"
    assert {(each.what, each.why) for each in report.skipped} == {("subscription", why)}
    assert "secret" not in report.model_dump_json()
    assert_same_text(server, source, into, tmp_path)


# Names without a schema -------------------------------------------------------------------------------------------

HEAD = """--
-- PostgreSQL database dump
--

-- Dumped from database version 9.6.24
-- Dumped by pg_dump version 9.6.24

SET statement_timeout = 0;
SET lock_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = false;
SET client_min_messages = warning;
SET row_security = off;
"""
# What follows each SET search_path, section by section.
SECTIONS = (
    """CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE FUNCTION f(x integer) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT x + {number} $$;
SET default_tablespace = '';
SET default_with_oids = false;
CREATE TABLE t (
    id integer NOT NULL,
    up integer,
    m mood DEFAULT 'ok'::mood
);
CREATE TABLE child (
    id integer NOT NULL,
    t_id integer
);
CREATE SEQUENCE t_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1;
ALTER SEQUENCE t_id_seq OWNED BY t.id;
CREATE VIEW v AS
 SELECT t.id, t.m, f(t.id) AS f
   FROM t
  WHERE (t.id > {number});
COMMENT ON TABLE t IS 'number {number}';
""",
    "ALTER TABLE ONLY t ALTER COLUMN id SET DEFAULT nextval('t_id_seq'::regclass);\n",
    """COPY child (id, t_id) FROM stdin;
{rows}\\.


COPY t (id, up) FROM stdin;
{rows}\\.


SELECT pg_catalog.setval('t_id_seq', 10{number}, true);
""",
    """ALTER TABLE ONLY t
    ADD CONSTRAINT t_pkey PRIMARY KEY (id);
ALTER TABLE ONLY child
    ADD CONSTRAINT child_pkey PRIMARY KEY (id);
""",
    """CREATE INDEX by_up ON t USING btree (up);
CREATE INDEX by_f ON t USING btree (f(id)) WHERE (m = 'ok'::mood);
ALTER TABLE t CLUSTER ON by_up;
COMMENT ON INDEX by_up IS 'by up';
CREATE RULE nothing AS ON DELETE TO v DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW counted AS
 SELECT count(*) AS count
   FROM v
  WITH NO DATA;
""",
    """ALTER TABLE ONLY child
    ADD CONSTRAINT child_fk FOREIGN KEY (t_id) REFERENCES t(id);
ALTER TABLE ONLY t
    ADD CONSTRAINT t_fk FOREIGN KEY (up) REFERENCES child(id);
""",
    "GRANT SELECT ON TABLE t TO order_0;\n",
    "REFRESH MATERIALIZED VIEW counted;\n",
)
FOOT = "\n--\n-- PostgreSQL database dump complete\n--\n"


def old_style(schemas: tuple[str, ...]) -> str:
    """What pg_dump wrote until February 2018: the search path is set again wherever the schema changes. All schemas
    have objects of the same names."""
    parts = [f"CREATE SCHEMA {schema};\n" for schema in schemas]
    for section in SECTIONS:
        for number, schema in enumerate(schemas):
            rows = "".join(f"{i}\t{i}\n" for i in range(1, 20 + number))
            parts.append(f"SET search_path = {schema}, pg_catalog;\n" + section.format(number=number, rows=rows))
    return HEAD + "\n".join(parts) + FOOT


@BOTH
@pytest.mark.usefixtures("roles")
def test_names_without_a_schema_mean_what_they_mean_to_psql(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path
) -> None:
    point = store / "point.sql"
    point.write_text(old_style(("first", "second", '"Thi rd"', "zz")))
    by_psql = new_database()
    run(server, "psql", "-qXo", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", server.url(by_psql), "-f", point)
    into, report = restored(server, point, by_psql)
    assert {table.schema_name: table.rows for table in report.tables if table.name == "t"} == {
        "first": 19,
        "second": 20,
        "Thi rd": 21,
        "zz": 22,
    }
    assert_same_database(server, by_psql, into, point, tmp_path)
