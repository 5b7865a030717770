"""Owners and privileges of objects, carried over to a database restored from a dump that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.access import grants, privileges
from lastgood.postgres.access.privileges import PrivilegeCarryOver
from lastgood.postgres.access.securables import ObjectName
from lastgood.postgres.apply import apply
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from lastgood.process import run as child
from tests.postgres.effective import effective

New = Callable[..., str]
CRM = Path(__file__).parent / "fixtures" / "crm.sql"
ROLES = ("migrator", "migrator_in_chief", "app", "anon", "auditor", 'Web "user"', "operator")


@pytest.fixture
def roles(server: EmbeddedServer, new_database: New) -> Iterator[None]:
    """The roles of the CRM. Asks for new_database so that it is torn down first, before the databases go."""
    with server.target("postgres").connect() as connection:
        for role in ROLES:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        yield
        mine = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'crm%'").fetchall()
    listed = sql.SQL(", ").join(map(sql.Identifier, ROLES))
    for name in [*(row[0] for row in mine), "postgres"]:
        with server.target(name).connect() as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(name)))
            for role in ROLES:
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(listed))


def run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement.encode())


def restore_without_privileges(server: EmbeddedServer, live: str, shadow: str, user: str = "postgres") -> None:
    """As the procedure by hand does it: pg_dump --no-owner --no-acl, then psql."""
    dump = server.folder / f"{shadow}.sql"
    connect: list[str | Path] = ["-h", server.folder, "-U", user]
    dumped = child.run([server.bin / "pg_dump", *connect, "--no-owner", "--no-acl", "-d", live])
    dump.write_bytes(dumped.output)
    child.run([server.bin / "psql", *connect, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", shadow, "-f", dump])


def carry(live: Connection, shadow: Connection) -> PrivilegeCarryOver:
    return privileges.statements(privileges.read(live), privileges.read(shadow))


def may(connection: Connection, role: str, function: str) -> bool:
    row = connection.execute("SELECT has_function_privilege(%s, %s, 'EXECUTE')", [role, function]).fetchone()
    assert row is not None
    return bool(row[0])


def same(live: Connection, shadow: Connection) -> bool:
    """Not only with the same effect, but the same in every owner, grantor, grant option and default."""
    one, other = privileges.read(live), privileges.read(shadow)
    return (one.objects, one.defaults) == (other.objects, other.defaults)


@pytest.mark.postgres(15, 16, 17, 18)
def test_what_a_dump_without_privileges_loses_comes_back(
    server: EmbeddedServer, new_database: New, roles: None
) -> None:
    live_name, shadow_name = new_database("crm"), new_database("crm")
    with server.target(live_name).connect() as live, server.target(shadow_name).connect() as shadow:
        live.execute("ALTER ROLE migrator_in_chief SUPERUSER")
        live.execute(CRM.read_bytes())
        extension = next(
            row[0]
            for row in live.execute(
                "SELECT name FROM pg_available_extensions WHERE name IN ('citext', 'vector') ORDER BY name"
            )
        )
        run(live, f"CREATE EXTENSION {extension} SCHEMA public")
        member = {"citext": "public.citext(inet)", "vector": "public.vector_dims(public.vector)"}[extension]
        run(live, f"REVOKE EXECUTE ON FUNCTION {member} FROM PUBLIC", f"GRANT EXECUTE ON FUNCTION {member} TO app")
        restore_without_privileges(server, live_name, shadow_name)

        # The trap: what had been revoked is back, and the application is locked out.
        before, wanted = effective(shadow), effective(live)
        for function in ("crm.admin(text, crm.stage)", "crm.anon_must_not()"):
            assert (may(live, "anon", function), may(shadow, "anon", function)) == (False, True)
        assert ("app", "relation crm.events", "INSERT") in wanted - before
        assert ("anon", "schema crm", "USAGE") in wanted - before

        carried = carry(live, shadow)
        assert apply(shadow, carried.statements) == []
        assert effective(shadow) == wanted
        assert same(live, shadow)
        assert not may(shadow, "anon", "crm.anon_must_not()")
        assert carried == PrivilegeCarryOver(carried.statements, [], [], [], [])
        # Once is enough.
        assert carry(live, shadow).statements == []

        # An object made from now on gets what it would get in the live database.
        for connection in (live, shadow):
            run(connection, "SET ROLE migrator", "CREATE TABLE crm.later (n serial)", "RESET ROLE")
        assert effective(shadow) == effective(live)


@pytest.mark.postgres(15, 16, 17, 18)
def test_an_operator_who_is_no_superuser(server: EmbeddedServer, new_database: New, roles: None) -> None:
    """He owns the database and what is in it, through the role that the migrations run as."""
    live_name, shadow_name = new_database("crm"), new_database("crm")
    with server.target("postgres").connect() as postgres:
        run(postgres, "ALTER ROLE operator CREATEDB", "GRANT migrator TO operator")
        for name in (live_name, shadow_name):
            postgres.execute(sql.SQL("ALTER DATABASE {} OWNER TO operator").format(sql.Identifier(name)))
    mine = (server.target(name, user="operator") for name in (live_name, shadow_name))
    with next(mine).connect() as live, next(mine).connect() as shadow:
        run(
            live,
            "CREATE SCHEMA crm AUTHORIZATION migrator",
            "GRANT USAGE ON SCHEMA crm TO anon, app",
            "CREATE TABLE crm.contacts (id serial, name text)",
            "ALTER TABLE crm.contacts OWNER TO migrator",
            "GRANT SELECT, INSERT ON crm.contacts TO app WITH GRANT OPTION",
            "GRANT SELECT (name) ON crm.contacts TO anon",
            "CREATE FUNCTION crm.admin() RETURNS int SECURITY DEFINER LANGUAGE sql RETURN 1",
            "REVOKE EXECUTE ON FUNCTION crm.admin FROM PUBLIC",
            "CREATE TABLE public.mine ()",
            "GRANT SELECT ON public.mine TO app",
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA crm GRANT SELECT ON TABLES TO app",
            "ALTER DEFAULT PRIVILEGES FOR ROLE migrator GRANT SELECT ON TABLES TO anon",
        )
        with server.target(live_name, user="app").connect() as app:
            run(app, "GRANT SELECT ON crm.contacts TO auditor")
        restore_without_privileges(server, live_name, shadow_name, "operator")
        assert (may(live, "anon", "crm.admin()"), may(shadow, "anon", "crm.admin()")) == (False, True)

        carried = carry(live, shadow)
        assert apply(shadow, carried.statements) == []
        assert effective(shadow) == effective(live)
        assert not may(shadow, "anon", "crm.admin()")
        # "app" granted it; he can't become "app", so it is now the owner's grant.
        contacts = ObjectName("table", ("crm", "contacts"))
        assert (carried.regranted, carried.kept_owner) == ([contacts], [])
        acls = [privileges.read(connection).objects[contacts].acl for connection in (live, shadow)]
        assert acls[0] is not None and acls[1] == (
            acls[0] - {grants.Grant("app", "auditor", "SELECT", False)}
            | {grants.Grant("migrator", "auditor", "SELECT", False)}
        )


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_member_who_does_not_inherit(server: EmbeddedServer, new_database: New, roles: None) -> None:
    """He may only SET ROLE: new owners are let into the schema first, and it is handed over last."""
    names = new_database("crm"), new_database("crm")
    with server.target("postgres").connect() as postgres:
        option = " WITH INHERIT FALSE, SET TRUE" if server.major >= 16 else ""
        run(postgres, "ALTER ROLE operator CREATEDB NOINHERIT", f"GRANT migrator, app TO operator{option}")
        postgres.execute(sql.SQL("ALTER DATABASE {} OWNER TO operator").format(sql.Identifier(names[1])))
    with server.target(names[0]).connect() as live, server.target(names[1], user="operator").connect() as shadow:
        made = (
            "CREATE TABLE crm.t (n serial)",
            "CREATE TABLE crm.of_app (n int)",
            "CREATE FUNCTION crm.f() RETURNS int SECURITY DEFINER LANGUAGE sql RETURN 1",
        )
        run(
            live,
            "CREATE SCHEMA crm AUTHORIZATION migrator",
            "SET ROLE migrator",
            *made,
            "GRANT USAGE ON SCHEMA crm TO anon, app",
            "GRANT SELECT ON crm.t TO anon",
            "REVOKE EXECUTE ON FUNCTION crm.f FROM PUBLIC",
            "RESET ROLE",
            "ALTER TABLE crm.of_app OWNER TO app",
        )
        run(shadow, "CREATE SCHEMA crm", *made)
        # With the dump's own grants, the new owners alone: the schema's privileges end as they were.
        one, other = privileges.read(live), privileges.read(shadow)
        only_owners = privileges.statements(one, other, acls=False)
        spoken = [statement.as_string(shadow) for statement in only_owners.statements]
        assert 'GRANT CREATE ON SCHEMA "crm" TO "app"' in spoken
        assert spoken[-1] == 'SET ROLE "migrator"; REVOKE CREATE ON SCHEMA "crm" FROM "app"; RESET ROLE'
        carried = privileges.statements(one, other)
        assert apply(shadow, carried.statements) == []
        with server.target(names[1]).connect() as seen:
            assert effective_of_schema(seen) == effective_of_schema(live)
            assert not may(seen, "anon", "crm.f()")


def effective_of_schema(connection: Connection) -> set[tuple[str, str, str]]:
    return {(role, thing, what) for role, thing, what in effective(connection) if "crm" in thing}


def test_a_revoke_without_effect_is_a_failure(server: EmbeddedServer, new_database: New, roles: None) -> None:
    """The server only warns; the function would remain executable by PUBLIC."""
    with server.target(new_database("crm")).connect() as connection:
        run(connection, "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql RETURN 1")
        revoke = sql.SQL("SET ROLE app; REVOKE EXECUTE ON FUNCTION public.f() FROM PUBLIC; RESET ROLE").format()
        (refused,) = apply(connection, [revoke])
        assert (refused.sqlstate, refused.message) == ("01006", 'no privileges could be revoked for "f"')
        assert may(connection, "anon", "public.f()")


@pytest.mark.postgres(15, 18)
def test_an_unreachable_owner_is_reported(server: EmbeddedServer, new_database: New, roles: None) -> None:
    live_name, shadow_name = new_database("crm"), new_database("crm")
    with server.target("postgres").connect() as postgres:
        for name in (live_name, shadow_name):
            postgres.execute(sql.SQL("ALTER DATABASE {} OWNER TO operator").format(sql.Identifier(name)))
    with (
        server.target(live_name).connect() as live,
        server.target(shadow_name, user="operator").connect() as shadow,
    ):
        run(
            live,
            "CREATE TABLE public.t (n int)",
            "ALTER TABLE public.t OWNER TO app",
            "GRANT SELECT ON public.t TO anon",
        )
        run(shadow, "CREATE TABLE public.t (n int)")
        carried = carry(live, shadow)
        table = ObjectName("table", ("public", "t"))
        assert carried.kept_owner == [table]
        assert apply(shadow, carried.statements) == []
        after = privileges.read(shadow).objects[table]
        assert after.owner == "operator" and after.acl is not None
        assert grants.Grant("operator", "anon", "SELECT", False) in after.acl


@pytest.mark.postgres(15, 18)
def test_objects_on_one_side_only(server: EmbeddedServer, new_database: New, roles: None) -> None:
    live_name, shadow_name = new_database("crm"), new_database("crm")
    with server.target(live_name).connect() as live, server.target(shadow_name).connect() as shadow:
        run(
            live,
            "CREATE SCHEMA crm AUTHORIZATION migrator",
            "SET ROLE migrator",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA crm GRANT SELECT ON TABLES TO app",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA crm GRANT EXECUTE ON FUNCTIONS TO anon",
            "CREATE TABLE crm.contacts (id serial)",
            "CREATE TABLE crm.dropped_by_the_migration (id serial, note text)",
            "CREATE FUNCTION crm.dropped() RETURNS int LANGUAGE sql RETURN 1",
            "CREATE FUNCTION crm.dropped_definer() RETURNS int SECURITY DEFINER LANGUAGE sql RETURN 1",
        )
        restore_without_privileges(server, live_name, shadow_name)
        run(
            live,
            "DROP TABLE crm.dropped_by_the_migration",
            "DROP FUNCTION crm.dropped(), crm.dropped_definer()",
            "ALTER TABLE crm.contacts ADD COLUMN made_by_the_migration text",
            "GRANT SELECT (made_by_the_migration) ON crm.contacts TO anon",
            "CREATE TABLE crm.made_by_the_migration ()",
        )
        carried = carry(live, shadow)
        assert [str(name) for name in carried.only_shadow] == [
            'routine "crm.dropped()"',
            'routine "crm.dropped_definer()"',
            'sequence "crm.dropped_by_the_migration_id_seq"',
            'table "crm.dropped_by_the_migration"',
        ]
        assert [str(name) for name in carried.withheld] == ['routine "crm.dropped_definer()"']
        assert apply(shadow, carried.statements) == []
        # As though made in the live database today: its owner, its default privileges.
        after = privileges.read(shadow).objects
        assert {after[name].owner for name in carried.only_shadow} == {"migrator"}
        assert not may(shadow, "anon", "crm.dropped_definer()")
        run(
            live,
            "CREATE TABLE crm.dropped_by_the_migration (id serial, note text)",
            "CREATE FUNCTION crm.dropped() RETURNS int LANGUAGE sql RETURN 1",
        )
        today = privileges.read(live).objects
        for name in carried.only_shadow:
            if name not in carried.withheld:
                assert after[name].acl == today[name].acl, name


@pytest.mark.postgres(15, 18)
def test_what_the_shadow_has_too_much_is_taken_back(server: EmbeddedServer, new_database: New, roles: None) -> None:
    """Grants that hang on a grant option go before the option; nothing cascades."""
    names = new_database("crm"), new_database("crm")
    with server.target(names[0]).connect() as live, server.target(names[1]).connect() as shadow:
        for connection in (live, shadow):
            run(connection, "CREATE TABLE public.t (n int)", "GRANT USAGE ON SCHEMA public TO PUBLIC")
        run(live, "GRANT SELECT ON public.t TO app", "GRANT INSERT ON public.t TO anon")
        run(
            shadow,
            "GRANT SELECT, UPDATE ON public.t TO app WITH GRANT OPTION",
            "GRANT SELECT (n) ON public.t TO anon",
            "SET ROLE app",
            "GRANT SELECT ON public.t TO auditor WITH GRANT OPTION",
            "GRANT UPDATE ON public.t TO anon",
            "SET ROLE auditor",
            "GRANT SELECT ON public.t TO PUBLIC",
            "RESET ROLE",
            "ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO anon",
            "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public REVOKE SELECT ON TABLES FROM anon",
            "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC",
        )
        carried = carry(live, shadow)
        assert apply(shadow, carried.statements) == []
        assert effective(shadow) == effective(live) and carry(live, shadow).statements == []
        spoken = [statement.as_string(shadow) for statement in carried.statements]
        assert spoken == ["REVOKE EXECUTE ON ROUTINE x"] or all("CASCADE" not in statement for statement in spoken)


@pytest.mark.postgres(15, 18)
def test_only_what_the_dump_left_out(server: EmbeddedServer, new_database: New, roles: None) -> None:
    names = new_database("crm"), new_database("crm")
    with server.target(names[0]).connect() as live, server.target(names[1]).connect() as shadow:
        run(
            live,
            "CREATE TABLE public.t (n int)",
            "ALTER TABLE public.t OWNER TO app",
            "GRANT SELECT ON public.t TO anon",
        )
        run(
            shadow,
            "CREATE TABLE public.t (n int)",
            "ALTER TABLE public.t OWNER TO migrator",
            "GRANT UPDATE ON public.t TO auditor",
        )
        one, other = privileges.read(live), privileges.read(shadow)

        def spoken(owners: bool, acls: bool) -> list[str]:
            carried = privileges.statements(one, other, owners=owners, acls=acls)
            return [statement.as_string(shadow) for statement in carried.statements]

        owner = ['ALTER TABLE "public"."t" OWNER TO "app"']
        acl = ['GRANT SELECT ON TABLE "public"."t" TO "anon"', 'REVOKE UPDATE ON TABLE "public"."t" FROM "auditor"']
        assert spoken(owners=True, acls=False) == owner
        assert spoken(owners=False, acls=True) == acl
        assert spoken(owners=True, acls=True) == owner + acl
        assert spoken(owners=False, acls=False) == []


def test_names_in_sql_and_in_words(server: EmbeddedServer) -> None:
    odd = 'a "b"'
    with server.target("postgres").connect() as connection:
        assert {
            str(name): name.reference().as_string(connection)
            for name in (
                ObjectName("table", (odd, "c.d")),
                ObjectName("column", ("s", "t", odd)),
                ObjectName("routine", ("s", "f"), ("pg_catalog", "_int4", "s", odd)),
                ObjectName("routine", ("s", "f")),
                ObjectName("operator", ("s", "!%"), ("", "", "pg_catalog", "bool")),
                ObjectName("operator class", ("s", "o", "btree")),
                ObjectName("large object", ("4242",)),
                ObjectName("schema", (odd,)),
            )
        } == {
            'table "a "b".c.d"': '"a ""b"""."c.d"',
            'column "s.t.a "b""': '"s"."t"',
            'routine "s.f(_int4, s.a "b")"': '"s"."f" ("pg_catalog"."_int4", "s"."a ""b""")',
            'routine "s.f()"': '"s"."f" ()',
            'operator "s.!%(., bool)"': '"s".!% (NONE, "pg_catalog"."bool")',
            'operator class "s.o.btree"': '"s"."o" USING "btree"',
            'large object "4242"': "4242",
            'schema "a "b""': '"a ""b"""',
        }


def test_what_is_no_operator_never_gets_into_sql() -> None:
    with pytest.raises(ValueError, match="'; DROP' is not an operator"):
        ObjectName("operator", ("s", "; DROP"), ()).reference()
