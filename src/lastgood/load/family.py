"""Relationships of a script's tables: partitions and inheritance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from lastgood.dump.names import Relation
from lastgood.dump.script import Item, ScriptStep
from lastgood.dump.statements import Kind, Verdict
from lastgood.dump.summary import DumpSummary


class Family:
    """The relationships of tables after a whole script has run."""

    def __init__(self, items: Iterable[Item], summary: DumpSummary) -> None:
        self._children: defaultdict[Relation, list[Relation]] = defaultdict(list)
        self._parents: defaultdict[Relation, list[Relation]] = defaultdict(list)
        for relation, definition in summary.tables.items():
            for parent in definition.inherits:
                self._relate(parent, relation)
        for item in items:
            if (
                isinstance(item, ScriptStep)
                and item.command.verdict is Verdict.RUN
                and len(item.command.relations) == 2
            ):
                first, second = item.command.relations
                if item.command.kind is Kind.PARTITION:
                    self._relate(first, second)
                elif item.command.kind is Kind.INHERITANCE:
                    self._relate(second, first)

    def _relate(self, parent: Relation, child: Relation) -> None:
        self._children[parent].append(child)
        self._parents[child].append(parent)

    def below(self, relation: Relation) -> list[Relation]:
        """All children of a table, directly or indirectly."""
        return _reached(relation, self._children) if relation in self._children else []

    def around(self, relation: Relation) -> list[Relation]:
        """A table with its parents and children: all tables whose triggers and keys affect its rows."""
        return [relation, *_reached(relation, self._parents), *self.below(relation)]


def _reached(start: Relation, steps: Mapping[Relation, list[Relation]]) -> list[Relation]:
    found: dict[Relation, None] = {}
    left = [start]
    while left:
        for each in steps.get(left.pop(), ()):
            if each not in found and each != start:
                found[each] = None
                left.append(each)
    return list(found)
