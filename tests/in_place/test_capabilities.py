"""The probe: each right is tried, and nothing of it is left."""

from __future__ import annotations

import pytest
from psycopg import sql

from lastgood.in_place.capabilities import Staying, by_name, probe
from tests.support.account import assert_same
from tests.support.hosted import ADMIN, OWN, Project, account_of


@pytest.mark.postgres(15, 17, 18)
def test_a_hosted_project_can_go_back_in_place_and_not_by_name(project: Project, database: str) -> None:
    before = account_of(project, database)
    with project.connect(database, user=ADMIN), project.connect(database) as connection:
        found = probe(connection)
    assert {each.name: each.able for each in found.answers} == {
        "rename database": False,
        "create database": True,
        "create schema": True,
        "move objects": True,
        "replication role": True,
        "lock platform tables": True,
        "triggers on platform tables": True,
        "drop triggers on platform tables": False,
        "policies on platform tables": True,
        "publications": True,
        "event triggers": True,
        "terminate sessions": True,
        "see snapshots": True,
    }
    assert (found.by_name, found.in_place) == (False, True)
    assert found.schemas == OWN
    assert Staying("auth", f'it belongs to role "{ADMIN}"') in found.staying
    texts = {each.name: each.text for each in found.answers}
    assert texts["rename database"] == (
        f'rename the database: this role may not terminate the sessions of superuser "{ADMIN}"'
    )
    assert texts["drop triggers on platform tables"] == (
        "drop the triggers on referenced tables: must be owner of relation users"
    )
    assert texts["lock platform tables"] == "lock the referenced tables auth.users, storage.objects"
    assert_same(before, account_of(project, database))


def test_without_a_session_of_a_superuser_the_owners_prevent_a_new_database(project: Project, database: str) -> None:
    """The platform's sessions come and go; its objects stay."""
    with project.connect(database) as connection:
        found = probe(connection)
    assert (found.by_name, found.in_place) == (False, True)
    assert found.answers[0].text == (f'replace the database: objects of "{ADMIN}" (auth) would lose their owner')


def test_a_database_without_objects_of_others_can_exchange_its_name(project: Project) -> None:
    with project.connect("postgres") as connection:
        connection.execute("CREATE DATABASE own")
    with project.connect("own") as connection:
        connection.execute("CREATE TABLE public.t (id int)")
        assert by_name(connection)
    project.drop("own")


def test_a_table_in_use_does_not_count_as_a_missing_right(project: Project, database: str) -> None:
    with project.connect(database) as other, project.connect(database) as connection, other.transaction():
        other.execute("SELECT FROM auth.users")
        found = probe(connection)
    assert found.in_place
    texts = {each.name: each.text for each in found.answers}
    assert texts["lock platform tables"].endswith("(a table was in use)")


def test_a_role_without_rights_gets_an_answer_for_each(project: Project, database: str) -> None:
    with project.connect(database, user=ADMIN) as admin:
        admin.execute("DROP ROLE IF EXISTS visitor")
        admin.execute("CREATE ROLE visitor LOGIN")
        admin.execute("SELECT FROM auth.users")
        with project.connect(database, user="visitor") as connection:
            found = probe(connection)
        admin.execute("DROP ROLE visitor")
    assert (found.by_name, found.in_place, found.schemas) == (False, False, ())
    assert [each.name for each in found.missing()] == ["create schema", "move objects"]
    assert not found.able("see snapshots")
    assert not found.able("terminate sessions")


def test_a_schema_of_an_extension_stays(project: Project, database: str) -> None:
    with project.connect(database, user=ADMIN) as admin:
        for schema in ("tools", "mixed"):
            admin.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION postgres").format(sql.Identifier(schema)))
        admin.execute("CREATE EXTENSION pg_trgm SCHEMA tools")
        with project.connect(database) as connection:
            found = probe(connection)
    assert Staying("tools", 'it holds extension "pg_trgm" and nothing else') in found.staying
    assert "mixed" in found.schemas
