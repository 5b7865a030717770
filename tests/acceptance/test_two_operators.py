"""Two operators at once: what one read before it had the lock is read again under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood import rollback, undo
from lastgood.command.prune import plan as planning
from lastgood.command.prune import removal
from lastgood.context import Context
from lastgood.errors import Refused
from lastgood.events import Emit, Event, StageDone
from lastgood.journal import Journal
from lastgood.plan.plan import Choice, Request
from lastgood.plan.unfinished import as_recorded, requested_run
from lastgood.postgres import database
from lastgood.postgres.mark import TRUSTED, Mark, read_mark
from tests.crash.test_crash import NEW, OLD, Scene
from tests.crash.test_crash import scene as scene

POINT = "cloud_backup_20251104_143000.sql"


def request_of(scene: Scene, state: Path | None = None) -> Request:
    target = scene.server.target(scene.live)
    return Request(target=target, store=scene.store, state=state or scene.state, choice=Choice(point=POINT))


def after_the_plan(act: Callable[[], object]) -> Emit:
    """Another operator acts as soon as the restore point is read, which takes hours for a large one."""
    acted: list[object] = []

    def emit(event: Event) -> None:
        if isinstance(event, StageDone) and event.name == "plan" and not acted:
            acted.append(act())

    return emit


def killed(scene: Scene) -> str:
    """A rollback that was killed while it built; its name."""
    assert scene.run("rollback", POINT, "--yes", fault_spec="build.after_load:kill").returncode == -9
    (run,) = [journal.run for journal in Journal.all(scene.state)]
    return run


@pytest.mark.parametrize(
    ("other", "why", "content"),
    [("resume", "finished", NEW), ("abort", "aborted", OLD)],
)
def test_a_run_that_another_session_ends_is_not_resumed(scene: Scene, other: str, why: str, content: set[str]) -> None:
    run = killed(scene)
    entries = len(list(Journal.all(scene.state)[0].replay()))

    def act() -> None:
        assert scene.run(other, run, "--yes").returncode == 0

    with pytest.raises(Refused) as refused:
        rollback.resume(replace(request_of(scene, scene.state.with_name("b")), run=run), after_the_plan(act))
    assert refused.value.message == (
        f'cannot resume run "{run}": another session {why} it while the restore point was read'
    )
    assert (scene.content(), scene.leftovers()) == (content, [])
    assert scene.run("status").returncode == 0
    # The record of the run is the other session's alone.
    assert not scene.state.with_name("b").exists() or Journal.find(scene.state.with_name("b"), run) is None
    assert len(list(Journal.all(scene.state)[0].replay())) > entries


def test_a_run_that_another_session_works_on_is_left_alone(scene: Scene) -> None:
    """And nothing is written into its record, which both have on one machine."""
    run = killed(scene)
    journal = Journal.all(scene.state)[0]
    refusals: list[Refused] = []

    def entries() -> list[Mapping[str, Any]]:
        # The emergency backup of our own run ends during the build.
        return [each for each in journal.replay() if each.get("step") != "emergency"]

    def emit(event: Event) -> None:
        if isinstance(event, StageDone) and event.name == "build":
            before = entries()
            with pytest.raises(Refused) as refused:
                rollback.resume(replace(request_of(scene), run=run))
            refusals.append(refused.value)
            assert entries() == before

    rollback.resume(replace(request_of(scene), run=run), emit)
    assert [each.message.partition(" (")[0] for each in refusals] == [
        f'cannot work on the database "{scene.live}": another run holds its lock'
    ]
    assert (scene.content(), scene.leftovers()) == (NEW, [])


def test_a_rollback_whose_live_database_was_replaced_does_not_begin(scene: Scene) -> None:
    prepared = rollback.plan(request_of(scene))
    assert scene.run("rollback", POINT, "--yes").returncode == 0
    with pytest.raises(Refused) as refused:
        rollback.run(prepared)
    assert str(refused.value) == (
        f'cannot roll back "{scene.live}": it was replaced by another database since the plan was made'
    )
    assert (scene.content(), scene.leftovers()) == (NEW, [])


@pytest.mark.parametrize("other", ["undo", "rollback"])
def test_an_undo_whose_databases_were_exchanged_does_not_begin(scene: Scene, other: str) -> None:
    assert scene.run("rollback", POINT, "--yes").returncode == 0
    target = scene.server.target(scene.live)
    planned = undo.plan(target, scene.live)
    assert scene.run(*([other, POINT] if other == "rollback" else [other]), "--yes").returncode == 0
    with pytest.raises(Refused) as refused:
        undo.undo(target, planned, Context(state=scene.state))
    assert "since the plan was made" in str(refused.value) or "are kept from run" in str(refused.value)
    assert scene.content() == (NEW if other == "rollback" else OLD)


def test_two_prunes_do_not_remove_what_the_other_keeps(scene: Scene) -> None:
    assert scene.run("rollback", POINT, "--yes").returncode == 0
    assert scene.run("rollback", POINT, "--yes").returncode == 0
    target = scene.server.target(scene.live)
    criteria = planning.Criteria(older_than=timedelta(0))
    mine = planning.plan(target, scene.store, criteria, post_mortem_within=0)
    (newest, *_) = [each.name for each in mine.candidates if each.kind == "kept database"]
    assert scene.run("prune", newest, "--yes").returncode == 0
    with pytest.raises(Refused) as refused:
        removal.run(target, mine, post_mortem_within=0)
    assert str(refused.value) == f'cannot prune: "{newest}", which the plan keeps, was removed since the plan was made'


def test_what_a_second_session_left_of_a_run_that_has_switched_is_removed(scene: Scene) -> None:
    """Made by versions that did not look again: a shadow of a run whose kept database exists."""
    run = killed(scene)
    with scene.server.target("postgres").connect() as connection:
        (shadow, comment) = connection.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE starts_with(datname, %s)",
            [f"{scene.live}_shadow"],
        ).fetchone() or ("", "")
    assert scene.run("resume", run, "--yes").returncode == 0
    with scene.server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(shadow)))
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(shadow), sql.Literal(comment)))
    status = scene.run("status")
    assert status.returncode == 7
    assert f"lastgood abort {run}" in status.stdout and "lastgood resume" not in status.stdout
    resumed = scene.run("resume", "--yes")
    assert resumed.returncode == 3
    assert resumed.stderr.startswith(
        f'error: cannot resume run "{run}": the run has switched already; another session of the run left "{shadow}"\n'
    )
    assert scene.run("abort", "--yes").returncode == 0
    assert (scene.content(), scene.leftovers()) == (NEW, [])
    assert scene.run("status").returncode == 0


def test_the_owner_of_the_live_database_gives_no_consent(scene: Scene) -> None:
    """The mark of the shadow is a comment that its owner can change: who owns the live database, not the operator."""
    run = killed(scene)
    owner = f"{scene.live}_owner"
    with scene.server.target("postgres").connect() as connection:

        def read(state: Path, store: Path = scene.store) -> Mark:
            meant = requested_run(connection, scene.server.target(scene.live), scene.state, run, to_resume=True)
            assert meant is not None
            return as_recorded(meant, connection, state, store)

        honest = read(scene.state)
        shadow, comment = connection.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE starts_with(datname, %s)",
            [f"{scene.live}_shadow"],
        ).fetchone() or ("", "")
        mark = read_mark(comment)
        assert mark is not None
        consents = {TRUSTED: "forged", "allow_orphans": "yes", "override room": "forged"}
        forged = mark.model_copy(update={"point": "/tmp/other.sql", "options": {**mark.options, **consents}})
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(owner)))
        for name in (scene.live, shadow):
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*map(sql.Identifier, (name, owner))))
        try:
            database.comment(connection, shadow, forged.text())
            assert read(scene.state) == honest  # from the journal
            with pytest.raises(Refused) as refused:
                read(scene.state / "of another machine")
            assert str(refused.value) == (
                f'cannot resume run "{run}": its mark names the restore point "/tmp/other.sql", which is not in the '
                f'store; role "{owner}", which owns "{shadow}", could have written that'
            )
            assert refused.value.hint == f"Run: lastgood abort {run}, then: lastgood rollback POINT"
            without = read(scene.state / "of another machine", Path("/tmp"))
            assert without.options.keys() == mark.options.keys()
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(shadow)))
            assert read(scene.state) == forged  # a superuser's word
        finally:
            for name in (scene.live, shadow):
                connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))
