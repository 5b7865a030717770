"""The pairs of tables and of columns of two sides, and the keys that pair their rows.

Names decide. Tables and columns that only one side has are proposed as renames where their definition allows it, and
never compared with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lastgood.difference.results import Rename, TypeChange
from lastgood.difference.sides import SideTable
from lastgood.dump.names import Relation


@dataclass(frozen=True, slots=True)
class Pair:
    """A table on both sides, or on one. ``columns`` are common to both, in the order of ``a``; ``keys``: candidates,
    the best first. ``ignored``: columns that are not compared, see ``narrowed``. ``why``: what was done about different
    partitions."""

    relation: Relation
    a: SideTable | None
    b: SideTable | None
    columns: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    columns_a: tuple[str, ...] = ()
    columns_b: tuple[str, ...] = ()
    types: tuple[TypeChange, ...] = ()
    renames: tuple[Rename, ...] = ()
    ignored: tuple[str, ...] = ()
    why: str = ""

    @property
    def same_structure(self) -> bool:
        """Whether both sides have the same columns."""
        return not self.columns_a and not self.columns_b


def pairs(a: Mapping[Relation, SideTable], b: Mapping[Relation, SideTable], *, by_root: bool = True) -> list[Pair]:
    """All tables of both sides, by name. With ``by_root``, a table whose partitions differ is compared as a whole;
    without it, only a table that one side has without its partitions."""
    a, b, whole = _by_root(a, b, differing=by_root)
    found = []
    for relation in sorted({*a, *b}):
        pair = pair_of(relation, a.get(relation), b.get(relation))
        if relation in whole:
            pair = replace(pair, why="the partitions differ; compared as one table")
        found.append(pair)
    return found


def renamed_tables(found: Sequence[Pair]) -> Iterator[tuple[Pair, Pair]]:
    """Tables of one side only with the same columns as exactly one of the other side only."""
    here: dict[object, list[Pair]] = defaultdict(list)
    there: dict[object, list[Pair]] = defaultdict(list)
    for pair in found:
        table = pair.a or pair.b
        if (pair.a is None) != (pair.b is None) and table is not None and table.columns:
            (there if pair.a is None else here)[table.columns].append(pair)
    for columns, old in here.items():
        new = there.get(columns, [])
        if len(old) == len(new) == 1:
            yield old[0], new[0]


def pair_of(relation: Relation, a: SideTable | None, b: SideTable | None) -> Pair:
    """A table of both sides, or of one."""
    if a is None or b is None:
        table = a or b
        assert table is not None  # of one of both
        return Pair(relation, a, b, table.names, table.keys)
    types = {column.name: column.type for column in b.columns}
    common = tuple(name for name in a.names if name in types)
    only_a = tuple(name for name in a.names if name not in types)
    only_b = tuple(name for name in b.names if name not in set(a.names))
    changed = tuple(
        TypeChange(column=each.name, a=each.type, b=other)
        for each in a.columns
        if each.type is not None and (other := types.get(each.name)) is not None and each.type != other
    )
    return Pair(relation, a, b, common, _keys(a, b, common), only_a, only_b, changed, _renames(a, b, only_a, only_b))


def narrowed(pair: Pair, compares: Callable[[Relation, str], bool]) -> Pair:
    """The pair without the columns that it must not compare; as it is if no column would be left."""
    columns = tuple(name for name in pair.columns if compares(pair.relation, name))
    if not columns or columns == pair.columns:
        return pair
    ignored = tuple(name for name in pair.columns if name not in columns)
    keys = tuple(key for key in pair.keys if not {*key} & {*ignored})
    return replace(pair, columns=columns, keys=keys, ignored=ignored)


def _keys(a: SideTable, b: SideTable, common: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Keys with common columns: first those that both sides declare. Whether one identifies rows on the other side,
    too, is found when its rows are counted."""
    usable = [key for key in dict.fromkeys([*a.keys, *b.keys]) if set(key) <= set(common)]
    usable.sort(key=lambda key: not (key in a.keys and key in b.keys))
    return tuple(usable)


def _renames(a: SideTable, b: SideTable, only_a: tuple[str, ...], only_b: tuple[str, ...]) -> tuple[Rename, ...]:
    """Columns of the same type at the same place among the columns, or the only ones of their type."""
    types_a = {column.name: column.type for column in a.columns if column.name in only_a and column.type}
    types_b = {column.name: column.type for column in b.columns if column.name in only_b and column.type}
    found: dict[str, str] = {}
    there = _between(b, types_b)
    for place, names in _between(a, types_a).items():
        others = there.get(place, [])
        if [types_a[each] for each in names] == [types_b[each] for each in others]:
            found |= dict(zip(names, others, strict=True))
    for name, kind in types_a.items():
        same = [each for each, other in types_b.items() if other == kind]
        rivals = [each for each, other in types_a.items() if other == kind]
        if len(same) == len(rivals) == 1 and same[0] not in found.values():
            found.setdefault(name, same[0])
    return tuple(Rename(a=name, b=found[name], why="same definition") for name in types_a if name in found)


def _between(table: SideTable, own: Mapping[str, object]) -> dict[str | None, list[str]]:
    """The columns that only this side has, by the common column before them: renaming moves no column."""
    found: dict[str | None, list[str]] = defaultdict(list)
    before = None
    for name in table.names:
        if name in own:
            found[before].append(name)
        else:
            before = name
    return found


def _by_root(
    a: Mapping[Relation, SideTable], b: Mapping[Relation, SideTable], *, differing: bool
) -> tuple[dict[Relation, SideTable], dict[Relation, SideTable], set[Relation]]:
    leaves: list[dict[Relation, set[Relation]]] = [defaultdict(set), defaultdict(set)]
    for side, tables in zip(leaves, (a, b), strict=True):
        for table in tables.values():
            if table.root is not None:
                side[table.root].add(table.relation)
    whole = set()
    for root in {*leaves[0], *leaves[1]}:
        here, there = leaves[0].get(root, set()), leaves[1].get(root, set())
        exists = (here or root in a) and (there or root in b)
        if here != there and exists and (differing or not (here and there)):
            whole.add(root)
    return _merged(a, whole), _merged(b, whole), whole


def _merged(tables: Mapping[Relation, SideTable], roots: set[Relation]) -> dict[Relation, SideTable]:
    found = {name: table for name, table in tables.items() if table.root not in roots}
    for root in roots:
        leaves = [table for table in tables.values() if table.root == root]
        if not leaves:
            continue
        shared = [key for key in leaves[0].keys if all(key in leaf.keys for leaf in leaves)]
        found[root] = SideTable(
            relation=root,
            columns=tuple(column for column in leaves[0].columns if all(column in leaf.columns for leaf in leaves)),
            keys=tuple(shared),
            bytes=sum(leaf.bytes for leaf in leaves),
            rows=None if any(leaf.rows is None for leaf in leaves) else sum(leaf.rows or 0 for leaf in leaves),
            zoned=any(leaf.zoned for leaf in leaves),
            unreadable=next((leaf.unreadable for leaf in leaves if leaf.unreadable), ""),
            parts=tuple(part for leaf in leaves for part in leaf.parts),
        )
    return found
