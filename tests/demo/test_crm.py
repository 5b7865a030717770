"""The CRM is the same wherever it is made, and the migration and the application do to it what they say."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from demo import application, crm, evidence, migration, naive
from demo.application import Application
from lastgood.postgres.embedded import EmbeddedServer

SCALE = 0.02

# PostgreSQL 15 made these; every server must make the same rows of the same seed.
KNOWN = {
    "public.organizations": "80 rows, hash 12354428379532301051",
    "public.contacts": "800 rows, hash 122507372729909275064",
    "public.opportunities": "600 rows, hash -56380420946831370315",
    "public.activities_2025_07": "210 rows, hash 11039182274581358767",
    "public.contact_tags": "1200 rows, hash -21879406226214936631",
    "audit.record_version": "600 rows, hash -31788652451763336379",
}


@pytest.mark.postgres(15, 16, 17, 18)
def test_the_same_seed_makes_the_same_rows(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    accounts = []
    for seed in (1, 1, 2):
        name = new_database("crm")
        with server.target(name).connect() as connection:
            crm.create(connection, SCALE, seed=seed)
            accounts.append(evidence.take(connection))
    first, again, other = accounts
    assert first.differences(again) == []
    assert first.content["public.contacts"] != other.content["public.contacts"]
    assert first.structure == other.structure
    assert {name: first.content[name] for name in KNOWN} == KNOWN


def test_the_database_has_what_makes_restoring_hard(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = new_database("crm")
    with server.target(name).connect() as connection:
        crm.create(connection, SCALE)
        account = evidence.take(connection)
    assert account.settings == {
        "database owner crm_owner",
        "database connection limit 60",
        "database comment The CRM of record",
        "database grant crm_owner CONNECT",
        "database grant crm_owner CREATE",
        "database grant crm_owner TEMPORARY",
        "database grant crm_app CONNECT",
        "database grant crm_app TEMPORARY",
        "database grant crm_readonly CONNECT",
        "database grant crm_anon CONNECT",
        "database setting all search_path=public, api",
        "database setting all app.tenant=acme",
        "database setting crm_app statement_timeout=30s",
    }
    (export,) = (line for line in account.structure if line.startswith("function public.export_contacts()"))
    assert export.endswith(" acl crm_app/EXECUTE,crm_owner/EXECUTE")
    kinds = {line.split(" ")[0] for line in account.structure}
    assert kinds == {
        "relation", "column", "constraint", "index", "trigger", "policy", "view", "function", "schema", "type",
        "default", "comment",
    }  # fmt: skip


@pytest.mark.postgres(15, 18)
def test_the_migration_leaves_the_damage_that_it_is_made_for(
    server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    name = new_database("crm")
    with server.target(name).connect() as connection:
        size = crm.create(connection, SCALE)
        before = migration.damage(connection)
        assert before.none
        assert before.opportunities == size.opportunities
        half = migration.apply(connection, until="a column dropped")
        assert half == ["new table", "scores for everyone", "new column", "new view"]
    name = new_database("crm")
    with server.target(name).connect() as connection:
        crm.create(connection, SCALE)
        assert len(migration.apply(connection)) == len(migration.steps())
        after = migration.damage(connection)
    assert after == migration.Damage(
        new_table=True,
        new_view=True,
        new_column=True,
        column_gone=True,
        contacts_overwritten=size.contacts,
        orphans=after.orphans,
        opportunities=size.opportunities - size.opportunities // 3,
        recorded=True,
    )
    assert after.orphans > 0
    assert not after.none


@pytest.mark.postgres(15, 18)
def test_a_full_dump_carries_all_but_what_belongs_to_the_database(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    source, copy = new_database("crm"), new_database("crm")
    with server.target(source).connect() as connection:
        crm.create(connection, SCALE)
        before = evidence.take(connection)
    dump = tmp_path / "crm.sql"
    subprocess.run([server.bin / "pg_dump", "--file", dump, server.url(source)], check=True)
    outcome = naive.restore(server.bin, server.url(copy), dump, ["-v", "ON_ERROR_STOP=1"])
    assert (outcome.status, outcome.errors) == (0, ())
    with server.target(copy).connect() as connection:
        after = evidence.take(connection)
    assert before.content == after.content
    assert before.structure == after.structure
    assert after.settings == {
        "database owner postgres",
        "database connection limit -1",
        "database comment (none)",
        "database grant PUBLIC CONNECT",
        "database grant PUBLIC TEMPORARY",
        "database grant postgres CONNECT",
        "database grant postgres CREATE",
        "database grant postgres TEMPORARY",
    }


def test_evidence_shows_one_changed_value(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = new_database("crm")
    with server.target(name).connect() as connection:
        crm.create(connection, SCALE)
        before = evidence.take(connection)
        connection.execute("UPDATE public.tags SET color = '#000000' WHERE id = 7")
        connection.execute("GRANT EXECUTE ON FUNCTION public.export_contacts() TO PUBLIC")
        found = before.differences(evidence.take(connection))
    assert [line.split(" ")[:3] for line in found] == [
        ["-", "function", "public.export_contacts()"],
        ["-", "public.tags:", "40"],
        ["+", "function", "public.export_contacts()"],
        ["+", "public.tags:", "40"],
    ]


def test_the_application_reads_and_writes_and_its_ledger_is_true(
    server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    name = new_database("crm")
    target = server.target(name)
    with target.connect() as connection:
        size = crm.create(connection, SCALE)
    with Application(target, organizations=size.organizations, contacts=size.contacts) as app:
        app.wait_for_work(reads=50, writes=20)
        # Terminate all sessions, twice: requests take longer, none is lost.
        for _ in range(2):
            with server.target("postgres").connect() as admin:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            app.wait_for_work(reads=50, writes=20)
        lap = app.lap()
    assert (lap.failed_reads, lap.failed_writes) == (0, 0)
    assert lap.reconnects >= 6
    assert 0 < lap.longest_read < 10
    with target.connect() as connection:
        assert application.written(connection, app.ledger) == set(app.ledger)
        (rows,) = connection.execute(
            "SELECT count(*) FROM public.activities WHERE reference IS NOT NULL"
        ).fetchone() or (0,)
    assert rows >= len(app.ledger) >= 60


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("ALTER DATABASE {} RESET search_path", '42P01: relation "'),
        ("ALTER DATABASE {} RESET app.tenant", "LookupError: an answer without rows"),
    ],
)
def test_the_application_notices_a_lost_database_setting(
    server: EmbeddedServer, new_database: Callable[..., str], statement: LiteralString, error: str
) -> None:
    name = new_database("crm")
    target = server.target(name)
    with target.connect() as connection:
        size = crm.create(connection, SCALE)
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    deadline = time.monotonic() + 20
    failed, errors = 0, ""
    with Application(target, organizations=size.organizations, contacts=size.contacts, writers=0) as app:
        while failed < 5 and time.monotonic() < deadline:
            lap = app.lap()
            failed, errors = failed + lap.failed_reads, errors + " ".join(lap.errors)
    assert failed >= 5
    assert error in errors


@pytest.mark.postgres(15, 18)
def test_the_old_procedure_ends_with_status_0_and_a_damaged_database(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    name = new_database("crm")
    dump = tmp_path / "cloud_backup_20260112_093000.sql"
    with server.target(name).connect() as connection:
        size = crm.create(connection, SCALE)
        naive.backup(server.bin, server.url(name), dump)
        migration.apply(connection)
        outcome = naive.restore(server.bin, server.url(name), dump)
        left = migration.damage(connection)
    assert outcome.status == 0
    assert len(outcome.errors) == 23
    assert outcome.most_frequent(1) == [("cannot drop inherited constraint … of relation …", 13)]
    assert left.new_table and left.new_view and left.new_column
    assert left.contacts_overwritten == size.contacts
