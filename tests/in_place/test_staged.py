"""Restore points built and proved in staging schemas beside a live application on a hosted project."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.errors import Failed, Interrupted, Refused
from lastgood.events import Caution
from lastgood.in_place import marks
from lastgood.in_place.build import oid_names, staged
from lastgood.in_place.build.prove import manifest_digest
from lastgood.in_place.exchange import completion, switch
from lastgood.in_place.exchange.completion import validate
from lastgood.in_place.platform.deleted_parents import refuse
from lastgood.load.rebuild import ProofFailed
from lastgood.load.repairs import Rules
from lastgood.points.dump_point import take
from lastgood.points.manifest import Form
from lastgood.postgres import database as postgres_database
from lastgood.postgres.server import Connection
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, FOLDER, OWN, Project, account_of
from tests.support.staging import Staging, point_in

ALL = (*OWN, "crm")
ROLES = ("anon", "authenticated", "service_role", "authenticator", "supabase_auth_admin")


def damage(project: Project, database: str) -> None:
    project.psql(database, (FOLDER / "migration.sql").read_text())


def swap(project: Project, database: str, run: Staging, schemas: tuple[str, ...]) -> None:
    with project.connect(database) as connection:
        moved = switch.swap(
            connection,
            run.run,
            schemas=schemas,
            wished=run.rewritten.ties,
            manifest=manifest_digest(run.whole.facts),
            after=run.rewritten,
        )
        assert validate(connection, moved.unvalidated) == []


@pytest.mark.postgres(17, also=(15, 18))
def test_a_point_is_built_and_proved_unnoticed_then_the_whole_database_is_as_at_the_point(
    project: Project, database: str, store: Path
) -> None:
    at_point = account_of(project, database)
    run = Staging(project.target(database), take(project.target(database), store))
    damage(project, database)
    before = account_of(project, database)

    assert run.find() == ()
    run.build()
    proof = run.prove()

    assert_same(before, account_of(project, database))
    assert proof.comparison.exact
    assert proof.left_out == ()
    assert run.loaded.repaired == []
    assert run.rewritten.refresh == (Relation("public", "totals"),)
    swap(project, database, run, ALL)
    assert_same(at_point, account_of(project, database))


@pytest.mark.postgres(18, also=(15,))
@pytest.mark.parametrize("form", ["custom", "directory"])
def test_archives_are_loaded_the_same_way(project: Project, database: str, store: Path, form: Form) -> None:
    run = Staging(project.target(database), take(project.target(database), store, form=form))
    damage(project, database)
    run.build()
    assert run.prove().comparison.exact


def test_a_foreign_compressed_dump_is_proved_by_its_own_facts(project: Project, database: str, store: Path) -> None:
    path = store / "foreign.sql.gz"
    path.write_bytes(gzip.compress(project.dump(database).encode()))
    run = Staging(project.target(database), point_in(path))
    run.build()
    proof = run.prove()
    assert proof.comparison.equal
    assert {table.name for table in proof.comparison.tables if table.equal} >= {"contacts", "notes", "events_2026"}


def test_a_dump_of_the_own_schemas_borrows_the_platforms_definitions(
    project: Project, database: str, store: Path
) -> None:
    at_point = account_of(project, database)
    path = store / "own.sql"
    path.write_text(project.dump(database, *(f"--schema={schema}" for schema in OWN)))
    run = Staging(project.target(database), point_in(path))
    project.psql(database, "UPDATE public.notes SET body = 'damaged'; DROP VIEW public.pipeline;")
    assert run.rewritten.lent == ("auth",)
    assert run.notes[-1] == "the restore point lacks auth: the definitions of the live database are used"
    assert run.find() == ()
    run.build()
    run.prove()
    swap(project, database, run, OWN)
    assert_same(at_point, account_of(project, database))


def test_a_dump_of_some_schemas_that_needs_no_other_keeps_publications_and_default_privileges(
    project: Project, database: str, store: Path
) -> None:
    """Nothing in such a dump names a schema that it lacks, and it has no object of the whole database."""
    project.psql(
        database,
        """
        CREATE SCHEMA apart; CREATE TABLE apart.words (id int PRIMARY KEY); INSERT INTO apart.words VALUES (1);
        ALTER PUBLICATION supabase_realtime ADD TABLE apart.words;
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        """,
    )
    at_point = account_of(project, database)
    path = store / "apart.sql"
    path.write_text(project.dump(database, "--schema=apart"))
    run = Staging(project.target(database), point_in(path), ("apart",))
    project.psql(database, "INSERT INTO apart.words VALUES (2)")
    assert run.rewritten.lent == ()
    run.build()
    run.prove()
    swap(project, database, run, ("apart",))
    assert_same(at_point, account_of(project, database))


OF_OTHERS = """
    CREATE TABLE public.of_service (id int); ALTER TABLE public.of_service OWNER TO service_role;
    GRANT SELECT ON public.of_service TO anon;
