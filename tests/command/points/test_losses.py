"""``lastgood points --loss``, and ``--compare`` of a plan, as whole commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

CHANGES = b"""
UPDATE public.contacts SET name = 'Bob' WHERE id = 2;
INSERT INTO public.contacts VALUES (4, NULL, '2025-11-04');
DELETE FROM public.deals WHERE id = 1;
"""


@pytest.fixture
def points(lastgood: Lastgood, server: EmbeddedServer, database: str, store: Path) -> list[str]:
    """The names of three restore points, the newest first: with the changes, before them, and a damaged one."""
    made: list[Path] = []
    for changes in (b"", b"", CHANGES):
        with server.target(database).connect() as connection:
            connection.execute(changes)
        done = lastgood("backup", "--store", str(store), "--label", f"number-{len(made)}", "--json")
        made.append(Path(json.loads(done.out)["point"]["path"]))
    made[0].write_bytes(made[0].read_bytes()[:-200])
    return [path.name for path in reversed(made)]


def test_the_losses_of_all_restore_points_side_by_side(lastgood: Lastgood, points: list[str], store: Path) -> None:
    found = lastgood("points", "--loss", "--store", str(store), "--json")
    assert found.status == 0, found.err
    document = json.loads(found.out)
    assert [
        (each["name"], each["lost"], each["returns"], each["changed"], each["exact"]) for each in document["points"]
    ] == [
        (points[0], 0, 0, 0, True),
        (points[1], 1, 1, 1, True),
        (points[2], None, None, None, False),
    ]
    assert document["more"] == 0
    assert {each["name"] for each in document["points"][1]["loss"]} == {"contacts", "deals", "schema_migrations"}

    shown = lastgood("points", "--loss", "--store", str(store)).out
    lines = [line.split() for line in shown.splitlines()[:4]]
    assert lines[0] == ["restore", "point", "made", "lost", "returns", "changed"]
    assert [(line[0], line[3:]) for line in lines[1:]] == [
        (points[0], ["0", "0", "0"]),
        (points[1], ["1", "1", "1"]),
        (points[2], ["unknown"]),
    ]
    assert f"\nDAMAGED {points[2]}: " in shown
    assert shown.endswith("\nThe tables of one of them: lastgood rollback POINT --dry-run\n")


def test_digests_tell_which_tables_differ_and_no_more(lastgood: Lastgood, points: list[str], store: Path) -> None:
    shown = lastgood("points", "--loss", "--compare", "digest", "--store", str(store)).out
    assert shown.splitlines()[2].split()[3:] == ["≥", "1", "≥", "1", "?"]
    assert "\n≥ or ?: not all rows were counted; the plan of a rollback names the tables.\n" in shown

    plan = lastgood("rollback", points[1], "--dry-run", "--compare", "digest", "--store", str(store))
    assert plan.status == 0, plan.err
    assert "  Rows not counted: public.contacts, public.deals (counting is turned off).\n" in plan.out
    assert "  1 other table equals the restore point in every row.\n" in plan.out

    nothing = lastgood("rollback", points[1], "--dry-run", "--compare", "none", "--store", str(store)).out
    assert (
        "  Compared by row count only: supabase_migrations.schema_migrations (content comparison is turned off). Rows "
        "changed in place are not shown here, but are reverted.\n"
    ) in nothing
    assert "equals the restore point" not in nothing
