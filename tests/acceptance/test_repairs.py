"""Restore points that a server does not accept unchanged: repaired, proved and reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lastgood import fault, rollback, undo
from lastgood.errors import Failed
from lastgood.events import silent
from lastgood.plan.plan import Choice
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.run import prepare
from tests.acceptance.test_rollback import Stage, stage_of


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Stage:
    return stage_of(server, new_database(), store, tmp_path / "state")


def own_point(stage: Stage) -> None:
    """A point that knows the definition of every object."""
    point = take(stage.request.target, stage.request.store)
    stage.request = replace(stage.request, choice=Choice(point=str(point.path)))


def with_orphan(stage: Stage) -> None:
    stage.execute("CREATE TABLE public.entry (id int PRIMARY KEY, account int REFERENCES public.account)")
    with stage.server.target(stage.live).connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("INSERT INTO public.entry VALUES (1, 99999)")


@pytest.mark.postgres(15, 18)
def test_rows_without_a_match_are_let_in_on_request(stage: Stage) -> None:
    with_orphan(stage)
    own_point(stage)
    with pytest.raises(Failed) as raised:
        stage.rollback()
    assert raised.value.message.endswith(
        'insert or update on table "entry" violates foreign key constraint "entry_account_fkey" [SQLSTATE 23503]'
        "; 1 row has no match in public.account, for example 99999"
    )
    stage.request = replace(stage.request, allow_orphans=True)
    report = stage.rollback()
    assert [(each.what, each.why) for each in report.repaired] == [
        (
            "foreign key entry_account_fkey on public.entry",
            "1 row has no match in public.account, for example 99999; it was added NOT VALID, and applies to new "
            "rows only",
        )
    ]
    assert report.not_compared == (
        "The foreign key entry_account_fkey on public.entry is NOT VALID here: rows of the restore point violate it.",
    )
    validated = "SELECT convalidated FROM pg_constraint WHERE conname = 'entry_account_fkey'"
    assert stage.value(validated) is False
    target = stage.request.target
    undo.undo(target, undo.plan(target, stage.live), stage.request.context())
    assert stage.value(validated) is True


def test_who_resumes_a_run_keeps_to_what_was_allowed(stage: Stage) -> None:
    stage.request = replace(stage.request, allow_orphans=True, strict=True)
    found: list[tuple[bool, bool]] = []

    def look() -> None:
        plain = replace(stage.request, allow_orphans=False, strict=False)
        again = prepare.prepare_again(plain, silent)[0].request
        found.append((again.allow_orphans, again.strict))

    with fault.armed("build.after_create", look):
        rollback.run(rollback.plan(stage.request))
    assert found == [(True, True)]


@pytest.mark.postgres(15, 16, 17, 18)
def test_functions_that_count_on_the_live_databases_path(stage: Stage) -> None:
    """The definitions are the restore point's afterwards, so the proof holds."""
    stage.execute("CREATE SCHEMA app")
    stage.execute("CREATE TABLE app.lookup (k int PRIMARY KEY, v int)")
    stage.execute("INSERT INTO app.lookup SELECT i, -i FROM generate_series(1, 500) i")
    stage.execute(
        "CREATE FUNCTION app.value(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
        " AS 'BEGIN RETURN (SELECT v FROM lookup WHERE k = i); END'"
    )
    # How it got there: the table was empty, as after pg_upgrade, and rows come in under the application's path.
    stage.execute("CREATE TABLE app.word (i int, CONSTRAINT known CHECK (app.value(i) < 0))")
    stage.execute("CREATE INDEX word_value ON app.word (app.value(i))")
    stage.execute(f'ALTER DATABASE "{stage.live}" SET search_path = app, public')
    stage.execute("SET search_path = app; INSERT INTO app.word SELECT generate_series(1, 500)")
    own_point(stage)
    report = stage.rollback()
    assert sorted(each.what for each in report.repaired) == [
        "check constraint known on app.word",
        "index app.word_value",
    ]
    assert report.not_compared == ()
    assert stage.value("SELECT convalidated FROM pg_constraint WHERE conname = 'known'") is True
    assert stage.value("SELECT proconfig FROM pg_proc WHERE proname = 'value'") is None


@pytest.mark.postgres(15, 18)
def test_a_version_of_an_extension_that_the_server_no_longer_has(stage: Stage) -> None:
    stage.execute("CREATE EXTENSION amcheck SCHEMA public")
    version = stage.value("SELECT extversion FROM pg_extension WHERE extname = 'amcheck'")
    stage.execute("UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'amcheck'")
    own_point(stage)
    report = stage.rollback()
    assert [each.why for each in report.repaired] == [
        f"version 0.0 is not available on this server; version {version}, its default, was installed"
    ]
    assert report.not_compared == (
        f'The extension "amcheck" has version {version} here: version 0.0 of the restore point is not '
        "available on this server.",
    )
