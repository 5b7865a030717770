"""The commands from beginning to end on a real server, as text and as JSON."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command
from tests.load.repairs.stage import EPILOGUE, PROLOGUE
from tests.load.repairs.test_foreign_keys import WHOLE

RUN = r"\d{8}-\d{6}-[0-9a-f]{8}"


@pytest.fixture
def broken(lastgood: Lastgood, server: EmbeddedServer, database: str) -> str:
    """The name of a restore point of the live database, which was broken afterwards."""
    name: str = lastgood("backup", "--label", "good", "--json").document["point"]["name"]
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
        connection.execute("DELETE FROM public.contacts WHERE id = 3")
        connection.execute("INSERT INTO public.contacts VALUES (4, 'Di', now())")
        connection.execute("INSERT INTO public.contacts VALUES (5, 'Ed', now())")
        connection.execute("UPDATE public.contacts SET name = 'broken' WHERE id < 3")
        connection.execute("CREATE TABLE public.new_thing (id int)")
    return name


def names(server: EmbeddedServer, database: str) -> list[str]:
    with server.target(database).connect() as connection:
        return [row[0] for row in connection.execute("SELECT name FROM public.contacts ORDER BY id")]


def test_backup_shows_its_result(lastgood: Lastgood, database: str) -> None:
    outcome = lastgood("backup")
    assert outcome.status == 0
    name = next(each.name for each in Path("backups").iterdir() if each.name.endswith(".sql"))
    text = outcome.out
    assert re.fullmatch(
        rf"Done: {name}, read back and verified\.\n"
        rf"  Restore point  backups/{name}\n"
        r"  Made           \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n"
        r"  Content        7 rows in 3 tables\n"
        r"  Migration      20251102\n"
        r"  Size           \d\.\d kB, in .*\n"
        rf"\nTo roll back to it: lastgood rollback {name}\n",
        text,
    ), text
    assert outcome.err.splitlines()[0] == "start   back up the live database"
    elsewhere = lastgood("backup", "--quiet", "--store", "other points")
    (name,) = (each.name for each in Path("other points").glob("*.sql"))
    assert elsewhere.out.endswith(f"\nTo roll back to it: lastgood rollback --store 'other points' {name}\n")


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
def test_backup_in_each_form_as_json(lastgood: Lastgood, database: str, form: str) -> None:
    document = lastgood("backup", "--format", form, "--label", "mine", "--json").document
    assert set(document) == {"format", "point", "seconds"}
    point = document["point"]
    assert set(point) == {
        "name", "path", "kind", "made_at", "time_source", "bytes", "known", "emergency", "problem", "pinned",
        "database", "label", "form", "sha256", "rows", "tables", "migration", "not_in_dump",
    }  # fmt: skip
    assert (point["form"], point["label"], point["rows"], point["migration"]) == (form, "mine", 7, "20251102")
    assert (point["database"], point["known"], point["time_source"]) == (database, True, "manifest")


def test_points_are_listed(lastgood: Lastgood, broken: str) -> None:
    Path("backups/cloud_backup_20251104_143000.sql").write_text("-- PostgreSQL database dump\n")
    outcome = lastgood("points")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert re.fullmatch(r"  restore point +made +size +rows +known", lines[0])
    assert re.fullmatch(rf"  {broken} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +[\d.]+ kB +7 +by its manifest", lines[1])
    assert re.fullmatch(
        r"  cloud_backup_20251104_143000.sql +2025-11-04 14:30:00 +28 bytes +foreign; time by name", lines[2]
    )
    assert lines[-1] == "2 restore points in backups. To verify them: lastgood points verify"
    assert lastgood("points", "list").out == outcome.out
    document = lastgood("points", "--json").document
    assert [(p["name"], p["known"]) for p in document["points"]] == [
        (broken, True),
        ("cloud_backup_20251104_143000.sql", False),
    ]
    assert "rows" not in document["points"][1]


def test_an_empty_store_shows_the_next_command(lastgood: Lastgood) -> None:
    outcome = lastgood("points")
    assert (outcome.status, outcome.out) == (
        0,
        'No restore points in "backups", which does not exist yet. To make one: lastgood backup\n',
    )
    assert lastgood("points", "--json").document == {"format": 1, "store": "backups", "points": []}


def test_verify_shows_valid_and_invalid_points(lastgood: Lastgood, broken: str) -> None:
    good = lastgood("points", "verify")
    assert (good.status, good.out) == (0, f"valid: {broken}\n1 of 1 restore point valid.\n")
    whole = Path("backups", broken).read_bytes()
    cut = Path("backups/cut_20240101_000000.sql")
    cut.write_bytes(whole[: len(whole) * 7 // 10])
    outcome = lastgood("points", "verify")
    assert outcome.status == 4
    assert outcome.out.startswith(f"valid: {broken}\nincomplete: cut_20240101_000000.sql\n  cannot ")
    assert outcome.out.endswith("1 of 2 restore points valid.\n")
    one = lastgood("points", "verify", cut.name, "--json")
    assert one.status == 4
    (document,) = one.document["points"]
    assert (document["verdict"], document["valid"]) == ("incomplete", False)
    assert document["message"].startswith("cannot ")
    assert lastgood("points", "verify", broken).status == 0


def test_facts_of_a_database_and_of_a_point_agree(lastgood: Lastgood, broken: str, database: str) -> None:
    point = lastgood("facts", broken, "--json").document["facts"]
    tables = {table["name"]: (table["rows"], table["digest"]) for table in point["tables"]}
    assert tables["contacts"][0] == 3
    assert (point["migration"]["version"], point["migration"]["applied"]) == ("20251102", 2)
    live = lastgood("facts", "--json").document["facts"]
    assert {table["name"]: table["rows"] for table in live["tables"]} == {
        "contacts": 4,
        "deals": 0,
        "new_thing": 0,
        "schema_migrations": 2,
    }
    outcome = lastgood("facts", broken)
    assert outcome.status == 0
    assert outcome.out.startswith(f'7 rows in 3 tables of "{database}"\n')
    assert f"  public.contacts                           3  {tables['contacts'][1][:12]}    2025-11-03" in outcome.out


def test_facts_compared(lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str) -> None:
    same = lastgood("facts", broken, f"backups/{broken}")
    assert (same.status, same.out) == (0, f"Equal: {broken} and backups/{broken}, 3 tables, 7 rows.\n")
    live = lastgood("facts", broken, "--live")
    assert live.status == 3
    assert f" differences between {broken} (expected) and the live database (found)\n" in live.out
    assert re.search(r"^  public\.contacts +3 rows +4 rows$", live.out, re.MULTILINE)
    assert re.search(r"^  public\.new_thing +absent +0 rows$", live.out, re.MULTILINE)
    url = lastgood("facts", broken, server.url(database), "--json")
    assert url.status == 3
    document = url.document
    assert (document["equal"], document["expected"], document["found"]) == (False, broken, "the database of the URL")
    assert {"kind": "rows", "what": "public.deals", "expected": "2 rows", "found": "0 rows"} in document["differences"]


def test_a_dry_run_shows_the_plan_and_changes_nothing(
    lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str
) -> None:
    outcome = lastgood("rollback", "--dry-run")
    assert outcome.status == 0
    text = outcome.out
    assert text.startswith(f'Plan: roll back "{database}" to {broken}\n\n')
    assert re.search(rf'^  Live database   "{database}", [\d.]+ MB, PostgreSQL \d\d\.\d', text, re.MULTILINE)
    assert "What will be done\n   1  Block writes: writers wait, readers continue\n   2  " in text
    assert re.search(r"^  public\.contacts +4 +3 +2 +1 +2$", text, re.MULTILINE)
    assert re.search(r"^  public\.deals +0 +2 +0 +2 +0$", text, re.MULTILINE)
    assert re.search(r"^  public\.new_thing +0 +none +0 +0 +0$", text, re.MULTILINE)
    assert "  1 other table equals the restore point in every row." in text
    decision = r" · loses 2 rows, changes 2, returns 3 · writers wait between 1 s and \d+ s \(a guess\)"
    assert re.search(rf"{decision}\nNothing was changed yet\.\n$", text)
    document = lastgood("rollback", "--dry-run", "--json").document
    assert (document["live"], document["point"]["rows"], document["fence"]) == (database, 7, "now")
    assert lastgood("rollback", "--dry-run", "--fence", "at-swap", "--json").document["fence"] == "at-swap"
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]
    assert lastgood("status", "--json").document["kept"] == []


def test_without_consent_nothing_happens(
    lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str
) -> None:
    for arguments in (("rollback",), ("rollback", "--json")):
        outcome = lastgood(*arguments)
        assert outcome.status == 3
        message = "cannot continue: confirmation is required and stdin is not a terminal"
        if "--json" in arguments:
            assert outcome.document["error"]["message"] == message
        else:
            assert outcome.err.endswith(
                f"error: {message}\nstate: Nothing was changed.\nnext:  Run the same command with --yes to confirm.\n"
            )
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]


def test_rollback_and_undo(lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str) -> None:
    outcome = lastgood("rollback", "--yes")
    assert outcome.status == 0, outcome.err
    text = outcome.out.partition("Nothing was changed yet.\n")[2]
    assert text.startswith("\nProof\n")
    assert re.search(r"^  public\.contacts +3  digest of all rows  [0-9a-f]{12}  equal$", text, re.MULTILINE)
    assert re.search(r"^  Writes during the run +0 rows$", text, re.MULTILINE)
    assert re.search(
        rf'\n\nDone: "{database}" was rolled back to {broken}\.\n'
        r"  Proved: 3 of 3 tables with 7 rows equal the restore point in every row\.\n"
        rf"\nTo undo it: lastgood undo {RUN}\n$",
        text,
    )
    assert names(server, database) == ["Ann", "Bo", "Cy"]

    status = lastgood("status")
    assert status.status == 0
    assert re.search(rf"^    lastgood undo {RUN}$", status.out, re.MULTILINE)
    assert status.out.endswith("\nNothing is unfinished.\n")

    dry = lastgood("undo", "--dry-run")
    assert dry.out.endswith("Nothing was changed yet.\n")
    assert names(server, database) == ["Ann", "Bo", "Cy"]
    assert lastgood("undo").status == 3

    undone = lastgood("undo", "--yes")
    assert undone.status == 0, undone.err
    assert re.search(rf'^Done: "{database}" is again the database from before run {RUN}\.$', undone.out, re.MULTILINE)
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]


def test_rollback_and_undo_as_json(lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str) -> None:
    outcome = lastgood("rollback", broken, "--yes", "--json")
    assert outcome.status == 0
    document = outcome.document
    assert (document["format"], document["status"], document["live"]) == (1, "done", database)
    assert all(table["equal"] for table in document["tables"])
    assert {"schema", "name", "rows", "digest", "equal"} == set(document["tables"][0])
    assert {"read_outage", "write_outage", "total"} <= set(document["seconds"])
    stages = [event["name"] for event in outcome.events if event["event"] == "stage_done"]
    assert stages[0] == "plan"
    assert {"fence", "emergency", "build", "prove", "swap", "reopen"} <= set(stages)
    undone = lastgood("undo", document["run"], "--yes", "--json").document
    assert (undone["undoes"], undone["live"]) == (document["run"], database)
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]


def test_a_point_is_chosen_by_time_and_by_migration(lastgood: Lastgood, broken: str) -> None:
    none = lastgood("rollback", "--before", "2020-01-01", "--dry-run")
    assert none.status == 4
    assert none.err.splitlines()[-3].startswith(
        'error: cannot find a valid restore point made before 2020-01-01 00:00:00 UTC in "backups"'
    )
    assert lastgood("rollback", "--before", "2999-01-01T00:00+01:00", "--dry-run").status == 0
    assert lastgood("rollback", "--before-migration", "20251103", "--dry-run").status == 0
    assert lastgood("rollback", "--before-migration", "20251102", "--dry-run").status == 4
    assert lastgood("rollback", "no-such-point", "--dry-run").status == 4


def test_what_the_checks_refuse_is_shown_with_the_plan(
    lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str
) -> None:
    with server.target(database).connect() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('cli_slot', 'pgoutput')")
    try:
        for arguments in (("--dry-run",), ("--yes",)):
            outcome = lastgood("rollback", *arguments)
            assert outcome.status == 3
            assert "Findings\n  REFUSED " in outcome.out
            assert "cli_slot" in outcome.out
        assert outcome.err.partition("error: ")[2].startswith(f'cannot roll back "{database}": ')
    finally:
        with server.target(database).connect() as connection:
            connection.execute("SELECT pg_drop_replication_slot('cli_slot')")
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]


def test_restore_into_a_new_database(lastgood: Lastgood, broken: str, server: EmbeddedServer, database: str) -> None:
    into = f"{database}_check"
    outcome = lastgood("restore", broken, "--into", into)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(
        f'Done: {broken} was restored into "{into}".\n'
        "  Proved: 3 of 3 tables with 7 rows equal the restore point in every row.\n"
    )
    assert names(server, into) == ["Ann", "Bo", "Cy"]
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]
    again = lastgood("restore", broken, "--into", into, "--json")
    assert again.status in (3, 5)
    assert into in again.document["error"]["message"]
    assert names(server, into) == ["Ann", "Bo", "Cy"]


def test_prune_shows_before_it_removes(lastgood: Lastgood, broken: str, database: str) -> None:
    second = lastgood("backup", "--json").document["point"]["name"]
    nothing = lastgood("prune")
    assert nothing.status == 2
    dry = lastgood("prune", "--keep", "1", "--dry-run")
    assert dry.status == 0
    assert re.search(rf"^  remove  {broken} ", dry.out, re.MULTILINE)
    assert re.search(rf"^  keep    {second} ", dry.out, re.MULTILINE)
    assert Path("backups", broken).exists()
    assert lastgood("prune", "--keep", "1").status == 3
    assert Path("backups", broken).exists()
    done = lastgood("prune", "--keep", "1", "--yes")
    assert done.status == 0
    assert done.out.endswith(f"Done: 1 item removed.\n  - {broken}\n")
    assert not Path("backups", broken).exists()
    assert lastgood("prune", "--keep", "1", "--json", "--yes").document["candidates"]
    assert lastgood("prune", "--older-than", "30d").out.startswith("Nothing would be removed.")


def test_resume_and_abort_with_nothing_unfinished(lastgood: Lastgood, database: str) -> None:
    for arguments in (("resume", "--yes"), ("abort", "--yes")):
        outcome = lastgood(*arguments)
        assert (outcome.status, outcome.out) == (3, "")
        assert outcome.err == (
            f'error: cannot resume or abort: no run of "{database}" is unfinished\n'
            "state: Nothing was changed.\n"
            "next:  No action needed. To show the current state: lastgood status\n"
        )


def test_a_file_names_the_database(
    lastgood: Lastgood, server: EmbeddedServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lastgood("init").status == 0
    monkeypatch.delenv("LASTGOOD_DB")
    assert lastgood("status").out.startswith(f'"{database}" is open: ')


def test_libpq_finds_the_database_by_itself(
    lastgood: Lastgood, server: EmbeddedServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LASTGOOD_DB")
    for name, value in server.target(database).keywords.items():
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), value)
    assert lastgood("status").out.startswith(f'"{database}" is open: ')
    assert lastgood("backup").status == 0


def test_a_missing_live_database_is_reported_before_reading(
    lastgood: Lastgood, broken: str, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", server.url("nowhere"))
    for arguments in (("rollback", "--dry-run"), ("check",), ("validate",)):
        outcome = lastgood(*arguments, "--quiet")
        assert (outcome.status, outcome.err.partition("error: ")[2]) == (
            3,
            'cannot find the database "nowhere": the server has no database of that name\n'
            "state: Nothing was changed.\n"
            "next:  Run psql --list to see the names; they are case-sensitive. The address comes from LASTGOOD_DB.\n",
        )


def test_names_with_odd_characters(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_database('Odd "näme" \x1b[31m')
    with server.target(name).connect() as connection:
        connection.execute(sql.SQL("CREATE TABLE {} (id int)").format(sql.Identifier("public", "t\x1b]0;x")))
    monkeypatch.setenv("LASTGOOD_DB", str(server.target(name)))
    for arguments in (("backup",), ("facts",), ("rollback", "--yes"), ("status",), ("undo", "--yes")):
        outcome = lastgood(*arguments)
        assert outcome.status == 0, outcome.err
        assert "\x1b" not in outcome.out + outcome.err


def test_a_password_on_the_command_line_is_warned_of_once(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str
) -> None:
    url = server.url(database).replace("postgres@", "postgres:s3cr%40t@")
    outcome = lastgood("rollback", "--yes", "--quiet", "--db", url)
    assert outcome.status == 0
    assert outcome.err == (
        "caution the password in --db is visible to other users of this machine while lastgood runs; "
        "use LASTGOOD_DB or ~/.pgpass instead\n"
    )
    journals = "".join(each.read_text() for each in Path("state/runs").iterdir())
    manifests = "".join(each.read_text() for each in Path("backups").glob("*.json"))
    for text in (outcome.out, journals, manifests):
        assert text
        assert "s3cr" not in text


def killed(arguments: tuple[str, ...], fault: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command(*arguments), capture_output=True, env={**environment, "LASTGOOD_FAULT": f"{fault}:kill"}, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_run_that_was_killed_is_aborted_or_resumed(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    killed(("rollback", "--yes"), "build.after_load", child_environment)
    status = lastgood("status")
    assert status.status == 7
    assert status.out.startswith(f'"{database}" is open: ')
    commands = re.findall(rf"^    lastgood (\w+) ({RUN})$", status.out, re.MULTILINE)
    assert [name for name, _ in commands] == ["resume", "abort"]
    run = commands[0][1]
    asked = lastgood("resume", run)
    assert asked.status == 3
    shadow = f"{database}_shadow_{run[-8:]}"
    plan = f'Plan: abort run {run}: "{shadow}" is removed; "{database}" remains as it is.\n'
    assert lastgood("abort", run).err.startswith(plan)
    aborted = lastgood("abort", run, "--yes")
    assert aborted.status == 0
    assert aborted.out == f'Done: run {run} was aborted; "{shadow}" was removed.\n'
    assert lastgood("status").status == 0
    assert names(server, database) == ["broken", "broken", "Di", "Ed"]

    killed(("rollback", "--yes"), "build.after_load", child_environment)
    resumed = lastgood("resume", "--yes")
    assert resumed.status == 0, resumed.err
    assert f'\nDone: "{database}" was rolled back to {broken}.\n' in resumed.out
    assert names(server, database) == ["Ann", "Bo", "Cy"]
    assert lastgood("status").status == 0


def test_a_run_whose_live_database_was_exchanged_meanwhile_is_not_resumed(
    lastgood: Lastgood, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    killed(("rollback", "--yes"), "build.after_load", child_environment)
    run = re.findall(rf"^    lastgood resume ({RUN})$", lastgood("status").out, re.MULTILINE)[0]
    plan = lastgood("rollback", "--dry-run", "--json").document
    assert [
        (each["item"], each["text"], each["hint"]) for each in plan["findings"] if each["code"] == "unfinished"
    ] == [
        (
            "holders",
            f'run {run} is unfinished, its database "{database}_shadow_{run[-8:]}" exists; it cannot be resumed after '
            "the switch of this rollback",
            f"Continue it: lastgood resume {run}. Or discard it: lastgood abort {run} removes its remains.",
        )
    ]
    rolled_back = lastgood("rollback", "--yes")
    assert rolled_back.status == 0
    assert (
        f"caution run {run} is unfinished, and cannot be resumed once this rollback has switched; to continue it "
        f"instead: lastgood resume {run}\n"
    ) in rolled_back.err
    status = lastgood("status")
    assert (status.status, f"lastgood resume {run}" in status.out, f"lastgood abort {run}" in status.out) == (
        7,
        False,
        True,
    )
    resumed = lastgood("resume", run, "--yes")
    assert (resumed.status, resumed.err.partition("error: ")[2]) == (
        3,
        f'cannot resume run "{run}": "{database}" was replaced by another database since the run began\n'
        "state: Nothing was changed.\n"
        f"next:  To remove what it left: lastgood abort {run}\n",
    )
    assert lastgood("abort", run, "--yes").status == 0


def test_an_interrupt_while_it_is_still_being_loaded_is_one_sentence(child_environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "lastgood", "status"],
        env=child_environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        # One of the first modules is there: hundreds more are to come.
        seen = next(line for line in process.stderr if "lastgood.fault" in line)
        process.send_signal(signal.SIGINT)
        output = "".join(line for line in process.stderr if not line.startswith("import time:"))
    assert seen and (process.returncode, output) == (
        130,
        "error: interrupted\nstate: Nothing was read or changed.\n",
    )


def test_orphans_are_let_in_when_they_are_allowed(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    Path("backups").mkdir(exist_ok=True)
    Path("backups", "orphans.sql").write_text(PROLOGUE + WHOLE + EPILOGUE)
    into = f"{database}_check"
    refused = lastgood("restore", "orphans.sql", "--into", into)
    assert refused.status == 5
    assert "2 rows have no match in public.p, for example 7, 8" in refused.err
    strict = lastgood("restore", "orphans.sql", "--into", into, "--allow-orphans", "--strict")
    assert strict.status == 5
    done = lastgood("restore", "orphans.sql", "--into", into, "--allow-orphans", "--json")
    assert (done.status, done.document["skipped"]) == (0, [])
    assert done.document["repaired"] == [
        {
            "what": 'foreign key "Of P" on public.c',
            "why": "2 rows have no match in public.p, for example 7, 8; it was added NOT VALID, and applies to new "
            "rows only",
            "line": 25,
        }
    ]
