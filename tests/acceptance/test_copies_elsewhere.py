"""A dump of one server restored as a copy on another: what that one lacks, and what its role may not give."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood

HEAD = """\
--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

"""
TABLE = """\
CREATE TABLE public.t (
    id integer
);

"""
ROWS = """\
COPY public.t (id) FROM stdin;
1
\\.

"""
END = """\
--
-- PostgreSQL database dump complete
--

"""
# As RDS and Cloud SQL have them.
GRANTS = """\
REVOKE ALL ON SCHEMA public FROM elsewhere_admin;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO PUBLIC;
GRANT SELECT ON TABLE public.t TO elsewhere_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE elsewhere_owner IN SCHEMA public REVOKE ALL ON TABLES FROM elsewhere_admin;
ALTER DEFAULT PRIVILEGES FOR ROLE elsewhere_owner IN SCHEMA public GRANT SELECT ON TABLES TO elsewhere_reader;

"""
OWNER = "ALTER TABLE public.t OWNER TO elsewhere_owner;\n\n"


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The database next to which copies are made."""
    name = new_database("copies")
    monkeypatch.setenv("LASTGOOD_DB", server.target(name).child()[0])
    return name


def point(*parts: str) -> str:
    store = Path("backups")
    store.mkdir(exist_ok=True)
    (store / "point.sql").write_text(HEAD + "".join(parts) + END, encoding="utf-8")
    return "point.sql"


def names(server: EmbeddedServer) -> set[str]:
    with server.target("postgres").connect() as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_catalog.pg_database")}


@pytest.fixture
def reader(server: EmbeddedServer) -> Iterator[None]:
    """The role that the dump grants something to."""
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE elsewhere_reader NOLOGIN")
        yield
        for (name,) in connection.execute("SELECT datname FROM pg_catalog.pg_database WHERE datname LIKE 'copies%'"):
            with server.target(name).connect() as inside:
                inside.execute("DROP OWNED BY elsewhere_reader")
        connection.execute("DROP ROLE elsewhere_reader")


@pytest.mark.postgres(15, 18)
def test_all_that_the_server_lacks_is_refused_at_once(server: EmbeddedServer, live: str, lastgood: Lastgood) -> None:
    before = names(server)
    extensions = (
        "CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public;\n"
        "CREATE EXTENSION IF NOT EXISTS pg_graphql WITH SCHEMA public;\n\n"
    )
    space = "SET default_tablespace = fast_disk;\n\n"
    name = point(extensions, space, TABLE, OWNER, ROWS, GRANTS)
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--json")
    assert outcome.status == 3
    assert outcome.document["error"]["message"] == (
        'cannot restore "point.sql": the restore point needs roles that this server lacks: elsewhere_owner, '
        "elsewhere_reader; the restore point needs extensions that are not installed on this server: pg_graphql, "
        "timescaledb; the restore point needs tablespaces that this server lacks: fast_disk"
    )
    major = server.major
    assert outcome.document["error"]["hint"] == (
        'Create the roles: CREATE ROLE "elsewhere_owner" NOLOGIN; CREATE ROLE "elsewhere_reader" NOLOGIN; or restore '
        "without owners and privileges: --no-owner --no-acl. Install the packages of the extensions on the server's "
        f"machine (on Debian: postgresql-{major}-timescaledb), then run the command again. Create the tablespaces, "
        "then run the command again."
    )
    assert names(server) == before


@pytest.mark.postgres(15, 18)
def test_a_copy_without_owners_and_privileges_needs_no_roles(
    server: EmbeddedServer, live: str, lastgood: Lastgood
) -> None:
    name = point(TABLE, OWNER, ROWS, GRANTS)
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--no-owner", "--no-acl", "--json")
    assert outcome.status == 0, outcome.out
    assert [(each["what"], each["why"], each["count"]) for each in outcome.document["skipped"]] == [
        ("owner", "owners are not restored (--no-owner)", 1),
        ("grant", "privileges are not restored (--no-acl)", 4),
        ("default privileges", "privileges are not restored (--no-acl)", 2),
    ]
    with server.target(f"{live}_copy").connect() as connection:
        row = connection.execute(
            "SELECT pg_get_userbyid(relowner), relacl FROM pg_class WHERE oid = 'public.t'::regclass"
        )
        assert row.fetchone() == ("postgres", None)


