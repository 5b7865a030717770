"""Projects whose database, schemas and objects have other owners than the usual ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lastgood import rollback, undo
from lastgood.command.deploy.deploy import DeployRequest, deploy
from lastgood.errors import Refused
from lastgood.events import Caution, Event, Note
from lastgood.in_place.capabilities import Staying, probe
from lastgood.plan.plan import Choice, Request
from lastgood.points.dump_point import take
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, FOLDER, OWN, Project, account_of

pytestmark = pytest.mark.postgres(17, also=(15,))


@pytest.fixture
def project(hosted_project: Project) -> Project:
    return hosted_project


@pytest.fixture
def database(project: Project) -> Iterator[str]:
    """The platform owns the database, and with it schema public. The role may create in it, and all in it is the
    role's own. The role owns the schema of the platform's extensions."""
    name = project.copy()
    with project.connect(name, user=ADMIN) as admin:
        admin.execute(f'ALTER DATABASE "{name}" OWNER TO {ADMIN}'.encode())
        admin.execute(f'GRANT CREATE ON DATABASE "{name}" TO postgres'.encode())
        admin.execute("GRANT USAGE, CREATE ON SCHEMA public TO postgres")
        admin.execute("ALTER SCHEMA extensions OWNER TO postgres")
        admin.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA extensions")
    yield name
    project.drop(name)


ODD = """
CREATE SCHEMA "Own ""app"".x";
CREATE TABLE "Own ""app"".x"."T.able" (id int PRIMARY KEY, "N n" text, m int);
CREATE STATISTICS "Own ""app"".x"."St ""1""x" ON id, m FROM "Own ""app"".x"."T.able";
CREATE COLLATION "Own ""app"".x"."C.oll" FROM "C";
CREATE TEXT SEARCH DICTIONARY "Own ""app"".x"."D d" (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION "Own ""app"".x"."C c" (COPY = simple);
CREATE DOMAIN public.relation AS regclass;
CREATE TABLE public.registered (id int, r public.relation, p regprocedure, t regtype, stays regclass, gone regclass);
INSERT INTO public.registered VALUES
  (1, 'public.contacts', 'public.title(public.contacts)', 'public.stage[]', 'pg_class', 3999999999),
  (2, '"Own ""app"".x"."T.able"', NULL, 'extensions.gtrgm', NULL, '"Own ""app"".x"."T.able"');
"""


def texts_of(events: list[Event]) -> list[str]:
    return [each.text for each in events if isinstance(each, Note | Caution)]


def test_a_schema_of_the_platform_in_which_all_is_the_roles_own_goes_back(
    project: Project, database: str, tmp_path: Path
) -> None:
    target = project.target(database)
    project.psql(database, ODD)
    with project.connect(database) as connection:
        found = probe(connection)
    assert (found.by_name, found.in_place, found.schemas) == (False, True, ('Own "app".x', *OWN))
    assert Staying("extensions", f'it holds extension "pg_trgm" and objects of "{ADMIN}"') in found.staying
    before = account_of(project, database)
    point = take(target, tmp_path / "backups").path.name
    project.psql(database, (FOLDER / "migration.sql").read_text())
    with project.connect(database, user=ADMIN) as admin:
        admin.execute("GRANT CREATE ON SCHEMA public TO authenticator")
    damaged = account_of(project, database)
    request = Request(target, tmp_path / "backups", tmp_path / "state", Choice(point=point))
    prepared = rollback.plan(request)
    assert (prepared.plan.way, prepared.plan.refusals) == ("in-place", ())
    events: list[Event] = []
    rollback.run(prepared, events.append)
    assert 'not changed in schema "public", which belongs to role "pg_database_owner": privileges' in texts_of(events)
    # No other role may own a view in that schema, not even while it is refreshed.
    project.psql(database, "REFRESH MATERIALIZED VIEW public.totals")
    with project.connect(database, user=ADMIN) as admin:
        admin.execute("REVOKE CREATE ON SCHEMA public FROM authenticator")
    assert_same(before, account_of(project, database))
    with project.connect(database, user=ADMIN) as admin:
        admin.execute("GRANT CREATE ON SCHEMA public TO authenticator")
    undo.undo(target, undo.plan(target, database), request.context())
    assert_same(damaged, account_of(project, database))


def test_a_deployment_needs_the_owner_and_says_so_before_it_makes_a_restore_point(
    project: Project, database: str, tmp_path: Path
) -> None:
    target, store = project.target(database), tmp_path / "backups"
    base = Request(target, store, tmp_path / "state")
    with pytest.raises(Refused) as refused:
        deploy(DeployRequest(base, ("true",)))
    assert (refused.value.message, refused.value.hint, refused.value.state) == (
        f"cannot deploy: a deployment is marked in the comment of its database: must be owner of database {database}",
        f'As a superuser: ALTER DATABASE "{database}" OWNER TO "postgres". Or make a restore point with lastgood '
        "backup, and migrate yourself.",
        f'"{database}" was not touched: the migration was not started.',
    )
    assert not store.exists()


def test_tables_of_the_role_in_a_schema_that_stays_refuse_the_rollback(
    project: Project, database: str, tmp_path: Path
) -> None:
    """They would keep the damage, and the rest would go back."""
    target = project.target(database)
    project.psql(database, "CREATE TABLE public.old_dashboard (id int)", user=ADMIN)
    point = take(target, tmp_path / "backups").path.name
    request = Request(target, tmp_path / "backups", tmp_path / "state", Choice(point=point))
    (refusal,) = [each for each in rollback.plan(request).plan.refusals if each.code == "own_tables_stay"]
    with project.connect(database) as connection:
        query = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relowner = 'postgres'::regrole"
        rows = connection.execute(query + " AND relnamespace = 'public'::regnamespace")
        (count,) = rows.fetchone() or (0,)
    assert (refusal.code, refusal.final, refusal.text, refusal.hint) == (
        "own_tables_stay",
        False,
        f'{count} tables of this role (contacts) would not be rolled back: schema "public" stays, since it belongs to '
        f'role "pg_database_owner", and holds objects of "{ADMIN}"',
        'As a superuser: ALTER SCHEMA "public" OWNER TO "postgres"',
    )
    project.psql(database, "DROP TABLE public.notes")
    texts = [each.text for each in rollback.plan(request).plan.findings if each.code == "missing_tables_stay"]
    assert texts == [
        "1 table of the restore point (public.notes) no longer exists, and its schema stays: it is not restored"
    ]
    only = replace(request, schemas=("app_private",))
    assert "own_tables_stay" not in {each.code for each in rollback.plan(only).plan.refusals}
