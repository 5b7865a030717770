"""Differences between two sides: a restore point, a database, or schemas of one. The unit is the row.

``compared`` reads both sides, each in one snapshot, and counts the rows of every table that only one side has, and
those with the same key and other content. The rows themselves are read a second time when ``Comparison.rows`` or
``Comparison.lines`` asks for them. DuckDB holds keys and hashes within a memory limit, the rest in a temporary folder
that is removed at the end.
"""

from lastgood.difference.comparison import Comparison, FileForm, compared
from lastgood.difference.expressions import MASK
from lastgood.difference.of_database import DatabaseSide, Memory
from lastgood.difference.of_facts import FactsSide
from lastgood.difference.of_point import PointSide
from lastgood.difference.renamed import NewNames, RenamedSide
from lastgood.difference.results import Change, Level, Rename, State, TableDifference, TypeChange
from lastgood.difference.sides import Side, SideColumn, SideName, SideTable

__all__ = [
    "MASK",
    "Change",
    "Comparison",
    "DatabaseSide",
    "FactsSide",
    "FileForm",
    "Level",
    "Memory",
    "NewNames",
    "PointSide",
    "Rename",
    "RenamedSide",
    "Side",
    "SideColumn",
    "SideName",
    "SideTable",
    "State",
    "TableDifference",
    "TypeChange",
    "compared",
]