def test_each_option_needs_the_roles_of_the_other(live: str, lastgood: Lastgood) -> None:
    name = point(TABLE, OWNER, ROWS, GRANTS)
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--no-owner", "--json")
    assert outcome.status == 3
    assert outcome.document["error"]["message"] == (
        'cannot restore "point.sql": the restore point needs roles that this server lacks: elsewhere_owner, '
        "elsewhere_reader"
    )
    assert outcome.document["error"]["hint"].endswith("; or restore without privileges: --no-acl.")
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--no-acl", "--json")
    assert outcome.status == 3
    assert outcome.document["error"]["hint"] == (
        'Create the roles: CREATE ROLE "elsewhere_owner" NOLOGIN; or restore without owners: --no-owner.'
    )


@pytest.mark.postgres(15, 18)
def test_a_revoke_from_a_missing_role_is_empty(
    server: EmbeddedServer, live: str, reader: None, lastgood: Lastgood
) -> None:
    grants = "".join(line + "\n" for line in GRANTS.splitlines() if "DEFAULT PRIVILEGES" not in line)
    name = point(TABLE, ROWS, grants)
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--json")
    assert outcome.status == 0, outcome.out
    assert [(each["what"], each["why"], each["count"]) for each in outcome.document["skipped"]] == [
        ("grant", 'role "elsewhere_admin" does not exist', 1)
    ]
    with server.target(f"{live}_copy").connect() as connection:
        row = connection.execute("SELECT has_table_privilege('elsewhere_reader', 'public.t', 'SELECT')").fetchone()
        assert row == (True,)


def test_a_strict_restore_needs_that_role_too(live: str, reader: None, lastgood: Lastgood) -> None:
    name = point(TABLE, ROWS, "REVOKE ALL ON TABLE public.t FROM elsewhere_admin;\n\n")
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--strict", "--json")
    assert outcome.status == 3
    assert outcome.document["error"]["message"] == (
        'cannot restore "point.sql": the restore point needs roles that this server lacks: elsewhere_admin'
    )


def test_a_rollback_is_not_refused_for_an_empty_revoke(live: str, lastgood: Lastgood) -> None:
    name = point(TABLE, ROWS, "REVOKE ALL ON TABLE public.t FROM elsewhere_admin;\n\n")
    outcome = lastgood("rollback", name, "--yes", "--json")
    assert outcome.status == 0, outcome.out
    assert [each["why"] for each in outcome.document["skipped"]] == ['role "elsewhere_admin" does not exist']


def test_a_policy_for_a_missing_role_has_no_way_around(live: str, lastgood: Lastgood) -> None:
    name = point(TABLE, ROWS, "CREATE POLICY p ON public.t TO elsewhere_reader USING (true);\n\n")
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--no-owner", "--no-acl", "--json")
    assert outcome.status == 3
    assert outcome.document["error"]["hint"] == 'Create the roles: CREATE ROLE "elsewhere_reader" NOLOGIN.'


def test_the_mode_for_damaged_files_has_no_need_of_these_options(live: str, lastgood: Lastgood) -> None:
    name = point(TABLE, OWNER, ROWS, GRANTS)
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--skip-damaged", "--no-acl", "--json")
    assert outcome.status == 2
    assert outcome.document["error"]["message"] == (
        "cannot combine --skip-damaged with --no-acl: it already skips and lists what the server rejects"
    )
    assert lastgood("restore", name, "--into", f"{live}_copy", "--skip-damaged").status == 0


