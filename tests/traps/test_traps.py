"""The traps of the old procedure, staged for real: first with psql, where it goes wrong, then with lastgood.

The old procedure takes ``pg_dump --no-owner --no-acl --clean --if-exists`` before a deployment and runs
``psql "$URL" < backup.sql`` when it fails. Every test starts from the same CRM and such a dump of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from demo import evidence, migration, naive
from tests.support import commands
from tests.traps.stage import SCRIPTS, Stage


class TestTrap1TheMigrationFailedHalfWay:
    """A migration stopped in the middle; the backup is played back over what it left."""

    def break_it(self, stage: Stage) -> None:
        with stage.target.connect() as connection:
            migration.apply(connection, until="a third of the opportunities deleted")

    @pytest.mark.postgres(15, 18)
    def test_psql_succeeds_and_leaves_half_of_it(self, stage: Stage) -> None:
        self.break_it(stage)

        outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

        assert outcome.status == 0
        assert len(outcome.errors) == 23
        assert "cannot drop table public.contacts because other objects depend on it" in outcome.errors
        with stage.target.connect() as connection:
            left = migration.damage(connection)
        assert left.new_table and left.new_view and left.new_column
        assert left.contacts_overwritten == stage.size.contacts
        # lastgood explain reports what psql did not.
        explained = stage.explained(outcome)
        assert explained["verdict"]["outcome"] == "partially_restored"
        assert explained["kinds"][0]["case"] == "depends-on-it"
        assert {kind["case"] for kind in explained["kinds"] if kind["follows"]} >= {"relation-exists", "duplicate-key"}

    @pytest.mark.postgres(15, 18)
    def test_lastgood_leaves_nothing_of_it(self, stage: Stage) -> None:
        self.break_it(stage)

        answer = stage.lastgood("rollback", stage.dump, "--yes")

        assert answer.status == 0, answer.printed
        assert stage.before.differences(stage.now()) == []
        with stage.target.connect() as connection:
            assert migration.damage(connection).none
        # Its own proof gives the same result for every table.
        proved = {f"{table['schema']}.{table['name']}": table for table in answer.document["tables"]}
        assert all(table["equal"] for table in proved.values())
        assert {name: f"{table['rows']} rows" for name, table in proved.items()} == {
            name: held.split(",")[0] for name, held in stage.before.content.items() if name in proved
        }
        assert proved.keys() >= {name for name, held in stage.before.content.items() if "rows" in held} - {
            "api.monthly_pipeline"
        }


class TestTrap2TheBackupIsCutOff:
    """The disk was full, or the copy broke off: 70 % of the dump is there, and looks like a dump."""

    def cut(self, stage: Stage) -> None:
        whole = stage.dump.read_bytes()
        stage.dump.write_bytes(whole[: len(whole) * 7 // 10])

    def test_psql_empties_the_tables_and_succeeds(self, stage: Stage) -> None:
        self.cut(stage)

        outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

        assert outcome.status == 0
        with stage.target.connect() as connection:
            left = {
                table: connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table))).fetchone()
                for table in (("public", "contacts"), ("public", "organizations"), ("public", "opportunities"))
            }
        assert set(left.values()) == {(0,)}
        explained = stage.explained(outcome)
        assert explained["verdict"]["outcome"] == "partially_restored"
        assert explained["kinds"][0]["case"] in ("value-damaged", "copy-columns")
        assert explained["kinds"][0]["table"] == "contacts"

    def test_lastgood_finds_where_it_is_truncated_and_touches_nothing(self, stage: Stage) -> None:
        self.cut(stage)

        answer = stage.lastgood("rollback", stage.dump, "--yes")

        assert answer.status == 4
        text = stage.dump.read_bytes()
        begins = text.index(b"COPY public.contacts ")
        line = text.count(b"\n", 0, begins) + 1
        assert answer.document["error"] == {
            "code": "incomplete_point",
            "message": "cannot read the dump: it ends inside the rows of COPY public.contacts, "
            f"which began at line {line} (byte {begins})",
            "hint": "The file is truncated, or pg_dump was interrupted: choose another restore point.",
            "state": f'"{stage.database}" was not touched and is open.',
            "exit_status": 4,
            "line": line,
            "offset": begins,
        }
        assert stage.now() == stage.before

    def test_lastgood_finds_the_nearest_one_that_is_whole(self, stage: Stage) -> None:
        whole = stage.dump.with_name("cloud_backup_20260111_093000.sql")
        whole.write_bytes(stage.dump.read_bytes())
        self.cut(stage)
        with stage.target.connect() as connection:
            migration.apply(connection)

        answer = stage.lastgood("rollback", "--latest", "--yes")

        assert answer.status == 0, answer.printed
        assert Path(answer.document["point"]["path"]).name == whole.name
        assert stage.before.differences(stage.now()) == []


class TestTrap3TheDatabaseWasSetReadOnly:
    """The guide requires: set the database read-only, then restore."""

    def follow_the_guide(self, stage: Stage) -> psycopg.Connection:
        """Returns a session of the application that was open before."""
        with stage.target.connect() as connection:
            migration.apply(connection)
        session = psycopg.connect(stage.server.url(stage.database, user="crm_app"), autocommit=True)
        with stage.server.target("postgres").connect() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(
                    sql.Identifier(stage.database)
                )
            )
        return session

    @pytest.mark.postgres(15, 18)
    def test_psql_restores_nothing_and_no_session_was_stopped(self, stage: Stage) -> None:
        with self.follow_the_guide(stage) as session:
            with stage.target.connect() as connection:
                broken = migration.damage(connection)

            outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

            assert outcome.status == 0
            refused = [message for message in outcome.errors if "in a read-only transaction" in message]
            rows_as_sql = [message for message in outcome.errors if message.startswith("syntax error at or near")]
            assert len(refused) > 100
            # Up to 15.19 psql read the rows of a COPY that failed as commands.
            assert rows_as_sql == []
            with stage.target.connect() as connection:
                assert migration.damage(connection) == broken
            explained = stage.explained(outcome)
            assert explained["verdict"]["outcome"] == "nothing_restored"
            first, *others = explained["kinds"]
            assert first["case"] == "read-only"
            assert all(kind["follows"] == first["title"] for kind in others)
            # And the application, whose session was open, writes on.
            session.execute(
                "INSERT INTO activities (contact_id, kind, subject, reference) VALUES (1, 'note', 'still here', 'x')"
            )

    @pytest.mark.postgres(15, 18)
    def test_lastgood_restores_nevertheless_and_stops_every_writer(self, stage: Stage) -> None:
        with self.follow_the_guide(stage) as session:
            answer = stage.lastgood("rollback", stage.dump, "--yes")

            assert answer.status == 0, answer.printed
            assert answer.document["fence"]["writes_after"] == 0
            # The session that was open is ended: it can't write into what is kept.
            with pytest.raises(psycopg.OperationalError) as ended:
                session.execute("INSERT INTO activities (contact_id, kind, subject) VALUES (1, 'note', 'still here')")
            assert ended.value.sqlstate == "57P01"
        # Everything is restored; the read-only setting is the operator's, who resets it in the next step of the guide.
        assert stage.before.differences(stage.now()) == ["+ database setting all default_transaction_read_only=on"]
        with stage.server.target("postgres").connect() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(sql.Identifier(stage.database))
            )
        assert stage.before.differences(stage.now()) == []
        with psycopg.connect(stage.server.url(stage.database, user="crm_app"), autocommit=True) as application:
            application.execute(
                "INSERT INTO activities (contact_id, kind, subject) VALUES (1, 'note', 'at work again')"
            )


class TestTrap4NoOwnerNoAcl:
    """The dump knows no owners and no grants; the guide cures "duplicate key" with DROP SCHEMA public CASCADE."""

    def test_psql_gives_everything_to_the_superuser_and_the_public(self, stage: Stage) -> None:
        outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

        assert outcome.status == 0
        with stage.target.connect() as connection:
            owners = {
                row[0]
                for row in connection.execute(
                    "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                )
            }
        assert owners == {"postgres"}
        with (
            psycopg.connect(stage.server.url(stage.database, user="crm_app")) as application,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for table contacts"),
        ):
            application.execute("SELECT full_name FROM public.contacts")
        # What had been revoked is back: PUBLIC may execute every new function.
        with psycopg.connect(stage.server.url(stage.database, user="crm_anon")) as anonymous:
            (addresses,) = anonymous.execute("SELECT count(email) FROM public.export_contacts()").fetchone() or (0,)
        assert addresses > 700

    def test_dropping_the_schema_takes_every_grant_along(self, stage: Stage) -> None:
        def grants(connection: psycopg.Connection) -> tuple[int, int]:
            on_tables, by_default = connection.execute(
                "SELECT (SELECT count(*) FROM information_schema.table_privileges "
                "        WHERE table_schema = 'public' AND grantee LIKE 'crm\\_%' AND grantee <> 'crm_owner'), "
                "       (SELECT count(*) FROM pg_default_acl WHERE defaclnamespace <> 0)"
            ).fetchone() or (0, 0)
            return on_tables, by_default

        with stage.target.connect() as connection:
            assert grants(connection) == (100, 2)
            connection.execute("DROP SCHEMA public, api CASCADE")
            connection.execute("CREATE SCHEMA public")
            outcome = naive.restore(stage.server.bin, stage.url, stage.dump)
            assert outcome.status == 0
            assert grants(connection) == (0, 0)

    @pytest.mark.postgres(15, 18)
    def test_lastgood_brings_owners_and_grants_from_the_live_database(self, stage: Stage) -> None:
        answer = stage.lastgood("rollback", stage.dump, "--yes")

        assert answer.status == 0, answer.printed
        assert stage.before.differences(stage.now()) == []
        assert answer.document["carried_over"]["privileges"] > 0
        with psycopg.connect(stage.server.url(stage.database, user="crm_app")) as application:
            (contacts,) = application.execute("SELECT count(*) FROM my_contacts").fetchone() or (0,)
        assert contacts > 700
        with (
            psycopg.connect(stage.server.url(stage.database, user="crm_anon")) as anonymous,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function export_contacts"),
        ):
            anonymous.execute("SELECT count(email) FROM public.export_contacts()")

    def test_a_backup_of_lastgood_has_them_when_the_live_database_lost_them(self, stage: Stage) -> None:
        assert stage.lastgood("backup").status == 0
        with stage.target.connect() as connection:
            connection.execute("DROP SCHEMA public, api CASCADE")
            connection.execute("CREATE SCHEMA public")
        assert naive.restore(stage.server.bin, stage.url, stage.dump).status == 0
        assert stage.now().structure != stage.before.structure

        answer = stage.lastgood("rollback", "--latest", "--yes")

        assert answer.status == 0, answer.printed
        assert stage.before.differences(stage.now()) == []


class TestTrap5TheCleanSectionInAnEmptyDatabase:
    """``--clean --if-exists`` looks harmless in an empty database. pg_dump writes an unguarded view among the drops."""

    @pytest.mark.postgres(15, 18)
    def test_psql_stops_at_a_view_that_is_not_there(self, stage: Stage, empty_database: str) -> None:
        outcome = naive.restore(
            stage.server.bin, stage.server.url(empty_database), stage.dump, ["-v", "ON_ERROR_STOP=1"]
        )

        assert outcome.status == 3
        assert outcome.errors == ('type "public.organization_kind" does not exist',)
        dump = stage.dump.read_text()
        assert dump.index(
            "CREATE OR REPLACE VIEW api.organization_overview AS\nSELECT\n    NULL::bigint AS id"
        ) < dump.index("CREATE SCHEMA api")

    @pytest.mark.postgres(15, 18)
    def test_lastgood_leaves_the_clean_section_out(self, stage: Stage) -> None:
        name = f"{stage.database}_restored"

        answer = stage.lastgood("restore", stage.dump, "--into", name)

        assert answer.status == 0, answer.printed
        with stage.server.target(name).connect() as connection:
            assert evidence.take(connection).content == stage.before.content
            # The views are whole, not the drafts that pg_dump begins with.
            (kinds,) = connection.execute("SELECT count(kind) FROM api.organization_overview").fetchone() or (0,)
            (weighted,) = connection.execute("SELECT count(weighted) FROM api.open_deals").fetchone() or (0,)
        assert kinds == stage.size.organizations
        assert weighted > 0


class TestTrap6MigrateFirstThenDataOnly:
    """The guide's cure for "relation does not exist": apply the migrations to an empty database, load data only."""

    def data_only(self, stage: Stage) -> Path:
        """The backup's rows, and a database with nothing but its schema."""
        data = stage.dump.with_name("data_only.sql")
        for options, file in ((["--data-only"], data), (["--schema-only"], stage.backups / "migrations.sql")):
            subprocess.run(
                [stage.server.bin / "pg_dump", *options, "--no-owner", "--no-acl", "--file", file, stage.url],
                check=True,
                capture_output=True,
            )
        with stage.target.connect() as connection:
            connection.execute("DROP SCHEMA public, api, audit, supabase_migrations CASCADE")
            connection.execute("CREATE SCHEMA public")
        assert naive.restore(stage.server.bin, stage.url, stage.backups / "migrations.sql").status == 0
        (stage.backups / "migrations.sql").unlink()
        return data

    def test_psql_loses_tables_and_the_triggers_write_their_own_rows(self, stage: Stage) -> None:
        data = self.data_only(stage)

        outcome = naive.restore(stage.server.bin, stage.url, data)

        assert outcome.status == 0
        assert any("violates foreign key constraint" in message for message in outcome.errors)
        with stage.target.connect() as connection:
            (opportunities,) = connection.execute("SELECT count(*) FROM public.opportunities").fetchone() or (None,)
            (contacts,) = connection.execute("SELECT count(*) FROM public.contacts").fetchone() or (None,)
        assert (opportunities, contacts) == (0, 0)
        explained = stage.explained(outcome)
        assert explained["verdict"]["outcome"] == "partially_restored"
        assert "foreign-key" in [kind["case"] for kind in explained["kinds"]]

    def test_lastgood_refuses_rows_without_definitions_and_restores_the_whole(self, stage: Stage) -> None:
        data = self.data_only(stage)
        before = stage.now()

        answer = stage.lastgood("rollback", data, "--yes")

        assert answer.document["error"] == {
            "code": "refused",
            "message": f'cannot roll back "{stage.database}": the restore point has no tables: '
            "it cannot replace a whole database",
            "hint": "Choose a complete one: lastgood points",
            "state": f'"{stage.database}" was not touched and is open.',
            "exit_status": 3,
        }
        assert stage.now() == before
        answer = stage.lastgood("rollback", stage.dump, "--yes")
        assert answer.status == 0, answer.printed
        assert stage.now().content == stage.before.content


