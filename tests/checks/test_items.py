"""Each item of the checklist when something is wrong, on real servers; and what an override can do about it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from lastgood.points.manifest import manifest_path
from lastgood.postgres import binaries, exchange
from lastgood.postgres.embedded import EmbeddedServer
from tests.checks.conftest import Stage, item, lines_of
from tests.support import forked_cli
from tests.support.pooler import PgBouncer

MAJORS = (15, 16, 17, 18)
NAMES = [
    "restore_point",
    "room",
    "emergency_backup",
    "privileges",
    "versions",
    "extensions",
    "holders",
    "sessions",
    "application",
    "rehearsal",
    "the team is informed",
]


def point() -> Path:
    (found,) = Path("backups").glob("*.sql")
    return found


@pytest.mark.postgres(*MAJORS)
def test_all_is_well_for_a_superuser_and_for_the_owner(stage: Stage) -> None:
    for user in ("postgres", stage.owner):
        outcome = stage.check("--attest", "rehearsal=Ann", "--attest", "the team is informed=Bo", user=user)
        assert outcome.status == 0
        found = outcome.document
        assert [each["name"] for each in found["checklist"]["items"]] == NAMES
        assert not [each["name"] for each in found["checklist"]["items"] if each["status"] == "FAIL"]
        who = 'superuser "postgres"' if user == "postgres" else f'"{user}"'
        assert lines_of(item(outcome, "privileges"), "PASS")[0] == (
            f'{who} may create a database like "{stage.live}", and rename it',
            "tried",
            "",
        )
        assert (found["point"]["known"], found["point"]["read"]) == (True, False)
    # Only what the owner can't see is left to people.
    assert found["checklist"]["verdict"] == "GO WITH WARNINGS"
    superuser = stage.check("--attest", "rehearsal=Ann", "--attest", "the team is informed=Bo")
    assert superuser.document["checklist"]["verdict"] == "GO"


@pytest.mark.postgres(*MAJORS)
def test_it_leaves_nothing_behind(stage: Stage) -> None:
    def everything() -> tuple[object, ...]:
        with stage.server.target("postgres").connect() as connection:
            databases = connection.execute("SELECT oid, datname, datconnlimit FROM pg_database ORDER BY oid").fetchall()
            sessions = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lastgood check%'"
            ).fetchone()
        return databases, sessions, sorted(Path().rglob("*"))

    before = everything()
    assert stage.check(user=stage.owner).status == 0
    assert everything() == before


def test_a_locked_table_does_not_keep_it_waiting(stage: Stage) -> None:
    with stage.server.target(stage.live).connect(autocommit=False, application_name="migration") as other:
        other.execute("LOCK TABLE public.contacts IN ACCESS EXCLUSIVE MODE")
        found = stage.item("sessions")
        pid = other.info.backend_pid
    assert found["status"] == "WARN"
    assert lines_of(found, "WARN") == [
        (
            f'process {pid} of "postgres" ("migration") has locked "public"."contacts" against readers: row counts are '
            "estimates, and the run terminates that session",
            "measured",
            f"To terminate it, run: SELECT pg_terminate_backend({pid})",
        )
    ]


def test_no_restore_point(stage: Stage) -> None:
    outcome = stage.check("--store", "elsewhere", "--override", "restore_point", "--reason", "now")
    assert (outcome.status, outcome.document["point"]) == (3, None)
    found = item(outcome, "restore_point")
    assert (found["status"], found["can_override"]) == ("FAIL", False)
    ((text, known, hint),) = lines_of(found, "FAIL")
    assert (text, known) == (
        'cannot find a restore point in "elsewhere": the folder does not exist; found 1 in "backups" (this cannot be '
        "overridden: the rollback would fail)",
        "measured",
    )
    assert hint.startswith("Run: lastgood rollback --store backups; the newest there is check_")


def test_the_newest_restore_point_is_damaged_and_the_one_before_is_taken(stage: Stage) -> None:
    old = point()
    assert stage.lastgood("backup", "--quiet", "--db", stage.server.url(stage.live)).status == 0
    (new,) = [each for each in Path("backups").glob("*.sql") if each != old]
    content = new.read_bytes()
    # One byte is another one: the size is right, and so is the end.
    new.write_bytes(content.replace(b"\n50\n", b"\n51\n"))
    outcome = stage.check()
    assert outcome.document["point"]["path"] == str(old)
    assert lines_of(item(outcome, "restore_point"), "WARN") == [
        (
            f'a newer restore point failed verification: {new.name}: cannot use "{new}": its SHA-256 differs from that '
            "in its manifest",
            "measured",
            "Show where it is damaged: lastgood points verify",
        )
    ]
    manifest_path(new).unlink()
    new.unlink()
    new = Path("backups/cut.sql")
    new.write_bytes(content[: len(content) * 7 // 10])
    (first, *_) = lines_of(stage.item("restore_point"), "WARN")
    assert first[0] == (
        f'a newer restore point failed verification: {new.name}: cannot use "{new}": it ends without the line "-- '
        'PostgreSQL database dump complete"'
    )


def test_a_foreign_restore_point_is_looked_at_and_read_when_that_is_asked_for(stage: Stage) -> None:
    manifest_path(point()).unlink()
    looked = lines_of(stage.item("restore_point"), "PASS")
    assert looked[1] == (
        "not read, because it has no manifest: it begins like a dump, and its end is complete",
        "measured",
        "",
    )
    outcome = stage.check("--thorough")
    assert lines_of(item(outcome, "restore_point"), "PASS")[1] == (
        "read completely: 100 rows in 1 table",
        "measured",
        "",
    )
    assert outcome.document["point"]["read"] is True


def test_an_old_restore_point(stage: Stage) -> None:
    stage.settings('[check]\nmax_age = "24h"\n')
    then = datetime.now(UTC) - timedelta(days=3, minutes=5)
    old = point().rename(f"backups/old_{then:%Y%m%d_%H%M%S}Z.sql")
    for each in Path("backups").glob("*.lastgood.json"):
        each.unlink()
    found = stage.item("restore_point", str(old))
    assert lines_of(found, "WARN") == [
        (
            "the restore point is 3 days old; [check] max_age is 24 hours",
            "looked up",
            "Make a newer one: lastgood backup",
        )
    ]


def test_a_restore_point_from_the_future_is_not_reported_as_old(stage: Stage) -> None:
    then = datetime.now(UTC) + timedelta(hours=3, minutes=5)
    name = f"ahead_{then:%Y%m%d_%H%M%S}Z.sql"
    point().rename(f"backups/{name}")
    for each in Path("backups").glob("*.lastgood.json"):
        each.unlink()
    found = stage.item("restore_point")
    assert f"{name}, made {then:%Y-%m-%d %H:%M:%S} UTC (3 hours ahead of the server's clock), by its name" in [
        line["text"] for line in found["lines"]
    ]
    assert found["status"] == "WARN"


def test_room_is_measured(stage: Stage) -> None:
    with stage.server.target(stage.live).connect() as connection:
        query = "SELECT oid FROM pg_database WHERE datname = current_database()"
        (oid,) = connection.execute(query).fetchone() or (0,)
    # The server counts every file in its folder; this one has a size, and takes no room.
    with (stage.server.data / "base" / str(oid) / "99999999").open("wb") as file:
        file.truncate(8 << 40)
    outcome = stage.check()
    assert outcome.status == 3
    room, backup = item(outcome, "room"), item(outcome, "emergency_backup")
    ((text, known, hint),) = lines_of(room, "FAIL")
    assert text.startswith("the server's disk has ") and text.endswith(" free; about 10 TB are needed")
    assert (known, hint) == ("measured", "Free disk space: lastgood prune lists kept databases and old restore points.")
    ((text, known, hint),) = lines_of(backup, "FAIL")
    assert text.startswith('the store "backups" has ') and text.endswith(" free; the emergency backup may need 8.0 TB")
    why = ("--reason", "a new disk is being mounted")
    overridden = stage.check("--override", "room", "--override", "emergency_backup", *why)
    assert overridden.status == 0
    assert lines_of(item(overridden, "room"), "WARN")[0][0].endswith(": a new disk is being mounted)")


def test_room_is_attested_where_it_can_not_be_measured(stage: Stage) -> None:
    # An ordinary owner may not know where the server's data lies.
    unknown = lines_of(stage.item("room", user=stage.owner), "WARN")
    assert unknown[0][0].startswith("cannot measure free disk space on the server from here; about ")
    assert unknown[0][1] == "unknown"
    attested = lines_of(stage.item("room", "--attest", "room=Ann", user=stage.owner), "PASS")
    assert "attested by Ann" in [known for _, known, _ in attested]
    stage.settings('[check]\nfree_space = "1MB"\n')
    outcome = stage.check(user=stage.owner)
    assert outcome.status == 3
    ((text, _, hint),) = lines_of(item(outcome, "room"), "FAIL")
    assert text.startswith("the server's disk has 1.0 MB free by [check] free_space in lastgood.toml; about ")
    assert hint == "Free disk space, then correct that number: lastgood prune lists kept databases."
    stage.settings('[check]\nfree_space = "1GB"\n')
    assert stage.item("room", user=stage.owner)["status"] == "PASS"


def test_no_pg_dump(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "places", list)
    outcome = stage.check()
    assert outcome.status == 3
    ((text, known, _),) = lines_of(item(outcome, "emergency_backup"), "FAIL")
    assert (text, known) == (
        f"cannot make an emergency backup: cannot find pg_dump {stage.server.major} or newer: it is not installed",
        "tried",
    )


@pytest.mark.postgres(15, 18)
def test_a_table_that_the_role_can_not_read(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.secret AS SELECT 1 AS a", "CREATE TABLE public.ruled AS SELECT 1 AS a")
    stage.execute("ALTER TABLE public.contacts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    outcome = stage.check("--by-name", "--fence", "at-swap", user=stage.owner)
    assert outcome.status == 3
    assert lines_of(item(outcome, "emergency_backup"), "FAIL") == [
        (
            'row-level security hides rows from this role in "public"."contacts"',
            "looked up",
            "Connect as a superuser or as a role with BYPASSRLS, or run: "
            'ALTER TABLE "public"."contacts" NO FORCE ROW LEVEL SECURITY;',
        ),
        (
            f'this role cannot read all of "{stage.live}": public.ruled, public.secret',
            "looked up",
            f'Connect as a superuser, or have a superuser run: GRANT pg_read_all_data TO "{stage.owner}"',
        ),
    ]
    # Nor could their owner be given them again.
    owners = (
        f'role "{stage.owner}" cannot transfer ownership of these objects; their owners would lose access: 2 of '
        '"postgres" (public.ruled)',
        "looked up",
        f'As a superuser: GRANT "postgres" TO "{stage.owner}"; or connect as a superuser',
    )
    assert lines_of(item(outcome, "privileges"), "FAIL") == [owners]
    fenced = item(stage.check("--by-name", user=stage.owner), "privileges")
    assert lines_of(fenced, "FAIL") == [
        (
            "this role cannot lock public.ruled, public.secret against writers: it lacks write privileges",
            "looked up",
            "Connect as the tables' owner or a superuser, or fence only during the switch: --fence at-swap",
        ),
        owners,
    ]


@pytest.mark.postgres(*MAJORS)
def test_a_role_that_may_not_create_databases(stage: Stage) -> None:
    stage.execute(f'ALTER ROLE "{stage.owner}" NOCREATEDB')
    outcome = stage.check("--by-name", "--override", "privileges", "--reason", "it must work", user=stage.owner)
    assert outcome.status == 3
    found = item(outcome, "privileges")
    assert (found["status"], found["can_override"]) == ("FAIL", False)
    assert lines_of(found, "FAIL") == [
        (
            f'role "{stage.owner}" may neither create nor rename a database (this cannot be overridden: the rollback '
            "would fail)",
            "tried",
            f'As a superuser: ALTER ROLE "{stage.owner}" CREATEDB',
        )
    ]


@pytest.mark.postgres(*MAJORS)
def test_a_role_that_does_not_own_the_database(stage: Stage, new_role: Callable[[str], str]) -> None:
    other = new_role("CREATEDB")
    outcome = stage.check(user=other)
    assert outcome.status == 3
    assert (
        f'role "{other}" is not a member of "{stage.owner}", which owns "{stage.live}"',
        "tried",
        f'As a superuser: GRANT "{stage.owner}" TO "{other}", or connect as "{stage.owner}"',
    ) in lines_of(item(outcome, "privileges"), "FAIL")


@pytest.mark.postgres(15)
def test_a_restore_point_of_a_newer_server(stage: Stage) -> None:
    manifest = manifest_path(point())
    text = manifest.read_text(encoding="utf-8")
    assert '"server_major": 15' in text
    manifest.write_text(text.replace('"server_major": 15', '"server_major": 18'), encoding="utf-8")
    outcome = stage.check()
    assert outcome.status == 3
    assert lines_of(item(outcome, "versions"), "FAIL") == [
        (
            "the restore point was dumped from PostgreSQL 18; this server is 15 and may reject it",
            "looked up",
            "Restore it on a server of that version: lastgood restore POINT --into NAME --db URL",
        )
    ]


def test_roles_that_the_restore_point_needs_are_seen_when_it_is_read(stage: Stage) -> None:
    file = point()
    manifest_path(file).unlink()
    file.write_text(file.read_text().replace(f"OWNER TO {stage.owner}", "OWNER TO nobody_here"), encoding="utf-8")
    assert stage.item("versions")["status"] == "PASS"
    outcome = stage.check("--thorough")
    assert outcome.status == 3
    assert lines_of(item(outcome, "versions"), "FAIL") == [
        (
            "the restore point needs roles that this server lacks: nobody_here",
            "looked up",
            'Create the roles: CREATE ROLE "nobody_here" NOLOGIN',
        )
    ]


@pytest.mark.postgres(15, 18)
def test_a_prepared_transaction(stage: Stage) -> None:
    with stage.server.target(stage.live).connect(autocommit=False) as connection:
        connection.execute("INSERT INTO public.contacts VALUES (7001)")
        connection.execute("PREPARE TRANSACTION 'held'")
    try:
        outcome = stage.check("--override", "holders", "--reason", "now")
    finally:
        stage.execute("ROLLBACK PREPARED 'held'")
    assert outcome.status == 3
    found = item(outcome, "holders")
    ((text, _, hint),) = lines_of(found, "FAIL")
    assert text.startswith('prepared transaction "held" of "postgres", prepared ')
    assert text.endswith("(this cannot be overridden: the rollback would fail)")
    assert hint == f"In the database \"{stage.live}\": COMMIT PREPARED 'held', or ROLLBACK PREPARED 'held'"
    assert found["can_override"] is False


@pytest.mark.postgres(15, 18)
def test_a_logical_slot_and_the_override_that_leaves_it_with_the_old_database(stage: Stage) -> None:
    stage.execute("SELECT pg_create_logical_replication_slot('check_slot', 'test_decoding')")
    url = ("--db", stage.server.url(stage.live))
    try:
        outcome = stage.check()
        assert outcome.status == 3
        found = item(outcome, "holders")
        assert (found["status"], found["can_override"]) == ("FAIL", True)
        assert lines_of(found, "FAIL")[0][0].startswith(
            'logical replication slot "check_slot" (test_decoding, not in use)'
        )
        refused = stage.lastgood("rollback", "--yes", *url)
        assert refused.status == 3
        assert refused.err.endswith(
            "next:  When its consumer is stopped, run: SELECT pg_drop_replication_slot('check_slot'). Or "
            "override it: --override holders --reason TEXT\n"
        )
        done = stage.lastgood("rollback", "--yes", "--json", *url, "--override", "holders", "--reason", "re-snapshot")
        assert done.status == 0, done.err
        assert [(each["item"], each["reason"]) for each in done.document["overrides"]] == [("holders", "re-snapshot")]
        with stage.server.target("postgres").connect() as connection:
            (where,) = connection.execute(
                "SELECT database FROM pg_replication_slots WHERE slot_name = 'check_slot'"
            ).fetchone() or ("",)
        assert where == done.document["kept"]
    finally:
        stage.execute("SELECT pg_drop_replication_slot('check_slot')")


def test_a_session_that_can_not_be_ended(stage: Stage) -> None:
    with stage.server.target(stage.live).connect() as other:
        outcome = stage.check("--by-name", user=stage.owner)
        pid = other.info.backend_pid
    assert outcome.status == 3
    assert lines_of(item(outcome, "sessions"), "FAIL") == [
        (
            f'sessions in "{stage.live}" that this role may not terminate would block the switch: postgres (pid {pid})',
            "looked up",
            "Connect as a superuser, or as a member of pg_signal_backend and of their roles; or terminate them first.",
        )
    ]


def test_a_hook_whose_program_is_missing(stage: Stage) -> None:
    script = Path("stop.sh")
    script.write_text("#!/bin/sh\ntouch was_run\n")
    stage.settings('[hooks]\nstop = ["./stop.sh"]\nstart = ["no-such-program", "now"]\n')
    outcome = stage.check()
    assert outcome.status == 3
    hint = "Correct [hooks] in lastgood.toml, or run this command where the program is installed."
    assert lines_of(item(outcome, "application"), "FAIL") == [
        ('cannot run hook "stop": program "./stop.sh" is not on this machine', "looked up", hint),
        ('cannot run hook "start": program "no-such-program" is not on this machine', "looked up", hint),
    ]
    assert item(outcome, "application")["can_override"] is False
    script.chmod(0o755)
    stage.settings('[hooks]\nstop = ["./stop.sh"]\nstart = ["true"]\n')
    found = stage.item("application")
    assert (found["status"], lines_of(found, "PASS")[0][0]) == ("PASS", "configured: stop, start; none of them was run")
    assert not Path("was_run").exists()


def test_a_health_check_without_an_answer_is_only_a_warning(stage: Stage) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/health"
        stage.settings(f'[health]\nurl = "{url}"\n')
        outcome = stage.check()
    assert outcome.status == 0
    hint = (
        "If the rollback cannot fix this, correct [health] in lastgood.toml: the same check decides after the switch."
    )
    assert lines_of(item(outcome, "application"), "WARN") == [
        (f'health check "{url}" failed: no response within 2 s', "tried", hint)
    ]
    dead = lines_of(stage.item("application"), "WARN")
    assert dead == [(f'health check "{url}" failed: request failed: [Errno 111] Connection refused', "tried", hint)]


def test_the_console_of_a_pooler_is_asked(stage: Stage, new_pooler: Callable[..., PgBouncer]) -> None:
    pooler = new_pooler({stage.live: f"host={stage.server.folder} port=5432"}, ("postgres",))
    try:
        stage.settings(f'[pgbouncer]\nadmin = "{pooler.console()}"\n')
        well = stage.item("application", "--fence", "at-swap")
    finally:
        pooler.close()
    assert (
        f'PgBouncer at {pooler.folder}:6432 answers: its "{stage.live}" leads to the live database',
        "tried",
        "",
    ) in lines_of(well, "PASS")
    gone = stage.item("application")
    assert gone["status"] == "WARN"
    ((text, known, _),) = lines_of(gone, "WARN")
    assert text.startswith(f"cannot use the console of PgBouncer at {pooler.folder}:6432 to pause clients: ")
    assert known == "tried"


def test_a_rehearsal_is_remembered(stage: Stage) -> None:
    never = stage.item("rehearsal")
    assert lines_of(never, "WARN") == [
        (
            f'this machine has no record of a restore of "{stage.live}"',
            "unknown",
            "Rehearse it: lastgood drill. Or confirm it yourself: --attest rehearsal=NAME",
        )
    ]
    url = ("--db", stage.server.url(stage.live))
    made = stage.lastgood("restore", point().name, "--into", f"{stage.live}_copy", "--json", *url).document
    outcome = stage.check()
    found = lines_of(item(outcome, "rehearsal"), "PASS")
    assert found[0][0].startswith(f"last restored into another database on {datetime.now(UTC):%Y-}")
    assert found[0][0].endswith(f"(run {made['run']})")
    assert outcome.document["expected_seconds"] == pytest.approx(made["seconds"]["total"], abs=0.01)
    checked = datetime.fromisoformat(outcome.document["checked_at"])
    expected = datetime.fromisoformat(outcome.document["expected_end"])
    assert (expected - checked).total_seconds() == pytest.approx(outcome.document["expected_seconds"], abs=0.01)
    rolled = stage.lastgood("rollback", "--yes", "--json", *url)
    assert rolled.status == 0
    assert lines_of(stage.item("rehearsal"), "PASS")[0][0].endswith(f"(run {rolled.document['run']})")
    stage.settings("[drill]\nevery = 0\n")
    assert "; [drill] every is 0 seconds" in lines_of(stage.item("rehearsal"), "WARN")[0][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--override", "room", "--reason", " "), "cannot override: a --reason is empty"),
        (("--override", "room"), 'cannot override "room": no reason is given'),
        (("--reason", "why not"), "cannot override: 0 --override and 1 --reason do not match"),
        (("--override", "luck", "--reason", "x"), 'cannot override "luck": no such checklist item'),
        (("--attest", "Ann"), 'cannot read --attest "Ann": not of the form ITEM=NAME'),
        (("--attest", "weather=Ann"), 'cannot attest "weather": no such checklist item'),
    ],
)
def test_answers_that_make_no_sense(stage: Stage, arguments: tuple[str, ...], message: str) -> None:
    for name in ("check", "rollback"):
        outcome = stage.lastgood(name, "--json", *arguments)
        assert outcome.status == 2
        assert outcome.document["error"]["message"] == message


def damaged_copy(stage: Stage, new_database: Callable[..., str], file: LiteralString) -> str:
    """A copy of the live database in which the beginning of one file is damaged; ``file`` asks for its number."""
    hurt = new_database("hurt")
    with stage.server.target("postgres").connect() as connection:
        name, model = sql.Identifier(hurt), sql.Identifier(stage.live)
        connection.execute(sql.SQL("DROP DATABASE {}").format(name))
        # Copied as files, none of it is in the server's memory yet.
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(name, model))
        (oid,) = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [hurt]).fetchone() or (0,)
    with stage.server.target(stage.live).connect() as connection:
        (node,) = connection.execute(file).fetchone() or (0,)
    with (stage.server.data / "base" / str(oid) / str(node)).open("r+b") as opened:
        opened.write(b"\xde\xad\xbe\xef" * 64)
    return hurt


@pytest.mark.postgres(15, 18)
def test_a_damaged_live_database_goes_back_without_an_emergency_backup(
    stage: Stage, server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    hurt = damaged_copy(stage, new_database, "SELECT pg_relation_filenode('public.contacts')")
    url = ("--db", server.url(hurt))
    refused = stage.lastgood("rollback", point().name, "--yes", *url)
    assert refused.status == 3
    assert (
        "error: cannot roll back "
        f'"{hurt}": cannot back up the live database, which is damaged: the server cannot read '
        "public.contacts (invalid page in block 0 of relation "
    ) in refused.err
    assert (
        f'state: "{hurt}" was not touched and is open.\n'
        "next:  The replaced database itself is kept unchanged. Or override it: --override emergency_backup "
        "--reason TEXT\n"
    ) in refused.err
    why = ("--override", "emergency_backup", "--reason", "pages are damaged")
    done = stage.lastgood("rollback", point().name, "--yes", "--json", *url, *why)
    assert done.status == 0, done.err
    assert done.document["emergency_backup"] is None
    assert [(each["item"], each["reason"]) for each in done.document["overrides"]] == [
        ("emergency_backup", "pages are damaged")
    ]
    with server.target(hurt).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (100,)
    assert '"reason": "pages are damaged"' in (Path("state") / "runs" / f"{done.document['run']}.jsonl").read_text()


def test_a_run_that_was_killed_goes_on_with_its_overrides(stage: Stage, child_environment: dict[str, str]) -> None:
    url = ("--db", stage.server.url(stage.live))
    arguments = ("rollback", "--yes", *url, "--override", "emergency_backup", "--reason", "the store is full")
    killed = forked_cli.run(*arguments, environment={**child_environment, "LASTGOOD_FAULT": "build.after_load:kill"})
    assert killed.returncode < 0
    resumed = stage.lastgood("resume", "--yes", "--json", *url)
    assert resumed.status == 0, resumed.err
    assert resumed.document["emergency_backup"] is None
    assert [each["reason"] for each in resumed.document["overrides"]] == ["the store is full"]
    assert len(list(Path("backups").glob("*.sql"))) == 1


def test_a_failed_emergency_backup_shows_how_to_continue_without_it(
    stage: Stage, new_database: Callable[..., str]
) -> None:
    """What the checklist can't foresee: rows can be counted, and not be read."""
    stage.execute(
        "CREATE TABLE public.letters (id int, body text)",
        "ALTER TABLE public.letters ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO public.letters SELECT i, repeat('x', 9000) FROM generate_series(1, 9) i",
    )
    hurt = damaged_copy(
        stage, new_database, "SELECT pg_relation_filenode(reltoastrelid) FROM pg_class WHERE relname = 'letters'"
    )
    url = ("--db", stage.server.url(hurt))
    outcome = stage.lastgood("rollback", point().name, "--yes", *url)
    assert outcome.status == 5, outcome.err
    assert outcome.err.endswith(
        "To continue without a backup: --override emergency_backup --reason TEXT; the replaced database "
        "itself is kept.\n"
    )
    assert f'state: "{hurt}" was not touched and is open.\n' in outcome.err
    why = ("--override", "emergency_backup", "--reason", "it can't be read")
    assert stage.lastgood("rollback", point().name, "--yes", *url, *why).status == 0


def test_an_override_of_sessions_that_stay_leaves_the_live_database_as_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "STATEMENT_TIMEOUT", "500ms")  # each try waits as long
    url = ("--db", stage.server.url(stage.live, user=stage.owner))
    with stage.server.target(stage.live).connect() as other:
        outcome = stage.lastgood(
            "rollback", "--by-name", "--yes", *url, "--override", "sessions", "--reason", "they will be gone"
        )
        assert other.execute("SELECT count(*) FROM public.contacts").fetchone() == (100,)
    assert outcome.status == 5, outcome.err
    assert f'state: "{stage.live}" was not touched and is open.\n' in outcome.err
