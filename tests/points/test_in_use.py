"""Restore points that are still needed are not removed, regardless of other rules."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.command.prune import plan as planning
from lastgood.command.prune import removal
from lastgood.config.tables import Keep, Retention
from lastgood.context import Context
from lastgood.errors import Refused
from lastgood.events import Event, Note
from lastgood.journal import Journal, caller
from lastgood.journal.run_names import new_run
from lastgood.points import pins
from lastgood.points.dump_point import take
from lastgood.points.manifest import manifest_path
from lastgood.postgres import database
from lastgood.postgres.deployment import DeploymentMark, clear_deployment, mark_deployment
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.mark import Mark
from lastgood.postgres.server import Target

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
EVERYTHING = planning.Criteria(older_than=timedelta(0))


class Store:
    """Restore points of one database, made at moments of our choice."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self.state = folder.parent / "state"
        one = take(target, folder).path
        self._content = one.read_bytes()
        self._manifest = json.loads(manifest_path(one).read_text())
        one.unlink()
        manifest_path(one).unlink()

    def add(self, name: str, made_at: datetime, **manifest: str) -> Path:
        path = self.folder / name
        path.write_bytes(self._content)
        manifest_path(path).write_text(json.dumps({**self._manifest, **manifest, "made_at": made_at.isoformat()}))
        return path

    def reasons(self, criteria: planning.Criteria, within: float = 0.0) -> dict[str, str]:
        plan = planning.plan(self.target, self.folder, criteria, self.state, post_mortem_within=within)
        return {each.name: "remove" if each.remove else each.why for each in plan.candidates}


@pytest.fixture
def made(server: EmbeddedServer, new_database: Callable[..., str], store: Path) -> Store:
    return Store(server.target(new_database("crm")), store)


def test_unfinished_or_running_work_keeps_its_restore_point(
    made: Store, server: EmbeddedServer, tmp_path: Path
) -> None:
    made.add("newest.sql", NOW + timedelta(days=1))  # because a valid one must exist
    for number, name in enumerate(("deployed", "restoring", "free")):
        made.add(f"{name}.sql", NOW - timedelta(days=number))
    live = made.target.dbname
    shadow = f"{live}_shadow_1"
    with server.target("postgres").connect() as maintenance:
        oid = database.describe(maintenance, live).oid
        common: dict[str, Any] = {
            "live": live, "live_oid": oid, "host": "web-1", "pid": 1, "user": "ann", "started": NOW,
        }  # fmt: skip
        deployment = DeploymentMark(run="20260615-1", point="/elsewhere/deployed.sql", program="psql", **common)
        mark_deployment(maintenance, deployment)
        maintenance.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(shadow)))
        mark = Mark(role="shadow", run="20260615-2", point="/mnt/backups/restoring.sql", **common)
        database.comment(maintenance, shadow, mark.text())
        assert made.reasons(EVERYTHING) == {
            "newest.sql": "remove",
            "deployed.sql": "the unfinished deployment 20260615-1 needs it",
            "restoring.sql": "an unfinished run needs it",
            "free.sql": "remove",
        }
        with pytest.raises(Refused) as caught:
            made.reasons(planning.Criteria(named=("deployed.sql", "free.sql")))
        assert (caught.value.message, caught.value.hint, caught.value.state) == (
            'cannot prune "deployed.sql": the unfinished deployment 20260615-1 needs it',
            "Run lastgood status to see which unfinished run needs it.",
            "Nothing was removed.",
        )
        clear_deployment(maintenance, deployment)
        database.drop(maintenance, shadow, database.describe(maintenance, shadow).oid)
    assert set(made.reasons(EVERYTHING).values()) == {"remove", "the last valid restore point"}


def test_while_a_drill_is_running_nothing_is_removed(made: Store) -> None:
    made.add("newest.sql", NOW)
    made.add("older.sql", NOW - timedelta(days=1))
    with subprocess.Popen(["true"]) as gone:
        pass
    alive = {"host": caller.host(), "pid": os.getpid()}
    criteria = planning.Criteria(keep=1)
    for begun in (
        {"kind": "drill", "live": "billing", **alive},
        {"kind": "drill", "live": made.target.dbname, "host": caller.host(), "pid": gone.pid},
        {"kind": "drill", "live": made.target.dbname, "host": "elsewhere", "pid": os.getpid()},
        {"kind": "backup", "live": made.target.dbname, **alive},
    ):
        Journal.create(made.state, new_run(datetime.now(UTC))).write("begun", **begun)
        assert made.reasons(criteria)["older.sql"] == "remove"
    drill = Journal.create(made.state, new_run(datetime.now(UTC)))
    drill.write("begun", kind="drill", live=made.target.dbname, **alive)
    assert made.reasons(criteria)["older.sql"] == f"drill {drill.run} is running and may read it"
    drill.write("ended", status="done")
    assert made.reasons(criteria)["older.sql"] == "remove"