"""


@pytest.mark.postgres(18, also=(15,))
def test_a_dump_without_owners_and_privileges_gets_those_of_the_live_objects(
    project: Project, database: str, store: Path
) -> None:
    project.psql(database, OF_OTHERS, user=ADMIN)
    project.psql(database, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    at_point = account_of(project, database)
    path = store / "bare.sql"
    path.write_text(project.dump(database, "--no-owner", "--no-acl"))
    project.psql(database, "DROP VIEW public.pipeline, public.people; UPDATE public.notes SET body = 'damaged'")
    run = Staging(project.target(database), point_in(path))
    assert run.rewritten.lent == ()
    assert (
        "2 objects are in the restore point only, and get the default privileges of the live database: "
        'view "public.people", view "public.pipeline"'
    ) in run.notes
    run.build()
    run.prove()
    swap(project, database, run, OWN)
    assert_same(at_point, account_of(project, database))


@pytest.mark.postgres(15, also=(18,))
def test_objects_of_other_roles_get_their_owners(project: Project, database: str, store: Path) -> None:
    """This role is a member of the owner, who may create nothing in the schema any more."""
    project.psql(database, OF_OTHERS, user=ADMIN)
    at_point = account_of(project, database)
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, "DROP TABLE public.of_service", user=ADMIN)
    run.build()
    run.prove()
    with project.connect(database) as connection:
        for each in marks.marked(connection, run=run.run):
            query = "SELECT has_schema_privilege('service_role', %s, 'USAGE, CREATE')"
            assert connection.execute(query, [each.name]).fetchone() == (False,)
    swap(project, database, run, OWN)
    assert_same(at_point, account_of(project, database))


def test_the_application_cannot_enter_staging_and_the_run_is_recognized_by_its_marks(
    project: Project, database: str, store: Path
) -> None:
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, "ALTER DEFAULT PRIVILEGES GRANT USAGE, CREATE ON SCHEMAS TO anon, PUBLIC")
    run.build()
    with project.connect(database) as connection:
        found = marks.marked(connection, run=run.run, role="staging")
        assert {each.mark.live: each.mark.state for each in found} == dict.fromkeys(OWN, "built")
        for each in found:
            for role in ROLES:
                query = "SELECT has_schema_privilege(%s, %s, 'USAGE') OR has_schema_privilege(%s, %s, 'CREATE')"
                assert connection.execute(query, [role, each.name, role, each.name]).fetchone() == (False,)
    run.prove()
    with project.connect(database) as connection:
        found = marks.marked(connection, run=run.run, role="staging")
        assert {each.mark.state for each in found} == {"proved"}
        assert {each.mark.manifest for each in found} == {manifest_digest(run.whole.facts)}


def test_checks_that_call_functions_stay_in_force_on_the_live_tables(
    project: Project, database: str, store: Path
) -> None:
    project.psql(
        database,
        "CREATE FUNCTION public.is_name(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> $$$$';"
        "ALTER TABLE public.contacts ADD CONSTRAINT named CHECK (public.is_name(name));",
    )
    run = Staging(project.target(database), take(project.target(database), store))
    query = (
        "SELECT oid, convalidated FROM pg_constraint WHERE conname = 'named' AND connamespace = 'public'::regnamespace"
    )
    with project.connect(database) as connection:
        before = connection.execute(query).fetchone()
        run.build()
        assert connection.execute(query).fetchone() == before
    run.prove()


BY_NAME = """
    CREATE TABLE public.kinds (name text PRIMARY KEY);
    INSERT INTO public.kinds VALUES ('a'), ('b');
    CREATE FUNCTION public.is_kind(text) RETURNS boolean LANGUAGE plpgsql STABLE
      AS 'BEGIN RETURN EXISTS (SELECT FROM public.kinds WHERE name = $1); END';
    CREATE FUNCTION public.is_good(text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT public.is_kind($1)';
    CREATE FUNCTION public.rank_of(text) RETURNS bigint LANGUAGE sql IMMUTABLE
      AS 'SELECT count(*) FROM public.kinds WHERE name <= $1';
    CREATE DOMAIN public.kind AS text CONSTRAINT existing CHECK (public.is_good(VALUE));
    CREATE TABLE public.kinded (kind public.kind);
    CREATE TABLE public.things (id int PRIMARY KEY, kind text, CONSTRAINT known CHECK (public.is_good(kind)));
    COMMENT ON CONSTRAINT known ON public.things IS 'a kind that exists';
    CREATE TABLE public.heir (CONSTRAINT known CHECK (public.is_good(kind))) INHERITS (public.things);
    CREATE TABLE public.ranked (kind text, rank bigint GENERATED ALWAYS AS (public.rank_of(kind)) STORED);
    CREATE INDEX ranked_by_function ON public.ranked (public.rank_of(kind));
    CREATE TABLE public.parted (id int, kind text, CONSTRAINT good CHECK (public.is_good(kind))) PARTITION BY LIST (id);
    CREATE TABLE public.part (id int, kind text, CONSTRAINT good CHECK (public.is_good(kind)));
    ALTER TABLE public.parted ATTACH PARTITION public.part FOR VALUES IN (1);
    CREATE TABLE public.other_part PARTITION OF public.parted FOR VALUES IN (2);
    INSERT INTO public.parted VALUES (1, 'a'), (2, 'b');
    INSERT INTO public.things VALUES (1, 'a'), (2, 'b');
    INSERT INTO public.kinded VALUES ('a'), ('b');
    INSERT INTO public.ranked VALUES ('a'), ('b');
"""


@pytest.mark.postgres(18, also=(15,))
def test_checks_and_generated_columns_that_read_tables_by_name_are_verified_after_the_switch(
    project: Project, database: str, store: Path
) -> None:
    project.psql(database, BY_NAME)
    at_point = account_of(project, database)
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, "DELETE FROM public.kinds")  # which is what the functions read during the build
    assert run.rewritten.checks
    assert [each.text for each in run.events if isinstance(each, Caution)] == [
        "index public.ranked_by_function uses a function that may read the live tables while it is built; after the "
        "switch, run: REINDEX INDEX CONCURRENTLY public.ranked_by_function"
    ]
    run.build()
    run.prove()
    swap(project, database, run, OWN)
    with project.connect(database) as connection:
        (rest,) = marks.rest(connection)
        assert [(each.owner, each.name) for each in rest.checks] == [
            ("things", "known"),
            ("parted", "good"),
            ("heir", "known"),
            ("kind", "existing"),
        ]
        assert [each.name for each in rest.columns] == ["rank"]
        (remark,) = completion.complete(connection, run.run)
        what, _, again = remark.partition("; to recompute them: ")
        assert what == ("generated column rank of public.ranked has outdated values in 2 rows")
        assert again == (
            'UPDATE ONLY "public"."ranked" SET "rank" = DEFAULT '
            'WHERE "rank"::text IS DISTINCT FROM (public.rank_of(kind))::text'
        )
        assert marks.rest(connection) == []
        connection.execute(again.encode())
    assert_same(at_point, account_of(project, database))


def test_a_check_that_the_restored_rows_violate_stays_not_valid(project: Project, database: str, store: Path) -> None:
    project.psql(database, BY_NAME)
    project.psql(
        database, "DELETE FROM public.kinds WHERE name = 'b'; DROP TABLE public.ranked, public.parted, public.heir;"
    )
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, "INSERT INTO public.kinds VALUES ('b')")
    run.build()
    run.prove()
    swap(project, database, run, OWN)
    with project.connect(database) as connection:
        assert list(completion.complete(connection, run.run)) == [
            'check constraint known on public.things is still NOT VALID: check constraint "known" of relation '
            '"things" is violated by some row',
            'domain constraint existing on public.kind is still NOT VALID: column "kind" of table "kinded" contains '
            "values that violate the new constraint",
        ]


def test_a_check_is_validated_after_the_way_forward_again(project: Project, database: str, store: Path) -> None:
    """The rollback was undone before its checks were validated."""
    project.psql(database, BY_NAME)
    run = Staging(project.target(database), take(project.target(database), store))
    run.build()
    run.prove()
    swap(project, database, run, OWN)
    first, again = "20261122-031500-00000001", "20261122-031600-00000002"
    query = "SELECT convalidated FROM pg_constraint WHERE conname = 'known' AND conrelid = 'public.things'::regclass"
    with project.connect(database) as connection:
        switch.undo(connection, run.run, first)
        list(completion.complete(connection, first))
        assert connection.execute(query).fetchone() == (True,)
        switch.undo(connection, first, again, role="undone")
        assert connection.execute(query).fetchone() == (False,)
        assert list(completion.complete(connection, again)) == []
        assert connection.execute(query).fetchone() == (True,)


def test_default_privileges_of_the_whole_database_do_not_reach_staging(
    project: Project, database: str, store: Path
) -> None:
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(
        database,
        """
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO anon;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated;
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
        """,
    )
    run.build()
    assert run.prove().comparison.exact


# The proof --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            "UPDATE {}.notes SET body = 'x' WHERE id = (SELECT min(id) FROM {}.notes)",
            "{}.notes: expected digest ",
        ),
        (
            "DELETE FROM {}.notes WHERE id = (SELECT min(id) FROM {}.notes)",
            "{}.notes: expected 400 rows, found 399 rows",
        ),
        ("SELECT setval('{}.invoice_numbers', 7)", "{}.invoice_numbers: expected "),
        ("DROP INDEX {}.contacts_search", "CREATE INDEX contacts_search ON {}.contacts "),
        ("GRANT SELECT ON {}.sales TO anon", "GRANT SELECT ON TABLE {}.sales TO anon: expected absent, found present"),
        ("ALTER FUNCTION {}.is_sales(uuid) SECURITY INVOKER", "CREATE FUNCTION {}.is_sales(who uuid) "),
    ],
    ids=["value", "row", "sequence", "index", "privilege", "function"],
)
def test_the_proof_finds_a_difference_and_withholds_the_mark(
    project: Project, database: str, store: Path, change: str, found: str
) -> None:
    run = Staging(project.target(database), take(project.target(database), store))
    run.build()
    staging = run.schema("public")
    project.psql(database, change.replace("{}", staging) + ";")
    with pytest.raises(ProofFailed) as caught:
        run.prove()
    assert f'cannot use the restored schemas: they differ from "{run.name}" in ' in caught.value.message
    assert found.replace("{}", staging) in caught.value.message
    with project.connect(database) as connection:
        assert {each.mark.state for each in marks.marked(connection, run=run.run)} == {"built"}
        with pytest.raises(Refused, match="is not proved"):
            switch.swap(
                connection, run.run, schemas=ALL, wished=run.rewritten.ties, manifest=manifest_digest(run.whole.facts)
            )


def test_an_interrupted_build_is_begun_again_and_a_proof_may_run_twice(
    project: Project, database: str, store: Path
) -> None:
    run = Staging(project.target(database), take(project.target(database), store))
    looks = iter(range(1000))
    with pytest.raises(Interrupted):
        run.build(cancelled=lambda: next(looks) > 3)
    with project.connect(database) as connection:
        assert {each.mark.state for each in marks.marked(connection, run=run.run)} == {"building"}
    run.build()
    run.prove()
    assert run.prove().comparison.exact
    with project.connect(database) as connection:
        assert len(staged.drop_schemas(connection, run.run)) == len(OWN)
        assert marks.marked(connection, run=run.run) == []


def test_orphans_of_the_point_itself_need_consent(project: Project, database: str, store: Path) -> None:
    path = store / "orphans.sql"
    text = project.dump(database)
    first = text.index("COPY public.contacts ")
    begin = text.index("\n", first) + 1
    path.write_text(text[:begin] + text[text.index("\n", begin) + 1 :])
    with pytest.raises(Failed, match="notes_contact_fkey"):
        Staging(project.target(database), point_in(path)).build()
    run = Staging(project.target(database), point_in(path), wishes=Rules(allow_orphans=True))
    run.build()
    run.prove()


# Deleted users ----------------------------------------------------------------------------------------------------

DELETE_THREE = "DELETE FROM auth.users WHERE id::text ~ '-00000000000[123]$';"
DELETE_FOURTH = (
    "DELETE FROM public.profiles WHERE id::text ~ '-000000000004$';"
    "DELETE FROM auth.users WHERE id::text ~ '-000000000004$';"
)


TRAP = """
CREATE FUNCTION auth.trap(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF session_user = 'postgres' THEN
    RAISE 'code of another role runs';
  END IF;
  RETURN $1;
END $$;
CREATE INDEX ON auth.users (email) WHERE email > auth.trap('a');
"""


def with_rules(project: Project, database: str, rule: str = "ON DELETE CASCADE") -> None:
    """Foreign keys of each kind: the rows of a deleted user are left out, and change."""
    project.psql(
        database,
        f"""
        ALTER TABLE public.profiles DROP CONSTRAINT profiles_id_fkey,
          ADD FOREIGN KEY (id) REFERENCES auth.users {rule};
        ALTER TABLE public.notes DROP CONSTRAINT notes_author_fkey,
          ADD FOREIGN KEY (author) REFERENCES auth.users ON DELETE SET NULL;
        ALTER TABLE public.events DROP CONSTRAINT events_who_fkey,
          ADD FOREIGN KEY (who) REFERENCES auth.users ON DELETE CASCADE;
        ALTER TABLE public.contacts DROP CONSTRAINT contacts_owner_fkey,
          ADD FOREIGN KEY (owner) REFERENCES public.sales ON DELETE SET NULL;
        ALTER TABLE public.contacts ENABLE ALWAYS TRIGGER contacts_touch;
        """,
    )


@pytest.mark.postgres(17, also=(15, 18))
def test_rows_of_deleted_users_follow_their_foreign_keys_and_the_digest_stays_exact(
    project: Project, database: str, store: Path
) -> None:
    with_rules(project, database)
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, DELETE_THREE)
    before = account_of(project, database)

    orphaned = [
        "30 rows of public.events reference 1 row of auth.users deleted since the restore point; "
        "foreign key events_who_fkey leaves them out (ON DELETE CASCADE)",
        "400 rows of public.notes reference 2 rows of auth.users deleted since the restore point; "
        "foreign key notes_author_fkey clears the reference (ON DELETE SET NULL)",
        "3 rows of public.profiles reference 3 rows of auth.users deleted since the restore point; "
        "foreign key profiles_id_fkey leaves them out (ON DELETE CASCADE)",
        "3 rows of public.sales reference 3 rows of auth.users deleted since the restore point; "
        "foreign key sales_user_id_fkey leaves them out (ON DELETE CASCADE)",
    ]
    assert [str(each) for each in run.find()] == orphaned
    project.psql(database, TRAP, user=ADMIN)  # a query over the users runs its function
    assert [str(each) for each in run.find()] == orphaned
    project.psql(database, "DROP FUNCTION auth.trap(text) CASCADE", user=ADMIN)
    run.build()
    proof = run.prove()

    assert_same(before, account_of(project, database))
    assert {(each.table, each.removed, each.changed) for each in proof.left_out} == {
        ("contacts", 0, 30),
        ("events_2026", 19, 0),
        ("events_rest", 11, 0),
        ("notes", 0, 400),
        ("profiles", 3, 0),
        ("sales", 3, 0),
    }
    assert "public.sales: 3 rows left out: the referenced rows were deleted since the restore point" in run.notes
    with project.connect(database) as connection:
        audited = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(run.schema("app_private"), "audit"))
        assert connection.execute(audited).fetchone() == (200,)  # no trigger of the application fired
    # The marks have the rows that were left out: another process can repeat the proof.
    assert run.prove().left_out == proof.left_out
    swap(project, database, run, OWN)


def test_without_a_rule_the_rows_are_refused_before_the_build_and_in_it(
    project: Project, database: str, store: Path
) -> None:
    with_rules(project, database, "")
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(
        database,
        DELETE_FOURTH,
    )
    with pytest.raises(Refused) as caught:
        refuse(run.find(), run.name)
    assert caught.value.message == (
        f'cannot roll back to "{run.name}": 1 row of public.profiles references 1 row of auth.users deleted since the '
        "restore point; foreign key profiles_id_fkey has no rule for them"
    )
    run.build()
    with pytest.raises(Failed, match=r"referenced rows of auth\.users no longer exist"):
        run.prove()


# The rewriting ----------------------------------------------------------------------------------------------------


def test_a_role_without_createdb_uses_an_embedded_server(project: Project, database: str, store: Path) -> None:
    run = Staging(project.target(database), take(project.target(database), store))
    with project.connect("postgres", user=ADMIN) as admin:
        admin.execute("ALTER ROLE postgres NOCREATEDB")
        try:
            assert run.rewritten.schemas
        finally:
            admin.execute("ALTER ROLE postgres CREATEDB")
    assert any(note.startswith("the definitions are rewritten on an embedded server: ") for note in run.notes)
    run.build()
    run.prove()


RANGES = """
CREATE TYPE public.span AS RANGE (subtype = int4, multirange_type_name = public.spans);
COMMENT ON TYPE public.span IS 'of shifts';
CREATE TABLE public.shifts (during public.span, many public.spans, days public.span[]);
CREATE FUNCTION public.length(public.span) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT upper($1) - lower($1)';
CREATE VIEW public.long_shifts AS SELECT during FROM public.shifts WHERE public.length(during) > 3;
INSERT INTO public.shifts VALUES (public.span(1, 5), public.spans(public.span(1, 2)), ARRAY[public.span(3, 4)]);
"""


def test_a_range_type_stays_and_both_sides_use_it(project: Project, database: str, store: Path) -> None:
    """Only a superuser can move one. So a second rollback finds kept tables that use it."""
    project.psql(database, RANGES)
    before = account_of(project, database)
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(
        database, "UPDATE public.shifts SET during = public.span(7, 9); CREATE TABLE public.x (d public.spans)"
    )
    damaged = account_of(project, database)
    run.build()
    run.prove()
    swap(project, database, run, OWN)
    assert_same(before, account_of(project, database))
    with project.connect(database) as connection:
        assert connection.execute("SELECT upper(during) FROM public.long_shifts").fetchall() == [(5,)]
        back = switch.undo(connection, run.run, "20261122-031500-00000001")
        assert validate(connection, back.unvalidated) == []
    assert_same(damaged, account_of(project, database))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", 'the live database lacks range type "public.span", which only a superuser can put into place'),
        (
            "CREATE TYPE public.span AS RANGE (subtype = int8)",
            'range type "public.span" differs from the live one, which only a superuser can move',
        ),
    ],
)
def test_another_range_type_than_the_points_is_refused_before_the_build(
    project: Project, database: str, store: Path, change: str, message: str
) -> None:
    project.psql(database, "CREATE TYPE public.span AS RANGE (subtype = int4)")
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, f"DROP TYPE public.span; {change}")
    with pytest.raises(Refused) as refused:
        run.build()
    assert refused.value.message == f'cannot restore "{run.name}" in place: {message}'
    with project.connect(database) as connection:
        assert marks.marked(connection) == []


def test_what_else_remains_of_range_types_is_reported(project: Project, database: str, store: Path) -> None:
    project.psql(database, "CREATE TYPE public.span AS RANGE (subtype = int4)")
    run = Staging(project.target(database), take(project.target(database), store))
    project.psql(database, "COMMENT ON TYPE public.span IS 'x'; CREATE TYPE public.later AS RANGE (subtype = int4)")
    run.build()
    assert {
        'range type "public.span" keeps its present owner, privileges and comment',
        'range type "public.later" was created since the restore point, and stays',
    } <= {event.text for event in run.events if isinstance(event, Caution)}


def test_objects_that_belong_to_no_schema_are_refused(project: Project, database: str, store: Path) -> None:
    project.psql(
        database,
        "CREATE FUNCTION public.text_of(public.stage) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text';"
        "CREATE CAST (public.stage AS text) WITH FUNCTION public.text_of(public.stage);",
    )
    run = Staging(project.target(database), take(project.target(database), store))
    with pytest.raises(Refused) as caught:
        assert run.rewritten
    assert caught.value.message == (
        f'cannot restore "{run.name}" in place: cast (public.stage AS text): outside of all schemas'
    )


def test_arrays_of_names_of_moved_objects_are_refused_before_the_build(
    project: Project, database: str, store: Path
) -> None:
    project.psql(
        database,
        "CREATE TABLE public.watched (list regclass[]); INSERT INTO public.watched VALUES ('{pg_class}'), "
        "('{pg_class,public.contacts}')",
    )
    run = Staging(project.target(database), take(project.target(database), store))
    with pytest.raises(Refused) as caught:
        run.build()
    assert (caught.value.message, caught.value.hint) == (
        f'cannot restore "{run.name}" in place: column list of public.watched has type regclass[], and its value '
        "{pg_class,public.contacts} names objects that are exchanged",
        "Roll back by name (--by-name), or restore into another database: lastgood restore",
    )
    assert run.find() == ()
    with project.connect(database) as connection, pytest.raises(Refused) as caught:
        oid_names.refuse_closed(connection, "pg_monitor", ["pg_catalog", "auth"], run.name)
    assert (caught.value.message, caught.value.hint) == (
        f'cannot restore "{run.name}" in place: rows with values of type regclass and the like name objects of schema '
        '"auth", which the role without rights that loads them may not enter',
        'As the owner of schema "auth", run: GRANT USAGE ON SCHEMA "auth" TO "postgres" WITH GRANT OPTION. Or roll '
        "back by name: --by-name. If you trust the code: --trust-code REASON",
    )


def test_no_scratch_database_is_left(project: Project, database: str, store: Path) -> None:
    def databases() -> set[str]:
        with project.connect("postgres") as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}

    run = Staging(project.target(database), take(project.target(database), store))
    before = databases()
    assert [each.partition("publication): ")[2] for each in run.rewritten.not_created] == [
        "must be superuser to add or set schemas [SQLSTATE 42501]"  # TABLES IN SCHEMA realtime
    ]
    assert databases() == before


def test_a_scratch_database_that_cannot_be_dropped_is_reported(
    project: Project, database: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Staging(project.target(database), take(project.target(database), store))
    drop, left = postgres_database.drop, []

    def refused(connection: Connection, name: str, oid: int) -> None:
        left.append((name, oid))
        raise Failed(f'cannot drop the database "{name}": timeout', hint="")

    with monkeypatch.context() as patched:
        patched.setattr(postgres_database, "drop", refused)
        assert run.rewritten
    ((name, oid),) = left
    cautions = [event.text for event in run.events if isinstance(event, Caution)]
    assert f'cannot drop the database "{name}": timeout; lastgood prune drops it' in cautions
    with project.connect("postgres") as connection:
        drop(connection, name, oid)
