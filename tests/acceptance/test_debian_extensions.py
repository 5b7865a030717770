"""Extensions as Debian packs them: their restore points go back, exactly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import rollback
from lastgood.checklist import Override
from lastgood.context import Context
from lastgood.events import Caution, Event
from lastgood.members.tables import member_tables
from lastgood.plan.plan import Request
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from tests.conftest import OURS, require
from tests.support.same_database import assert_same_text

MAJOR = 15


@dataclass(frozen=True)
class Case:
    """Statements that make a database with extensions; ``remarks``: parts of the backup's remarks."""

    needs: tuple[str, ...]
    statements: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    checked: dict[str, object] = field(default_factory=dict)
    """Queries and what they give, before and after."""


CASES = {
    "unaccent, as Odoo alters it": Case(
        ("unaccent", "pg_trgm"),
        (
            "CREATE EXTENSION unaccent",
            "CREATE EXTENSION pg_trgm",
            "ALTER FUNCTION unaccent(text) IMMUTABLE",
            "ALTER TEXT SEARCH DICTIONARY unaccent (RULES = 'unaccent')",
            "CREATE TABLE res_partner (id int PRIMARY KEY, name text)",
            "ALTER TABLE res_partner ADD plain text GENERATED ALWAYS AS (unaccent(name)) STORED",
            "INSERT INTO res_partner (id, name) VALUES (1, 'Müller')",
            "CREATE INDEX partner_name ON res_partner USING gin (unaccent(name) gin_trgm_ops)",
        ),
        ('no dump holds the changes to extension "unaccent": function public.unaccent(text) (changed)',),
        {"SELECT plain FROM res_partner": "Muller"},
    ),
    "postgis": Case(
        ("postgis",),
        (
            "CREATE EXTENSION postgis",
            "UPDATE spatial_ref_sys SET proj4text = 'changed' WHERE srid = 4326",
            "DELETE FROM spatial_ref_sys WHERE srid = 4267",
            "INSERT INTO spatial_ref_sys VALUES (990001, 'mine', 1, 'PROJCS[]', '+proj')",
            "CREATE TABLE place (id int PRIMARY KEY, at geometry(Point, 4326))",
            "INSERT INTO place SELECT g, ST_SetSRID(ST_MakePoint(g, g), 4326) FROM generate_series(1, 50) g",
            "CREATE INDEX place_at ON place USING gist (at)",
            "CREATE INDEX place_box ON place (ST_X(at))",
        ),
        ("table public.spatial_ref_sys (1 row, 2 rows of its script changed or deleted)",),
        {
            "SELECT proj4text FROM spatial_ref_sys WHERE srid = 4326": "changed",
            "SELECT count(*) FROM spatial_ref_sys WHERE srid = 4267": 0,
            "SELECT auth_name FROM spatial_ref_sys WHERE srid = 990001": "mine",
        },
    ),
    "postgis_topology": Case(
        ("postgis", "postgis_topology"),
        (
            "CREATE EXTENSION postgis",
            "CREATE EXTENSION postgis_topology",
            "SELECT topology.createtopology('roads', 4326)",
            "CREATE TABLE street (id int)",
            "SELECT topology.addtopogeometrycolumn('roads', 'public', 'street', 'way', 'LINE')",
        ),
        ('extension "postgis_topology": sequence topology.topology_id_seq (changed)',),
        {"SELECT count(*) FROM topology.layer": 1, "SELECT nextval('topology.topology_id_seq')": 2},
    ),
    "pg_partman": Case(
        ("pg_partman",),
        (
            "CREATE SCHEMA partman",
            "CREATE EXTENSION pg_partman SCHEMA partman",
            "CREATE TABLE event (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at)",
            "SELECT partman.create_parent('public.event', 'at', 'native', 'daily')",
            "INSERT INTO event SELECT g, now() + g * interval '1 hour' FROM generate_series(1, 30) g",
        ),
        (),
        {"SELECT count(*) FROM partman.part_config": 1},
    ),
    "contrib, altered and moved": Case(
        ("hstore", "citext", "ltree", "intarray", "btree_gist", "pgcrypto", "uuid-ossp"),
        (
            "CREATE SCHEMA ext",
            'CREATE EXTENSION "uuid-ossp" SCHEMA ext',
            "CREATE EXTENSION hstore",
            "ALTER EXTENSION hstore SET SCHEMA ext",
            "CREATE EXTENSION citext SCHEMA ext",
            "CREATE EXTENSION ltree",
            "CREATE EXTENSION intarray",
            "CREATE EXTENSION btree_gist",
            "CREATE EXTENSION pgcrypto",
            "ALTER FUNCTION ext.uuid_generate_v4() PARALLEL RESTRICTED COST 50",
            "ALTER FUNCTION digest(text, text) SECURITY DEFINER",
            "ALTER FUNCTION nlevel(ltree) SET work_mem = '8MB'",
            "COMMENT ON TYPE ltree IS 'ours'",
            "CREATE TABLE t (id uuid DEFAULT ext.uuid_generate_v4(), h ext.hstore, c ext.citext UNIQUE, p ltree)",
            "INSERT INTO t (h, c, p) VALUES ('a=>1', 'X', 'a.b')",
            "CREATE INDEX ON t USING gist (p)",
        ),
        (
            'extension "uuid-ossp": function ext.uuid_generate_v4() (changed)',
            'extension "pgcrypto": function public.digest(text,text) (changed)',
            'extension "ltree": function public.nlevel(public.ltree) (changed), comment type public.ltree (added)',
        ),
    ),
}


