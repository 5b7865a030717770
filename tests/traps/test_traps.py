"""The traps of the old procedure, staged for real: first with psql, where it goes wrong, then with lastgood.

The old procedure takes ``pg_dump --no-owner --no-acl --clean --if-exists`` before a deployment and runs
``psql "$URL" < backup.sql`` when it fails. Every test starts from the same CRM and such a dump of it.
"""

from __future__ import annotations

import time
from datetime import datetime

import psycopg
import pytest
from psycopg import sql

from demo import migration, naive
from tests.traps.stage import Stage


class TestTrap1TheMigrationFailedHalfWay:
    """A migration stopped in the middle; the backup is played back over what it left."""

    def break_it(self, stage: Stage) -> None:
        with stage.target.connect() as connection:
            migration.apply(connection, until="a third of the opportunities deleted")

    @pytest.mark.postgres(15, 18)
    def test_psql_says_nothing_and_leaves_half_of_it(self, stage: Stage) -> None:
        self.break_it(stage)

        outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

        assert outcome.status == 0
        assert len(outcome.errors) == 23
        assert "cannot drop table public.contacts because other objects depend on it" in outcome.errors
        with stage.target.connect() as connection:
            left = migration.damage(connection)
        assert left.new_table and left.new_view and left.new_column
        assert left.contacts_overwritten == stage.size.contacts


class TestTrap2TheBackupIsCutOff:
    """The disk was full, or the copy broke off: 70 % of the dump is there, and looks like a dump."""

    def cut(self, stage: Stage) -> None:
        whole = stage.dump.read_bytes()
        stage.dump.write_bytes(whole[: len(whole) * 7 // 10])

    def test_psql_empties_the_tables_and_says_it_went_well(self, stage: Stage) -> None:
        self.cut(stage)

        outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

        assert outcome.status == 0
        with stage.target.connect() as connection:
            left = {
                table: connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table))).fetchone()
                for table in (("public", "contacts"), ("public", "organizations"), ("public", "opportunities"))
            }
        assert set(left.values()) == {(0,)}


class TestTrap3TheDatabaseWasSetReadOnly:
    """The guide says: set the database read-only, then restore."""

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
    def test_psql_reads_rows_as_sql_and_nobody_was_stopped(self, stage: Stage) -> None:
        with self.follow_the_guide(stage) as session:
            with stage.target.connect() as connection:
                broken = migration.damage(connection)

            outcome = naive.restore(stage.server.bin, stage.url, stage.dump)

            assert outcome.status == 0
            refused = [message for message in outcome.errors if "in a read-only transaction" in message]
            rows_as_sql = [message for message in outcome.errors if message.startswith("syntax error at or near")]
            assert len(refused) > 100
            # Data that is read as commands: psql 18 no longer does that, 15 does.
            assert len(rows_as_sql) > 10 if stage.server.major == 15 else not rows_as_sql
            with stage.target.connect() as connection:
                assert migration.damage(connection) == broken
            # And the application, whose session was open, writes on.
            session.execute(
                "INSERT INTO activities (contact_id, kind, subject, reference) VALUES (1, 'note', 'still here', 'x')"
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


class TestTrap8DumpedFromIsNotATime:
    """The guide finds out how old a backup is with grep "Dumped from"."""

    def test_grep_finds_the_version_of_the_server(self, stage: Stage) -> None:
        text = stage.dump.read_text()
        (found,) = (line for line in text.splitlines() if "Dumped from" in line)
        assert found.startswith("-- Dumped from database version 18.")
        header = text[: text.index("DROP ")]
        assert str(datetime.now().year) not in header
        assert "Started on" not in header


class TestTrap9TwoScriptsTwoClocks:
    """The backup script names its file, the deployment script works the name out again, a second later."""

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
        said, _ = deployment.communicate(timeout=60)

        assert deployment.returncode == 1
        (made,) = stage.backups.iterdir()
        assert made.read_text().rstrip().splitlines()[-1].startswith("\\unrestrict ")
        assert said.decode().startswith("Backup file not found: cloud_backup_")
        assert made.name not in said.decode()

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
        said, _ = deployment.communicate(timeout=60)
        assert deployment.returncode == 1
        assert said == b""


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
            said, _ = deployment.communicate(timeout=60)
            if deployment.returncode == 0:
                break
        assert said.decode() == f"Deploying from postgresql://postgres:{self.PASSWORD}@***\n"
