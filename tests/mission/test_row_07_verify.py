"""Row 7. The guide: "verify: record counts, migration version, newest time stamps older than the backup, spot checks,
foreign keys, no corruption".

lastgood: exact, before anything is switched: every table's rows and content equal the restore point's; migration
version, newest time stamps, foreign keys, indexes, grants, the user's own spot checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from demo import crm, evidence, migration, naive
from demo.evidence import Evidence
from lastgood import fault
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

SPOT_CHECKS = """
[[validate.rules]]
name = "the first contact has its name"
query = "SELECT last_name FROM public.contacts WHERE id = 1"
expect = "{name}"

[[validate.rules]]
name = "opportunities did not vanish"
query = "SELECT count(*) FROM public.opportunities"
at_least = {opportunities}

[[validate.rules]]
name = "no contact was overwritten by the migration"
query = "SELECT id FROM public.contacts WHERE notes = 'normalized'"
"""


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    name = new_database("crm")
    with server.target(name).connect() as connection:
        crm.create(connection, 0.02)
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    return name


@pytest.mark.postgres(15, 18)
def test_everything_is_compared_and_equal(lastgood: Lastgood, server: EmbeddedServer, live: str) -> None:
    before = now(server, live)
    # The old deployment's dump: without owners and grants, so that these must come from somewhere else.
    dump = Path("backups") / "cloud_backup_20260112_093000.sql"
    dump.parent.mkdir()
    naive.backup(server.bin, server.url(live), dump)
    ((name, opportunities),) = read(
        server, live, "SELECT (SELECT last_name FROM public.contacts WHERE id = 1), count(*) FROM public.opportunities"
    )
    Path("lastgood.toml").write_text(SPOT_CHECKS.format(name=name, opportunities=opportunities))
    with server.target(live).connect() as connection:
        migration.apply(connection)
    assert lastgood("validate", "--only", "own").status == 3

    outcome = lastgood("rollback", "--yes", "--json")
    assert outcome.status == 0, outcome.err

    # Every table: its rows by number, and their content.
    proved = {f"{each['schema']}.{each['name']}": each for each in outcome.document["tables"]}
    facts = lastgood("facts", dump.name, "--json").document["facts"]
    tables = {f"{each['schema_name']}.{each['name']}": each for each in facts["tables"]}
    assert proved.keys() == tables.keys()
    for table, each in proved.items():
        assert (each["equal"], each["rows"], each["digest"]) == (True, tables[table]["rows"], tables[table]["digest"])
    assert outcome.document["not_compared"] == []

    # The live database, read again and compared with the backup: migration version, newest time stamps, keys, indexes.
    compared = lastgood("facts", dump.name, "--live", "--json")
    assert (compared.status, compared.document["equal"]) == (0, True)
    there = lastgood("facts", "--json").document["facts"]
    assert there["migration"]["version"] == facts["migration"]["version"] == crm.LAST_MIGRATION
    stamps = [stamp for each in there["tables"] for stamp in each["newest"].values() if "+" in stamp]
    made_at = datetime.fromisoformat(outcome.document["point"]["made_at"])
    assert stamps and max(datetime.fromisoformat(stamp) for stamp in stamps) < made_at
    for kind in ("foreign key", "primary key", "unique constraint", "index"):
        assert there["object_counts"][kind] == facts["object_counts"][kind], kind
    assert there["object_counts"]["foreign key"] > 3

    # Judged by other means: content, structure with owners and grants, settings of the database.
    assert before.differences(now(server, live)) == []
    ((application, anonymous),) = read(
        server,
        live,
        "SELECT has_table_privilege('crm_app', 'public.organizations', 'SELECT'),"
        " has_function_privilege('crm_anon', 'public.export_contacts()', 'EXECUTE')",
    )
    assert (application, anonymous) == (True, False)

    # The user's own spot checks, and every foreign key row by row.
    verdict = lastgood("validate", "--json")
    assert (verdict.status, verdict.document["verdict"]) == (0, "GO")
    outcomes = [(each["kind"], each["outcome"]) for each in verdict.document["rules"]]
    assert [outcome for kind, outcome in outcomes if kind == "own"] == ["PASS"] * 3
    assert {outcome for kind, outcome in outcomes if kind == "foreign_key"} == {"PASS"}


def test_what_differs_in_one_value_is_never_switched_to(lastgood: Lastgood, server: EmbeddedServer, live: str) -> None:
    assert lastgood("backup").status == 0
    with server.target(live).connect() as connection:
        migration.apply(connection)
    broken = now(server, live)

    def one_value_goes_wrong() -> None:
        names = {name for (name,) in read(server, "postgres", "SELECT datname FROM pg_database")}
        (shadow,) = (name for name in names if name.startswith(f"{live}_shadow_"))
        with server.target(shadow).connect() as connection:
            connection.execute("SET session_replication_role = replica")  # not even a trigger noticed
            connection.execute("UPDATE public.contacts SET first_name = 'Eve' WHERE id = 7")

    with fault.armed("build.after_load", one_value_goes_wrong):
        outcome = lastgood("rollback", "--yes")

    assert outcome.status == 5
    assert re.search(
        rf'^error: cannot use "{live}_shadow_\w+": 1 difference from the restore point\n'
        r" +public\.contacts: expected digest \w{32}, found digest \w{32}\n"
        rf'state: "{live}" was not touched and is open\.\n'
        r"next:  Run it again with --keep-shadow to inspect the restored database, or choose another restore point: "
        r"lastgood points\n\Z",
        outcome.err,
        re.MULTILINE,
    )
    assert broken.differences(now(server, live)) == []


def now(server: EmbeddedServer, database: str) -> Evidence:
    with server.target(database).connect() as connection:
        return evidence.take(connection)


def read(server: EmbeddedServer, database: str, query: str) -> list[Any]:
    with server.target(database).connect() as connection:
        return connection.execute(query.encode()).fetchall()
