"""The verbs on databases, on real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from lastgood.errors import Failed, Refused
from lastgood.postgres import database
from lastgood.postgres.database import Database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection

New = Callable[..., str]
AWKWARD = ['Sales "EU" app', "büro köln", "UPPER", "a.b-c'd%s{}"]


@pytest.fixture
def maintenance(server: EmbeddedServer) -> Iterator[Connection]:
    with server.target("postgres").connect() as connection:
        yield connection


def like(connection: Connection, live: str, name: str, comment: str = "ours") -> Database:
    return database.create_like(connection, name, database.describe(connection, live), comment)


def test_the_maintenance_database_depends_on_the_name_alone() -> None:
    assert [database.maintenance_name(n) for n in ("app", "template1", "postgres")] == [
        "postgres",
        "postgres",
        "template1",
    ]


def test_connecting_to_the_maintenance_database(server: EmbeddedServer) -> None:
    for live, expected in (("app", "postgres"), ("postgres", "template1")):
        with database.connect_maintenance(server.target(live), live) as connection:
            assert connection.info.dbname == expected and connection.autocommit


def test_a_server_without_the_database_postgres() -> None:
    with EmbeddedServer(18) as own:
        with own.target("template1").connect() as connection:
            connection.execute("ALTER DATABASE postgres RENAME TO main")
        with database.connect_maintenance(own.target("main"), "main") as connection:
            assert connection.info.dbname == "template1"
            # Closed is not absent: another maintenance database must not be used, or two runs would not meet.
            connection.execute("ALTER DATABASE main RENAME TO postgres")
            connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")
        with pytest.raises(Failed, match=r'^cannot reach the server of "app" \(maintenance database "postgres"\): '):
            database.connect_maintenance(own.target("app"), "app")


@pytest.mark.postgres(15, 18)
def test_another_role_may_own_it_and_then_owns_its_schema_public(
    server: EmbeddedServer, maintenance: Connection, new_database: New
) -> None:
    """A member of the owner makes it; nothing in public could be given to him otherwise."""
    live = new_database()
    maintenance.execute("CREATE ROLE books_owner")
    maintenance.execute("CREATE ROLE books_member LOGIN CREATEDB IN ROLE books_owner")
    try:
        maintenance.execute(sql.SQL("ALTER DATABASE {} OWNER TO books_owner").format(sql.Identifier(live)))
        with server.target("postgres", user="books_member").connect() as member:
            model = database.describe(member, live)
            made = database.create_like(member, f"{live}_shadow", model, "ours", owner=model.owner)
        assert (made.owner, made.comment) == ("books_owner", "ours")
        with server.target(made.name, user="books_member").connect() as member:
            member.execute("CREATE TABLE public.accounts (id int)")
            member.execute("ALTER TABLE public.accounts OWNER TO books_owner")
    finally:
        for name in (f"{live}_shadow", live):
            maintenance.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        maintenance.execute("DROP ROLE books_member, books_owner")


@pytest.mark.parametrize(
    ("base", "suffix", "expected"),
    [
        ("app", "_rb_1f", "app_rb_1f"),
        ("a" * 63, "_rb_1f", "a" * 57 + "_rb_1f"),
        ("ä" * 40, "_rb_12", "ä" * 28 + "_rb_12"),
        ("日" * 21, "_x", "日" * 20 + "_x"),
        ("a" * 61, "_x", "a" * 61 + "_x"),
    ],
)
def test_names_are_cut_between_characters_and_keep_their_suffix(base: str, suffix: str, expected: str) -> None:
    fitted = database.fit_name(base, suffix)
    assert fitted == expected and len(fitted.encode()) <= 63


def test_a_suffix_that_leaves_no_room() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        database.fit_name("app", "x" * 63)


@pytest.mark.postgres(15, 16, 17, 18)
def test_describe(server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
    name = new_database("app")
    identifier = sql.Identifier(name)
    maintenance.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 7").format(identifier))
    maintenance.execute(sql.SQL("COMMENT ON DATABASE {} IS 'the CRM'").format(identifier))
    found = database.describe(maintenance, name)
    assert found.size_bytes is not None and found.size_bytes > 1_000_000
    assert replace(found, oid=0, size_bytes=None) == Database(
        oid=0,
        name=name,
        owner="postgres",
        encoding="UTF8",
        locale_provider="libc",
        collate="C",
        ctype="C",
        locale=None,
        icu_rules=None,
        tablespace="pg_default",
        allow_connections=True,
        connection_limit=7,
        is_template=False,
        size_bytes=None,
        comment="the CRM",
        invalid=False,
    )
    assert database.by_oid(maintenance, found.oid) == found == database.find(maintenance, name)
    assert replace(found, size_bytes=None) in database.all_databases(maintenance)


def test_describe_a_database_that_is_not_there(maintenance: Connection) -> None:
    assert database.find(maintenance, "App") is None
    with pytest.raises(Refused) as refused:
        database.describe(maintenance, "App")
    assert refused.value.message == 'cannot find the database "App": the server has no database of that name'


MODEL = Database(
    7, "app", "o", "UTF8", "libc", "C.UTF-8", "C.UTF-8", None, None, "fast", True, -1, False, None, None, False
)
CREATIONS: list[tuple[Database, str]] = [
    (MODEL, "LOCALE_PROVIDER libc LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' TABLESPACE \"fast\""),
    (
        replace(MODEL, encoding="LATIN1", collate="C", ctype="C", tablespace="pg_default"),
        "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'",
    ),
    (
        replace(MODEL, locale_provider="icu", locale="de-DE"),
        "LOCALE_PROVIDER icu LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' ICU_LOCALE 'de-DE' TABLESPACE \"fast\"",
    ),
    (
        replace(MODEL, locale_provider="icu", locale="und", icu_rules="&V << w"),
        "LOCALE_PROVIDER icu LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' ICU_LOCALE 'und' ICU_RULES '&V << w'"
        ' TABLESPACE "fast"',
    ),
    (
        replace(MODEL, locale_provider="builtin", locale="C.UTF-8"),
        "LOCALE_PROVIDER builtin LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' BUILTIN_LOCALE 'C.UTF-8' TABLESPACE \"fast\"",
    ),
]


@pytest.mark.parametrize(("model", "options"), CREATIONS)
def test_the_statements_that_create(model: Database, options: str, maintenance: Connection) -> None:
    assert [
        statement.as_string(maintenance) for statement in database.creation('a "b"', model, "it's", live="app")
    ] == [
        f'CREATE DATABASE "a ""b""" TEMPLATE template0 ENCODING \'{model.encoding}\' {options} ALLOW_CONNECTIONS false'
        " CONNECTION LIMIT 1281877637",
        'COMMENT ON DATABASE "a ""b""" IS \'it\'\'s\'',
        'REVOKE CONNECT ON DATABASE "a ""b""" FROM PUBLIC',
        'ALTER DATABASE "a ""b""" CONNECTION LIMIT -1',
        'ALTER DATABASE "a ""b""" ALLOW_CONNECTIONS true',
    ]


