"""Row 19: ``lastgood deploy -- COMMAND``: restore point, validation, the user's migration, validation, and an automatic
rollback that really works. Each time the database ends good, which its facts prove.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.facts.compare import compare
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.mark import marked
from tests.conftest import USUAL, Servers
from tests.mission.deployments import FAILS, HALF, HANGS, ORPHANS, WRITES, Site, alembic_project
from tests.salvage.test_salvage import sums
from tests.support.waiting import until

AGAIN = "Fix the migration, test it with lastgood deploy --dry-run, then deploy again."


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One live database for all: each deployment leaves it good for the next."""
    server = servers.get(USUAL)
    name = f"deployed_{os.getpid()}"
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield Site.made(server, name, tmp_path_factory.mktemp("deploy"))
    with server.target("postgres").connect() as connection:
        for (each,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{name}%"]):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(each)))


def taken_back(site: Site, point: str, undo: str, kept: str) -> tuple[str, str]:
    """The state and the hint of an error about a rollback."""
    return (
        f'"{site.name}" was rolled back to {point}, every table is proved, and it is open.',
        f'{AGAIN} The migrated database is kept as "{kept}"; to inspect it: lastgood facts {kept}',
    )


def test_a_good_migration_is_deployed(site: Site) -> None:
    before = site.facts()
    done = site.lastgood(
        "deploy", "--label", "release 42", "--", *site.psql("CREATE TABLE public.notes (id int PRIMARY KEY);")
    )
    assert done.status == 0, done.err
    # A caution, here about the table of the migration tool, and "no worse than before" never stand together.
    assert done.out.startswith(
        f'Deployed with 1 caution: "{site.name}" is migrated.\n'
        "  caution the migration recorded nothing in supabase_migrations.schema_migrations: the newest version is "
        'still "20251101"\n'
    )
    assert "\nWhat changed since the restore point\n" in done.out
    assert re.search(r"\n  public.notes +no table +0 +0 +0 +0\n", done.out)
    # A pipeline's log shows what was done, in order, and what the migration printed.
    stages = [line for line in done.err.splitlines() if line.startswith("done ")]
    assert ["validate" in line for line in stages] == [True, False, False, False, True, False]
    # The restore point is the file that the report names (trap 9).
    (point,) = site.backups.glob("*_release_42.sql")
    assert f"restore point  {point.name}" in done.out
    # The database has what the migration made and nothing else: looking at the data writes nothing (trap 10).
    assert {each.what.split()[-1].split(".")[1] for each in compare(before, site.facts()).differences} == {"notes"}
    # The mark "unfinished" is removed, and the database's own comment is restored.
    assert site.comment() == "The CRM of record"
    (begun, *_, ended) = site.journal(done.out.split("run")[1].split()[0])
    assert (begun["event"], begun["kind"], begun["live"]) == ("begun", "deploy", site.name)
    assert (ended["event"], ended["status"], ended["report"]["point"]) == ("ended", "done", str(point))


def test_a_migration_that_fails_half_way_is_taken_back_and_what_the_application_wrote_is_kept(site: Site) -> None:
    # Trap 1: with psql < backup.sql the new table, the column and the values would have remained unnoticed.
    before = site.facts()
    done = site.deploy(*site.psql(HALF + WRITES + FAILS))
    assert done.status == 6, done.err
    problem = 'migration "psql" exited with status 3'
    report, error = done.deployment, done.document["error"]
    assert (report["status"], report["problem"]) == ("rolled back", problem)
    point = Path(report["point"]).name
    assert (error["code"], error["message"]) == ("taken_back", f"cannot deploy: {problem}")
    assert (error["state"], error["hint"]) == taken_back(site, point, report["undo_command"], report["kept"])
    assert all(table["equal"] for table in report["rollback"]["tables"])
    assert site.same_as(before)
    assert site.comment() == "The CRM of record"
    # The loss is reported before and afterwards; the kept database has the rows.
    lost = {loss["name"]: loss for loss in report["loss"]}
    assert (lost["deals"]["live_rows"], lost["deals"]["point_rows"]) == (102, 100)
    assert (lost["deals"]["written_since"], lost["deals"]["by"]) == (2, "created_at")
    # Exactly, from the emergency backup: the UPDATE, too.
    assert (lost["deals"]["lost"], lost["deals"]["returns"]) == (2, 0)
    assert lost["contacts"]["changed"] > 0
    assert (lost["contacts"]["lost"], lost["contacts"]["columns_lost"]) == (0, ["email"])
    with site.server.target("postgres").connect() as connection:
        mark = next(mark for found, mark in marked(connection) if found.name == report["kept"])
    assert mark.original_comment == "The CRM of record"


def test_what_an_undo_brings_back_is_still_known_to_be_left_by_the_deployment(site: Site) -> None:
    """So ``recover`` does not propose it as the remedy after the next rollback either."""
    done = site.deploy(*site.psql(HALF + WRITES + FAILS))
    assert done.status == 6, done.err
    deployment, first = done.deployment["run"], done.deployment["rollback"]["run"]

    def origin() -> str:
        return str(site.lastgood("status", "--json").document["kept"][0]["origin"])

    assert origin() == (f"was left by deployment {deployment}; it was live until rollback {first}")
    undone = site.lastgood("undo", "--yes", "--json")
    assert undone.status == 0, undone.err
    assert origin() == (
        f"was live until undo {undone.document['run']}, which brought back what deployment {deployment} had left"
    )
    back = site.lastgood("rollback", "--yes", "--json")
    assert back.status == 0, back.err
    assert origin() == (f"was left by deployment {deployment}; it was live until rollback {back.document['run']}")


def test_a_migration_that_breaks_data_and_ends_with_status_0_is_taken_back(site: Site) -> None:
    before = site.facts()
    done = site.lastgood("deploy", "--", *site.psql(ORPHANS))
    assert done.status == 6, done.err
    output = (
        "foreign_key:public.deals.deals_contact_fkey: 20 rows of public.deals have no match for contact in "
        "public.contacts (id)"
    )
    assert f"error: cannot deploy: the data is worse than before the migration: {output}\n" in done.err
    assert f"Worse than before the migration\n  FAIL  {output}\n        id=1, contact=1\n" in done.out
    assert f'"{site.name}": failed; the database was rolled back\n' in done.out
    assert site.same_as(before)


def test_a_migration_that_left_nothing_is_only_shown_to_have_done_so(site: Site) -> None:
    before = site.facts()
    # Killed as it was, it had one transaction, which the server rolled back. Numbers that it drew stay drawn.
    script = site.psql(f"BEGIN; {WRITES} {HALF} {FAILS} COMMIT;")
    secret = {"LASTGOOD_DB": site.server.url(site.name).replace("postgres@", "postgres:pa55word@")}
    kills = f"{shlex.join(script)}; echo it is $PGPASSWORD, $DATABASE_URL; kill -9 $$"
    done = site.lastgood("deploy", "--json", "--", "sh", "-c", kills, environment=secret)
    assert done.status == 5, done.err
    # The migration has the password in its environment; it appears nowhere else.
    assert '"line": "it is ***, postgresql://postgres:***@/' in done.err
    kept = [done.out, done.err, *(path.read_text() for path in (site.folder / "state").rglob("*.jsonl"))]
    assert not any("pa55word" in text for text in kept)
    report, error = done.deployment, done.document["error"]
    assert (report["status"], report["rollback"], report["kept"]) == ("unchanged", None, None)
    assert (report["command"]["signal"], report["moved"]) == (9, ["public.deals_id_seq"])
    compared = (
        f"equal: {len(before.tables)} tables ({before.rows} rows), {len(before.objects)} schema objects, owners, "
        "privileges and comments"
    )
    assert error["message"] == 'cannot deploy: migration "sh" was killed by signal 9 (SIGKILL)'
    assert error["state"] == (
        f'"{site.name}" is unchanged and open. It was compared with {Path(report["point"]).name}: {compared}.'
    )
    assert error["hint"] == AGAIN
    assert site.same_as(before)
    assert site.comment() == "The CRM of record"


def test_alembic_that_fails_in_its_second_revision_is_taken_back_to_before_the_first(site: Site) -> None:
    before = site.facts()
    # Nothing in the project names the database: it finds it in its environment.
    alembic_project(site.folder, ["CREATE TABLE public.first (id int)", "SELECT * FROM public.missing"])
    done = site.deploy("alembic", "upgrade", "head")
    assert done.status == 6, done.err
    report = done.deployment
    assert report["problem"] == 'migration "alembic" exited with status 1'
    assert "public.missing" in report["command"]["output"]
    gone = {loss["name"] for loss in report["loss"] if loss["point_rows"] is None}
    assert gone == {"alembic_version", "first"}
    assert site.same_as(before)


def test_a_migration_that_hangs_is_ended_with_all_that_it_started(site: Site) -> None:
    before = site.facts()
    script = site.psql(f"{HALF} SET application_name = 'something else'; BEGIN; {WRITES} {HANGS}")
    # A child that left the process group, and whose session has another name.
    done = site.deploy("sh", "-c", f"setsid {shlex.join(script)} & wait", options=("--time-limit", "1500ms"))
    assert done.status == 6, done.err
    report = done.deployment
    assert report["problem"] == 'migration "sh" exceeded its time limit of 1.5 s and was terminated'
    assert report["command"]["status"] is None
    assert report["command"]["processes_ended"] >= 2
    assert [each.split('("')[1] for each in report["command"]["sessions_ended"]] in ([], ['something else")'])
    assert site.sessions() == []
    assert site.same_as(before)


@pytest.fixture
def until_migration_hangs(site: Site) -> Iterator[Callable[..., None]]:
    """Waits until the migration has done its half and hangs."""

    def wait() -> None:
        def half_done() -> bool:
            with site.target.connect() as connection:
                return connection.execute("SELECT to_regclass('public.leads')").fetchone() != (None,)

        until(half_done, "the migration is half done")

    yield wait


def test_sigterm_ends_the_migration_and_takes_it_back(site: Site, until_migration_hangs: Callable[[], None]) -> None:
    before = site.facts()
    with site.started("deploy", "--json", "--", *site.psql(HALF + HANGS)) as process:
        until_migration_hangs()
        # Everybody sees that a deployment is at work, and no second one begins.
        status = site.lastgood("status", "--json").document
        assert (status["deployment"]["stage"], status["deployment"]["program"]) == ("migrating", "psql")
        assert status["deployment"]["run"] in status["working"]
        assert status["deployment"]["commands"] == []
        second = site.lastgood("deploy", "--json", "--", "true")
        assert second.status == 3
        assert (
            f'cannot work on the database "{site.name}": another run holds its lock ('
            in second.document["error"]["message"]
        )
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # pipelines that are cancelled send several
        out, err = process.communicate(timeout=60)
        assert process.wait(60) == 130, err
    error = json.loads(out)["error"]
    assert (error["code"], error["message"]) == ("interrupted", 'cannot deploy: migration "psql" was interrupted')
    assert error["deployment"]["status"] == "rolled back"
    assert site.same_as(before)
    assert site.comment() == "The CRM of record"


def test_after_kill_9_another_machine_can_continue(
    site: Site, until_migration_hangs: Callable[[], None], tmp_path: Path
) -> None:
    before = site.facts()
    with site.started("deploy", "--label", "nightly", "--", *site.psql(HALF + HANGS)) as process:
        until_migration_hangs()
        process.kill()
    # No part of the migration continues unsupervised, and the server soon knows that it is gone.
    until(lambda: site.sessions() == [], "the migration's session ends")
    # Another person on another machine: no journal, nothing but the server and the store.
    elsewhere = {"LASTGOOD_STATE": str(tmp_path / "state")}
    status = site.lastgood("status", "--json", environment=elsewhere)
    assert status.status == 7
    found = status.document["deployment"]
    assert (found["stage"], found["label"], found["working"]) == ("migrating", "nightly", "")
    assert found["commands"] == ["lastgood recover", f"lastgood deploy --accept {found['run']}"]
    until(lambda: site.journal(found["run"])[-1]["event"] == "sessions ended", "the dead-man switch writes the end")
    with site.target.connect() as connection:
        connection.execute(WRITES)
    next_one = site.lastgood("deploy", "--json", "--", "true", environment=elsewhere)
    assert next_one.status == 3
    assert next_one.document["error"]["hint"] == (
        "Run lastgood recover to roll back to its restore point. To accept the database as it is: lastgood deploy "
        f"--accept {found['run']}"
    )
    answer = site.lastgood("recover", "--yes", "--json", environment=elsewhere)
    assert answer.status == 0, answer.err
    diagnosis = answer.document["diagnosis"]
    assert (diagnosis["emergency"], diagnosis["damaged"]) == ("unknown_state", True)
    assert (diagnosis["proposals"][0]["kind"], diagnosis["proposals"][0]["name"]) == ("rollback", found["point"])
    assert site.same_as(before)
    assert site.comment() == "The CRM of record"
    # What the application wrote after the migration's end is not taken for the migration's.
    plan = site.lastgood("salvage", "--json").document
    assert [each["by"] for each in plan["migrations"]] == [f"deployment {found['run']}"]
    assert sums(plan) == {("deals", "insert", "insert", ""): 2, ("contacts", "update", None, "migration"): 50}


def test_a_failed_rollback_shows_how_to_continue(site: Site) -> None:
    before = site.facts()
    full = {"LASTGOOD_FAULT": "build.after_create:enospc"}
    done = site.lastgood("deploy", "--json", "--", *site.psql(HALF + FAILS), environment=full)
    assert done.status == 7, done.err
    report, error = done.deployment, done.document["error"]
    assert (report["status"], error["code"]) == ("not rolled back", "not_taken_back")
    assert error["message"] == (
        "cannot roll back the failed deployment: No space left on device (it failed because: "
        'migration "psql" exited with status 3)'
    )
    assert (
        error["state"]
        == f'"{site.name}" is as the migration left it, and open. The restore point is {report["point"]}.'
    )
    assert error["hint"] == (
        "Free disk space or make the folder writable, then run the rollback again. Then run: "
        f"lastgood recover, or: lastgood rollback {report['point']}"
    )
    status = site.lastgood("status", "--json")
    assert (status.status, status.document["deployment"]["stage"]) == (7, "rolling back")
    # With free space again, the hint works.
    assert site.lastgood("rollback", report["point"], "--yes", "--quiet").status == 0
    assert site.same_as(before)
    assert site.comment() == "The CRM of record"


def test_a_dry_run_shows_what_would_change_and_changes_nothing(site: Site) -> None:
    before, points = site.facts(), sorted(site.backups.iterdir())
    index = "CREATE INDEX deals_by_contact ON public.deals (contact);"
    done = site.deploy(*site.psql(f"BEGIN; {HALF} {index} SELECT pg_sleep(0.3); COMMIT;"), options=("--dry-run",))
    assert done.status == 0, done.err
    report = done.document
    assert report["problem"] == ""
    tables = {table["name"]: table for table in report["tables"]}
    assert sorted(tables) == ["contacts", "leads"]
    contacts = tables["contacts"]
    assert (contacts["columns_added"], contacts["content"], contacts["added"]) == (["email"], True, 0)
    assert contacts["changed"] > 0
    assert (tables["leads"]["rows_before"], tables["leads"]["rows_after"]) == (None, 0)
    assert {"index public.deals_by_contact", "table public.leads"} <= set(report["added"])
    locks = {lock["table"]: lock["blocks"] for lock in report["locks"]}
    assert locks == {"public.contacts": "readers and writers", "public.deals": "writers"}
    assert compare(before, site.facts()).exact
    assert sorted(site.backups.iterdir()) == points
    with site.server.target("postgres").connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_database WHERE datname ~ '_trial_'").fetchone() == (0,)


def test_a_dry_run_can_t_reach_the_live_database(site: Site) -> None:
    before = site.facts()
    named = site.deploy("psql", "-d", site.name, "-c", "DROP TABLE public.deals", options=("--dry-run",))
    assert named.status == 3
    assert named.document["error"]["message"] == (
        "cannot try the migration on a clone: argument 2 of its command names the live database"
    )
    variable = site.lastgood(
        "deploy", "--json", "--dry-run", "--", "true", environment={"MIGRATION_URL": site.server.url(site.name)}
    )
    assert variable.document["error"]["message"] == (
        'cannot try the migration on a clone: variable "MIGRATION_URL" names the live database'
    )
    # A tool that has the database in a file of its own is ended as soon as it is seen there.
    stray = site.deploy("sh", "-c", f"PGDATABASE={site.name} psql -c 'SELECT pg_sleep(60)'", options=("--dry-run",))
    assert stray.status == 7
    assert stray.document["error"]["message"] == (
        f'cannot try the migration on a clone: it connected to the live database "{site.name}" and was terminated'
    )
    assert len(list(site.backups.glob("*_before_stray_trial.sql"))) == 1
    assert site.same_as(before)


def test_a_server_that_restarts_meanwhile_is_waited_for(tmp_path: Path) -> None:
    # A crash loses nothing that was committed.
    with EmbeddedServer(USUAL, settings={"synchronous_commit": "on"}) as server:
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE DATABASE crm TEMPLATE template0")
        site = Site.made(server, "crm", tmp_path)
        before = site.facts()
        with site.started("deploy", "--json", "--", *site.psql(HALF + HANGS)) as process:

            def half_done() -> bool:
                with site.target.connect() as connection:
                    return connection.execute("SELECT to_regclass('public.leads')").fetchone() != (None,)

            until(half_done, "the migration is half done")
            server.stop(signal.SIGQUIT)  # as in a crash
            assert process.stderr is not None
            waits = "lost connection to the server; retrying for up to 5 min"
            assert any(json.loads(line).get("text") == waits for line in process.stderr)
            server.start()
            # And once more, in the middle of the way back.
            assert any(json.loads(line).get("name") == "emergency" for line in process.stderr)
            server.stop(signal.SIGQUIT)
            server.start()
            out, err = process.communicate(timeout=90)
            assert process.wait(90) == 6, err
            assert "the server was restarted: retrying the rollback (" in err
        assert json.loads(out)["error"]["deployment"]["status"] == "rolled back"
        assert site.lastgood("status").status == 0
        assert site.same_as(before)
        assert site.comment() == "The CRM of record"


def psql_that_goes_on(site: Site, sql: str) -> tuple[str, ...]:
    """psql without ON_ERROR_STOP, as many a script calls it: status 0 after errors."""
    file = site.folder / f"migration_{len(sql)}.sql"
    file.write_text(sql)
    return (str(site.server.bin / "psql"), "-Xq", "-f", str(file))


@pytest.mark.parametrize("redirected", [False, True])
def test_errors_that_psql_goes_on_after_are_not_done(site: Site, redirected: bool) -> None:
    before = site.facts()
    command = psql_that_goes_on(site, "CREATE TABLE public.half (id int);\nSELECT 1 / 0;\n\\i missing.sql\n")
    if redirected:
        command = ("sh", "-c", f"{shlex.join(command)} 2>&1 | cat")
    done = site.deploy(*command)
    assert done.status == 6, done.err
    program, file = Path(command[0]).name, site.folder / Path(command[-1]).name if not redirected else None
    report = done.deployment
    assert report["status"] == "rolled back"
    assert [each.split(": ", 1)[1] for each in report["command"]["errors"]] == [
        "ERROR:  division by zero",
        "error: missing.sql: No such file or directory",
    ]
    if file is not None:
        assert report["problem"] == (
            f'migration "{program}" exited with status 0, but 2 commands failed: '
            f"psql:{file}:2: ERROR:  division by zero"
        )
    assert "To accept harmless errors: --allow-errors REASON." in done.document["error"]["hint"]
    assert site.same_as(before)
    # Asked at once, recover agrees: nothing is half-done.
    assert site.lastgood("recover", "--dry-run", "--json").out.count('"emergency": "older_state"') == 1


def test_an_expected_version_that_does_not_appear_is_not_done(site: Site) -> None:
    before = site.facts()
    expected = ("--expect-version", "20251103")
    done = site.deploy(*site.psql(HALF), options=expected)
    assert done.status == 6, done.err
    problem = (
        'the migration version "20251103" did not appear in supabase_migrations.schema_migrations: its newest version '
        'is "20251101"'
    )
    assert done.document["error"]["message"] == f"cannot deploy: {problem}"
    assert site.same_as(before)
    tried = site.deploy(*site.psql(HALF), options=(*expected, "--dry-run"))
    assert (tried.status, tried.document["problem"]) == (5, problem)


def test_errors_may_be_accepted_with_a_reason(site: Site) -> None:
    command = psql_that_goes_on(site, "DROP TABLE public.never_there;\nCREATE TABLE public.accepted (id int);\n")
    refused = site.lastgood("deploy", "--allow-errors", " ", "--", *command)
    assert refused.status == 2
    assert "error: cannot accept errors: --allow-errors needs a reason" in refused.err
    done = site.lastgood("deploy", "--allow-errors", "it may be gone", "--", *command)
    assert done.status == 0, done.err
    assert "errors of the migration were accepted (it may be gone): psql:" in done.err
    assert "accepted" in done.out
    # A migration without a record of it is no damage.
    found = json.loads(site.lastgood("recover", "--dry-run", "--json").out)["diagnosis"]
    assert (found["emergency"], found["damaged"]) == ("older_state", False)


def test_a_key_that_is_dropped_does_not_hide_the_rows_that_break_it(site: Site) -> None:
    before = site.facts()
    done = site.lastgood(
        "deploy",
        "--",
        *site.psql(
            "ALTER TABLE public.deals DROP CONSTRAINT deals_contact_fkey; UPDATE public.deals SET contact = 9999"
            " WHERE id < 4;"
        ),
    )
    assert done.status == 6, done.err
    output = (
        "foreign_key:public.deals.deals_contact_fkey: the foreign key was dropped; 3 rows of public.deals without "
        "a match for contact in public.contacts (id)"
    )
    assert f"error: cannot deploy: the data is worse than before the migration: {output}" in done.err
    assert "no check is worse" not in done.out + done.err
    assert site.same_as(before)


def test_a_key_that_is_dropped_and_broken_by_no_row_is_deployed(site: Site) -> None:
    done = site.lastgood(
        "deploy", "--", *site.psql("ALTER TABLE public.deals DROP CONSTRAINT deals_contact_fkey;")
    )  # fmt: skip
    assert done.status == 0, done.err
    with site.target.connect() as connection:
        connection.execute(
            "ALTER TABLE public.deals ADD CONSTRAINT deals_contact_fkey FOREIGN KEY (contact)"
            " REFERENCES public.contacts"
        )


def test_a_warning_that_is_new_is_not_called_no_worse(site: Site) -> None:
    done = site.lastgood(
        "deploy",
        "--",
        *site.psql(
            "CREATE TABLE public.visits (id int PRIMARY KEY, contact_id int);"
            " INSERT INTO public.visits VALUES (1, 1), (2, 99999);"
        ),
    )
    assert done.status == 0, done.err
    assert done.out.startswith(
        f'Deployed with 2 cautions: "{site.name}" is migrated; 1 warning is worse than before.\n'
    )
    assert "no worse" not in done.out