class TestTrap7TheVerificationNamesWhatIsGone:
    """The guide's queries were right once: tables moved to another schema, columns were dropped, others renamed."""

    LOST = "foreign_key:public.contact_tags.contact_tags_contact_id_fkey"

    def break_it(self, stage: Stage) -> None:
        """A load in replica mode loses contacts whose tags stay, and no constraint detects it."""
        with stage.target.connect() as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("INSERT INTO public.contact_tags VALUES (987654321, 1)")

    def test_psql_ends_well_and_has_looked_at_nothing(self, stage: Stage) -> None:
        self.break_it(stage)

        outcome = naive.restore(stage.server.bin, stage.url, SCRIPTS / "old_verify.sql")

        assert outcome.status == 0
        assert outcome.errors == (
            'relation "schema_migrations" does not exist',
            'column "is_principal" does not exist',
            "column c.opportunity_id does not exist",
            'relation "audit_log" does not exist',
        )

    def test_lastgood_asks_the_catalogue_and_finds_the_lost_row(self, stage: Stage) -> None:
        assert stage.lastgood("validate", "--quick").document["verdict"] == "GO"
        self.break_it(stage)

        answer = stage.lastgood("validate", "--quick")

        assert (answer.status, answer.document["verdict"]) == (3, "NO-GO")
        assert answer.document["blockers"] == [self.LOST]
        (found,) = (rule for rule in answer.document["rules"] if rule["name"] == self.LOST)
        assert found["samples"] == ["contact_id=987654321, tag_id=1"]


