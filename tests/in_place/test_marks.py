"""Marks of schemas: found from the server alone, whatever else stands in comments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from psycopg import sql

from lastgood.in_place import marks, names
from lastgood.in_place.marks import Mark
from lastgood.postgres.embedded import EmbeddedServer

RUN = "20261122-031500-9f3c1a70"
WHEN = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)


def test_a_mark_is_read_back_as_written(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = names.staging(RUN, 'My "App"')
    mark = Mark(role="staging", run=RUN, live='My "App"', made_at=WHEN, state="building", point="app.dump")
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
    text = Mark(role="kept", run=RUN, live="public", made_at=WHEN).text().replace('"v":1', '"v":2,"more":[1]')
    mark = marks.read_mark(text)
    assert mark is not None
    assert (mark.v, mark.role, mark.run) == (2, "kept", RUN)