# What each of our builds can do: (version, provider, options of CREATE DATABASE)
LOCALES = {
    15: ["LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C' ENCODING 'UTF8'", "LOCALE 'C.UTF-8'"],
    16: ["ENCODING 'LATIN1' LOCALE 'C'", "ENCODING 'SQL_ASCII' LOCALE 'C'"],
    17: ["LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'", "LOCALE_PROVIDER builtin LOCALE 'C'"],
    18: ["LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'", "LOCALE 'C.UTF-8' ENCODING 'UTF8'"],
}


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_new_database_has_the_models_locale(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    for number, options in enumerate(LOCALES[server.major]):
        base = new_database("loc")
        live = f"{base}_{number}"
        maintenance.execute(f'CREATE DATABASE "{live}" TEMPLATE template0 {options}'.encode())
        model = database.describe(maintenance, live)
        made = database.create_like(maintenance, f"{live}_shadow", model, "ours")
        expected = replace(model, oid=made.oid, name=made.name, size_bytes=made.size_bytes, comment="ours")
        assert made == expected


@pytest.mark.postgres(15, 18)
def test_a_new_database_lets_only_its_owner_in(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live = new_database("app")
    shadow = like(maintenance, live, f"{live}_shadow")
    agent = f"agent_{live}"
    maintenance.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(agent)))
    try:
        server.target(live, user=agent).connect().close()
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            server.target(shadow.name, user=agent).connect()
        server.target(shadow.name).connect().close()
    finally:
        maintenance.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(agent)))


