"""What a bare move would leave bound to the old objects, and what must not be moved at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from lastgood.errors import Refused
from lastgood.in_place import names
from lastgood.in_place.capabilities import probe
from lastgood.in_place.exchange import switch
from lastgood.in_place.exchange.completion import complete, validate
from lastgood.in_place.exchange.move import Moved
from lastgood.in_place.platform import added_parents
from lastgood.in_place.survey import survey
from lastgood.in_place.ties import evaluated, queries
from lastgood.postgres.server import Connection
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, OWN, Project, Staged, account_of, stage

ALL = (*OWN, "crm")
UNDO = "20261122-031500-00000001"


def swapped(connection: Connection, staged: Staged, schemas: tuple[str, ...] = ALL) -> Moved:
    return switch.swap(connection, staged.run, schemas=schemas, wished=staged.ties, manifest="digest")


def one(connection: Connection, query: LiteralString, *names_: str) -> object:
    """The one value of a query, in which each ``{}`` is a name."""
    row = connection.execute(sql.SQL(query).format(*map(sql.Identifier, names_))).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.postgres(15, 17)
def test_after_the_swap_the_platform_works_with_the_restored_objects(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    kept = names.kept(staged.run, "public")
    with project.connect(broken) as connection:
        swapped(connection, staged)
        # A sign-up calls the restored function, and fills the live tables.
        connection.execute("INSERT INTO auth.users (id, email) VALUES (%s, 'new@example.com')", [uuid.uuid4()])
        assert one(connection, "SELECT count(*) FROM public.sales WHERE name = 'new@example.com'") == 1
        assert one(connection, "SELECT count(*) FROM public.profiles WHERE display = 'new@example.com'") == 1
        assert one(connection, "SELECT count(*) FROM {}.sales WHERE name IN ('new', 'new@example.com')", kept) == 0
        # A table that the migration dropped is published again; columns and row filter are back.
        assert connection.execute(
            "SELECT schemaname, tablename, attnames::text, rowfilter FROM pg_publication_tables"
            " WHERE pubname = 'supabase_realtime' ORDER BY 2"
        ).fetchall() == [
            ("public", "contacts", "{id,stage,name}", "(id > 0)"),
            ("public", "notes", "{id,contact,author,body,created_at}", None),
        ]
        # Subscribers of the realtime service hear of the restored table.
        assert one(connection, "SELECT entity::text FROM realtime.subscription") == "public.contacts"
        # Access to files is decided by the restored rows.
        text = one(connection, "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polname = 'files_of_sales'")
        assert text == "((bucket_id = 'files'::text) AND public.is_sales(auth.uid()))"
        # The sequence continues where the restore point's did.
        assert one(connection, "SELECT last_value FROM public.invoice_numbers") == 1199
        # What the migration revoked or granted is as before it.
        assert one(connection, "SELECT has_function_privilege('anon', 'public.is_sales(uuid)', 'execute')") is False
        assert one(connection, "SELECT has_table_privilege('anon', 'public.sales', 'select')") is False


def test_the_platform_hears_of_the_swap_once_and_its_jobs_stay(project: Project, broken: str) -> None:
    """Its event triggers fire for each command, and equal notifications of a transaction are sent once."""
    with project.connect(broken, user=ADMIN) as admin:
        admin.execute("INSERT INTO cron.job (jobid, command) VALUES (7, 'SELECT count(*) FROM public.contacts')")
        staged = stage(project, "postgres", broken)
        admin.execute("LISTEN pgrst")
        with project.connect(broken) as connection:
            swapped(connection, staged)
        heard = [(each.channel, each.payload) for each in admin.notifies(timeout=10, stop_after=1)]
        heard += [(each.channel, each.payload) for each in admin.notifies(timeout=0)]
        assert heard == [("pgrst", "reload schema")]
        assert admin.execute("SELECT jobid, command FROM cron.job").fetchall() == [
            (7, "SELECT count(*) FROM public.contacts")
        ]


@pytest.mark.postgres(15, 17)
def test_kept_tables_neither_block_nor_follow_the_platform(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    kept = names.kept(staged.run, "public")
    with project.connect(broken) as connection:
        swapped(connection, staged)
        assert queries.foreign_keys(connection, [names.kept(staged.run, live) for live in ALL]) == []
        before = one(connection, "SELECT count(*) FROM {}.sales", kept)
        # notes refer to the first two users without an action; a third one can be deleted.
        third = one(connection, "SELECT id FROM auth.users ORDER BY id OFFSET 2 LIMIT 1")
        connection.execute("DELETE FROM public.profiles WHERE id = %s", [third])
        connection.execute("UPDATE public.contacts SET owner = NULL")
        connection.execute("DELETE FROM auth.users WHERE id = %s", [third])
        assert one(connection, "SELECT count(*) FROM {}.sales", kept) == before
        # Back again: the row of the deleted user comes back, and its foreign key says so.
        back = switch.undo(connection, staged.run, UNDO)
        failed = validate(connection, back.unvalidated)
        assert [key.name for key, _ in failed] == ["profiles_id_fkey", "sales_user_id_fkey"]
        assert one(connection, "SELECT count(*) FROM public.sales") == before


WITH_CODE = """
CREATE FUNCTION public.imm(i bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';
CREATE INDEX ON public.sales (id) WHERE id > public.imm(0);
CREATE FUNCTION public.changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER subscribed BEFORE UPDATE ON realtime.subscription FOR EACH ROW EXECUTE FUNCTION public.changed();
"""


def test_code_does_not_run_for_references_and_keys_after_the_switch(project: Project, broken: str) -> None:
    for database in (point := project.copy(), broken):
        project.psql(database, "GRANT TRIGGER ON realtime.subscription TO postgres", user=ADMIN)
        project.psql(database, WITH_CODE)
    staged = stage(project, point, broken)
    with project.connect(broken) as connection:
        moved = swapped(connection, staged)
        assert moved.notes == (
            'column "entity" of "realtime.subscription" may still reference kept tables: functions of the table would '
            "run with the rights of this role",
        )
        switch.undo(connection, staged.run, UNDO)
        assert list(complete(connection, UNDO)) == [
            'foreign key "sales_user_id_fkey" of "public.sales" is still NOT VALID: functions in definitions of the '
            "table would run with the rights of this role; run as a role with fewer rights: "
            'ALTER TABLE "public"."sales" VALIDATE CONSTRAINT "sales_user_id_fkey"'
        ]
    project.drop(point)


READ = """
CREATE FUNCTION public.imm(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i; END';
CREATE DOMAIN public.d AS int CHECK (public.imm(VALUE) > 0);
CREATE TYPE public.c AS (a public.d);
CREATE DOMAIN public.over_c AS public.c;
CREATE TYPE public.harmless AS (a int, b public.stage);
CREATE POLICY p1 ON storage.objects USING ('(1)'::public.c IS NOT NULL);
CREATE POLICY p2 ON storage.objects USING ('{1}'::public.d[] IS NOT NULL);
CREATE POLICY p3 ON storage.objects WITH CHECK ('(1)'::public.over_c IS NOT NULL);
CREATE POLICY p4 ON storage.objects USING ('(1,lead)'::public.harmless IS NOT NULL);
CREATE POLICY p5 ON storage.objects USING ('1'::public.d IS NOT NULL AND '{lead}'::public.stage[] IS NOT NULL);
"""


def test_ties_whose_constants_run_code_are_not_made_again(project: Project, database: str) -> None:
    project.psql(database, READ)
    with project.connect(database) as connection:
        found = evaluated.evaluated(connection, queries.read(connection, OWN))
        assert [(each.tie.name, each.type) for each in found] == [
            ("p1", "public.c"),
            ("p2", "public.d"),
            ("p3", "public.c"),
        ]
        assert probe(connection).able("policies on platform tables")
    staged = stage(project, "postgres", database)
    with project.connect(database) as connection:
        swapped(connection, staged, OWN)
        with pytest.raises(Refused) as refused:
            switch.undo(connection, staged.run, UNDO)
    assert refused.value.message == (
        'cannot switch: policy "p1" on "storage.objects" has a constant of type public.c, and checks of that type '
        "would run with the rights of this role"
    )


def test_users_who_signed_up_since_are_counted(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as connection:
        connection.execute(
            "CREATE FUNCTION public.longer(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'"
        )
        for number in range(3):
            connection.execute(
                "INSERT INTO auth.users (id, email) VALUES (%s, %s)", [uuid.uuid4(), f"late{number}@example.com"]
            )
        key = next(each for each in staged.ties.foreign_keys if each.name == "sales_user_id_fkey")
        assert added_parents.count(connection, key, staging=names.staging(staged.run, "public")) == 3
        # The role must not query a table whose definitions call functions.
        connection.execute("CREATE INDEX ON public.profiles (public.longer(display))")
        assert list(added_parents.remarks(connection, staged.run, OWN)) == [
            "3 rows of auth.users, added since the restore point, will have no matching row in public.sales; the "
            f'matching rows are kept in schema "{names.kept(staged.run, "public")}"'
        ]


@pytest.mark.postgres(17, also=(15,))
def test_schema_public_keeps_its_identity_and_the_platforms_default_privileges(project: Project, broken: str) -> None:
    query = """
        SELECT n.oid, n.nspacl::text,
               (SELECT array_agg((defaclrole::regrole, defaclobjtype, defaclacl)::text ORDER BY 1)
        FROM pg_default_acl d WHERE d.defaclnamespace = n.oid AND d.defaclrole = 'supabase_admin'::regrole)
        FROM pg_namespace n WHERE nspname = 'public'"""
    extension = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'hstore'"
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as connection:
        before = connection.execute(query).fetchall()
        assert "supabase_admin" in str(before)
        swapped(connection, staged)
        assert connection.execute(query).fetchall() == before
        assert one(connection, extension) == "public"
        assert one(connection, "SELECT options OPERATOR(public.->) 'a' FROM public.settings") == "1"


@pytest.mark.postgres(15, 17)
def test_the_applications_roles_enter_neither_staging_nor_kept_schemas(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as connection:
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO anon")
        swapped(connection, staged)
        switch.undo(connection, staged.run, UNDO)
        entered = connection.execute(
            "SELECT nspname, r FROM pg_namespace, unnest(ARRAY['anon', 'authenticated', 'service_role', 'public']) r"
            " WHERE nspname LIKE 'lastgood%' AND CASE r WHEN 'public' THEN EXISTS (SELECT FROM aclexplode(nspacl) a"
            " WHERE a.grantee = 0) ELSE has_schema_privilege(r, nspname, 'usage') END"
        ).fetchall()
    assert entered == []


def test_names_that_need_quotes_and_long_names_are_moved(project: Project, database: str) -> None:
    odd, long = 'My "App" ü', "x" * 62
    with project.connect(database) as connection:
        for schema in (odd, long):
            name = sql.Identifier(schema)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
            connection.execute(
                sql.SQL('CREATE TABLE {}."T ""1""" (id int PRIMARY KEY, "U u" uuid REFERENCES auth.users)').format(name)
            )
            connection.execute(
                sql.SQL('CREATE FUNCTION {}."F f"(t {}."T ""1""") RETURNS int LANGUAGE sql AS \'SELECT 1\'').format(
                    name, name
                )
            )
    point = project.copy(database)
    before = account_of(project, database)
    staged = stage(project, point, database, (odd, long))
    with project.connect(database) as connection:
        swapped(connection, staged, (odd, long))
        assert_same(before, account_of(project, database))
        back = switch.undo(connection, staged.run, UNDO)
        assert validate(connection, back.unvalidated) == []
    assert_same(before, account_of(project, database))
    project.drop(point)


def comparable(found: dict[str, object]) -> dict[str, object]:
    """Without what pg_dump itself does not carry over (privileges of a range type's functions), and without the empty
    publications that a move leaves, since a publication may publish other things too."""
    empty = ("publication other", "publication whole", "PUBLICATION - other", "PUBLICATION - whole")
    constructors = ("function public.span(", "function public.spans(")
    return {key: value for key, value in found.items() if not key.startswith(empty + constructors)}


@pytest.mark.postgres(15, 17, 18)
def test_a_superuser_moves_event_triggers_range_types_and_whole_published_schemas(
    project: Project, database: str
) -> None:
    text = """
        CREATE TYPE public.span AS RANGE (subtype = int4, multirange_type_name = public.spans);
        CREATE TABLE public.shifts (during public.span, many public.spans);
        INSERT INTO public.shifts VALUES (public.span(1, 5), public.spans(public.span(1, 2)));
        CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM id FROM public.contacts; END $$;
        CREATE EVENT TRIGGER watch_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE')
            EXECUTE FUNCTION public.watch();
        COMMENT ON EVENT TRIGGER watch_ddl IS 'of the application';
        CREATE EVENT TRIGGER sleeping ON sql_drop EXECUTE FUNCTION public.watch();
        ALTER EVENT TRIGGER sleeping DISABLE;
        CREATE PUBLICATION whole FOR TABLES IN SCHEMA private, supabase_migrations;
        CREATE OPERATOR FAMILY public.stages USING btree;
        CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON auth.identities DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
    """
    project.psql(database, text, user=ADMIN)
    point = project.copy(database)
    project.psql(
        database,
        """DROP EVENT TRIGGER watch_ddl; DROP TRIGGER checked ON auth.identities; DROP SCHEMA private CASCADE;
           DROP PUBLICATION whole; CREATE SCHEMA later; CREATE PUBLICATION other FOR TABLES IN SCHEMA later;
           ALTER EVENT TRIGGER sleeping ENABLE ALWAYS""",
        user=ADMIN,
    )
    wished, before = account_of(project, point), account_of(project, database)
    staged = stage(project, point, database, user=ADMIN)
    with project.connect(database, user=ADMIN) as connection:
        moved = swapped(connection, staged, (*OWN, "later"))
        assert moved.notes == ()
        assert_same(comparable(wished), comparable(account_of(project, database)))
        back = switch.undo(connection, staged.run, UNDO)
        assert validate(connection, back.unvalidated) == []
    assert_same(comparable(before), comparable(account_of(project, database)))
    project.drop(point)


def test_a_temporary_view_prevents_nothing(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as other, project.connect(broken) as connection:
        other.execute("CREATE TEMP VIEW mine AS SELECT * FROM public.contacts")
        assert swapped(connection, staged).tries == 1
        # It still shows the kept table: sessions that keep such things must reconnect.
        assert one(other, "SELECT count(*) FROM mine WHERE name = 'damaged'") == 100


@pytest.mark.postgres(17, also=(15,))
def test_a_prepared_statement_goes_on_or_fails_once(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as other, project.connect(broken) as connection:
        other.execute("PREPARE plain AS SELECT upper_name FROM public.contacts WHERE id = 2")
        other.execute("PREPARE changed AS SELECT * FROM public.contacts WHERE id = 2")
        assert one(other, "EXECUTE plain") == "DAMAGED"
        other.execute("EXECUTE changed")
        swapped(connection, staged)
        assert one(other, "EXECUTE plain") == "CONTACT 2"
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan must not change result type"):
            other.execute("EXECUTE changed")


REFUSALS = {
    "an object of another role": (
        "CREATE TABLE public.old_dashboard (id int)",
        'table "public.old_dashboard" belongs to role "supabase_admin", whose privileges this role lacks',
    ),
    "a range type over a type that goes back": (
        "CREATE TYPE public.span AS RANGE (subtype = public.email); ALTER TYPE public.span OWNER TO postgres",
        'range type "public.span" cannot be moved, since its constructor functions belong to the bootstrap superuser, '
        "and cannot stay, since type public.email is rolled back",
    ),
    "a cast": (
        "CREATE CAST (public.address AS text) WITH INOUT",
        "cast from public.address to text depends on type public.address, but is not rolled back",
    ),
    "a foreign key of the platform": (
        "CREATE TABLE storage.shares (contact bigint REFERENCES public.contacts)",
        "constraint shares_contact_fkey on table storage.shares depends on index public.contacts_pkey, but is not "
        "rolled back",
    ),
    "a view of the platform": (
        "CREATE VIEW storage.people AS SELECT id FROM public.contacts",
        "rule _RETURN on view storage.people depends on table public.contacts, but is not rolled back",
    ),
    "a column of the platform": (
        "CREATE TABLE storage.stages (stage public.stage)",
        "table storage.stages depends on type public.stage, but is not rolled back",
    ),
    "a parent of the platform": (
        "CREATE TABLE storage.parent (id int) PARTITION BY LIST (id); GRANT ALL ON storage.parent TO postgres;"
        "CREATE TABLE public.part PARTITION OF storage.parent DEFAULT; ALTER TABLE public.part OWNER TO postgres",
        'table "public.part" is a partition or a child of "storage.parent", which is not rolled back',
    ),
    "a disabled trigger": (
        "ALTER TABLE auth.users DISABLE TRIGGER on_auth_user_created",
        'trigger "on_auth_user_created" on "auth.users" is set to DISABLE, ALWAYS or REPLICA; only the '
        "table's owner can set that",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_moved_is_refused_with_its_name(what: str, project: Project, database: str) -> None:
    text, refusal = REFUSALS[what]
    staged = stage(project, "postgres", database)
    project.psql(database, text, user=ADMIN)
    before = account_of(project, database)
    with project.connect(database) as connection:
        found = survey(connection, OWN)
        assert refusal in found.refusals
        with pytest.raises(Refused) as refused:
            swapped(connection, staged, OWN)
    assert refused.value.message.startswith("cannot switch: ")
    assert refusal in refused.value.message
    assert_same(before, account_of(project, database))


def test_more_locks_than_half_of_the_servers_are_refused(
    project: Project, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastgood.in_place.survey.LOCK_SHARE", 0.001)
    with project.connect(database) as connection:
        found = survey(connection, OWN)
        built = survey(connection, OWN, arriving=OWN)
    # 64 for each of 80 connections and 5 prepared transactions.
    assert found.refusals == (
        f"the switchover needs {found.locks} locks, more than half of the server's 5440: raise "
        f"max_locks_per_transaction to {-(-found.locks * 1000 // 85)}",
    )
    assert found.locks > built.locks  # before the build, as many objects as there are now are expected to arrive


def test_a_publication_of_all_tables_is_a_caution(project: Project, database: str) -> None:
    with project.connect(database, user=ADMIN) as admin, project.connect(database) as connection:
        admin.execute("CREATE PUBLICATION all_of_it FOR ALL TABLES")
        found = survey(connection, OWN)
    assert found.refusals == ()
    assert found.cautions == ('publication "all_of_it" is FOR ALL TABLES: it also publishes staging and kept schemas',)


AT_THE_POINT = """
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT USAGE ON SCHEMAS TO authenticated;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO service_role WITH GRANT OPTION;
    ALTER PUBLICATION supabase_realtime SET (publish = 'insert, update', publish_via_partition_root = true);
    CREATE PUBLICATION dropped FOR TABLE public.notes;
    ALTER PUBLICATION dropped OWNER TO postgres;
    CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER watch_ddl ON ddl_command_end EXECUTE FUNCTION public.watch();
    ALTER EVENT TRIGGER watch_ddl OWNER TO watcher;
"""
SINCE = """
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE USAGE ON SCHEMAS FROM authenticated;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE GRANT OPTION FOR SELECT ON TABLES FROM service_role;
    ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE USAGE ON TYPES FROM PUBLIC;
    ALTER PUBLICATION supabase_realtime SET (publish = 'delete', publish_via_partition_root = false);
    ALTER PUBLICATION supabase_realtime DROP TABLE public.notes, public.contacts;
    ALTER PUBLICATION dropped OWNER TO supabase_admin;
    ALTER PUBLICATION dropped DROP TABLE public.notes;
    DROP EVENT TRIGGER watch_ddl;
    CREATE EVENT TRIGGER watch_ddl ON sql_drop EXECUTE FUNCTION public.watch();
"""


@pytest.fixture
def event_trigger_owner(project: Project) -> Iterator[None]:
    """A superuser to own an event trigger."""
    with project.connect("template1", user=ADMIN) as admin:
        admin.execute("CREATE ROLE watcher SUPERUSER")
        yield
        for database in admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'project%'").fetchall():
            with project.connect(str(database[0]), user=ADMIN) as connection:
                connection.execute("DROP OWNED BY watcher CASCADE")
        admin.execute("DROP ROLE watcher")


@pytest.mark.postgres(15, 17, 18)
@pytest.mark.usefixtures("event_trigger_owner")
def test_default_privileges_options_of_publications_and_owners_come_back(project: Project, database: str) -> None:
    generated = "ALTER PUBLICATION supabase_realtime SET (publish_generated_columns = {});"
    at_the_point, since = (generated.format(each) if project.major >= 18 else "" for each in ("stored", "none"))
    project.psql(database, AT_THE_POINT + at_the_point, user=ADMIN)
    point = project.copy(database)
    project.psql(database, SINCE + since, user=ADMIN)
    wished, before = account_of(project, point), account_of(project, database)
    staged = stage(project, point, database, user=ADMIN)
    with project.connect(database, user=ADMIN) as connection:
        assert swapped(connection, staged, OWN).notes == ()
        # What exists keeps its owner: an owner of the platform's is not changed.
        connection.execute("ALTER PUBLICATION dropped OWNER TO postgres")
        assert_same(wished, account_of(project, database))
        connection.execute("ALTER PUBLICATION dropped OWNER TO supabase_admin")
        back = switch.undo(connection, staged.run, UNDO)
        assert validate(connection, back.unvalidated) == []
        assert_same(before, account_of(project, database))
    project.drop(point)
