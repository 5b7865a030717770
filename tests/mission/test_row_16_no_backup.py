"""Row 16: no backup at all.

``lastgood recover`` looks for what is left: a kept database, another database, a dump elsewhere, a physical backup and
its WAL, the platform's own backups, the audit log. It ends in a proved database, or lists what cannot be restored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from demo import migration
from lastgood.postgres.embedded import EmbeddedServer
from tests.mission.emergencies import staged
from tests.traps.stage import Stage

ELSEWHERE = (
    "another server, a delayed standby, a colleague's machine or a bucket may have a copy that lastgood cannot see."
)


@pytest.fixture
def stage(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    return staged(server, new_database, tmp_path, monkeypatch)


def lose_every_backup(stage: Stage) -> None:
    for path in stage.backups.iterdir():
        path.unlink()


@pytest.mark.postgres(15, 18)
def test_only_a_kept_database(stage: Stage) -> None:
    """A rollback yesterday kept the database; today an operator followed the guide and dropped the schema."""
    assert stage.lastgood("rollback", "--yes").status == 0
    (kept,) = stage.lastgood("status").document["kept"]
    lose_every_backup(stage)
    with stage.target.connect() as connection:
        connection.execute("DROP SCHEMA public, api, audit, supabase_migrations CASCADE")

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 0, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert (diagnosis["emergency"], diagnosis["title"]) == ("no_backup", "there is no backup")
    assert [reason["text"] for reason in diagnosis["reasons"]] == [
        "the database has no tables",
        f'"{stage.backups}" holds no restore point of "{stage.database}"',
    ]
    first = diagnosis["proposals"][0]
    assert (first["kind"], first["name"]) == ("undo", kept["run"])
    made = kept["made_at"][:19].replace("T", " ")
    assert diagnosis["statement"] == (
        f'There is no restore point of "{stage.database}" in "{stage.backups}". Writes after {made} UTC, when the '
        f"kept database was taken out of service, cannot be recovered. Remaining sources: {ELSEWHERE}"
    )
    assert answer.document["report"]["undoes"] == kept["run"]
    # The kept database is the old one itself: nothing had to be restored, everything is there.
    assert stage.before.differences(stage.now()) == []


def test_only_the_audit_log(stage: Stage) -> None:
    lose_every_backup(stage)
    with stage.target.connect() as connection:
        connection.execute("DELETE FROM audit.record_version")
        connection.execute("DELETE FROM public.opportunities WHERE id % 3 = 0")
        (deleted,) = connection.execute("SELECT count(*) FROM audit.record_version").fetchone() or (0,)

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 4, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert diagnosis["emergency"] == "no_backup"
    assert diagnosis["proposals"] == []
    assert answer.document["report"] is None
    audited = [each for each in diagnosis["scope"] if each["source"] == "audit.record_version"]
    assert [(each["table"], each["operation"], each["count"]) for each in audited] == [
        ("public.opportunities", "DELETE", deleted)
    ]
    assert deleted == stage.size.opportunities // 3
    assert diagnosis["scope_note"].startswith(
        "audit.record_version (made by supa_audit) records changes since its first entry; it has only what the "
        "application writes into it."
    )
    assert diagnosis["statement"] == (
        f'There is no restore point of "{stage.database}" in "{stage.backups}". The server has no kept database and '
        "no other database with the same tables, and the other folders contain no dump. lastgood cannot recover "
        f'"{stage.database}".'
        f" Remaining sources: audit.record_version records {deleted} changes; rows can be re-entered as far as it "
        f"contains them. In addition, {ELSEWHERE}"
    )


def test_nothing(stage: Stage) -> None:
    lose_every_backup(stage)
    with stage.target.connect() as connection:
        connection.execute("DROP SCHEMA public, api, audit, supabase_migrations CASCADE")

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 4, answer.printed
    assert answer.document["diagnosis"]["statement"] == (
        f'There is no restore point of "{stage.database}" in "{stage.backups}". The server has no kept database and '
        "no other database with the same tables, and the other folders contain no dump. lastgood cannot recover "
        f'"{stage.database}".'
        f" Remaining sources: {ELSEWHERE}"
    )


def test_a_dump_of_our_own_in_another_folder(stage: Stage, tmp_path: Path) -> None:
    made = stage.lastgood("backup", "--store", str(tmp_path / "home" / "backups")).document["point"]
    lose_every_backup(stage)
    with stage.target.connect() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 0, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert diagnosis["emergency"] == "no_backup"
    assert (diagnosis["proposals"][0]["kind"], diagnosis["proposals"][0]["name"]) == ("rollback", made["path"])
    assert stage.before.content == stage.now().content


def test_a_copy_on_the_same_server_and_a_base_backup_with_its_wal(stage: Stage, tmp_path: Path) -> None:
    lose_every_backup(stage)
    copy = f"{stage.database}_copy"
    with stage.server.target("postgres").connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(copy), sql.Identifier(stage.database))
        )
    base = tmp_path / "disk" / "base"
    (base / "global").mkdir(parents=True)
    (base / "PG_VERSION").write_text("18\n")
    (base / "backup_label").write_text("START TIME: 2026-01-11 03:00:00 UTC\n")
    wal = tmp_path / "disk" / "wal"
    wal.mkdir()
    for number in (1, 2, 4):
        (wal / f"0000000100000000000000{number:02X}").write_bytes(b"")
    (tmp_path / "lastgood.toml").write_text('[recover]\nphysical = ["disk"]\nplatform = "heroku"\n')
    with stage.target.connect() as connection:
        migration.apply(connection)

    diagnosis = stage.lastgood(
        "recover", "--dry-run", environment={"LASTGOOD_CONFIG": str(tmp_path / "lastgood.toml")}
    ).document["diagnosis"]

    left = {each["kind"]: each for each in diagnosis["left"]}
    assert left["database of the same server"]["what"] == copy
    assert left["a base backup"]["detail"] == "PostgreSQL 18; 2026-01-11 03:00:00 UTC"
    assert left["archived WAL"]["detail"].startswith(
        "3 segments, timeline 1; 1 gap; WAL after a gap cannot be replayed"
    )
    assert left["platform"]["what"] == "Heroku Postgres (named in [recover])"
    assert left["platform"]["commands"][0] == "heroku pg:backups --app APP"
    assert diagnosis["proposals"][0]["title"] == f'use the content of the database "{copy}" on the same server'
