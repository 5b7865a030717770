"""Every run ends, and what it leaves is known to status, abort and prune."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lastgood.postgres.database import find
from lastgood.postgres.embedded import EmbeddedServer
from tests.crash.test_crash import NEW, OLD, Scene, prepared
from tests.crash.test_crash import scene as scene
from tests.support import forked_cli, standby
from tests.support.waiting import until

POINT = "cloud_backup_20251104_143000.sql"


@pytest.fixture
def standby_scene(store: Path, tmp_path: Path) -> Iterator[Scene]:
    """A scene on a server of its own, which may wait for a standby that never answers. Waits are short."""
    with EmbeddedServer(18, settings=standby.SETTINGS) as server:
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE DATABASE app TEMPLATE template0")
        config = tmp_path / "lastgood.toml"
        config.write_text('[server]\nwait_limit = "2s"\n')
        yield prepared(server, "app", store, tmp_path / "state", ("--config", str(config)))


def databases(scene: Scene) -> list[str]:
    with scene.server.target("postgres").connect() as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [scene.live])
        return sorted(row[0] for row in rows if row[0] != scene.live)


@contextmanager
def stopped_at(scene: Scene, point: str, *arguments: str) -> Iterator[forked_cli.Process]:
    """lastgood at a fault point, where it has stopped itself; SIGCONT continues it."""
    process = scene.start(*arguments, fault_spec=f"{point}:stop")
    with process:
        try:
            scene.wait_for_stop(process)
            yield process
        finally:
            process.kill()


def test_walking_back_does_not_wait_for_a_standby_with_the_fence_held(standby_scene: Scene) -> None:
    with (
        stopped_at(standby_scene, "prove.before_verdict", "rollback", POINT, "--yes") as process,
        standby.commit_waiting_for_standby(standby_scene.server) as pid,
    ):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        with standby_scene.server.target("postgres").connect() as connection:
            until(lambda: _drops(connection), "DROP DATABASE waits")
            # The application writes again while the shadow is still being removed.
            with standby_scene.server.target("app").connect() as writer:
                writer.execute("SET lock_timeout = '1s'")
                writer.execute("UPDATE public.news SET state = state")
            assert process.poll() is None
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 7
        assert 'error: cannot revert the run: cannot drop the database "app_shadow_' in errors
        assert f'process {pid} of "postgres" ("the other application", in "postgres"), waiting' in errors
        assert "for a synchronous standby (SyncRep): TRUNCATE public.waits /*'…'*/" in " ".join(errors.split())
        remedy = f'SELECT pg_terminate_backend({pid}). To remove "app_shadow_'
        assert remedy in " ".join(errors.split())
        assert standby_scene.content() == OLD
        assert standby_scene.run("status").returncode == 7
        # Neither do those that come after it.
        again = standby_scene.run("abort", "--yes")
        assert again.returncode == 7
        assert " Then run: lastgood abort " in " ".join(again.stderr.split())
        resumed = standby_scene.run("resume", "--yes")
        assert resumed.returncode == 7
        assert standby_scene.content() == OLD
    assert standby_scene.run("resume", "--yes").returncode == 0
    assert (standby_scene.content(), standby_scene.leftovers()) == (NEW, [])
    assert standby_scene.run("status").returncode == 0


def test_a_prune_and_a_restore_end_too(standby_scene: Scene) -> None:
    assert standby_scene.run("rollback", POINT, "--yes").returncode == 0
    (kept,) = databases(standby_scene)
    with (
        stopped_at(standby_scene, "prove.before_verdict", "restore", POINT, "--into", "app_copy") as restoring,
        standby.commit_waiting_for_standby(standby_scene.server) as pid,
    ):
        restoring.send_signal(signal.SIGINT)
        restoring.send_signal(signal.SIGCONT)
        _, errors = restoring.communicate(timeout=60)
        assert restoring.returncode == 7
        assert 'error: cannot remove the incomplete database "app_copy": cannot drop the database "app_cop' in errors
        assert f"pg_terminate_backend({pid}). Then run: lastgood abort " in " ".join(errors.split())
        pruned = standby_scene.run("prune", kept, "--yes")
        assert pruned.returncode == 7
        assert f"Then run: lastgood prune {kept}" in " ".join(pruned.stderr.split())
        # An undo removes nothing, so it would continue; but its database is invalid now.
        undone = standby_scene.run("undo", "--yes")
        assert (undone.returncode, undone.stderr.splitlines()[0]) == (
            3,
            f'error: cannot undo run "{_run_of(standby_scene, kept)}": its kept database "{kept}" is invalid, because '
            "dropping it was interrupted",
        )
    status = standby_scene.run("status")
    assert status.returncode == 7
    invalid = f"INVALID: DROP DATABASE was interrupted. To remove it: lastgood prune {kept}"
    assert invalid in " ".join(status.stdout.split())
    assert "lastgood undo" not in status.stdout
    assert standby_scene.run("abort", "--yes").returncode == 0
    # What a prune began goes with the next one, whatever that is about.
    dry = standby_scene.run("prune", "--keep", "5", "--dry-run")
    assert "invalid: DROP DATABASE was interrupted" in " ".join(dry.stdout.split())
    assert standby_scene.run("prune", "--keep", "5", "--yes").returncode == 0
    assert databases(standby_scene) == []
    assert standby_scene.run("status").returncode == 0


def test_a_run_without_a_failure_is_not_affected(standby_scene: Scene) -> None:
    with standby.commit_waiting_for_standby(standby_scene.server):
        assert standby_scene.run("rollback", POINT, "--yes").returncode == 0
        assert standby_scene.content() == NEW
        assert standby_scene.run("undo", "--yes").returncode == 0
        assert standby_scene.content() == OLD


@pytest.mark.parametrize("way", ["abort", "prune"])
@pytest.mark.parametrize(
    ("point", "options"),
    [
        ("build.before_mark", ()),
        ("build.during_load", ()),
        ("prove.before_verdict", ()),
        ("build.before_mark", ("--skip-damaged",)),
    ],
)
def test_what_a_killed_restore_leaves_is_known(scene: Scene, point: str, options: tuple[str, ...], way: str) -> None:
    into = f"{scene.live}_copy 1"
    assert scene.run("restore", POINT, "--into", into, *options, fault_spec=f"{point}:kill").returncode == -9
    with scene.server.target("postgres").connect() as connection:
        left = find(connection, into)
        assert left is not None
        open_to_all = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a"
            " WHERE oid = %s AND datallowconn AND a.grantee = 0 AND a.privilege_type = 'CONNECT')",
            [left.oid],
        ).fetchone()
        assert open_to_all == (False,)
    status = scene.run("status")
    assert status.returncode == 7
    assert f'"{into}"' in status.stdout
    dry = scene.run("prune", "--keep", "0", "--dry-run")
    assert into in " ".join(dry.stdout.split())
    resumed = scene.run("resume", "--yes")
    assert resumed.returncode == 3
    done = scene.run("abort", "--yes") if way == "abort" else scene.run("prune", into, "--yes")
    assert done.returncode == 0, done.stderr
    assert databases(scene) == []
    assert scene.run("status").returncode == 0
    assert scene.content() == OLD


def test_a_restore_at_work_is_not_taken_for_a_killed_one(scene: Scene) -> None:
    into = f"{scene.live}_copy"
    with stopped_at(scene, "prove.before_verdict", "restore", POINT, "--into", into) as process:
        status = scene.run("status")
        assert (
            status.returncode,
            "in progress: wait, or interrupt it on its host" in " ".join(status.stdout.split()),
        ) == (0, True)
        for command in (("abort", "--yes"), ("prune", into, "--yes")):
            refused = scene.run(*command)
            assert refused.returncode == 3
            assert f'error: cannot remove the database "{into}": it is being created (' in refused.stderr
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 0
    assert scene.run("status").returncode == 0
    with psycopg.connect(scene.server.url(into)) as connection:
        assert connection.execute("SELECT count(*) FROM public.news").fetchone() == (2000,)


def test_a_resume_does_not_take_a_restore_for_a_rollback(scene: Scene) -> None:
    killed = scene.run("restore", POINT, "--into", f"{scene.live}_copy", fault_spec="prove.before_verdict:kill")
    assert killed.returncode == -9
    assert scene.run("rollback", POINT, "--yes", fault_spec="build.after_load:kill").returncode == -9
    # Of the two only one can be resumed, and either can be aborted.
    named = scene.run("abort", "--yes")
    assert (named.returncode, "cannot choose a run" in named.stderr) == (3, True)
    assert scene.run("resume", "--yes").returncode == 0
    assert scene.content() == NEW
    assert scene.run("abort", "--yes").returncode == 0
    assert scene.run("status").returncode == 0


def test_a_killed_trial_leaves_a_clone_that_is_known(scene: Scene, tmp_path: Path) -> None:
    command = ("deploy", "--dry-run", "--", "sleep", "600")
    with scene.start(*command) as process, scene.server.target("postgres").connect() as connection:
        until(lambda: _sleeps(connection, scene.live) or process.poll() is not None, "the clone is there")
        process.kill()
        _, errors = process.communicate(30)
    assert process.returncode == -9, errors
    status = scene.run("status")
    assert (status.returncode, "a trial" in status.stdout) == (7, True), status.stdout
    assert scene.run("abort", "--yes").returncode == 0
    assert databases(scene) == []


def _sleeps(connection: psycopg.Connection[tuple[object, ...]], live: str) -> bool:
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE starts_with(datname, %s)",
        [f"{live}_trial"],
    ).fetchone()
    return row is not None and row[0] is not None


def _drops(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    row = connection.execute(
        "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'DROP DATABASE%' AND state = 'active'"
    ).fetchone()
    return row is not None and row[0] == "ProcSignalBarrier"


def _run_of(scene: Scene, kept: str) -> str:
    with scene.server.target("postgres").connect() as connection:
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database')::jsonb ->> 'run' FROM pg_database WHERE datname = %s", [kept]
        ).fetchone()
    assert row is not None
    return str(row[0])


def test_an_invalid_kept_database_is_no_obstacle(scene: Scene) -> None:
    """An invalid kept database is no obstacle for the runs after it."""
    assert scene.run("rollback", POINT, "--yes").returncode == 0
    (kept,) = databases(scene)
    with scene.server.target("postgres").connect() as connection:
        connection.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [kept])
    assert scene.run("undo", "--dry-run").returncode == 3
    assert scene.run("rollback", POINT, "--yes").returncode == 0
    assert scene.run("undo", "--yes").returncode == 0
    assert scene.content() == NEW
    with scene.server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(kept)))
