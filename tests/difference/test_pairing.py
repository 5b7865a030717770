"""Columns that only one side has, proposed as renames."""

from __future__ import annotations

import pytest

from lastgood.difference.pairing import pair_of
from lastgood.difference.sides import SideColumn, SideTable
from lastgood.dump.names import Relation

NAME = Relation("public", "contacts")


def table(columns: str) -> SideTable:
    """A table with columns such as ``id:int``."""
    pairs = (each.split(":") for each in columns.split())
    return SideTable(NAME, tuple(SideColumn(name, kind) for name, kind in pairs))


@pytest.mark.parametrize(
    ("old", "new", "renames"),
    [
        ("id:int email:text phone:text n:int", "id:int mail:text tel:text n:int", ["email=mail", "phone=tel"]),
        ("id:int email:text", "id:int mail:text score:int", ["email=mail"]),  # at the end, with a new column
        ("id:int a:text n:int b:text", "id:int n:int x:text y:text", []),  # ambiguous
        ("a:text n:int b:text", "n:int b:text x:text", ["a=x"]),  # the only ones of their type
        ("a:text n:int b:text", "x:text n:int y:text", ["a=x", "b=y"]),
        ("id:int a:text", "id:int a:bigint", []),  # another type is no other name
        ("id:int a:text", "id:int b:int", []),
    ],
)
def test_renamed_columns_are_proposed_by_place_and_type(old: str, new: str, renames: list[str]) -> None:
    found = pair_of(NAME, table(old), table(new)).renames
    assert [f"{each.a}={each.b}" for each in found] == renames
