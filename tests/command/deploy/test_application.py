"""A deployment around a real application: stopped and started by its hooks, and asked whether it works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.application import record
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood
from tests.mission.site import Site
from tests.mission.site import site as site

STOPPED, STARTED = ["maintenance_on", "stop"], ["start", "maintenance_off"]


@pytest.fixture
def migration(server: EmbeddedServer) -> Callable[[str], list[str]]:
    return lambda statement: [str(server.bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]


def test_it_is_stopped_meanwhile_and_what_it_does_not_work_with_is_taken_back(
    lastgood: Lastgood, site: Site, database: str, server: EmbeddedServer, migration: Callable[[str], list[str]]
) -> None:
    site.configure("[deploy]", "stop = true", *site.health())
    # Stopped before anything, started when the data was looked at.
    good = lastgood("deploy", "--json", "--", *migration("ALTER TABLE contacts ADD COLUMN email text"))
    assert good.status == 0, good.err
    assert site.called() == [*STOPPED, *STARTED]
    assert [hook["hook"] for hook in good.document["application"]["hooks"]] == [*STOPPED, *STARTED]
    assert good.document["application"]["health"]["problem"] == ""
    # The migration fails and leaves nothing: the application is only started again.
    nothing = lastgood("deploy", "--json", "--", *migration("SELECT 1 / 0"))
    assert (nothing.status, site.called()[4:]) == (5, [*STOPPED, *STARTED])
    assert nothing.document["error"]["state"].endswith(" The application was started again.")
    # It ends well, and the application does not work with what it did: it is stopped once more for the switch.
    renamed = lastgood("deploy", "--json", "--", *migration("ALTER TABLE contacts RENAME TO people"))
    assert renamed.status == 6, renamed.err
    assert renamed.document["error"]["message"] == (
        f"cannot deploy: health check {site.url}/health of the application failed: status 500, expected 200"
    )
    assert site.called()[8:] == [*STOPPED, *STARTED, *STOPPED, *STARTED]
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(email) + count(*) FROM public.contacts").fetchone() == (3,)
    assert record.read(Path("state"), server.target(database)) is None


def test_what_was_ill_before_decides_nothing(
    lastgood: Lastgood, site: Site, migration: Callable[[str], list[str]]
) -> None:
    site.configure(*site.health(), hooks=False)
    site.needs = "SELECT count(*) FROM public.nowhere"
    done = lastgood("deploy", "--json", "--", *migration("ALTER TABLE contacts ADD COLUMN email text"))
    assert done.status == 0, done.err
    assert done.document["remarks"] == [
        "the health check failed before the migration (status 500, expected 200): its result is not used",
        "the migration recorded nothing in supabase_migrations.schema_migrations: the newest version is still "
        '"20251102"',
    ]
