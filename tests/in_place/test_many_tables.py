"""A thousand tables: the switch needs no more locks than the survey says, and the setting that a refusal names is
enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from lastgood import fault
from lastgood.errors import Refused
from lastgood.in_place.exchange import switch
from lastgood.in_place.survey import survey
from lastgood.postgres.server import Connection
from tests.conftest import OURS, require
from tests.support.hosted import OWN, Project, stage

UNDO = "20261122-031500-00000001"
# What a server has without any of these settings.
DEFAULTS = {"max_connections": "100", "max_locks_per_transaction": "64", "max_prepared_transactions": "0"}
_TABLES = """
DO $$ BEGIN FOR n IN 1..{tables} LOOP
  EXECUTE format('CREATE TABLE public.t%s (id {key} PRIMARY KEY, parent bigint REFERENCES public.contacts)', n);
  EXECUTE format('CREATE INDEX ON public.t%s (parent)', n);
  IF n % 100 = 0 THEN COMMIT; END IF;
END LOOP; END $$
"""
_HELD = "SELECT count(*) FROM pg_locks WHERE pid = %s"


@pytest.fixture
def started() -> Iterator[Callable[[int, Mapping[str, str]], Project]]:
    """Starts a hosted project of a version, with these settings."""
    with ExitStack() as stack:

        def start(major: int, settings: Mapping[str, str]) -> Project:
            require(major)
            project = Project(major, settings={**OURS, **settings})
            stack.callback(project.close)
            return project

        yield start


def with_tables(project: Project, tables: int, key: str = "bigserial") -> str:
    database = project.copy()
    with project.connect(database) as connection:
        connection.execute(_TABLES.format(tables=tables, key=key).encode())
    return database


def there_and_back(project: Project, database: str) -> tuple[int, int]:
    """Switch, and undo it. Returns the locks that the switch held at its end, and those of the survey."""
    staged = stage(project, database, database)
    held: list[int] = []
    with project.connect(database) as connection, project.connect(database) as other:
        expected = survey(connection, OWN).locks
        with fault.armed("inplace.before_commit", lambda: held.append(locks(other, connection))):
            switch.swap(connection, staged.run, schemas=OWN, wished=staged.ties, manifest="digest")
            switch.undo(connection, staged.run, UNDO)
    return max(held), expected


def locks(other: Connection, of: Connection) -> int:
    row = other.execute(_HELD, [of.info.backend_pid]).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("major", [18])
def test_a_thousand_tables_fit_the_default_lock_table(
    major: int, started: Callable[[int, Mapping[str, str]], Project]
) -> None:
    project = started(major, DEFAULTS)
    with project.connect(with_tables(project, 1000)) as connection:
        (refusal,) = survey(connection, OWN).refusals  # each table has a sequence
    assert refusal.endswith(" locks, more than half of the server's 6400: raise max_locks_per_transaction to 107")
    database = with_tables(project, 1000, "bigint")
    with project.connect(database) as connection:
        assert survey(connection, OWN).refusals == ()
    held, expected = there_and_back(project, database)
    assert 2000 < held <= expected


@pytest.mark.parametrize("major", [18])
def test_the_setting_that_a_refusal_names_is_enough(
    major: int, started: Callable[[int, Mapping[str, str]], Project]
) -> None:
    small = {**DEFAULTS, "max_connections": "25"}
    project = started(major, small)
    database = with_tables(project, 400)
    with project.connect(database) as connection:
        found = survey(connection, OWN)
    (refusal,) = found.refusals
    text, _, setting = refusal.rpartition(" ")
    assert text == (
        f"the switchover needs {found.locks} locks, more than half of the server's 1600: raise "
        "max_locks_per_transaction to"
    )
    staged = stage(project, database, database)
    with project.connect(database) as connection, pytest.raises(Refused) as refused:
        switch.swap(connection, staged.run, schemas=OWN, wished=staged.ties, manifest="digest")
    assert refused.value.message.startswith("cannot switch: the switchover needs ")
    project.close()
    enough = started(major, {**small, "max_locks_per_transaction": setting})
    held, expected = there_and_back(enough, with_tables(enough, 400))
    assert held <= expected