def test_a_pin_that_comes_late_or_can_not_be_read_holds(made: Store) -> None:
    made.add("newest.sql", NOW + timedelta(days=1))
    good, odd = made.add("good.sql", NOW), made.add("odd.sql", NOW - timedelta(days=1))
    pins.pin_path(odd).write_text("{")
    criteria = planning.Criteria(keep=1)
    assert made.reasons(criteria) == {
        "newest.sql": "among the 1 newest",
        "good.sql": "remove",
        "odd.sql": 'pinned: its pin "odd.sql.pin.lastgood.json" cannot be read',
    }
    plan = planning.plan(made.target, made.folder, criteria)
    pins.pin(good, "wait")
    events: list[Event] = []
    assert removal.run(made.target, plan, Context(events.append))["removed"] == []
    pin = pins.pin_of(good)
    assert pin is not None
    assert Note(f'"good.sql" is now needed and was not removed: pinned by {pin.by}: wait') in events
    assert good.exists() and manifest_path(good).exists()
    assert pins.unpin(good) and not pins.unpin(good)
    assert removal.run(made.target, plan)["removed"] == ["good.sql"]


def test_each_kind_of_restore_point_is_counted_by_itself(made: Store) -> None:
    """An emergency backup, a damaged one or a foreign dump must not replace a backup."""
    policy = planning.Criteria(retention=Retention(keep=Keep(daily=1)))
    made.add("new.sql", NOW)
    made.add("old.sql", NOW - timedelta(days=40))
    made.add("saved.sql", NOW + timedelta(hours=1), purpose="emergency")
    made.add("saved_before.sql", NOW - timedelta(days=41), purpose="emergency")
    cut = made.add("cut.sql", NOW + timedelta(hours=2))
    cut.write_bytes(cut.read_bytes()[:-100])
    made.add("neighbour.sql", NOW + timedelta(hours=3), database="billing")
    foreign = made.folder / "foreign.sql"
    foreign.write_bytes((made.folder / "new.sql").read_bytes())
    stays = "not made by lastgood: remove it by name, or set foreign = true in [retention]"
    expected = {
        "cut.sql": "daily 2026-06-15",
        "foreign.sql": stays,
        "saved.sql": "daily 2026-06-15",
        "new.sql": "daily 2026-06-15",
        "old.sql": "remove",
        "saved_before.sql": "remove",
    }
    assert made.reasons(policy) == expected
    also_foreign = replace(policy, retention=Retention(keep=Keep(daily=1), foreign=True))
    assert made.reasons(also_foreign)["foreign.sql"].startswith("daily ")
    only_kept = replace(policy, retention=Retention(kept=Keep(last=1)))
    assert made.reasons(only_kept)["old.sql"] == "[retention] has no rule for restore points"
    # The age counts back from the newest valid one: damaged ones and those in the future are ignored.
    within = replace(policy, retention=Retention(keep=Keep(within=30 * 86400)))
    assert made.reasons(within)["new.sql"] == "within 30 days"


def test_an_emergency_backup_stays_while_a_post_mortem_is_due_on_any_machine(made: Store) -> None:
    """The rollback may have been run from another machine, which has its journal."""
    now = datetime.now(UTC)
    made.add("newest.sql", now)
    for hours in (1, 47, 49):
        made.add(f"saved_{hours}.sql", now - timedelta(hours=hours), purpose="emergency")
    assert made.reasons(planning.Criteria(keep=1), within=48 * 3600) == {
        "newest.sql": "among the 1 newest",
        "saved_1.sql": "emergency backup of the last 2 days",
        "saved_47.sql": "emergency backup of the last 2 days",
        "saved_49.sql": "remove",
    }
    assert made.reasons(planning.Criteria(named=("saved_1.sql",)), within=48 * 3600)["saved_1.sql"] == "remove"


def test_when_only_a_damaged_one_would_stay_the_last_valid_one_stays_too(made: Store) -> None:
    made.add("whole.sql", NOW - timedelta(days=3))
    cut = made.add("cut.sql", NOW)
    content = cut.read_bytes()
    cut.write_bytes(b" " * 50 + content[50:])
    policy = planning.Criteria(retention=Retention(keep=Keep(last=1)))
    assert made.reasons(policy) == {"cut.sql": "the newest", "whole.sql": "the last valid restore point"}


def test_what_does_not_stand_in_for_the_last_valid_one(made: Store) -> None:
    """A dump of an unknown database, and links to files that are removed."""
    made.add("ours.sql", NOW - timedelta(days=3))
    cut = made.add("cut.sql", NOW)
    cut.write_bytes(b" " * cut.stat().st_size)
    foreign = made.add("shop.sql", NOW)
    manifest_path(foreign).unlink()
    policy = planning.Criteria(retention=Retention(keep=Keep(last=1)))
    assert made.reasons(policy)["ours.sql"] == "the last valid restore point"
    foreign.unlink()
    (made.folder / "latest.sql").symlink_to("ours.sql")
    assert made.reasons(policy) == {
        "latest.sql": planning.FOREIGN_STAYS,
        "cut.sql": "the newest",
        "ours.sql": "the last valid restore point",
    }
