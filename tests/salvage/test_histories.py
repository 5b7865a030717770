"""Random histories of a restore point and what was written to both sides since, against a model in plain Python, and
against the server: what it finds with EXCEPT ALL, generated columns included, and its own check of each foreign key.

Each history has a number, its seed. LASTGOOD_SALVAGE=long tries a thousand of them, in parts for several processes
(``-n``); LASTGOOD_SALVAGE=400-999 those, for a run that was interrupted; LASTGOOD_SALVAGE=17 one. The failing numbers
are printed, each with the smallest history that still fails.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from tests.salvage import histories
from tests.salvage.smaller import failure, smaller

ASKED = os.environ.get("LASTGOOD_SALVAGE", "")
FIRST, _, LAST = ("0-999" if ASKED == "long" else ASKED or "0-7").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)
# Each part has a database of its own: catalogues grow with each history, and with them the time of every query.
PART = 10


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", SEEDS[::PART])
def test_histories(server: Any, new_database: Any, first: int) -> None:
    target = server.target(new_database("salvage"))
    failures = []
    with target.connect() as connection:
        connection.prepare_threshold = None
        connection.execute(histories.TYPES)
        no_case = False
        with suppress(psycopg.errors.FeatureNotSupported):
            connection.execute(histories.NO_CASE)
            no_case = True
        for seed in range(first, min(first + PART, SEEDS.stop)):
            history = histories.drawn(seed, no_case=no_case)
            if (error := failure(target, connection, history)) is not None:
                small, error = smaller(target, connection, history, error)
                failures.append(f"LASTGOOD_SALVAGE={seed}: {error!r}\n{small}")
    assert not failures, "\n\n".join(failures)