class TestTrap8DumpedFromIsNotATime:
    """The guide finds out how old a backup is with grep "Dumped from"."""

    def test_grep_finds_the_version_of_the_server(self, stage: Stage) -> None:
        text = stage.dump.read_text()
        (found,) = (line for line in text.splitlines() if "Dumped from" in line)
        assert found.startswith(f"-- Dumped from database version {stage.server.major}.")
        header = text[: text.index("DROP ")]
        assert str(datetime.now().year) not in header
        assert "Started on" not in header

    def test_lastgood_knows_when_its_own_was_made_and_how_it_knows(self, stage: Stage) -> None:
        with stage.target.connect() as connection:
            (before,) = connection.execute("SELECT now()").fetchone() or (None,)
            assert stage.lastgood("backup").status == 0
            (after,) = connection.execute("SELECT now()").fetchone() or (None,)

        points = stage.lastgood("points", "list").document["points"]

        times = {Path(point["path"]).name: datetime.fromisoformat(point["made_at"]) for point in points}
        foreign = times.pop(stage.dump.name)
        assert foreign == datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
        (own,) = times.values()
        assert before is not None and after is not None
        assert before <= own <= after


class TestTrap9TwoScriptsTwoClocks:
    """The backup script names its file, the deployment script works the name out again, a second later."""

    @pytest.mark.postgres(18)
    def test_the_backup_is_there_and_not_found(self, stage: Stage) -> None:
        stage.dump.unlink()
        with stage.target.connect() as holder, holder.transaction():
            # pg_dump has to wait for this lock: as long as a big database would take.
            holder.execute("LOCK TABLE public.contacts IN ACCESS EXCLUSIVE MODE")
            deployment = stage.script("old_deploy.sh", {"DATABASE_URL": stage.url})
            self.until_waiting(stage)
            started = int(time.time())
            deadline = time.monotonic() + 10
            while int(time.time()) == started and time.monotonic() < deadline:
                pass
        output, _ = deployment.communicate(timeout=60)

        assert deployment.returncode == 1
        (made,) = stage.backups.iterdir()
        assert made.read_text().rstrip().splitlines()[-1].startswith("\\unrestrict ")
        assert output.decode().startswith("Backup file not found: cloud_backup_")
        assert made.name not in output.decode()

    def until_waiting(self, stage: Stage) -> None:
        """Polls until pg_dump stands before the lock."""
        deadline = time.monotonic() + 20
        with stage.server.target("postgres").connect() as watcher:
            while time.monotonic() < deadline:
                if watcher.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND application_name = 'pg_dump' "
                    "AND wait_event_type = 'Lock'",
                    [stage.database],
                ).fetchone():
                    return
        raise TimeoutError("pg_dump did not come to the lock")

    def test_a_failing_backup_ends_it_without_a_word(self, stage: Stage) -> None:
        deployment = stage.script("old_deploy.sh", {"DATABASE_URL": stage.url + "&dbname=does_not_exist"})
        output, _ = deployment.communicate(timeout=60)
        assert deployment.returncode == 1
        assert output == b""

    def test_lastgood_names_the_file_it_made_and_finds_it_again(self, stage: Stage) -> None:
        stage.dump.unlink()

        made = stage.lastgood("backup")

        assert made.status == 0, made.printed
        assert Path(made.document["point"]["path"]).exists()
        with stage.target.connect() as connection:
            migration.apply(connection)
        answer = stage.lastgood("rollback", made.document["point"]["path"], "--yes")
        assert answer.status == 0, answer.printed
        assert stage.before.differences(stage.now()) == []

    def test_a_failed_backup_of_lastgood_is_reported(self, stage: Stage) -> None:
        answer = stage.lastgood("backup", environment={"LASTGOOD_DB": stage.url + "&dbname=does_not_exist"})

        assert answer.status == 5
        message = answer.document["error"]["message"]
        assert message.startswith('cannot back up database "does_not_exist": ')
        assert message.endswith('FATAL:  database "does_not_exist" does not exist')
        assert {path.name for path in stage.backups.iterdir()} == {stage.dump.name}