@pytest.mark.postgres(15, 18)
def test_a_non_superuser_with_createdb_creates_renames_and_drops(
    server: EmbeddedServer, new_database: New, maintenance: Connection
) -> None:
    live = new_database("app")
    operator = f"op_{live}"
    maintenance.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(sql.Identifier(operator)))
    try:
        with server.target("postgres", user=operator).connect() as connection:
            shadow = like(connection, live, f"{live}_shadow")
            assert shadow.owner == operator
            database.rename(connection, shadow.name, f"{live}_other")
            renamed = database.by_oid(connection, shadow.oid)
            assert renamed is not None and renamed.name == f"{live}_other"
            database.drop(connection, f"{live}_other", shadow.oid)
            assert database.by_oid(connection, shadow.oid) is None
            with pytest.raises(Failed) as failed:
                database.rename(connection, live, f"{live}_mine")
            assert failed.value.message == (
                f'cannot rename the database "{live}" to "{live}_mine": must be owner of database {live}'
            )
    finally:
        maintenance.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(operator)))


def test_the_name_is_taken(new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    with pytest.raises(Refused) as refused:
        like(maintenance, live, live)
    assert refused.value.message == f'cannot create the database "{live}": a database of that name exists'


@pytest.mark.parametrize("awkward", AWKWARD)
def test_awkward_names(awkward: str, new_database: New, maintenance: Connection) -> None:
    live = new_database("app")
    name = database.fit_name(f"{live}_{awkward}" * 3, "_rb_00c0ffee")
    made = like(maintenance, live, name, comment=awkward)
    assert (made.name, made.comment) == (name, awkward)
    new = database.fit_name(f"{live}_{awkward}" * 3, "_old")
    with maintenance.transaction():
        database.rename(maintenance, name, new)
        database.allow_connections(maintenance, new, False)
        database.comment(maintenance, new, None)
    changed = database.describe(maintenance, new)
    assert (changed.oid, changed.allow_connections, changed.comment) == (made.oid, False, None)
    database.drop(maintenance, new, made.oid)
    assert database.by_oid(maintenance, made.oid) is None


class TestDrop:
    def test_dropping_again_is_as_good(self, new_database: New, maintenance: Connection) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        for _ in range(2):
            database.drop(maintenance, shadow.name, shadow.oid)

    def test_sessions_are_ended(self, server: EmbeddedServer, new_database: New, maintenance: Connection) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        with server.target(shadow.name).connect() as inside:
            database.drop(maintenance, shadow.name, shadow.oid)
            with pytest.raises(psycopg.OperationalError):
                inside.execute("SELECT 1")

    def test_never_another_database_of_the_same_name(self, new_database: New, maintenance: Connection) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        database.drop(maintenance, shadow.name, shadow.oid)
        again = like(maintenance, live, shadow.name)
        with pytest.raises(Refused) as refused:
            database.drop(maintenance, shadow.name, shadow.oid)
        assert refused.value.message == (
            f'cannot drop the database "{shadow.name}": '
            f"its OID is {again.oid}, not {shadow.oid}: it is another database"
        )
        assert database.by_oid(maintenance, again.oid) == again

    def test_never_one_that_was_renamed(self, new_database: New, maintenance: Connection) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        database.rename(maintenance, shadow.name, f"{live}_now")
        with pytest.raises(Refused) as refused:
            database.drop(maintenance, shadow.name, shadow.oid)
        assert refused.value.message == (
            f'cannot drop the database "{shadow.name}": the database with OID {shadow.oid} is now named "{live}_now"'
        )

    def test_never_a_template(self, new_database: New, maintenance: Connection) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        maintenance.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(shadow.name)))
        with pytest.raises(Refused) as refused:
            database.drop(maintenance, shadow.name, shadow.oid)
        assert refused.value.message == f'cannot drop the database "{shadow.name}": it is a template'

    @pytest.mark.postgres(15, 18)
    def test_never_one_with_a_logical_slot(
        self, server: EmbeddedServer, new_database: New, maintenance: Connection
    ) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        with server.target(shadow.name).connect() as inside:
            inside.execute("SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')")
        try:
            with pytest.raises(Refused) as refused:
                database.drop(maintenance, shadow.name, shadow.oid)
            assert refused.value.message == (
                f'cannot drop the database "{shadow.name}": it has the logical replication slot "cdc"'
            )
            assert refused.value.hint == "If no consumer needs it, run: SELECT pg_drop_replication_slot('cdc')"
        finally:
            maintenance.execute("SELECT pg_drop_replication_slot('cdc')")

    @pytest.mark.postgres(15, 18)
    def test_not_with_a_prepared_transaction(
        self, server: EmbeddedServer, new_database: New, maintenance: Connection
    ) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        with server.target(shadow.name).connect() as inside:
            for statement in ("BEGIN", "CREATE TABLE public.t ()", "PREPARE TRANSACTION 'p'"):
                inside.execute(statement.encode())
            with pytest.raises(Failed) as failed:
                database.drop(maintenance, shadow.name, shadow.oid)
            assert failed.value.message == (
                f'cannot drop the database "{shadow.name}": database "{shadow.name}" is being used by prepared'
                " transactions (There is 1 prepared transaction using the database.)"
            )
            assert failed.value.hint == (
                "A prepared transaction, a replication slot or a subscription holds the database. Run lastgood "
                "rollback --dry-run to see what holds it."
            )
            inside.execute("ROLLBACK PREPARED 'p'")

    @pytest.mark.postgres(15, 18)
    def test_never_one_with_a_subscription(
        self, server: EmbeddedServer, new_database: New, maintenance: Connection
    ) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        with server.target(shadow.name).connect() as inside:
            inside.execute(
                "CREATE SUBSCRIPTION s1 CONNECTION 'dbname=nowhere' PUBLICATION p"
                " WITH (connect = false, slot_name = s1)"
            )
            with pytest.raises(Refused) as refused:
                database.drop(maintenance, shadow.name, shadow.oid)
            assert refused.value.message == f'cannot drop the database "{shadow.name}": it has the subscription "s1"'
            assert refused.value.hint == (
                'In that database, run: ALTER SUBSCRIPTION "s1" DISABLE; ALTER SUBSCRIPTION "s1" SET (slot_name = '
                'NONE); DROP SUBSCRIPTION "s1"'
            )
            inside.execute("ALTER SUBSCRIPTION s1 SET (slot_name = NONE)")
            inside.execute("DROP SUBSCRIPTION s1")

    @pytest.mark.postgres(15, 18)
    def test_an_invalid_database_is_seen_and_can_be_dropped(self, new_database: New, maintenance: Connection) -> None:
        live = new_database("app")
        shadow = like(maintenance, live, f"{live}_shadow")
        maintenance.execute("UPDATE pg_database SET datconnlimit = -2 WHERE oid = %s", [shadow.oid])
        assert database.describe(maintenance, shadow.name).invalid
        database.drop(maintenance, shadow.name, shadow.oid)
        assert database.by_oid(maintenance, shadow.oid) is None
