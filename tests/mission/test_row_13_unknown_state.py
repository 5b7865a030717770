"""Row 13: the automatic rollback failed, the database is in an unknown state, the application maybe down.

``lastgood recover`` finds out the state, proposes the backup that the failed deployment made, and continues.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from demo import migration
from lastgood.postgres.embedded import EmbeddedServer
from tests.mission.emergencies import restore_killed_half_way, rows, staged
from tests.traps.stage import Stage


@pytest.fixture
def stage(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    return staged(server, new_database, tmp_path, monkeypatch)


@pytest.mark.postgres(18, also=(15,))
def test_the_naive_rollback_was_killed_half_way(stage: Stage) -> None:
    made = stage.lastgood("backup", "--label", "before_deployment").document["point"]
    with stage.target.connect() as connection:
        migration.apply(connection, until="a third of the opportunities deleted")
    restore_killed_half_way(stage)
    assert rows(stage, "public", "contacts") == stage.size.contacts
    assert rows(stage, "public", "opportunities") == 0

    found = stage.lastgood("recover", "--dry-run")

    assert found.status == 0, found.printed
    diagnosis = found.document["diagnosis"]
    assert (diagnosis["emergency"], diagnosis["damaged"]) == ("unknown_state", True)
    assert diagnosis["title"] == (f'"{stage.database}" is damaged or incomplete')
    facts = f"the facts of {made['name']}"
    reasons = {reason["text"]: reason["source"] for reason in diagnosis["reasons"]}
    assert reasons["all 9 foreign keys are missing"] == facts
    assert any("that had rows" in text and "public.opportunities" in text for text in reasons)
    # The newest point is the one that the deployment made.
    assert diagnosis["timeline"][0]["name"] == made["name"]
    first = diagnosis["proposals"][0]
    assert (first["kind"], first["name"], first["automatic"]) == ("rollback", made["path"], True)
    assert diagnosis["statement"] == ""
    assert found.document["report"] is None
    assert rows(stage, "public", "opportunities") == 0, "looking has changed nothing"

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 0, answer.printed
    assert answer.document["report"]["point"]["path"] == made["path"]
    assert all(table["equal"] for table in answer.document["report"]["tables"])
    # Rows, keys, definitions: all is as it was. The rights, too: this backup has them.
    assert stage.before.differences(stage.now()) == []
    assert migration_left_nothing(stage)


def migration_left_nothing(stage: Stage) -> bool:
    with stage.target.connect() as connection:
        return migration.damage(connection).none


def test_with_the_old_scripts_backup_it_lists_what_is_not_restored(stage: Stage) -> None:
    restore_killed_half_way(stage)

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 0, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert diagnosis["emergency"] == "unknown_state"
    assert diagnosis["statement"] == (
        f"{stage.dump.name} was made without privileges (--no-acl), and the live database has lost its own. Grant "
        "them again after the rollback, before the application starts."
    )
    assert all(table["equal"] for table in answer.document["report"]["tables"])
    now = stage.now()
    assert stage.before.content == now.content
    # The differences are those of the statement: owners and privileges.
    again = stage.lastgood("recover", "--dry-run").document["diagnosis"]
    assert [reason["text"] for reason in again["reasons"]] == [
        'no application role can read any of 9 tables: "crm_anon", "crm_app", "crm_readonly"'
    ]
    assert again["proposals"][0]["title"] == "grant the application's roles their privileges again"


def test_a_migration_that_stopped_half_way_left_unrecorded_objects(stage: Stage) -> None:
    with stage.target.connect() as connection:
        migration.apply(connection, until="a third of the opportunities deleted")

    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]

    assert diagnosis["emergency"] == "unknown_state"
    assert diagnosis["reasons"][0]["source"] == "supabase_migrations.schema_migrations"
    assert diagnosis["reasons"][0]["text"] == (
        "table public.lead_scores, view api.hot_leads: in the database, not in cloud_backup_20260112_093000.sql, and "
        "no later migration is recorded"
    )


def test_a_backup_of_the_broken_state_is_passed_over(stage: Stage) -> None:
    restore_killed_half_way(stage)
    late = stage.lastgood("backup", "--label", "too_late").document["point"]

    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]

    assert diagnosis["emergency"] == "unknown_state"
    assert diagnosis["proposals"][0]["name"] == str(stage.dump)
    (why,) = [reason["text"] for reason in diagnosis["reasons"] if reason["text"].startswith(late["name"])]
    assert why.startswith(
        f"{late['name']} was made after the damage: like the database now, it lacks what {stage.dump.name} has: "
    )


def test_an_unfinished_run_comes_first(stage: Stage) -> None:
    killed = stage.lastgood("rollback", "--yes", environment={"LASTGOOD_FAULT": "build.after_load:kill"})
    assert killed.status != 0

    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]

    (run,) = stage.lastgood("status").document["unfinished"]
    assert diagnosis["emergency"] == "unfinished_run"
    assert diagnosis["proposals"][0]["commands"] == [f"lastgood resume {run['run']}", f"lastgood abort {run['run']}"]
    refused = stage.lastgood("recover", "--yes")
    assert refused.status == 3
    assert refused.document["error"] == {
        "code": "refused",
        "message": "cannot continue automatically: resume or abort that run first",
        "hint": f"Run: lastgood resume {run['run']}",
        "state": "Nothing was changed.",
        "exit_status": 3,
    }


def test_the_database_is_closed(stage: Stage) -> None:
    allow(stage, False)

    answer = stage.lastgood("recover", "--yes")
    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]
    allow(stage, True)

    assert answer.status == 3
    assert answer.document["error"]["message"] == (
        f'cannot continue automatically: find out why "{stage.database}" accepts no connections, and open it'
    )
    assert diagnosis["emergency"] == "database_closed"
    assert diagnosis["title"] == f'the database "{stage.database}" accepts no connections'
    assert diagnosis["proposals"][0]["commands"][0].endswith(
        f"""-c 'ALTER DATABASE "{stage.database}" ALLOW_CONNECTIONS true'"""
    )


def allow(stage: Stage, allowed: bool) -> None:
    with stage.server.target("postgres").connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                sql.Identifier(stage.database), sql.Literal(allowed)
            )
        )


def test_the_database_was_set_read_only_and_is_whole(stage: Stage) -> None:
    with stage.server.target("postgres").connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(sql.Identifier(stage.database))
        )

    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]

    assert diagnosis["emergency"] == "older_state"
    assert diagnosis["reasons"][0] == {
        "text": "a setting makes sessions read-only; to reset it: ALTER DATABASE "
        f"{stage.database} RESET default_transaction_read_only",
        "source": "pg_db_role_setting",
    }


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("how", ["dropped", "invalid"])
def test_the_database_is_gone(stage: Stage, how: str) -> None:
    with stage.server.target("postgres").connect() as connection:
        name = sql.Identifier(stage.database)
        if how == "dropped":
            connection.execute(sql.SQL("DROP DATABASE {}").format(name))
        else:
            # What an interrupted DROP DATABASE leaves.
            connection.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [stage.database])

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 0, answer.printed
    assert answer.document["diagnosis"]["emergency"] == "database_missing"
    report = answer.document["report"]
    assert report["live"] == stage.database
    assert all(table["equal"] for table in report["restored"]["tables"])
    assert stage.now().content == stage.before.content
    assert bool(report["set_aside"]) == (how == "invalid")
    if report["set_aside"]:
        with stage.server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(report["set_aside"])))


def test_the_database_was_renamed_away(stage: Stage) -> None:
    away = f"{stage.database}_prod"
    rename(stage, stage.database, away)

    answer = stage.lastgood("recover", "--yes")
    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]

    assert answer.status == 3
    assert answer.document["error"]["message"] == (
        f'cannot continue automatically: check whether "{away}" is the renamed database, and restore its name'
    )
    assert [proposal["kind"] for proposal in diagnosis["proposals"]] == ["by_hand", "reinstate"]
    assert not diagnosis["proposals"][1]["automatic"]
    # The operator may override that.
    assert stage.lastgood("recover", "--latest", "--yes").status == 0
    assert stage.now().content == stage.before.content


def rename(stage: Stage, old: str, new: str) -> None:
    with stage.server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def test_the_server_does_not_answer(stage: Stage, tmp_path: Path) -> None:
    nowhere = f"postgresql://postgres@/{stage.database}?host={tmp_path}"

    answer = stage.lastgood("recover", "--dry-run", environment={"LASTGOOD_DB": nowhere})

    assert answer.status == 0, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert diagnosis["emergency"] == "server_unreachable"
    assert diagnosis["statement"] == (
        f'The state of "{stage.database}" is unknown while the server is unreachable. "{stage.backups}" has 1 restore '
        f'point of "{stage.database}".'
    )
    assert [each["name"] for each in diagnosis["timeline"]] == [stage.dump.name]