class TestTrap10TheValidationThatWrites:
    """It is run after the backup was taken, and before the migration: what it writes is in no backup."""

    def test_psql_leaves_tables_in_production_and_half_the_results(self, stage: Stage) -> None:
        outcome = naive.restore(stage.server.bin, stage.url, SCRIPTS / "old_validate.sql")

        assert outcome.status == 0
        assert outcome.errors == ('relation "companies" does not exist',)
        assert stage.before.differences(stage.now()) != []
        with stage.target.connect() as connection:
            results = connection.execute("SELECT check_name FROM public.validation_results").fetchall()
        assert results == [("contacts without organization",)]

    def test_lastgood_writes_nothing(self, stage: Stage) -> None:
        for mode in ("--quick", "--full"):
            answer = stage.lastgood("validate", mode)
            assert (answer.status, answer.document["verdict"]) == (0, "GO")

        assert stage.before.differences(stage.now()) == []

    def test_a_rollback_takes_away_what_the_old_one_wrote(self, stage: Stage) -> None:
        naive.restore(stage.server.bin, stage.url, SCRIPTS / "old_validate.sql")
        # psql with the backup would leave it: the backup does not know it.
        assert naive.restore(stage.server.bin, stage.url, stage.dump).status == 0
        assert "public.validation_results" in stage.now().content

        assert stage.lastgood("rollback", stage.dump, "--yes").status == 0

        assert "public.validation_results" not in stage.now().content
        assert stage.now().content == stage.before.content