@pytest.fixture
def platform(server: EmbeddedServer, tmp_path: Path) -> Iterator[str]:
    """A role that may create databases, and a trusted extension whose objects the platform owns: the server makes them
    as the superuser of initdb."""
    folder = tmp_path / "share"
    for each in (tmp_path, *tmp_path.parents):
        if each != Path(each.anchor) and each.stat().st_uid == os.getuid():
            each.chmod(each.stat().st_mode | 0o011)
    (folder / "extension").mkdir(parents=True)
    (folder / "extension" / "platformx.control").write_text(
        "default_version = '1.0'\ntrusted = true\nschema = platformx\n"
    )
    (folder / "extension" / "platformx--1.0.sql").write_text(
        "CREATE TABLE platformx.secret (i int);\n"
        "CREATE FUNCTION platformx.shared() RETURNS int LANGUAGE sql AS 'SELECT 1';\n"
    )
    role = f"hosted_{os.getpid()}"
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER SYSTEM SET extension_control_path = {}").format(f"{folder}:$system"))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(sql.Identifier(role)))
        connection.execute("SELECT pg_reload_conf()")
        yield role
        connection.execute("ALTER SYSTEM RESET extension_control_path")
        connection.execute("SELECT pg_reload_conf()")
        for (name,) in connection.execute("SELECT datname FROM pg_catalog.pg_database WHERE datname LIKE 'copies%'"):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.postgres(18)
def test_privileges_on_what_the_platform_owns_are_left_out_and_listed(
    server: EmbeddedServer, platform: str, lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = f"copies_{os.getpid()}_hosted"
    role = sql.Identifier(platform)
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(live), role))
    monkeypatch.setenv("LASTGOOD_DB", f"{server.target(live).child()[0]} user={platform}")
    extension = (
        "CREATE SCHEMA platformx;\n\nALTER SCHEMA platformx OWNER TO postgres;\n\n"
        "CREATE EXTENSION IF NOT EXISTS platformx WITH SCHEMA platformx;\n\n"
    )
    grants = (
        f"REVOKE ALL ON FUNCTION platformx.shared() FROM postgres;\n"
        f"GRANT ALL ON FUNCTION platformx.shared() TO {platform} WITH GRANT OPTION;\n"
        f"GRANT ALL ON TABLE platformx.secret TO {platform} WITH GRANT OPTION;\n"
        f"GRANT SELECT ON TABLE public.t TO PUBLIC;\n\n"
    )
    name = point(extension, TABLE, ROWS, grants)
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--json")
    assert outcome.status == 0, outcome.out
    assert [(each["what"], each["why"]) for each in outcome.document["skipped"]] == [
        ("owner", 'must be able to SET ROLE "postgres"'),
        ("grant", 'no privileges could be revoked for "shared"'),
        ("grant", 'no privileges were granted for "shared"'),
        ("grant", "permission denied for table secret"),
    ]
    with server.target(f"{live}_copy").connect() as connection:
        row = connection.execute("SELECT relacl::text FROM pg_class WHERE oid = 'public.t'::regclass").fetchone()
    assert row is not None
    assert "=r/" in row[0]


@pytest.mark.postgres(18)
def test_a_strict_copy_stops_at_a_privilege_without_effect(
    server: EmbeddedServer, platform: str, lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = f"copies_{os.getpid()}_strict"
    with server.target("postgres").connect() as connection:
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(statement.format(sql.Identifier(live), sql.Identifier(platform)))
    monkeypatch.setenv("LASTGOOD_DB", f"{server.target(live).child()[0]} user={platform}")
    extension = "CREATE SCHEMA platformx;\n\nCREATE EXTENSION IF NOT EXISTS platformx WITH SCHEMA platformx;\n\n"
    name = point(extension, TABLE, ROWS, f"GRANT ALL ON FUNCTION platformx.shared() TO {platform};\n\n")
    outcome = lastgood("restore", name, "--into", f"{live}_copy", "--strict", "--json")
    assert outcome.status == 5
    assert outcome.document["error"]["message"] == (
        'cannot load line 21 of "point.sql" (byte 331, grant): no privileges were granted for "shared"'
    )
