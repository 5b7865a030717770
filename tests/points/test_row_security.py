"""Tables whose rows are hidden from the role that makes a backup: reported before the backup, with a next step that
works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.errors import Failed
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from tests.support import forked_cli

ROLE = "rows_owner"


@pytest.fixture
def live(server: EmbeddedServer, new_database: Callable[[str], str]) -> Iterator[str]:
    """A database of a role without BYPASSRLS, with a table under FORCE ROW LEVEL SECURITY and one that is not."""
    name = new_database("app")
    with server.target("postgres").connect() as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO rows_owner").format(sql.Identifier(name)))
    with server.target(name, user=ROLE).connect() as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute('CREATE TABLE s."T" (id integer PRIMARY KEY); INSERT INTO s."T" VALUES (1)')
        connection.execute('ALTER TABLE s."T" ENABLE ROW LEVEL SECURITY; ALTER TABLE s."T" FORCE ROW LEVEL SECURITY')
        connection.execute("CREATE TABLE s.plain (id integer); ALTER TABLE s.plain ENABLE ROW LEVEL SECURITY")
    yield name
    with server.target(name).connect() as connection:
        connection.execute(f"REASSIGN OWNED BY {ROLE} TO postgres; DROP OWNED BY {ROLE}")
    with server.target("postgres").connect() as connection:
        connection.execute(f"REASSIGN OWNED BY {ROLE} TO postgres; DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def checked(server: EmbeddedServer, live: str, store: Path, state: Path) -> dict[str, str]:
    done = forked_cli.run(
        *("check", "--json", "--db", server.url(live, user=ROLE), "--store", str(store), "--state", str(state))
    )
    items = json.loads(done.stdout)["checklist"]["items"]
    found = [line for item in items for line in item["lines"] if line["text"].startswith("row-level security hides")]
    return found[0] if found else {}


@pytest.mark.postgres(15, 18)
def test_forced_row_security_is_reported_with_a_remedy(
    server: EmbeddedServer, live: str, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(Failed) as refused:
        take(server.target(live, user=ROLE), store)
    assert refused.value.message == (
        f'cannot back up database "{live}" as role "rows_owner": row-level security hides rows from it in "s"."T"'
    )
    command = 'ALTER TABLE "s"."T" NO FORCE ROW LEVEL SECURITY;'
    assert refused.value.hint == (f"Make the backup as a superuser or as a role with BYPASSRLS, or run: {command}")
    assert refused.value.exit_status == 5
    assert list(store.iterdir()) == []
    found = checked(server, live, store, tmp_path / "state")
    assert found["text"] == 'row-level security hides rows from this role in "s"."T"'
    assert found["hint"] == f"Connect as a superuser or as a role with BYPASSRLS, or run: {command}"
    with server.target(live, user=ROLE).connect() as connection:
        connection.execute(command.encode())
    assert checked(server, live, store, tmp_path / "state") == {}
    assert take(server.target(live, user=ROLE), store).manifest is not None


def test_rows_of_a_table_of_another_owner(server: EmbeddedServer, live: str, store: Path) -> None:
    with server.target(live).connect() as connection:
        connection.execute('ALTER TABLE s."T" NO FORCE ROW LEVEL SECURITY')
        connection.execute("ALTER TABLE s.plain OWNER TO postgres; GRANT SELECT ON s.plain TO rows_owner")
    with pytest.raises(Failed) as refused:
        take(server.target(live, user=ROLE), store)
    assert refused.value.hint == "Make the backup as a superuser or as a role with BYPASSRLS."


def test_a_table_that_the_role_may_not_read(server: EmbeddedServer, live: str, store: Path) -> None:
    with server.target(live).connect() as connection:
        connection.execute('ALTER TABLE s."T" NO FORCE ROW LEVEL SECURITY')
        connection.execute("ALTER TABLE s.plain DISABLE ROW LEVEL SECURITY; ALTER TABLE s.plain OWNER TO postgres")
    with pytest.raises(Failed) as refused:
        take(server.target(live, user=ROLE), store)
    assert "permission denied for table plain" in refused.value.message
    assert "lastgood backup" not in refused.value.hint
    assert "superuser" in refused.value.hint


@pytest.mark.postgres(15, 18)
def test_a_backup_of_what_no_dump_may_hold(
    server: EmbeddedServer, new_database: Callable[[str], str], store: Path
) -> None:
    name = new_database("app")
    with server.target(name).connect() as connection:
        connection.execute("CREATE FUNCTION public.f(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all'")
    with pytest.raises(Failed) as refused:
        take(server.target(name), store)
    assert 'creates a function in the language "internal" outside an extension' in refused.value.message
    assert refused.value.hint == (
        "Nothing is left behind. lastgood cannot restore a dump of this database while it contains that; use pg_dump "
        "with pg_restore or psql."
    )
