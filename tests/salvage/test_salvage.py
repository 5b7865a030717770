"""Rows brought back after a real rollback, through the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood import fault
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import SRC, Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood

SCHEMA = """
CREATE TABLE orgs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE);
CREATE TABLE contacts (id serial PRIMARY KEY, org int REFERENCES orgs, email text, phone text,
                       created timestamptz NOT NULL DEFAULT now(), touched int NOT NULL DEFAULT 0);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE log (what text);
INSERT INTO orgs (name) SELECT 'org ' || i FROM generate_series(1, 5) i;
INSERT INTO contacts (org, email, phone) SELECT 1 + i % 5, 'mail ' || i, 'phone ' || i FROM generate_series(1, 50) i;
INSERT INTO log VALUES ('a'), ('a'), ('b');
"""
MIGRATION = """
ALTER TABLE contacts ADD COLUMN score int;
UPDATE contacts SET email = 'lost ' || id;
INSERT INTO contacts (org, email) SELECT 1, 'of the migration' FROM generate_series(1, 5);
DELETE FROM contacts WHERE id IN (20, 21);
"""
LATER = """
INSERT INTO orgs (name) VALUES ('new org');
INSERT INTO contacts (org, email) VALUES (6, 'later');
UPDATE contacts SET phone = 'new phone' WHERE id = 7;
INSERT INTO log VALUES ('a'), ('c');
DELETE FROM contacts WHERE id = 30;
"""
AFTERWARDS = """
SET session_replication_role = replica;
UPDATE contacts SET email = 'ours' WHERE id = 7;
UPDATE contacts SET phone = 'ours' WHERE id = 8;
"""
CONTACTS = "SELECT id, org, email, phone FROM contacts WHERE id > 50 OR id IN (7, 8, 20, 30) ORDER BY id"


class Live:
    """A live database that was rolled back, and what its users wrote before and after that."""

    def __init__(self, server: EmbeddedServer, name: str) -> None:
        self.server = server
        self.name = name

    def execute(self, statements: str) -> None:
        with self.server.target(self.name).connect() as connection:
            connection.execute("SET search_path = public")
            connection.execute(statements.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.server.target(self.name).connect() as connection:
            connection.execute("SET search_path = public")
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def live(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> Iterator[Live]:
    """Backed up, broken by a migration, written to, rolled back, and written to again."""
    name = new_database("crm")
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    database = Live(server, name)
    database.execute(SCHEMA)
    assert lastgood("backup").status == 0
    database.execute(MIGRATION)
    database.execute(LATER)
    assert lastgood("rollback", "--yes").status == 0
    database.execute(AFTERWARDS)
    yield database


def sums(document: dict[str, Any]) -> dict[tuple[str, str, str | None, str], int]:
    return {
        (table["name"], each["kind"], each["action"], each["why"]): each["rows"]
        for table in document["tables"]
        for each in table["sums"]
    }


@pytest.mark.postgres(15, 16, 17, 18)
def test_users_rows_come_back_and_those_of_the_migration_do_not(live: Live, lastgood: Lastgood) -> None:
    plan = lastgood("salvage", "--json").document
    assert sums(plan) == {
        ("orgs", "insert", "insert", ""): 1,
        ("log", "insert", "insert", ""): 2,
        ("contacts", "insert", "insert", ""): 1,
        ("contacts", "insert", None, "migration"): 5,
        ("contacts", "update", "update", ""): 1,
        ("contacts", "update", None, "migration"): 46,
        ("contacts", "delete", None, "deletion"): 3,
    }
    assert [each["by"] for each in plan["migrations"]] == ["definitions that changed after the restore point"]
    report = lastgood("salvage", "apply", "--yes", "--json").document
    assert (report["status"], report["inserted"], report["updated"], report["deleted"]) == ("salvaged", 4, 1, 0)
    assert live.rows(CONTACTS) == [
        (7, 3, "ours", "new phone"),
        (8, 4, "mail 8", "ours"),
        (20, 1, "mail 20", "phone 20"),
        (30, 1, "mail 30", "phone 30"),
        (56, 6, "later", None),
    ]
    assert live.rows("SELECT touched FROM contacts WHERE id = 56") == [(1,)]
    assert live.rows("SELECT tgenabled FROM pg_trigger WHERE tgname = 'touch'") == [("O",)]
    assert live.rows("SELECT what FROM log ORDER BY 1") == [("a",), ("a",), ("a",), ("b",), ("c",)]
    live.execute("INSERT INTO contacts (email) VALUES ('next')")
    assert live.rows("SELECT id FROM contacts WHERE email = 'next'") == [(57,)]


def test_a_second_salvage_finds_nothing_to_do(live: Live, lastgood: Lastgood) -> None:
    assert lastgood("salvage", "apply", "--yes").status == 0
    outcome = lastgood("salvage", "apply", "--yes", "--exclude", "contacts")
    assert outcome.status == 0
    assert outcome.out == f'Nothing to do: no selected row has to be written into "{live.name}".\n'


def test_an_undo_restores_the_rows_as_long_as_they_are_unchanged(live: Live, lastgood: Lastgood) -> None:
    before = live.rows(CONTACTS)
    assert lastgood("salvage", "apply", "--yes").status == 0
    report = lastgood("salvage", "undo", "--yes", "--json").document
    assert (report["status"], report["inserted"], report["updated"], report["deleted"]) == ("undone", 0, 1, 4)
    assert live.rows(CONTACTS) == before
    again = lastgood("salvage", "undo", "--yes", "--json").document
    assert (again["inserted"], again["updated"], again["deleted"]) == (4, 1, 0)
    live.execute("UPDATE contacts SET phone = 'touched' WHERE id = 56")
    now = live.rows(CONTACTS)
    outcome = lastgood("salvage", "undo", report["undoes"], "--yes")
    assert outcome.status == 3
    assert outcome.err == (
        "error: cannot undo the salvage: rows were changed since, or are referenced by other rows: 1 row of "
        "public.contacts (id: 56), 1 row of public.orgs (id: 6)\n"
        "state: Nothing was changed.\n"
        "next:  Correct these rows with SQL.\n"
    )
    assert live.rows(CONTACTS) == now


def test_a_row_with_the_key_of_another_one_is_left_out_with_its_children(live: Live, lastgood: Lastgood) -> None:
    live.execute("INSERT INTO orgs (name) VALUES ('another org')")
    found = sums(lastgood("salvage", "--json").document)
    assert found["orgs", "insert", None, "insert_exists"] == 1
    assert found["contacts", "insert", None, "parent_differs"] == 1
    report = lastgood("salvage", "apply", "--yes", "--on", "insert_exists=renumber", "--json").document
    assert report["inserted"] == 4
    assert live.rows("SELECT o.id, o.name FROM contacts c JOIN orgs o ON o.id = c.org WHERE email = 'later'") == [
        (7, "new org")
    ]
    (keys,) = report["new_keys"].values()
    assert Path(keys).read_text() == "6\t7\n"
    again = lastgood("salvage", "apply", "--yes", "--on", "insert_exists=renumber", "--json").document
    assert again["status"] == "nothing to do"
    assert lastgood("salvage", "undo", "--yes").status == 0
    failing = lastgood("salvage", "apply", "--yes", "--quiet", "--on", "insert_exists=fail")
    assert failing.status == 3
    assert failing.err == (
        'error: cannot salvage rows: insert_exists in table "public.orgs": the live database has another row with this '
        "key (1 row, such as 6)\n"
        "state: Nothing was changed.\n"
        "next:  Choose another policy, such as --on insert_exists=skip, or leave these rows out.\n"
    )


def test_rows_are_chosen_by_table_condition_and_plan_file(live: Live, lastgood: Lastgood, tmp_path: Path) -> None:
    chosen = lastgood("salvage", "apply", "--dry-run", "--json", "--table", "contacts", "--with-parents").document
    assert sums(chosen)["orgs", "insert", "insert", ""] == 1
    alone = lastgood("salvage", "apply", "--dry-run", "--json", "--table", "contacts").document
    assert sums(alone)["contacts", "insert", None, "parent_missing"] == 1
    where = ("--where", "contacts: phone = 'new phone'", "--exclude", "log")
    assert {key for key in sums(lastgood("salvage", "apply", "--dry-run", "--json", *where).document) if key[2]} == {
        ("orgs", "insert", "insert", ""),
        ("contacts", "update", "update", ""),
    }
    text = lastgood("salvage", "plan", *where).out
    file = tmp_path / "salvage.toml"
    file.write_text(text.replace('"public.orgs"', '#"public.orgs"'))
    report = lastgood("salvage", "apply", str(file), "--yes", "--json").document
    assert (report["inserted"], report["updated"]) == (0, 1)


def test_a_condition_that_the_server_cannot_read_is_wrong_usage(live: Live, lastgood: Lastgood) -> None:
    outcome = lastgood("salvage", "apply", "--dry-run", "--where", "contacts: nothing = 1", "--quiet")
    assert outcome.status == 2
    assert 'cannot plan the salvage: column "nothing" does not exist' in outcome.err
    for condition in ("true); DROP TABLE log; --", "id = 1) OR (1 = 1", "true ORDER BY 1", "true; SELECT 1"):
        outcome = lastgood("salvage", "apply", "--dry-run", "--where", f"contacts: {condition}", "--quiet")
        assert outcome.status == 2
        assert "it is not one SQL expression" in outcome.err


def test_a_plan_file_whose_restore_point_is_no_dump_names_the_file(
    live: Live, lastgood: Lastgood, tmp_path: Path
) -> None:
    other, file = tmp_path / "passwd", tmp_path / "salvage.toml"
    other.write_text("root:x:0:0:root:/root:/bin/bash\n")
    file.write_text(f'base = "{other}"\n')
    outcome = lastgood("salvage", "apply", str(file), "--dry-run", "--quiet")
    assert (outcome.status, outcome.err) == (
        4,
        f'error: cannot use "{other}": it is text without a command of SQL, not a dump\n'
        "next:  Choose another restore point: lastgood points\n",
    )


def test_an_emergency_backup_has_the_rows_too(live: Live, lastgood: Lastgood) -> None:
    points = {each["name"]: each for each in lastgood("points", "--json").document["points"]}
    emergency = next(name for name in points if "emergency" in name)
    found = sums(lastgood("salvage", "apply", "--from", emergency, "--dry-run", "--json").document)
    # A restore point does not record who wrote a row.
    assert found["contacts", "insert", "insert", ""] == 6
    assert ("contacts", "insert", None, "migration") not in found


def test_after_the_undo_of_a_rollback_rows_come_back_in_the_other_direction(live: Live, lastgood: Lastgood) -> None:
    assert lastgood("undo", "--yes").status == 0
    found = lastgood("salvage", "--json").document
    assert found["theirs"]["name"].startswith(f"{live.name}_undone_")
    assert sums(found) == {
        ("contacts", "update", "update", ""): 1,
        ("contacts", "update", None, "update_origin_differs"): 1,
    }
    assert lastgood("salvage", "apply", "--yes").status == 0
    assert live.rows("SELECT email, phone FROM contacts WHERE id = 8") == [("lost 8", "ours")]


def test_an_update_of_everything_is_left_out_without_any_migration(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> None:
    name = new_database("crm")
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    live = Live(server, name)
    live.execute(SCHEMA)
    assert lastgood("backup").status == 0
    live.execute("UPDATE contacts SET phone = 'user' WHERE id IN (1, 2)")
    live.execute("UPDATE contacts SET email = 'lost'")
    live.execute("UPDATE contacts SET phone = 'later' WHERE id = 3")
    assert lastgood("rollback", "--yes").status == 0
    plan = lastgood("salvage", "--json").document
    ((migration,),) = [plan["migrations"]]
    assert migration["by"] == "one transaction wrote 49 rows"
    assert sums(plan) == {("contacts", "update", "update", ""): 1, ("contacts", "update", None, "migration"): 49}
    taken = lastgood("salvage", "apply", "--dry-run", "--json", "--transaction", str(migration["first"])).document
    assert sums(taken) == {("contacts", "update", "update", ""): 50}
    assert lastgood("salvage", "apply", "--yes").status == 0
    assert live.rows("SELECT email, phone FROM contacts WHERE id = 3") == [("mail 3", "later")]


def test_rows_come_back_from_kept_schemas(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> None:
    name = new_database("crm")
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    live = Live(server, name)
    live.execute(SCHEMA)
    assert lastgood("backup").status == 0
    live.execute(MIGRATION)
    live.execute(LATER)
    assert lastgood("rollback", "--yes", "--in-place").status == 0
    live.execute(AFTERWARDS)
    plan = lastgood("salvage", "--json").document
    assert plan["theirs"]["kind"] == "kept schemas"
    assert sums(plan)["contacts", "insert", None, "migration"] == 5
    assert lastgood("salvage", "apply", "--yes").status == 0
    assert live.rows(CONTACTS)[-1] == (56, 6, "later", None)
    assert live.rows(CONTACTS)[0] == (7, 3, "ours", "new phone")


POINTS = [name for name in fault.POINTS if name.startswith("salvage.")]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_salvage_leaves_all_or_nothing(live: Live, lastgood: Lastgood, point: str) -> None:
    before = live.rows(CONTACTS)
    environment = {**os.environ, "PYTHONPATH": str(SRC), "LASTGOOD_FAULT": f"{point}:kill"}
    child = subprocess.run(
        [sys.executable, "-m", "lastgood", "salvage", "apply", "--yes", "--quiet"],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -9
    if point == "salvage.after_commit":
        assert len(live.rows(CONTACTS)) == len(before) + 1
        assert lastgood("salvage", "undo", "--yes").status == 0
        assert live.rows(CONTACTS) == before
    else:
        assert live.rows(CONTACTS) == before
        assert lastgood("salvage", "undo", "--yes").status == 3
        assert lastgood("salvage", "apply", "--yes", "--json").document["inserted"] == 4


@pytest.fixture
def ordinary(server: EmbeddedServer) -> Iterator[str]:
    """A role that owns the tables and is no superuser."""
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE salvage_owner LOGIN CREATEDB")
    yield "salvage_owner"
    with server.target("postgres").connect() as connection:
        connection.execute("DROP OWNED BY salvage_owner; DROP ROLE salvage_owner")


def test_an_owner_who_is_no_superuser_salvages_rows_of_a_cycle(
    server: EmbeddedServer,
    ordinary: str,
    new_database: Callable[..., str],
    lastgood: Lastgood,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server checks foreign keys here; rows that refer to each other are written in two passes."""
    name = new_database("crm")
    live = Live(server, name)
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO salvage_owner").format(sql.Identifier(name)))
    live.execute(
        "GRANT ALL ON SCHEMA public TO salvage_owner; SET ROLE salvage_owner;"
        + SCHEMA
        + "ALTER TABLE orgs ADD main int REFERENCES contacts;"
    )
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    assert lastgood("backup").status == 0
    live.execute(
        "INSERT INTO orgs (name) VALUES ('round'); INSERT INTO contacts (org, email) VALUES (6, 'about');"
        "UPDATE orgs SET main = 51 WHERE id = 6"
    )
    assert lastgood("rollback", "--yes").status == 0
    with server.target("postgres").connect() as connection:
        for (each,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{name}%"]):
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO salvage_owner").format(sql.Identifier(each)))
    monkeypatch.setenv("LASTGOOD_DB", server.url(name).replace("postgres@", "salvage_owner@"))
    live.execute("ALTER TABLE contacts OWNER TO postgres; GRANT ALL ON contacts TO salvage_owner")
    assert lastgood("salvage", "--json").document["refused"] == {
        "public.contacts": 'role "salvage_owner" may not disable the triggers; connect as the owner of the table, or '
        'as a superuser, who can also run: GRANT SET ON PARAMETER session_replication_role TO "salvage_owner"'
    }
    live.execute("ALTER TABLE contacts OWNER TO salvage_owner")
    report = lastgood("salvage", "apply", "--yes", "--json")
    assert report.document.get("inserted") == 2, report.document
    assert live.rows("SELECT o.name, c.email, c.touched FROM orgs o JOIN contacts c ON c.id = o.main") == [
        ("round", "about", 1)
    ]
    assert live.rows("SELECT tgenabled FROM pg_trigger WHERE tgname = 'touch'") == [("O",)]
    live.execute("ALTER TABLE contacts OWNER TO postgres; GRANT ALL ON contacts TO salvage_owner")
    outcome = lastgood("salvage", "undo", "--yes", "--quiet")
    assert (outcome.status, outcome.err) == (
        3,
        'error: cannot salvage rows: role "salvage_owner" may not disable the triggers of "public.contacts"\n'
        "state: Nothing was changed.\n"
        "next:  Connect as the owner of the table, or as a superuser, who can also run: GRANT SET ON PARAMETER "
        'session_replication_role TO "salvage_owner"\n',
    )
    live.execute("GRANT SET ON PARAMETER session_replication_role TO salvage_owner")
    assert lastgood("salvage", "undo", "--yes").status == 0
    assert live.rows("SELECT count(*) FROM contacts") == [(50,)]


def test_rows_of_a_recorded_deployment_are_left_out(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> None:
    """The deployment committed its writes before it failed, and was rolled back. It changed few rows, and no
    definition."""
    name = new_database("crm")
    url = server.url(name)
    monkeypatch.setenv("LASTGOOD_DB", url)
    live = Live(server, name)
    live.execute(SCHEMA)
    update = "SET search_path = public; UPDATE contacts SET email = 'bad' WHERE id IN (1, 2)"
    script = f"{server.bin / 'psql'} -q '{url}' -c \"{update}\" && exit 1"
    assert lastgood("deploy", "--quiet", "--", "sh", "-c", script).status == 6
    plan = lastgood("salvage", "--json").document
    assert [each["by"].split()[0] for each in plan["migrations"]] == ["deployment"]
    assert sums(plan) == {("contacts", "update", None, "migration"): 2}
    # As a deployment leaves its journal that was killed with its dead-man switch: all later rows may be its own.
    (journal,) = [
        each for each in Path(os.environ["LASTGOOD_STATE"]).rglob("*.jsonl") if '"deploy"' in each.read_text()
    ]
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(each for each in lines if '"done"' not in each))
    (found,) = lastgood("salvage", "--json").document["migrations"]
    assert (
        f"transaction {found['first']} and all later ones: {found['by']} was killed, so its end is unknown"
        in " ".join(lastgood("salvage").out.split())
    )
