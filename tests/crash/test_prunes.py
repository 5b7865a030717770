"""Prunes that are cut off at random moments: what a DROP DATABASE leaves is shown as invalid, and the next prune
removes it."""

from __future__ import annotations

import json
import random
import threading
import time

import pytest

from tests.conftest import seeds
from tests.crash.conftest import Tally
from tests.crash.test_crash import NEW, Scene
from tests.crash.test_crash import scene as scene

POINT = "cloud_backup_20251104_143000.sql"
SHORT, LONG = 2, 25


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds(metafunc.config, SHORT, LONG))


def test_a_prune_that_is_cut_off(scene: Scene, seed: int, tally: Tally) -> None:
    chance = random.Random(seed)
    for _ in range(2):
        assert scene.run("rollback", POINT, "--yes").returncode == 0
    tally.add("prunes: cut off in DROP DATABASE")
    over = threading.Event()

    def cut() -> None:
        """Ends the session that drops, as soon as it does, or a moment later."""
        with scene.server.target("postgres").connect(application_name="the cutter") as connection:
            while not over.is_set():
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DROP DATABASE%' AND state = 'active'"
                ).fetchall()
                if rows:
                    time.sleep(chance.uniform(0.0, 0.02))  # the moment is what is random
                for (pid,) in rows:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                over.wait(0.001)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        pruned = scene.run("prune", "--keep", "1", "--yes")
    finally:
        over.set()
        thread.join()
    assert pruned.returncode in (0, 5, 7), pruned.stderr
    seen = json.loads(scene.run("status", "--json").stdout)
    for each in seen["kept"]:
        assert (each["undo_command"] is None) == each["invalid"]
        tally.add("prunes: databases left invalid", each["invalid"])
    # The newest one is whole, and the way back.
    assert not seen["kept"][0]["invalid"]
    assert scene.run("prune", "--keep", "1", "--yes").returncode == 0
    left = json.loads(scene.run("status", "--json").stdout)["kept"]
    assert [each["invalid"] for each in left] == [False]
    assert scene.run("undo", "--yes").returncode == 0
    assert scene.content() == NEW
