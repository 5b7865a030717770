"""A migration that failed half-way and left its transaction open blocks its tables for all sessions, readers too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood import rollback
from lastgood.context import Context
from lastgood.events import Caution, Event
from lastgood.plan.plan import Request
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.sessions import locked_tables

SECONDS = 30


@pytest.mark.postgres(15, 18)
def test_the_plan_does_not_wait_for_a_migration_that_was_left_open(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    target = server.target(new_database("crm"))
    with target.connect() as connection:
        connection.execute("CREATE TABLE public.contacts AS SELECT 1 AS id, now() AS created_at")
    take(target, tmp_path)
    with target.connect(application_name="migrate") as migration:
        pid = migration.info.backend_pid
        migration.execute("BEGIN")
        migration.execute("LOCK TABLE public.contacts IN ACCESS EXCLUSIVE MODE")
        plan = rollback.plan(Request(target=target, store=tmp_path, state=tmp_path / "state")).plan
        assert plan.refusals == ()
        (finding,) = [each for each in plan.findings if each.code == "locked_tables"]
        assert finding.text == (
            f'process {pid} of "postgres" ("migrate") has locked "public"."contacts" against readers: row counts are '
            "estimates, and the run terminates that session"
        )
        assert finding.hint == f"To terminate it, run: SELECT pg_terminate_backend({pid})"
        (lost,) = plan.loss
        assert (lost.name, lost.written_since) == ("contacts", None)


def test_a_backup_names_the_session_that_it_waits_for(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    target = server.target(new_database("crm"))
    emitted: list[Event] = []
    announced = threading.Event()

    def emit(event: Event) -> None:
        emitted.append(event)
        announced.set()

    with target.connect() as migration:
        migration.execute("CREATE TABLE public.contacts AS SELECT 1 AS id")
        pid = migration.info.backend_pid
        migration.execute("BEGIN")
        migration.execute("LOCK TABLE public.contacts IN ACCESS EXCLUSIVE MODE")
        backup = threading.Thread(target=take, args=(target, tmp_path), kwargs={"context": Context(emit)})
        backup.start()
        assert announced.wait(SECONDS)
        migration.execute("COMMIT")
        backup.join(SECONDS)
        assert not backup.is_alive()
        assert locked_tables(migration) == []
    assert emitted[0] == Caution(
        f'process {pid} has locked "public"."contacts" against readers; the backup waits for it. '
        f"To end it: SELECT pg_terminate_backend({pid})"
    )
