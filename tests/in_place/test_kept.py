"""What runs leave in the database: found from marks alone, dropped in portions and never with the neighbours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from psycopg import sql

from lastgood.errors import NOT_REACHED, Interrupted, Refused
from lastgood.in_place import kept, marks, names
from lastgood.in_place.exchange import switch
from lastgood.in_place.marks import SchemaMark
from lastgood.postgres.server import Connection
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, OWN, Project, account_of, stage

RUN = "20261122-031500-9f3c1a70"


def test_an_unfinished_run_is_found_from_its_staging_schemas(project: Project, database: str) -> None:
    when = datetime(2026, 11, 22, tzinfo=UTC)
    with project.connect(database, user=ADMIN) as admin, project.connect(database) as connection:
        # The run was killed before it closed the live schemas to the role that built for it.
        admin.execute("CREATE ROLE builder")
        connection.execute("GRANT USAGE ON SCHEMA public, private TO builder")
        for live, state in (("public", "built"), ("app_private", "building")):
            name = names.staging(RUN, live)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
            mark = SchemaMark.model_validate(
                {
                    "role": "staging",
                    "run": RUN,
                    "live": live,
                    "made_at": when,
                    "state": state,
                    "point": "a.dump",
                    "options": {"build_as": "builder"},
                }
            )
            marks.write(connection, name, mark)
        (found,) = kept.run_schemas(connection, role="staging")
        assert (found.run, found.state, found.made_at, found.ours) == (RUN, "building", when, True)
        assert (found.lives, found.point, found.tables) == (("app_private", "public"), "a.dump", 0)
        kept.drop(connection, found)
        assert kept.run_schemas(connection) == []
        admin.execute("DROP ROLE builder")  # impossible while it has privileges


@pytest.mark.postgres(17, also=(15,))
def test_kept_schemas_are_dropped_in_portions_and_nothing_else(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as connection:
        switch.swap(connection, staged.run, schemas=(*OWN, "crm"), wished=staged.ties, manifest="digest")
        after = account_of(project, broken)
        (found,) = kept.run_schemas(connection)
        assert (found.role, found.run, found.state) == ("kept", staged.run, None)
        assert found.lives == ("app_private", "crm", "private", "public", "supabase_migrations")
        assert found.size_bytes > 100_000
        assert found.tables >= 8
        with pytest.raises(Interrupted) as early:
            kept.drop(connection, found, portion=2, cancelled=lambda: True)
        assert early.value.state == NOT_REACHED
        with pytest.raises(Interrupted) as late:
            kept.drop(connection, found, portion=2, cancelled=iter([False, True]).__next__)
        assert late.value.state == kept.PARTLY_DROPPED
        (rest,) = kept.run_schemas(connection)
        assert rest.tables == found.tables - 2
        kept.drop(connection, rest, portion=2)
        assert kept.run_schemas(connection) == []
        assert_same(after, account_of(project, broken))


def test_a_kept_table_that_something_outside_uses_is_not_dropped(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as connection:
        switch.swap(connection, staged.run, schemas=(*OWN, "crm"), wished=staged.ties, manifest="digest")
        (found,) = kept.run_schemas(connection)
        kept_tags = sql.Identifier(names.kept(staged.run, "public"), "tags")
        connection.execute(sql.SQL("CREATE VIEW public.old_tags AS SELECT * FROM {}").format(kept_tags))
        with pytest.raises(Refused) as refused:
            kept.drop(connection, found)
        assert refused.value.message == (
            f'cannot drop the kept schemas of run "{staged.run}": rule _RETURN on view public.old_tags depends on '
            f"table {names.kept(staged.run, 'public')}.tags"
        )
        assert refused.value.state == NOT_REACHED
        assert kept.run_schemas(connection) == [found]


def test_a_refusal_after_a_portion_does_not_claim_that_nothing_was_changed(project: Project, broken: str) -> None:
    staged = stage(project, "postgres", broken)
    with project.connect(broken) as connection, project.connect(broken) as other:
        switch.swap(connection, staged.run, schemas=(*OWN, "crm"), wished=staged.ties, manifest="digest")
        (found,) = kept.run_schemas(connection)

        def add_a_view() -> bool:
            (rest,) = kept.run_schemas(other)
            if rest.tables < found.tables:
                tables = [name for schema in rest.schemas for name in tables_of(other, schema)]
                view = sql.SQL("CREATE OR REPLACE VIEW public.old_rows AS SELECT 1 AS one FROM {}").format(tables[0])
                other.execute(view)
            return False

        with pytest.raises(Refused, match=r"public\.old_rows depends on") as refused:
            kept.drop(connection, found, portion=2, cancelled=add_a_view)
        assert refused.value.state == "Some of these tables may already have been dropped."


def tables_of(connection: Connection, schema: str) -> list[sql.Identifier]:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace(%s)",
        [sql.Identifier(schema).as_string(connection)],
    )
    return [sql.Identifier(schema, name) for (name,) in rows]


def test_schemas_of_another_role_are_not_dropped(project: Project, database: str) -> None:
    with project.connect(database, user=ADMIN) as admin, project.connect(database) as connection:
        admin.execute("CREATE SCHEMA lastgood_kept_forged")
        marks.write(
            admin, "lastgood_kept_forged", SchemaMark(role="kept", run=RUN, live="public", made_at=datetime.now(UTC))
        )
        (found,) = kept.run_schemas(connection)
        with pytest.raises(Refused) as refused:
            kept.drop(connection, found)
    assert refused.value.message == f'cannot drop the kept schemas of run "{RUN}": they belong to role "{ADMIN}"'