@pytest.fixture(scope="module")
def debian() -> Iterator[EmbeddedServer]:
    """A server of Debian's, where its packages are."""
    require(MAJOR)
    preload = {"shared_preload_libraries": "pg_cron", "cron.database_name": "crm"}
    there = Path(f"/usr/share/postgresql/{MAJOR}/extension/pg_cron.control").exists()
    with EmbeddedServer(MAJOR, settings={**OURS, **(preload if there else {})}) as server:
        yield server


def available(server: EmbeddedServer, needs: tuple[str, ...]) -> None:
    """Skips where the packages are missing, but not in CI."""
    with server.target("postgres").connect() as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
    if missing := set(needs) - found:
        if os.environ.get("CI"):
            pytest.fail(f"these extensions must be installed where CI is set: {missing}")
        pytest.skip(f"not installed: {missing}")


def make(server: EmbeddedServer, name: str, statements: tuple[str, ...]) -> None:
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    with server.target(name).connect() as connection:
        connection.execute("SET search_path = public")
        for statement in statements:
            connection.execute(statement.encode())


def rows(server: EmbeddedServer, name: str) -> dict[str, object]:
    """All rows of extensions' tables that no dump holds."""
    with server.target(name).connect() as connection:
        return {
            str(table.relation): connection.execute(
                sql.SQL("SELECT count(*), sum(hashtext(t::text)) FROM {} t").format(table.name)
            ).fetchone()
            for table in member_tables(connection)
        }


@pytest.mark.parametrize("name", CASES)
def test_it_goes_back_exactly(debian: EmbeddedServer, store: Path, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    available(debian, case.needs)
    database = f"app_{list(CASES).index(name)}"
    make(debian, database, case.statements)
    before = rows(debian, database)
    emitted: list[Event] = []
    target = debian.target(database)
    take(target, store, context=Context(emitted.append))
    cautions = "\n".join(each.text for each in emitted if isinstance(each, Caution))
    assert [part for part in case.remarks if part not in cautions] == [], cautions
    if not case.remarks:
        assert cautions == ""
    report = rollback.run(rollback.plan(Request(target, store, tmp_path / "state")))
    with debian.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(report.kept)))
    assert_same_text(debian, report.kept, database, tmp_path)
    assert rows(debian, database) == before
    with target.connect() as connection:
        connection.execute("SET search_path = public")
        for query, expected in case.checked.items():
            assert connection.execute(query.encode()).fetchall() == [(expected,)]


def test_pg_cron_goes_back_when_its_jobs_were_thought_of(debian: EmbeddedServer, store: Path, tmp_path: Path) -> None:
    available(debian, ("pg_cron",))
    target = debian.target("crm")
    make(
        debian,
        "crm",
        (
            "CREATE EXTENSION pg_cron",
            "SELECT cron.schedule('nightly', '0 3 * * *', 'VACUUM')",
            "CREATE POLICY more ON cron.job USING (active)",
        ),
    )
    point = take(target, store)
    assert point.manifest is not None
    assert [(table.name, table.rows) for table in point.manifest.facts.tables] == [("job", 1), ("job_run_details", 0)]
    request = Request(target, store, tmp_path / "state")
    refused = rollback.plan(request).plan.refused()
    assert refused is not None
    assert refused.message == (
        'cannot roll back "crm": extension "pg_cron": Its jobs are restored to the restore point and run again; its '
        "scheduler stops at the switch and starts again with the server"
    )
    override = Override(item="holders", reason="jobs looked at", by="us", at=datetime.now(UTC))
    report = rollback.run(rollback.plan(replace(request, overrides=(override,))))
    with debian.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(report.kept)))
    assert_same_text(debian, report.kept, "crm", tmp_path)
    with target.connect() as connection:
        assert connection.execute("SELECT jobname, database FROM cron.job").fetchall() == [("nightly", "crm")]
        assert connection.execute("SELECT polname FROM pg_policy ORDER BY 1").fetchall() == [
            ("cron_job_policy",),
            ("cron_job_run_details_policy",),
            ("more",),
        ]
        assert connection.execute("SELECT current_setting('cron.database_name')").fetchall() == [("crm",)]
