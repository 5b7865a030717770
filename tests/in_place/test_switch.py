"""The switch in place and its undo, on a stand-in for a hosted project: judged by an account of the whole database."""

from __future__ import annotations

import pytest

from lastgood.in_place import marks
from lastgood.in_place.exchange import switch
from lastgood.in_place.exchange.completion import validate
from tests.support.account import assert_same, differences
from tests.support.hosted import OWN, Project, account_of, stage

UNDO, AGAIN = "20261122-031500-00000001", "20261122-031500-00000002"
ALL = (*OWN, "crm")


@pytest.mark.postgres(15, 17, 18)
def test_the_whole_database_is_as_at_the_restore_point_and_after_an_undo_as_before(
    project: Project, broken: str
) -> None:
    point, before = account_of(project, "postgres"), account_of(project, broken)
    assert differences(before, point)
    staged = stage(project, "postgres", broken)
    assert_same(before, account_of(project, broken))
    with project.connect(broken) as connection:
        moved = switch.swap(connection, staged.run, schemas=ALL, wished=staged.ties, manifest="digest")
        assert moved.notes == ()
        assert moved.unvalidated == ()
        assert_same(point, account_of(project, broken))

        back = switch.undo(connection, staged.run, UNDO)
        assert back.notes == ()
        assert validate(connection, back.unvalidated) == []
        assert_same(before, account_of(project, broken))
        assert marks.marked(connection, role="kept") == []

        again = switch.undo(connection, UNDO, AGAIN, role="undone")
        assert validate(connection, again.unvalidated) == []
        assert_same(point, account_of(project, broken))
