"""A run that is killed between CREATE DATABASE and its mark leaves a database that any operator can find and remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import fault, rollback, status
from lastgood.command.prune import plan as planning
from lastgood.command.prune import removal
from lastgood.context import Context
from lastgood.errors import Refused
from lastgood.events import Event, Note
from lastgood.journal import Journal
from lastgood.plan.plan import Request
from lastgood.points.dump_point import take
from lastgood.postgres import database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.lock import lock_live, read_nothing


@pytest.fixture
def request_of(server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path) -> Request:
    target = server.target(new_database("crm"))
    with target.connect() as connection:
        connection.execute("CREATE TABLE public.contacts AS SELECT 1 AS id")
    take(target, tmp_path / "store")
    return Request(target=target, store=tmp_path / "store", state=tmp_path / "state")


def leave(server: EmbeddedServer, live: str, number: str = "9f3c1a70") -> str:
    name = f"{live}_shadow_{number}"
    with server.target("postgres").connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ALLOW_CONNECTIONS false").format(sql.Identifier(name))
        )
    return name


def is_there(server: EmbeddedServer, name: str) -> bool:
    with server.target("postgres").connect() as connection:
        return database.find(connection, name) is not None


def test_status_shows_it_and_prune_removes_it_when_it_is_named(server: EmbeddedServer, request_of: Request) -> None:
    target, live = request_of.target, request_of.target.dbname
    name = leave(server, live)
    (shown,) = status.read(target).leftovers
    assert (shown.name, shown.command) == (name, f"lastgood prune {name}")
    stays = planning.plan(target, request_of.store, planning.Criteria(keep=0))
    assert [(each.remove, each.why) for each in stays.candidates if each.kind == "leftover"] == [
        (False, "not marked by the run that created it; name it to remove it")
    ]
    with server.target("postgres").connect() as other:
        lock_live(other, live, read_nothing)  # a run is at work: it may be about to mark what it made
        assert status.read(target).leftovers == ()
        with pytest.raises(Refused, match=f'^cannot prune "{name}": no kept database or restore point has that name'):
            planning.plan(target, request_of.store, planning.Criteria(named=(name,)))
    plan = planning.plan(target, request_of.store, planning.Criteria(named=(name,)))
    assert [each.name for each in plan.going] == [name]
    assert removal.run(target, plan)["removed"] == [name]
    assert not is_there(server, name) and status.read(target).leftovers == ()
    emitted: list[Event] = []
    assert removal.run(target, plan, Context(emitted.append))["removed"] == []
    assert Note(f'"{name}" is no longer a leftover; skipped') in emitted


@pytest.mark.parametrize("named", ["20261122-031500-9f3c1a70", "9f3c1a70", None])
def test_abort_removes_it(server: EmbeddedServer, request_of: Request, named: str | None) -> None:
    name = leave(server, request_of.target.dbname)
    run = "20261122-031500-9f3c1a70"
    journal = Journal.create(request_of.state, run)
    journal.write("begun", kind="rollback")
    with pytest.raises(Refused):
        rollback.abort(Request(request_of.target, request_of.store, request_of.state, run="20261122-031500-00000000"))
    assert is_there(server, name)
    document = rollback.abort(Request(request_of.target, request_of.store, request_of.state, run=named))
    assert document == {
        "format": 1,
        "run": run,
        "status": "aborted",
        "live": request_of.target.dbname,
        "removed": [name],
        "application": "not stopped",
    }
    assert not is_there(server, name)
    assert [entry["event"] for entry in journal.replay()] == ["begun", "aborting", "ended"]


def test_two_leftovers_must_be_named(server: EmbeddedServer, request_of: Request) -> None:
    names = [leave(server, request_of.target.dbname, number) for number in ("9f3c1a70", "00000001")]
    with pytest.raises(Refused):
        rollback.abort(request_of)
    assert all(is_there(server, name) for name in names)
    assert rollback.abort(Request(request_of.target, request_of.store, request_of.state, run="00000001"))[
        "removed"
    ] == [names[1]]


def test_an_error_before_the_mark_leaves_nothing(server: EmbeddedServer, request_of: Request) -> None:
    prepared = rollback.plan(request_of)

    def full() -> None:
        raise OSError(28, "No space left on device")

    with fault.armed("build.before_mark", full), pytest.raises(Exception, match="No space left"):
        rollback.run(prepared)
    assert not is_there(server, prepared.plan.shadow)
