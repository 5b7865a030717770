"""Sessions that outlive a migration, and ways back that need a person."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from lastgood.command.deploy.deploy import accept
from lastgood.errors import Failed, Refused
from lastgood.postgres import clock
from lastgood.postgres import database as databases
from lastgood.postgres.deployment import DeploymentMark, find_deployment, mark_deployment
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.remaining_sessions import ProgramTrace, end, find
from lastgood.postgres.server import Connection
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood


def alive(connection: Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def test_sessions_of_the_migration_are_distinguished_from_the_applications(
    server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    name = new_database("app")
    target = server.target(name)
    with server.target("postgres").connect() as maintenance:
        oid = databases.describe(maintenance, name).oid
        before = target.connect(application_name="app")  # the application, since long
        busy = target.connect(application_name="app", autocommit=False)
        trace = ProgramTrace("lastgood migration R", "postgres", clock.now(maintenance))
        tagged = target.connect(application_name="lastgood migration R")
        renamed = target.connect(application_name="lastgood migration R")
        seen = frozenset(find(maintenance, oid, trace))
        assert {each.pid for each in seen} == {tagged.info.backend_pid, renamed.info.backend_pid}
        renamed.execute("SET application_name = 'other'")
        nameless = target.connect(application_name="other")
        mine = target.connect(application_name="lastgood status")  # of another lastgood
        pooled = target.connect_unchanged(application_name="pool")  # a session that a pooler gave to the migration
        busy.execute("SELECT 1")  # begun meanwhile, and not at its end
        began = time.monotonic()
        ended = end(maintenance, oid, trace, seen, grace=0.3)
        assert time.monotonic() - began < 10
        assert {each.pid for each in ended} == {
            each.info.backend_pid for each in (tagged, renamed, nameless, pooled, busy)
        }
        assert [alive(each) for each in (before, mine)] == [True, True]
        assert [alive(each) for each in (tagged, renamed, nameless, pooled, busy)] == [False] * 5
        # What the application opens from now on is left alone.
        after = target.connect(application_name="app")
        assert end(maintenance, oid, replace(trace, began=clock.now(maintenance)), seen, grace=0.0) == []
        assert alive(after)
        for each in (before, busy, tagged, renamed, nameless, mine, pooled, after):
            each.close()


def test_a_missing_privilege_to_terminate_them_is_reported(
    server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    name = new_database("app")
    with server.target("postgres").connect() as superuser:
        oid = databases.describe(superuser, name).oid
        superuser.execute("DROP ROLE IF EXISTS lg_weak")
        superuser.execute("CREATE ROLE lg_weak LOGIN")
        trace = ProgramTrace("lastgood migration R", "postgres", clock.now(superuser))
        try:
            with (
                server.target(name).connect(application_name="lastgood migration R") as left,
                server.target("postgres", user="lg_weak").connect() as weak,
            ):
                pid = left.info.backend_pid
                with pytest.raises(Failed) as failed:
                    end(weak, oid, trace, frozenset())
        finally:
            superuser.execute("DROP ROLE lg_weak")
    assert str(failed.value) == (
        "cannot terminate 1 session that the migration may have left: this role may not terminate them: server "
        f'process {pid} of "postgres" ("lastgood migration R")'
    )
    assert failed.value.hint == f"As a superuser, run: SELECT pg_terminate_backend({pid})"


def test_a_prepared_transaction_stands_in_the_way_and_is_named(
    lastgood: Lastgood, database: str, server: EmbeddedServer
) -> None:
    script = "CREATE TABLE public.t (i int); BEGIN; INSERT INTO public.t VALUES (1); PREPARE TRANSACTION 'left'"
    words = [str(server.bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1"]
    for statement in (*script.split("; "), "SELECT 1 / 0"):
        words += ["-c", statement]
    done = lastgood("deploy", "--json", "--", *words)
    try:
        assert done.status == 7, done.err
        error = done.document["error"]
        assert (error["code"], error["deployment"]["status"]) == ("not_taken_back", "not rolled back")
        assert "left" in error["message"] + error["hint"]
        point = error["deployment"]["point"]
        assert error["hint"].endswith(f"Then run: lastgood recover, or: lastgood rollback {point}")
        assert lastgood("status").status == 7
    finally:
        with server.target(database).connect() as connection:
            connection.execute("ROLLBACK PREPARED 'left'")
    # The hint works; and without the restore point, recover does not go back to an older one by itself.
    place = Path(point)
    place.rename(place.with_name("elsewhere.txt"))
    found = lastgood("recover", "--yes", "--json")
    assert found.status == 3
    assert found.document["error"]["message"].startswith(
        "cannot continue automatically: copy the restore point of the deployment from "
    )
    place.with_name("elsewhere.txt").rename(place)
    assert lastgood("recover", "--yes", "--quiet").status == 0
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT to_regclass('public.t')").fetchone() == (None,)
    assert lastgood("status").status == 0


def test_rows_alone_are_kept_where_the_settings_say_so(
    lastgood: Lastgood, database: str, server: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "lastgood.toml").write_text('[deploy]\nonly_rows = "keep"\ncheck = "none"\n')
    words = [str(server.bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1"]
    wrote = "INSERT INTO public.deals VALUES (3, 2)"  # written by the application, as far as is known
    done = lastgood("deploy", "--json", "--", *words, "-c", wrote, "-c", "SELECT 1 / 0")
    assert done.status == 5, done.err
    report = done.document["error"]["deployment"]
    assert (report["status"], report["before"], report["rollback"]) == ("unchanged", None, None)
    assert done.document["error"]["state"] == (
        f'"{database}" is open, and its schema is unchanged. Rows differ from {Path(report["point"]).name}, written '
        "by the migration or by the application (rows of public.deals: 2 rows in the restore point, 3 rows now). They "
        'are kept, because [deploy] sets only_rows = "keep".'
        ""
    )
    # A changed schema is rolled back, too.
    done = lastgood("deploy", "--json", "--", *words, "-c", "CREATE TABLE public.t (i int)", "-c", "SELECT 1 / 0")
    assert done.status == 6


def test_a_deployment_is_accepted_by_its_name_and_only_there(
    lastgood: Lastgood, database: str, server: EmbeddedServer
) -> None:
    target = server.target(database)
    with server.target("postgres").connect() as connection:
        found = databases.describe(connection, database)
        mark = DeploymentMark(
            run="20261123-080000-0a1b2c3d",
            live=database,
            live_oid=found.oid,
            point="/backups/crm.sql",
            program="alembic",
            host="runner",
            pid=1,
            user="ci",
            started=clock.now(connection),
            original_comment="ours",
        )
        mark_deployment(connection, mark)
        assert find_deployment(connection, database) == mark
        with pytest.raises(Refused) as refused:
            accept(target, "20261123-080000-ffffffff")
        assert str(refused.value) == (
            f'cannot accept the deployment "20261123-080000-ffffffff" of "{database}": the unfinished one is '
            "20261123-080000-0a1b2c3d"
        )
        shown = lastgood("status")
        assert shown.status == 7
        assert "20261123-080000-0a1b2c3d (alembic): it stopped while the migration ran\n" in shown.out
        done = lastgood("deploy", "--accept", mark.run)
        assert (done.status, done.out) == (
            0,
            f'Done: "{database}" is accepted as it is; deployment {mark.run} is finished.\n',
        )
        assert databases.describe(connection, database).comment == "ours"
        # A copy of a marked database is not one that is deployed to.
        databases.comment(connection, database, mark.model_copy(update={"live_oid": 1}).text())
        assert find_deployment(connection, database) is None
    with pytest.raises(Refused) as refused:
        accept(target, mark.run)
    assert str(refused.value).endswith(": no deployment is unfinished")


def test_what_the_application_writes_until_the_fence_is_counted_as_lost(
    lastgood: Lastgood, database: str, server: EmbeddedServer
) -> None:
    over = threading.Event()

    def write() -> None:
        number = 100
        while not over.is_set():
            with suppress(psycopg.Error), server.target(database).connect(application_name="app") as connection:
                while not over.is_set():
                    number += 1
                    connection.execute("INSERT INTO public.contacts VALUES (%s, 'w', now())", [number])

    application = threading.Thread(target=write)
    application.start()
    try:
        script = ["-c", "CREATE TABLE public.t (i int)", "-c", "SELECT 1 / 0"]
        done = lastgood("deploy", "--json", "--", str(server.bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1", *script)
    finally:
        over.set()
        application.join()
    assert done.status == 6, done.err
    report = done.document["error"]["deployment"]
    with server.target("postgres").connect() as connection:
        databases.allow_connections(connection, report["kept"], True)
    with server.target(report["kept"]).connect() as connection:
        kept = connection.execute("SELECT count(*) FROM public.contacts").fetchone()
    (lost,) = [each for each in report["loss"] if each["name"] == "contacts"]
    assert (lost["live_rows"],) == kept
    assert lost["written_since"] == lost["live_rows"] - lost["point_rows"]
