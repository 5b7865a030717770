"""The plan lists the risks of a load for production, and the sessions that would be rejected."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from lastgood import fault, rollback
from lastgood.context import Pace
from lastgood.errors import Refused
from lastgood.plan.plan import Finding, Request
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer


def found(request: Request, *codes: str) -> list[Finding]:
    return [each for each in rollback.plan(request).plan.findings if each.code in codes]


@pytest.mark.postgres(15, 18)
def test_the_plan_names_a_forgotten_slot(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    target = server.target(new_database("crm"))
    with target.connect() as connection:
        connection.execute("CREATE TABLE public.contacts AS SELECT 1 AS id")
        take(target, tmp_path)
        request = Request(target=target, store=tmp_path, state=tmp_path / "state")
        assert found(request, "idle_slot", "few_connections", "wal_unseen", "archiving_fails") == []
        connection.execute("CHECKPOINT")
        connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        try:
            (finding,) = found(request, "idle_slot")
            assert finding.level == "caution"
            assert finding.text.startswith('the replication slot "forgotten" is ')
            assert finding.hint == "If it is no longer needed: SELECT pg_drop_replication_slot('forgotten')"
        finally:
            connection.execute("SELECT pg_drop_replication_slot('forgotten')")


def test_a_load_that_would_be_stopped_is_refused(tmp_path: Path) -> None:
    settings = {"archive_mode": "on", "archive_command": ""}
    with EmbeddedServer(18, settings=settings) as server, server.target("postgres").connect() as connection:
        connection.execute("CREATE DATABASE crm")
        target = server.target("crm")
        take(target, tmp_path)
        request = Request(target=target, store=tmp_path, state=tmp_path / "state")
        (finding,) = found(request, "archiving_fails")
        assert finding.level == "caution"
        (finding,) = found(replace(request, pace=Pace(max_wal_lag=1 << 20)), "archiving_fails")
        assert finding.level == "refusal"
        assert finding.text.startswith(
            "archive_mode is on, but neither archive_command nor archive_library is set; about "
        )
        with pytest.raises(Refused, match=r'^cannot roll back "crm": archive_mode is on'):
            rollback.run(rollback.plan(replace(request, pace=Pace(max_wal_lag=1 << 20))))


def test_a_server_that_is_nearly_full(tmp_path: Path) -> None:
    settings = {"max_connections": "15", "superuser_reserved_connections": "2", "reserved_connections": "0"}
    with EmbeddedServer(18, settings=settings) as server, ExitStack() as stack:
        connection = stack.enter_context(server.target("postgres").connect())
        connection.execute("CREATE DATABASE crm")
        target = server.target("crm")
        take(target, tmp_path)
        request = Request(target=target, store=tmp_path, state=tmp_path / "state")
        assert found(request, "few_connections") == []
        for _ in range(4):
            stack.enter_context(server.target("postgres").connect())
        assert found(request, "few_connections") == [
            Finding(
                level="caution",
                code="few_connections",
                text="the server allows 13 connections, 7 are in use; the run needs up to 8 more connections and "
                "fails if none is free",
                hint="Terminate idle sessions: SELECT * FROM pg_stat_activity WHERE state = 'idle'",
                item="sessions",
                known="measured",
            )
        ]
        connection.execute("CREATE ROLE app LOGIN CREATEDB")
        connection.execute("ALTER DATABASE crm OWNER TO app")
        connection.execute("ALTER DATABASE crm CONNECTION LIMIT 3")
        finding = found(replace(request, target=server.target("crm", user="app")), "few_connections")[1]
        assert finding.text == (
            'database "crm" allows 3 connections, 1 are in use; the run needs up to 3 more connections and fails if '
            "none is free"
        )


def test_a_server_that_gets_full_while_the_run_works(tmp_path: Path) -> None:
    """Who ends the sessions in the swap came in while there was room."""
    with EmbeddedServer(18, settings={"max_connections": "20"}) as server, ExitStack() as stack:
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE DATABASE crm")
        target = server.target("crm")
        with target.connect() as connection:
            connection.execute("CREATE TABLE public.contacts AS SELECT 1 AS id")
        take(target, tmp_path)
        prepared = rollback.plan(Request(target=target, store=tmp_path, state=tmp_path / "state"))
        crowd = 0

        def fill() -> None:
            nonlocal crowd
            with pytest.raises(psycopg.OperationalError, match="too many clients already"):
                while True:
                    stack.enter_context(target.connect(application_name="the application"))
                    crowd += 1

        with fault.armed("swap.before_transaction", fill):
            report = rollback.run(prepared)
        assert report.status == "done"
        assert crowd > 5


def test_a_helper_that_was_lost_is_replaced(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    target = server.target(new_database("crm"))
    with target.connect() as connection:
        connection.execute("CREATE TABLE public.contacts AS SELECT 1 AS id")
    take(target, tmp_path)
    prepared = rollback.plan(Request(target=target, store=tmp_path, state=tmp_path / "state"))

    def lose_it() -> None:
        with server.target("postgres").connect() as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = 'lastgood swap: terminates sessions'"
            ).fetchall()
        assert ended == [(True,)]

    with fault.armed("swap.before_transaction", lose_it):
        assert rollback.run(prepared).status == "done"
