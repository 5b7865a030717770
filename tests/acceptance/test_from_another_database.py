"""``rollback --from URL``: another running database is a restore point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import lastgood as lastgood


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own: the store is the one that a user has without settings."""
    monkeypatch.chdir(tmp_path)


def rows(server: EmbeddedServer, database: str) -> int:
    with server.target(database).connect() as connection:
        found = connection.execute("SELECT count(*) FROM public.contacts").fetchone()
    assert found is not None
    return int(found[0])


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str]) -> str:
    return with_contacts(server, new_database(), 7)


@pytest.fixture
def branch(server: EmbeddedServer, new_database: Callable[..., str]) -> str:
    return with_contacts(server, new_database(), 100)


def with_contacts(server: EmbeddedServer, database: str, count: int) -> str:
    with server.target(database).connect() as connection:
        connection.execute("CREATE TABLE public.contacts (id int PRIMARY KEY)")
        connection.execute("INSERT INTO public.contacts SELECT generate_series(1, %s)", [count])
    return database


def test_back_to_the_content_of_another_database(
    server: EmbeddedServer, live: str, branch: str, lastgood: Lastgood
) -> None:
    arguments = ("rollback", "--db", server.url(live), "--from", server.url(branch))
    dry = lastgood(*arguments, "--dry-run")
    assert dry.status == 0, dry.err
    assert f'the restore point is a dump of database "{branch}", not of "{live}"' in " ".join(dry.out.split())
    (dumped,) = Path("backups").glob("*_elsewhere.sql")
    assert dry.out.endswith(f"\nThe dump stays in the store. To use it: lastgood rollback {dumped.name}\n")
    assert rows(server, live) == 7
    done = lastgood(*arguments, "--yes")
    assert done.status == 0, done.err
    assert rows(server, live) == 100
    assert len([*Path("backups").glob(f"{branch}_*_elsewhere*.sql")]) == 2


def test_the_live_database_is_not_another_one(server: EmbeddedServer, live: str, lastgood: Lastgood) -> None:
    refused = lastgood("rollback", "--db", server.url(live), "--from", server.url(live), "--yes")
    assert refused.status == 2
    assert refused.err.splitlines()[-3:] == [
        "error: cannot roll back: --from names the live database itself",
        "state: Nothing was changed.",
        "next:  Give the URL of the other database.",
    ]


def test_a_url_that_cannot_be_read(server: EmbeddedServer, live: str, lastgood: Lastgood) -> None:
    refused = lastgood("rollback", "--db", server.url(live), "--from", "postgresql://me:p@ss@host/x", "--yes")
    assert refused.status == 2
    assert refused.err.startswith(
        "error: cannot parse the database URL from --from: the password contains reserved characters"
    )


def test_it_contradicts_a_name(server: EmbeddedServer, live: str, lastgood: Lastgood) -> None:
    refused = lastgood("rollback", "point.sql", "--db", server.url(live), "--from", server.url(live))
    assert refused.status == 2
    assert refused.err.startswith("error: cannot choose a restore point: POINT and --from contradict each other\n")
