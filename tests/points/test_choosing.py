"""The choice of a restore point."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lastgood import points
from lastgood.context import Context
from lastgood.errors import BadPoint, Incomplete
from lastgood.events import Caution, Event, Note
from lastgood.points.dump_point import take
from lastgood.points.point import RestorePoint
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target

Dump = Callable[..., Path]


def three(crm: Target, store: Path, dump: Dump) -> list[Path]:
    """Foreign dumps of three days, each with one more migration."""
    made = []
    for day, version in ((1, "20251101120000"), (2, "20251102120000"), (3, "20251103120000")):
        with crm.connect() as connection:
            connection.execute("DELETE FROM supabase_migrations.schema_migrations")
            insert = "INSERT INTO supabase_migrations.schema_migrations VALUES (%s, 'x')"
            connection.execute(insert, [version])
        made.append(dump(crm, store / f"cloud_backup_2025110{day}_130000.sql"))
    return made


def test_by_name_by_path_the_newest_and_before(crm: Target, store: Path, dump: Dump, tmp_path: Path) -> None:
    first, second, third = three(crm, store, dump)
    assert points.choose(store, name=second.name).point.path == second
    assert points.choose(tmp_path, name=str(second)).point.path == second
    assert points.choose(store).point.path == third
    noon = datetime(2025, 11, 3, 12, tzinfo=UTC)
    assert points.choose(store, before=noon).point.path == second
    assert points.choose(store, before=points.find(store, second.name).made_at).point.path == first
    assert points.choose(store, before_migration="20251103120000").point.path == second
    assert points.choose(store, before_migration="20251102120000").point.path == first
    assert points.choose(store, before=noon, before_migration="20251109000000").point.path == second


def test_a_manifest_has_the_migration(crm: Target, store: Path) -> None:
    older = take(crm, store)
    with crm.connect() as connection:
        connection.execute("INSERT INTO supabase_migrations.schema_migrations VALUES ('20251122000000', 'bad')")
    take(crm, store)
    assert points.choose(store, before_migration="20251122000000").point.path == older.path


def test_the_newest_valid_one_wins(crm: Target, store: Path, dump: Dump) -> None:
    first, second, third = three(crm, store, dump)
    third.write_bytes(third.read_bytes()[:-200])
    second.write_bytes(second.read_bytes().replace(b"contact 7\t", b"contact \xff\t"))
    events: list[Event] = []
    assert points.choose(store, context=Context(events.append)).point.path == first
    cautions = [event.text for event in events if isinstance(event, Caution)]
    assert len(cautions) == 2
    assert cautions[0].startswith(f"{third.name} was skipped: cannot ")
    assert cautions[1].startswith(f"{second.name} was skipped: cannot ")
    assert points.find(store, third.name).path == third
    # Named explicitly, it is not skipped: its fault is reported.
    with pytest.raises(Incomplete):
        points.choose(store, name=third.name)


def test_emergency_backups_that_are_left_out_are_named(crm: Target, store: Path, dump: Dump) -> None:
    def chosen() -> tuple[str, list[str]]:
        events: list[Event] = []
        path = points.choose(store, context=Context(events.append)).point.path
        return path.name, [event.text for event in events if isinstance(event, Note)]

    backup = dump(crm, store / "cloud_backup_20251102_130000.sql")
    dump(crm, store / "emergency_20251101_130000.sql")
    assert chosen() == (backup.name, [])
    newer = [dump(crm, store / f"emergency_2025110{day}_130000.sql").name for day in (3, 4)]
    assert chosen() == (
        backup.name,
        [
            f"newer emergency backups are left out ({newer[1]}, {newer[0]}): they hold the state before a rollback, "
            "and are used only by name"
        ],
    )
    backup.unlink()
    with pytest.raises(BadPoint) as error:
        points.choose(store)
    assert str(error.value) == (
        f'cannot find a valid restore point in "{store}"; emergency backups, used only by name: {newer[1]}, '
        f"{newer[0]}, emergency_20251101_130000.sql"
    )
    assert error.value.hint == (
        "Run lastgood recover: it searches for other copies of the data. To restore the state before a rollback: "
        f"lastgood rollback {newer[1]}"
    )


def test_the_available_points_are_listed(crm: Target, store: Path, dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    with pytest.raises(BadPoint) as error:
        points.choose(store)
    assert str(error.value) == f'cannot find a restore point in "{store}": there is none'
    assert error.value.hint == (
        "Name another folder with --store, or make a restore point: lastgood backup. In an emergency, "
        "run lastgood recover: it searches for other copies of the data."
    )
    with pytest.raises(BadPoint) as error:
        points.choose(store, name="yesterday.sql")
    assert str(error.value) == f'cannot find the restore point "yesterday.sql": it is not in "{store}"'
    assert error.value.hint == "The store is empty; name another folder with --store."
    path = dump(crm, store / "app_20251101_130000.sql")
    hint = f"Available: {path.name} (2025-11-01 13:00:00 UTC)."
    with pytest.raises(BadPoint) as error:
        points.choose(store, name="yesterday.sql")
    assert error.value.hint == hint
    with pytest.raises(BadPoint) as error:
        points.choose(store, before=datetime(2025, 11, 1, tzinfo=UTC))
    assert str(error.value) == (f'cannot find a valid restore point made before 2025-11-01 00:00:00 UTC in "{store}"')
    assert error.value.hint == hint
    with pytest.raises(BadPoint) as error:
        points.choose(store, before_migration="20251104140000")
    assert str(error.value) == f'cannot find a valid restore point without the migration "20251104140000" in "{store}"'
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadPoint) as error:
        points.choose(store)
    assert str(error.value) == f'cannot find a valid restore point in "{store}"; not valid: {path.name}'


def test_a_file_that_is_no_dump_can_be_named(store: Path) -> None:
    (store / "notes.txt").write_text("call Anna\n")
    point = points.find(store, "notes.txt")
    assert points.list_points(store) == []
    assert not points.verify(point).valid


def test_a_shared_folder_holds_backups_of_other_databases(
    crm: Target, store: Path, dump: Dump, server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    ours = take(crm, store)
    neighbour = server.target(new_database("billing"))
    with neighbour.connect() as connection:
        connection.execute("CREATE TABLE public.invoices (id int)")
    theirs = take(neighbour, store)
    archive = dump(neighbour, store / "newest.sql", "--create")
    assert points.choose(store, database=crm.dbname).point.path == ours.path
    # It can still be named: a staging copy is put back to production's backup.
    assert points.choose(store, name=theirs.path.name, database=crm.dbname).point.path == theirs.path
    ours.path.unlink()
    with pytest.raises(BadPoint) as error:
        points.choose(store, database=crm.dbname)
    other = f'(of "{neighbour.dbname}")'
    assert str(error.value) in (
        f'cannot find a valid restore point in "{store}"; of another database: {names}'
        for names in (
            f"{archive.name} {other}, {theirs.path.name} {other}",
            f"{theirs.path.name} {other}, {archive.name} {other}",
        )
    )


def test_a_dump_of_the_schema_alone_is_skipped(crm: Target, store: Path, dump: Dump) -> None:
    whole = dump(crm, store / "cloud_backup_20251101_130000.sql")
    schema = dump(crm, store / "cloud_backup_20251102_130000.sql", "--schema-only")
    rows = dump(crm, store / "cloud_backup_20251103_130000.sql", "--data-only")
    events: list[Event] = []
    assert points.choose(store, context=Context(events.append)).point.path == whole
    assert [event.text for event in events if isinstance(event, Caution)] == [
        f"{rows.name} was skipped: it has no tables",
        f"{schema.name} was skipped: it has no data",
    ]


def test_an_emergency_backup_that_lost_its_manifest_is_not_taken_for_a_good_state(store: Path) -> None:
    """The manifest is written after the backup: a tool killed in between leaves none."""
    now = datetime.now(UTC)
    assert RestorePoint(store / "app_20251104_143000_emergency.sql", now, "name", 1).is_emergency
    assert RestorePoint(store / "emergency_20251104_143000.sql", now, "name", 1).is_emergency
    assert not RestorePoint(store / "app_20251104_143000.sql", now, "name", 1).is_emergency


def in_part(crm: Target, store: Path, dump: Dump, day: int) -> Path:
    """A dump that has no rows of one table."""
    return dump(crm, store / f"cloud_backup_2025110{day}_130000.sql", "--exclude-table-data=public.accounts")


def test_a_complete_point_is_preferred_to_a_newer_one_that_lacks_rows(crm: Target, store: Path, dump: Dump) -> None:
    whole = dump(crm, store / "cloud_backup_20251101_130000.sql")
    older, newer = (in_part(crm, store, dump, day) for day in (2, 3))
    events: list[Event] = []
    assert points.choose(store, context=Context(events.append)).point.path == whole
    assert sorted(event.text for event in events if isinstance(event, Caution)) == [
        f"{path.name} was skipped: it has no rows for public.accounts" for path in (older, newer)
    ]


def test_where_no_point_is_complete_the_newest_that_only_lacks_rows_is_taken(
    crm: Target, store: Path, dump: Dump
) -> None:
    older, newer = (in_part(crm, store, dump, day) for day in (1, 2))
    schema = dump(crm, store / "cloud_backup_20251103_130000.sql", "--schema-only")
    events: list[Event] = []
    chosen = points.choose(store, context=Context(events.append))
    assert chosen.point.path == newer
    assert chosen.lack is not None
    assert (chosen.lack.what, chosen.lack.message) == ("rows", "no rows for public.accounts")
    assert [event.text for event in events if isinstance(event, Caution)] == [
        f"{schema.name} was skipped: it has no data",
        f"{older.name} was skipped: it has no rows for public.accounts",
    ]


def test_definitions_alone_are_never_chosen(crm: Target, store: Path, dump: Dump) -> None:
    schema = dump(crm, store / "cloud_backup_20251101_130000.sql", "--schema-only")
    with pytest.raises(BadPoint) as error:
        points.choose(store)
    assert str(error.value) == f'cannot find a valid restore point in "{store}"; not valid: {schema.name}'
