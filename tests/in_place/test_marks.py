"""Marks of schemas: found from the server alone, whatever else stands in comments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.in_place import marks, names
from lastgood.in_place.capabilities import Staying, probe
from lastgood.in_place.marks import SchemaMark
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.server import Connection
from tests.support.hosted import ADMIN, Project

RUN = "20261122-031500-9f3c1a70"
WHEN = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)


def test_a_mark_is_read_back_as_written(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = names.staging(RUN, 'My "App"')
    mark = SchemaMark(role="staging", run=RUN, live='My "App"', made_at=WHEN, state="building", point="app.dump")
    with server.target(new_database()).connect() as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        marks.write(connection, name, mark)
        (found,) = marks.marked(connection)
        assert (found.name, found.owner, found.ours, found.mark) == (name, "postgres", True, mark)
        with connection.transaction():
            proved = marks.proved(connection, mark, "sha256:1")
            marks.write(connection, name, proved)
        (found,) = marks.marked(connection, run=RUN, role="staging")
        assert (found.mark.state, found.mark.manifest) == ("proved", "sha256:1")
        assert found.mark.written is not None
        assert found.mark.made_at > WHEN
        assert marks.marked(connection, role="kept") == []
        assert marks.marked(connection, run="20261122-031500-00000000") == []


def test_other_comments_are_no_marks() -> None:
    assert marks.read_mark(None) is None
    assert marks.read_mark("the application's tables") is None
    assert marks.read_mark('{"tool": "lastgood"}') is None


def test_a_mark_of_a_newer_lastgood_is_recognised() -> None:
    text = SchemaMark(role="kept", run=RUN, live="public", made_at=WHEN).text().replace('"v":1', '"v":2,"more":[1]')
    mark = marks.read_mark(text)
    assert mark is not None
    assert (mark.v, mark.role, mark.run) == (2, "kept", RUN)


@pytest.mark.postgres(15, 18)
def test_a_mark_of_a_role_without_rights_of_the_owner_keeps_nothing_out_of_a_backup(
    project: Project, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with project.connect(database, user=ADMIN) as admin:
        _create_role(request, admin, "mallory")
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO mallory").format(sql.Identifier(database)))
    forged = names.kept(RUN, "public")
    with project.connect(database, user="mallory") as connection:
        _marked(connection, forged)
        # To the role itself its own mark is good: a run of this role may have made the schema.
        assert schemas_of_runs(connection) == {forged}
    for user in ("postgres", ADMIN):
        with project.connect(database, user=user) as connection:
            assert schemas_of_runs(connection) == frozenset()
            assert marks.marked(connection) == []
    with project.connect(database) as connection:
        assert Staying(forged, 'it belongs to role "mallory"') in probe(connection).staying
    manifest = take(project.target(database), tmp_path).manifest
    assert manifest is not None
    assert (forged, "secrets") in {(table.schema_name, table.name) for table in manifest.facts.tables}


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("maker", ["postgres", ADMIN, "deputy"])
def test_a_mark_of_the_owner_a_superuser_or_a_member_of_the_owner_is_believed_by_all(
    project: Project, database: str, maker: str, request: pytest.FixtureRequest
) -> None:
    with project.connect(database, user=ADMIN) as admin:
        _create_role(request, admin, "visitor")
        _create_role(request, admin, "deputy")
        admin.execute("GRANT postgres TO deputy")
    kept = names.kept(RUN, "public")
    with project.connect(database, user=maker) as connection:
        _marked(connection, kept)
    for user in ("postgres", ADMIN, "visitor"):
        with project.connect(database, user=user) as connection:
            assert schemas_of_runs(connection) == {kept}
            assert [(each.name, each.owner, each.ours) for each in marks.marked(connection)] == [
                (kept, maker, user == maker)
            ]


def _create_role(request: pytest.FixtureRequest, admin: Connection, name: str) -> None:
    role = sql.Identifier(name)
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    database, server = admin.info.dbname, request.getfixturevalue("project").server

    def drop() -> None:
        with server.target(database, user=ADMIN).connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))

    request.addfinalizer(drop)


def _marked(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS one").format(sql.Identifier(name, "secrets")))
    marks.write(connection, name, SchemaMark(role="kept", run=RUN, live="public", made_at=WHEN))
