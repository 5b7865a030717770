"""What a migration finds in its environment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg import conninfo

from lastgood.command.deploy.environment import environment, leads_to, like, resolved, url
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target

KEYWORDS = {"host": "db.example.org", "port": "5433", "user": "o'wner", "password": "p@ss/w:rd", "dbname": "crm"}


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (KEYWORDS, "postgresql://o%27wner:p%40ss%2Fw%3Ard@db.example.org:5433/crm"),
        (
            {"host": "/tmp/s", "port": "5432", "user": "u", "dbname": "ü b"},
            "postgresql://u@/%C3%BC%20b?host=/tmp/s&port=5432",
        ),
        (
            {"host": "a,b", "port": "1,2", "user": "u", "dbname": "d", "target_session_attrs": "read-write"},
            "postgresql://u@a:1,b:2/d?target_session_attrs=read-write",
        ),
        ({"host": "::1", "port": "5432", "user": "u", "dbname": "d"}, "postgresql://u@[::1]:5432/d"),
        ({**KEYWORDS, "options": "-c x=1", "application_name": "a"}, url(KEYWORDS)),
    ],
)
def test_the_url_means_the_same_to_libpq(keywords: dict[str, str], expected: str) -> None:
    assert url(keywords) == expected
    ours = {key: value for key, value in keywords.items() if key not in ("options", "application_name")}
    assert {k: str(v) for k, v in conninfo.conninfo_to_dict(expected).items()} == ours


def test_everything_that_names_a_database_leads_to_this_one() -> None:
    given = {
        "PATH": "/bin",
        "PGSERVICE": "production",
        "PGDATABASE": "other",
        "DATABASE_URL": "postgres://me:old@pool.example.org:6543/crm?schema=public&sslmode=require",
        "LASTGOOD_DB": "postgresql:///other",
    }
    found = environment(
        KEYWORDS, run="R", variables=["DATABASE_URL", "MY_URL"], facts={"live": "crm", "point": ""}, given=given
    )
    place = "o%27wner:p%40ss%2Fw%3Ard@db.example.org:5433/crm"
    assert found == {
        "PATH": "/bin",
        "PGHOST": "db.example.org",
        "PGPORT": "5433",
        "PGUSER": "o'wner",
        "PGPASSWORD": "p@ss/w:rd",
        "PGDATABASE": "crm",
        "PGAPPNAME": "lastgood migration R",
        # In the form that the tool is used to.
        "DATABASE_URL": f"postgres://{place}?schema=public",
        "MY_URL": f"postgresql://{place}",
        "LASTGOOD_DB": f"postgresql://{place}",
        "LASTGOOD_LIVE": "crm",
    }


@pytest.mark.parametrize("existing", ["", "mysql://x/y", "not a url", "postgresql://[broken/y"])
def test_what_is_no_url_of_postgresql_is_replaced(existing: str) -> None:
    assert like(existing, "postgresql://u@h:1/d") == "postgresql://u@h:1/d"


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("postgresql://u@db.example.org:5433/crm", True),
        ("postgresql+asyncpg://u:p@db.example.org:5433/crm?ssl=require", True),
        ("postgres://u@db.example.org:5433/crm?schema=public", True),
        ("host=db.example.org port=5433 dbname=crm", True),
        ("dbname=crm port=5433", True),  # regardless of PGHOST
        ("postgresql://u@db.example.org:5433/crm_trial_1", False),
        ("postgresql://u@db.example.org:5432/crm", False),
        ("postgresql://u@staging.example.org:5433/crm", False),
        ("https://example.org/crm", False),
        ("crm", False),
        ("", False),
    ],
)
def test_what_leads_to_the_live_database(text: str, leads: bool) -> None:
    assert leads_to(text, KEYWORDS) is leads


def test_what_libpq_found_out_is_spelled_out(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, clone = new_database("live"), new_database("clone")
    # A service's database would beat PGDATABASE.
    services = server.folder / "pg_service.conf"
    services.write_text(f"[production]\nhost={server.folder}\nport=5432\nuser=postgres\ndbname={live}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    found = resolved(Target({"service": "production"}), clone)
    assert found["dbname"] == clone
    assert (found["host"], found["port"], found["user"]) == (str(server.folder), "5432", "postgres")
    assert found["options"] == "-c client_connection_check_interval=2s"
    assert "service" not in found
    # Nothing that the libpq of the migration may be too old for.
    assert set(found) == {"user", "password", "host", "port", "dbname", "options"}
