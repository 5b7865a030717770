"""A database's own state: read from one database, given to another in one transaction, read back equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres import database
from lastgood.postgres.access.grants import Grant, Operator
from lastgood.postgres.apply import apply, rehearse
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from lastgood.postgres.state import DatabaseState, split_list

New = Callable[..., str]
ROLES = ("owner", 'App "RW"', "anon", "between", "operator")

# What makes a database special; {0} is its name. Each as an operator would type it.
SPECIAL = (
    'ALTER DATABASE {0} OWNER TO "owner"',
    "REVOKE ALL ON DATABASE {0} FROM PUBLIC",
    'GRANT CONNECT, TEMPORARY ON DATABASE {0} TO "App ""RW"""',
    "GRANT CONNECT ON DATABASE {0} TO between WITH GRANT OPTION",
    "SET ROLE between",
    "GRANT CONNECT ON DATABASE {0} TO anon",
    "RESET ROLE",
    "ALTER DATABASE {0} CONNECTION LIMIT 42",
    "ALTER DATABASE {0} IS_TEMPLATE true",
    'ALTER DATABASE {0} SET search_path TO "$user", public, \'Odd, "name"\', UPPER',
    "ALTER DATABASE {0} SET app.settings.jwt_secret TO 'it''s, a \\ secret'",
    "ALTER DATABASE {0} SET \"app.Settings.Mixed\" TO 'x'",
    "ALTER DATABASE {0} SET datestyle TO 'SQL, DMY'",
    "ALTER DATABASE {0} SET work_mem TO '12MB'",
    "ALTER DATABASE {0} SET temp_tablespaces TO ''",
    "ALTER DATABASE {0} SET session_preload_libraries TO ''",
    'ALTER ROLE "App ""RW""" IN DATABASE {0} SET search_path TO crm',
    "ALTER ROLE anon IN DATABASE {0} SET statement_timeout TO '3s'",
    "COMMENT ON DATABASE {0} IS 'the CRM — it''s ours'",
)


@pytest.fixture
def maintenance(server: EmbeddedServer) -> Iterator[Connection]:
    with server.target("postgres").connect() as connection:
        for role in ROLES:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        yield connection
        connection.execute("RESET ROLE")
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'app%'").fetchall():
            # new_database drops it later; what names our roles must go now.
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(name)))
            connection.execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(
                    sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, ROLES))
                )
            )
        for role in ROLES:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def specialize(connection: Connection, name: str) -> None:
    identifier = sql.Identifier(name).as_string(connection)
    for statement in SPECIAL:
        connection.execute(statement.replace("{0}", identifier).encode())


def carry(connection: Connection, state: DatabaseState, name: str) -> None:
    statements = state.statements(name, DatabaseState.read(connection, name), Operator.read(connection))
    with connection.transaction():
        for statement in statements:
            connection.execute(statement)