def command_lines(pid: int) -> str:
    """What the process list shows of a program and those that it started."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return ""
    lines = []
    for each in family:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            lines.append(" ".join(each.cmdline()))
    return "\n".join(lines)


class TestTrap11TheMaskThatShows:
    """The deployment prints ``${DATABASE_URL%%@*}@***``, to hide the password."""

    PASSWORD = "hunter2-correct-horse"

    def url(self, stage: Stage) -> str:
        return stage.url.replace("postgres@", f"postgres:{self.PASSWORD}@")

    def test_the_mask_hides_the_host_and_prints_the_password(self, stage: Stage) -> None:
        stage.dump.unlink()
        # The backup may take less than a second, or cross into the next: try until the deployment gets so far.
        for _ in range(20):
            deployment = stage.script("old_deploy.sh", {"DATABASE_URL": self.url(stage)})
            output, _ = deployment.communicate(timeout=60)
            if deployment.returncode == 0:
                break
        assert output.decode() == f"Deploying from postgresql://postgres:{self.PASSWORD}@***\n"

    def test_lastgood_shows_it_nowhere(self, stage: Stage, tmp_path: Path) -> None:
        """Not on the screen, not in a file, not in the process list; whether it goes well or fails."""
        environment = {"LASTGOOD_DB": self.url(stage)}
        wrong = {"LASTGOOD_DB": self.url(stage) + "&dbname=does_not_exist"}
        seen = ""
        for arguments, where in (
            (["backup"], environment),
            (["rollback", "--latest", "--dry-run"], environment),
            (["rollback", "--latest", "--yes"], environment),
            (["status"], environment),
            (["undo", "--yes"], environment),
            (["backup"], wrong),
            (["rollback", "--latest", "--yes"], wrong),
        ):
            process = stage.lastgood.start(*arguments, environment=where)
            while process.poll() is None:
                seen += command_lines(process.pid)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)  # a process list read without pause would take the program its processor
            printed, output = process.communicate()
            assert (process.returncode == 0) == (where is environment), output.decode() + printed.decode()
            seen += printed.decode() + output.decode()
        for file in tmp_path.rglob("*"):
            if file.is_file():
                seen += file.read_text(errors="replace")
        assert stage.database in seen
        assert self.PASSWORD not in seen
        assert "lastgood.cli" in seen and "pg_dump" in seen  # the process list was looked at


class TestTrap12CommandsThatNeverExisted:
    """The guide names commands that had never been run."""

    ROOT = SCRIPTS.parents[1]
    PAGES = (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )

    def test_the_old_guide_names_three_and_has_none(self) -> None:
        named = re.findall(r"`npm run ([^`]+)`", (SCRIPTS / "old_guide.md").read_text())
        scripts = json.loads((SCRIPTS / "old_package.json").read_text())["scripts"]
        assert named == ["db:cloud:backup", "db:validate:all", "deploy:rollback"]
        assert [name for name in named if name in scripts] == []

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_every_command_of_lastgood_in_a_page_is_one(self, page: Path) -> None:
        assert [(line, commands.wrong(line)) for line in self.named(page) if commands.wrong(line)] == []

    def test_there_are_many(self) -> None:
        assert sum(len(self.named(page)) for page in self.PAGES) > 100

    def named(self, page: Path) -> list[str]:
        """The command lines of lastgood in a page: those between backquotes, and those in blocks."""
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        spans = re.findall(r"(?<!`)`(lastgood [^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))
        lines = [" ".join(line.split("   ")[0].split()) for block in blocks for line in block.splitlines()]
        piped = [line.rpartition(" | ")[2] for line in lines]
        return [" ".join(span.split()) for span in spans] + [line for line in piped if line.startswith("lastgood ")]
