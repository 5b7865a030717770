"""The three-way merge in plain Python: what a salvage must do, row by row. Slow, and obviously right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from lastgood.salvage.plan import Chosen

NULL = "\\N"
Row = dict[str, str]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    child: str
    columns: tuple[str, ...]
    parent: str
    referenced: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """The fixed properties of a table of the test."""

    key: tuple[str, ...]
    unique: tuple[str, ...] = ()
    numbered: bool = False


@dataclass
class Fate:
    """One changed row."""

    kind: str
    state: str
    b: Row | None
    t: Row | None
    o: Row | None
    f: Row | None
    action: str | None
    why: str | None
    renumbered: bool = False

    @property
    def reason(self) -> str:
        return "" if self.action is not None else self.why or self.state


@dataclass
class Model:
    forms: dict[str, Form]
    references: list[Reference]
    base: dict[str, list[Row]]
    theirs: dict[str, list[Row]]
    ours: dict[str, list[Row]]
    columns: dict[str, tuple[str, ...]]
    chosen: Chosen
    fates: dict[str, list[Fate]] = field(default_factory=dict)

    def predict(self) -> None:
        policies = self.chosen.policies
        needed = set(self.chosen.tables or self.forms)
        new = set(needed)
        while new:
            new = {each.parent for each in self.references if each.child in new} - needed
            needed |= new
        for name in self.forms:
            if name in needed:
                fates = self._keyed(name) if self.forms[name].key else self._copies(name)
                self.fates[name] = fates
                for each in fates:
                    if self.chosen.tables and name not in self.chosen.tables:
                        each.why = "not chosen"
                    elif each.kind == "delete" and not self.chosen.deletes:
                        each.why = "deletion"
                    each.action = None if each.why else self._action(name, each)
        if self.chosen.with_parents:
            self._add_parents()
        for name in self.fates:
            self._doubles(name)
        while any(self._orphans(each) for each in self.references if each.child in self.fates) or any(
            self._keep(each) for each in self.references if each.parent in self.fates
        ):
            pass
        if policies.insert_exists == "renumber":
            self._renumber()

    def _part(self, name: str, rows: list[Row]) -> dict[Key, Row]:
        columns = self.columns[name]
        return {
            tuple(row[column] for column in self.forms[name].key): {column: row[column] for column in columns}
            for row in rows
        }

    def _keyed(self, name: str) -> list[Fate]:
        base, theirs, ours = (self._part(name, side[name]) for side in (self.base, self.theirs, self.ours))
        fates = []
        for key in sorted({*base, *theirs}):
            b, t, o = base.get(key), theirs.get(key), ours.get(key)
            if b == t:
                continue
            f = dict(t) if t is not None else None
            if b is None:
                state = "ready" if o is None else "there" if o == t else "insert_exists"
                fates.append(Fate("insert", state, b, t, o, f, None, None))
            elif t is None:
                state = "there" if o is None else "ready" if o == b else "delete_origin_differs"
                fates.append(Fate("delete", state, b, t, o, None, None, None))
            else:
                state = "ready"
                if o is None:
                    state = "update_missing"
                else:
                    changed = [column for column in t if b[column] != t[column]]
                    wins = t if self.chosen.policies.update_origin_differs == "theirs" else o
                    f = {
                        column: o[column]
                        if b[column] == t[column]
                        else t[column]
                        if o[column] == b[column]
                        else wins[column]
                        for column in t
                    }
                    if o == b:
                        state = "ready"
                    elif all(o[column] == t[column] for column in changed):
                        state = "there"
                    elif any(o[column] not in (b[column], t[column]) for column in changed):
                        state = "update_origin_differs"
                fates.append(Fate("update", state, b, t, o, f, None, None))
        return fates

    def _copies(self, name: str) -> list[Fate]:
        columns = self.columns[name]
        base, theirs, ours = (
            Counter(tuple(row[column] for column in columns) for row in side[name])
            for side in (self.base, self.theirs, self.ours)
        )
        fates = []
        for image in sorted({*base, *theirs}):
            b, t, o = base[image], theirs[image], ours[image]
            row = dict(zip(columns, image, strict=True))
            inserts, deletes = max(0, t - max(o, b)), max(0, min(o, b) - t)
            for number in range(t - b):
                fates.append(Fate("insert", "ready" if number < inserts else "there", None, row, None, row, None, None))
            for number in range(b - t):
                fates.append(
                    Fate("delete", "ready" if number < deletes else "there", row, None, None, None, None, None)
                )
        return fates

    def _action(self, name: str, fate: Fate) -> str | None:
        policies = self.chosen.policies
        if fate.state == "ready":
            return fate.kind
        if fate.state == "insert_exists" and policies.insert_exists == "theirs":
            return "update"
        if fate.state == "insert_exists" and policies.insert_exists == "renumber" and self.forms[name].numbered:
            return "insert"
        if fate.state == "update_missing" and policies.update_missing == "theirs":
            return "insert"
        if fate.state == "update_origin_differs" and policies.update_origin_differs in ("ours", "theirs"):
            return "update"
        if fate.state == "delete_origin_differs" and policies.delete_origin_differs == "theirs":
            return "delete"
        return None

    def _values(self, row: Row | None, columns: tuple[str, ...]) -> Key | None:
        if row is None or any(row[column] == NULL for column in columns):
            return None
        return tuple(row[column] for column in columns)

    def _usable(self, reference: Reference) -> bool:
        return set(reference.columns) <= set(self.columns[reference.child])

    def _add_parents(self) -> None:
        changed = True
        while changed:
            changed = False
            for each in self.references:
                if each.child not in self.fates or each.parent not in self.fates or not self._usable(each):
                    continue
                wanted = {self._values(c.f, each.columns) for c in self.fates[each.child] if c.action in _WRITES}
                for parent in self.fates[each.parent]:
                    if (
                        parent.action is None
                        and (parent.kind, parent.state, parent.why) == ("insert", "ready", "not chosen")
                        and self._values(parent.t, each.referenced) in wanted
                    ):
                        parent.action, parent.why, changed = "insert", None, True

    def _doubles(self, name: str) -> None:
        gone = {self._key(name, each.o) for each in self.fates[name] if each.action in ("update", "delete")}
        for column in self.forms[name].unique:
            if column not in self.columns[name] or not self.forms[name].key:
                continue
            taken = {row[column] for row in self.ours[name] if self._key(name, row) not in gone and row[column] != NULL}
            for each in [one for one in self.fates[name] if one.action in _WRITES]:
                assert each.f is not None
                changed = each.action == "insert" or (each.o is not None and each.f[column] != each.o[column])
                if changed and each.f[column] in taken:
                    each.action, each.why = None, "unique_exists"

    def _key(self, name: str, row: Row | None) -> Key | None:
        return None if row is None else tuple(row[column] for column in self.forms[name].key)

    def _orphans(self, reference: Reference) -> bool:
        if not self._usable(reference):
            return False
        parents = self.fates.get(reference.parent, [])
        present = {self._values(row, reference.referenced) for row in self.ours[reference.parent]}
        arrives = {self._values(p.f, reference.referenced) for p in parents if p.action in _WRITES}
        leaves = {self._values(p.b, reference.referenced) for p in parents if p.action == "delete"}
        differs = {
            self._values(p.t, reference.referenced) for p in parents if p.state == "insert_exists" and p.action is None
        }
        hit = False
        for each in self.fates[reference.child]:
            if each.action not in _WRITES:
                continue
            value = self._values(each.f, reference.columns)
            if value is None or not self._repointed(each, reference):
                continue
            of_theirs = each.kind == "insert" or self._raw(each.b, reference) != self._raw(each.t, reference)
            if of_theirs and self._values(each.t, reference.columns) in differs - {None}:
                each.action, each.why, hit = None, "parent_differs", True
            elif value not in arrives and (value not in present or value in leaves):
                each.action, each.why, hit = None, "parent_missing", True
        return hit

    def _raw(self, row: Row | None, reference: Reference) -> Key | None:
        return None if row is None else tuple(row[column] for column in reference.columns)

    def _raw_image(self, name: str, row: Row | None) -> Key | None:
        return None if row is None else tuple(row[column] for column in self.columns[name])

    def _repointed(self, fate: Fate, reference: Reference) -> bool:
        return fate.action == "insert" or self._raw(fate.f, reference) != self._raw(fate.o, reference)

    def _keep(self, reference: Reference) -> bool:
        children = self.fates.get(reference.child, [])
        leaving: set[Key | None] = set()
        if self._usable(reference):
            leaving = {
                self._key(reference.child, each.o)
                for each in children
                if each.action == "delete" or (each.action == "update" and self._repointed(each, reference))
            }
        same = partial(self._key, reference.child)
        if not self.forms[reference.child].key:
            same = partial(self._raw_image, reference.child)
            there = Counter(map(same, self.ours[reference.child]))
            gone = Counter(same(each.b) for each in children if each.action == "delete" and self._usable(reference))
            leaving = {image for image, copies in gone.items() if copies >= there[image]}
        staying = {
            self._values(row, reference.columns) for row in self.ours[reference.child] if same(row) not in leaving
        }
        hit = False
        for each in self.fates[reference.parent]:
            if each.action == "delete" and self._values(each.b, reference.referenced) in staying - {None}:
                each.action, each.why, hit = None, "child_exists", True
        return hit

    def _renumber(self) -> None:
        for name, form in self.forms.items():
            for each in self.fates.get(name, []):
                if form.numbered and each.action == "insert" and each.state == "insert_exists":
                    assert each.f is not None and each.t is not None
                    each.f, each.renumbered = {**each.f, form.key[0]: f"new {name} {each.t[form.key[0]]}"}, True
        for reference in self.references:
            form = self.forms[reference.parent]
            if not form.numbered or reference.referenced != form.key or not self._usable(reference):
                continue
            moved = {
                each.t[form.key[0]]: each.f[form.key[0]]
                for each in self.fates.get(reference.parent, [])
                if each.renumbered and each.t is not None and each.f is not None
            }
            for each in self.fates.get(reference.child, []):
                if each.action not in _WRITES or each.t is None or each.f is None:
                    continue
                of_theirs = each.kind == "insert" or self._raw(each.b, reference) != self._raw(each.t, reference)
                column = reference.columns[0]
                if of_theirs and each.t[column] in moved:
                    each.f = {**each.f, column: moved[each.t[column]]}

    def outcome(self) -> dict[str, Counter[Key]]:
        """The rows of the live database afterwards, all columns. A new key is ``new TABLE OLD``."""
        found = {}
        for name, rows in self.ours.items():
            form, fates = self.forms[name], self.fates.get(name, [])
            if form.key:
                by_key = {self._key(name, row): dict(row) for row in rows}
                for each in fates:
                    if each.action == "delete":
                        by_key.pop(self._key(name, each.b))
                for each in fates:
                    if each.action == "update":
                        assert each.f is not None
                        by_key[self._key(name, each.o)].update(each.f)
                    elif each.action == "insert":
                        assert each.f is not None
                        empty = dict.fromkeys(self._all(name), NULL)
                        by_key[self._key(name, each.f)] = {**empty, **each.f}
                after = list(by_key.values())
            else:
                left = Counter(tuple(row.items()) for row in rows)
                for each in fates:
                    if each.action == "delete":
                        assert each.b is not None
                        gone = next(row for row in left if left[row] and each.b.items() <= dict(row).items())
                        left[gone] -= 1
                    elif each.action == "insert":
                        assert each.f is not None
                        left[tuple({**dict.fromkeys(self._all(name), NULL), **each.f}.items())] += 1
                after = [dict(row) for row in left.elements()]
            found[name] = Counter(tuple(row[column] for column in self._all(name)) for row in after)
        return found

    def _all(self, name: str) -> tuple[str, ...]:
        return self.all_columns[name]

    all_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def sums(self) -> Counter[tuple[str, str, str | None, str]]:
        return Counter(
            (name, each.kind, each.action, each.reason) for name, fates in self.fates.items() for each in fates
        )

    def is_valid(self) -> bool:
        """Whether the outcome keeps the unique values unique. References hold by construction."""
        for name, rows in self.outcome().items():
            columns = self._all(name)
            for unique in chain(self.forms[name].unique):
                values = [row[columns.index(unique)] for row in rows.elements()]
                values = [value for value in values if value != NULL]
                if len(values) != len(set(values)):
                    return False
        return True


_WRITES = ("insert", "update")