@pytest.mark.postgres(15, 16, 17, 18)
def test_everything_arrives_and_everything_can_be_taken_back(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live, shadow = new_database('app "1"'), new_database("app é")
    plain = DatabaseState.read(maintenance, shadow)
    specialize(maintenance, live)
    special = DatabaseState.read(maintenance, live)
    assert len(special.settings) == 9 and special.connection_limit == 42
    assert Grant("between", "anon", "CONNECT", False) in special.acl

    carry(maintenance, special, shadow)
    assert DatabaseState.read(maintenance, shadow) == special
    rows = "SELECT setrole, setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase"
    stored = [
        sorted(maintenance.execute(f"{rows} WHERE datname = %s".encode(), [name]).fetchall()) for name in (live, shadow)
    ]
    assert sorted((role, sorted(config)) for role, config in stored[0]) == sorted(
        (role, sorted(config)) for role, config in stored[1]
    )
    # Carried once, there is nothing left to do; and the way back is as exact.
    assert special.statements(shadow, special, Operator.read(maintenance)) == []
    carry(maintenance, plain, shadow)
    assert DatabaseState.read(maintenance, shadow) == plain


def test_all_of_it_in_the_transaction_that_renames(new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    shadow, kept = f"{live}_rb_1f", f"{live}_kept"
    specialize(maintenance, live)
    special = DatabaseState.read(maintenance, live)
    database.create_like(maintenance, shadow, database.describe(maintenance, live), "mark")
    statements = special.statements(live, DatabaseState.read(maintenance, shadow), Operator.read(maintenance))
    with maintenance.transaction():
        database.rename(maintenance, live, kept)
        database.rename(maintenance, shadow, live)
        for statement in statements:
            maintenance.execute(statement)
    assert DatabaseState.read(maintenance, live) == special == DatabaseState.read(maintenance, kept)


def test_the_statements_themselves(new_database: New, maintenance: Connection) -> None:
    live, shadow = new_database("app"), new_database("app")
    specialize(maintenance, live)
    maintenance.execute(sql.SQL("ALTER DATABASE {} SET jit TO off").format(sql.Identifier(shadow)))
    statements = DatabaseState.read(maintenance, live).statements(
        'a "b"', DatabaseState.read(maintenance, shadow), Operator.read(maintenance)
    )
    name = '"a ""b"""'
    assert [statement.as_string(maintenance) for statement in statements] == [
        f"ALTER DATABASE {name} CONNECTION LIMIT 42",
        f"ALTER DATABASE {name} IS_TEMPLATE true",
        f'ALTER DATABASE {name} RESET "jit"',
        f"ALTER DATABASE {name} SET \"DateStyle\" TO 'SQL, DMY'",
        f"ALTER DATABASE {name} SET \"app.Settings.Mixed\" TO 'x'",
        f"ALTER DATABASE {name} SET \"app.settings.jwt_secret\" TO  E'it''s, a \\\\ secret'",
        f"ALTER DATABASE {name} SET \"search_path\" TO '$user', 'public', 'Odd, \"name\"', 'upper'",
        f"ALTER DATABASE {name} SET \"session_preload_libraries\" TO ''",
        f"ALTER DATABASE {name} SET \"temp_tablespaces\" TO ''",
        f"ALTER DATABASE {name} SET \"work_mem\" TO '12MB'",
        f'ALTER ROLE "App ""RW""" IN DATABASE {name} SET "search_path" TO \'crm\'',
        f'ALTER ROLE "anon" IN DATABASE {name} SET "statement_timeout" TO \'3s\'',
        f"COMMENT ON DATABASE {name} IS 'the CRM — it''s ours'",
        f'ALTER DATABASE {name} OWNER TO "owner"',
        f'GRANT CONNECT, TEMPORARY ON DATABASE {name} TO "App ""RW"""',
        f'GRANT CONNECT ON DATABASE {name} TO "between" WITH GRANT OPTION',
        f'SET ROLE "between"; GRANT CONNECT ON DATABASE {name} TO "anon"; RESET ROLE',
        f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC",
    ]


def test_an_absent_acl_equals_the_explicit_default(new_database: New, maintenance: Connection) -> None:
    absent, explicit = new_database("app"), new_database("app")
    maintenance.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(sql.Identifier(explicit)))
    rows = maintenance.execute("SELECT datacl IS NULL FROM pg_database WHERE datname = ANY (%s)", [[absent, explicit]])
    assert sorted(row[0] for row in rows) == [False, True]
    assert DatabaseState.read(maintenance, absent) == DatabaseState.read(maintenance, explicit)


def test_secrets_in_settings_are_not_shown(new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    specialize(maintenance, live)
    assert "a \\ secret" not in repr(DatabaseState.read(maintenance, live))


def test_security_labels_are_reported_but_not_carried(new_database: New, maintenance: Connection) -> None:
    labelled, plain = new_database("app"), new_database("app")
    # No build for tests has a label provider; the catalogue's row is what one would leave.
    maintenance.execute(
        "INSERT INTO pg_shseclabel SELECT oid, 'pg_database'::regclass, 'selinux', 'secret' FROM pg_database"
        " WHERE datname = %s",
        [labelled],
    )
    found, other = DatabaseState.read(maintenance, labelled), DatabaseState.read(maintenance, plain)
    assert found.security_labels == (("selinux", "secret"),)
    assert found == other and found.statements(plain, other, Operator.read(maintenance)) == []


def test_an_invalid_database(new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    maintenance.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [live])
    with pytest.raises(Refused) as refused:
        DatabaseState.read(maintenance, live)
    assert refused.value.message == (
        f'cannot use the database "{live}": it is invalid after an interrupted DROP DATABASE'
    )
    maintenance.execute("UPDATE pg_database SET datconnlimit = -1 WHERE datname = %s", [live])


@pytest.mark.postgres(15, 16, 17, 18)
def test_an_owner_who_is_no_superuser(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    """He may set nearly everything; what he may not is found by the rehearsal, which changes nothing."""
    live, shadow = new_database("app"), new_database("app")
    specialize(maintenance, live)
    maintenance.execute("ALTER ROLE operator CREATEDB")
    maintenance.execute('GRANT "owner" TO operator')
    maintenance.execute(sql.SQL("ALTER DATABASE {} OWNER TO operator").format(sql.Identifier(shadow)))
    maintenance.execute(sql.SQL("ALTER DATABASE {} RESET session_preload_libraries").format(sql.Identifier(live)))
    special = DatabaseState.read(maintenance, live)
    with server.target("postgres", user="operator").connect() as mine:
        before = DatabaseState.read(mine, shadow)
        operator = Operator.read(mine)
        assert (operator.name, operator.superuser) == ("operator", False)
        assert {"owner", "operator"} <= operator.settable and "between" not in operator.settable
        statements = special.statements(shadow, before, operator)
        refused = rehearse(mine, statements)
        assert DatabaseState.read(mine, shadow) == before
        # A setting that no loaded module knows, and other roles' settings, take rights that he does not have.
        assert [(r.sqlstate, r.message) for r in refused[:2]] == [
            ("42501", 'permission denied to set parameter "app.Settings.Mixed"'),
            ("42501", 'permission denied to set parameter "app.settings.jwt_secret"'),
        ]
        assert [r.statement.as_string(mine).split(" IN ")[0] for r in refused[2:] if r.sqlstate == "42501"] == [
            'ALTER ROLE "App ""RW"""',
            'ALTER ROLE "anon"',
        ]
        maintenance.execute('GRANT SET ON PARAMETER "app.Settings.Mixed", "app.settings.jwt_secret" TO operator')
        assert [r.sqlstate for r in apply(mine, statements)] == ["42501", "42501"]
        maintenance.execute('REVOKE SET ON PARAMETER "app.Settings.Mixed", "app.settings.jwt_secret" FROM operator')
        after = DatabaseState.read(mine, shadow)
    assert (after.owner, after.comment, after.connection_limit) == ("owner", special.comment, 42)
    assert after.settings == tuple(s for s in special.settings if not s.role)
    # He can't become "between": the grant is made, in the owner's name.
    assert after.acl == special.acl - {Grant("between", "anon", "CONNECT", False)} | {
        Grant("owner", "anon", "CONNECT", False)
    }


@pytest.mark.postgres(15, 18)
def test_keeping_the_owner(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    live, shadow = new_database("app"), new_database("app")
    specialize(maintenance, live)
    special = DatabaseState.read(maintenance, live)
    found = DatabaseState.read(maintenance, shadow)
    carry_on = special.statements(shadow, found, Operator.read(maintenance), keep_owner=True)
    assert apply(maintenance, carry_on) == []
    after = DatabaseState.read(maintenance, shadow)
    assert after.owner == "postgres"
    assert {(g.grantee, g.privilege) for g in after.acl} == {
        ("postgres" if g.grantee == "owner" else g.grantee, g.privilege) for g in special.acl
    }


def test_a_broken_connection_is_no_refusal(server: EmbeddedServer, maintenance: Connection) -> None:
    end = sql.SQL("SELECT pg_terminate_backend(pg_backend_pid())").format()
    with server.target("postgres").connect() as connection, pytest.raises(psycopg.OperationalError):
        apply(connection, [end])


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        ("", []),
        ('""', [""]),
        ("public", ["public"]),
        ('"$user", public', ["$user", "public"]),
        ('"a, b","c ""d"""', ["a, b", 'c "d"']),
        (' x ,  "Y" ', ["x", "Y"]),
    ],
)
def test_splitting_a_stored_list(stored: str, elements: list[str]) -> None:
    assert split_list(stored) == elements
