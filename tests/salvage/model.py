"""The three-way merge in plain Python: what a salvage must do, row by row. Slow, and obviously right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from lastgood.salvage.plan import Chosen
from tests.salvage.cells import NULL, folded, merged_object
from tests.salvage.terms import Choice, Fate, Form, Key, Reference, Row


@dataclass
class Model:
    forms: dict[str, Form]
    references: list[Reference]
    base: dict[str, list[Row]]
    theirs: dict[str, list[Row]]
    ours: dict[str, list[Row]]
    columns: dict[str, tuple[str, ...]]
    chosen: Chosen
    choice: Choice
    known: list[tuple[str, str, str]] = field(default_factory=list)
    empty: dict[tuple[str, str], str] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)
    fates: dict[str, list[Fate]] = field(default_factory=dict)

    def predict(self) -> None:
        policies = self.chosen.policies
        needed = set(self.choice.tables) | self.compared
        new = set(needed)
        while new:
            new = {each.parent for each in self.references if each.child in new} - needed
            needed |= new
        self._rename_known()
        for name in self.forms:
            if name in needed:
                fates = self._keyed(name) if self.forms[name].key else self._copies(name)
                self.fates[name] = fates
                for each in fates:
                    each.why = self._left(name, each)
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

    def _left(self, name: str, fate: Fate) -> str | None:
        row, choice = fate.t or fate.b, self.choice
        assert row is not None
        new = fate.o is None or (fate.kind == "insert" and self.chosen.policies.insert_exists == "renumber")
        if name in choice.lacking and fate.kind != "delete" and new:
            return "value_required"
        key = tuple(row[column] for column in self.forms[name].key)
        only = choice.only.get(name)
        if name not in choice.tables or key in choice.without.get(name, ()) or (only is not None and key not in only):
            return "not chosen"
        if only is not None:
            return None
        if (
            (name in choice.holds and not choice.holds[name](row))
            or (choice.wrote is not None and not (key and choice.wrote(name, key)))
            or (choice.within is not None and not choice.within(name, fate.b, fate.t))
        ):
            return "not chosen"
        return "deletion" if fate.kind == "delete" and not self.chosen.deletes else None

    def _rename_known(self) -> None:
        """Rows that an earlier salvage brought back under a new key have it in theirs, too."""
        for name, old, new in self.known:
            (key,) = self.forms[name].key
            if not any(row[key] == new for row in self.ours[name]):
                continue
            targets = [(name, key)] + [
                (each.child, each.columns[0])
                for each in self.references
                if each.parent == name
                and each.referenced == (key,)
                and self._usable(each)
                and self.forms[each.child].key
            ]
            for table, column in targets:
                base = {self._key(table, row): row[column] for row in self.base[table]}
                self.theirs[table] = [
                    {**row, column: new} if row[column] == old and base.get(self._key(table, row)) != old else row
                    for row in self.theirs[table]
                ]

    def _keyed_child(self, reference: Reference) -> bool:
        return bool(self.forms[reference.child].key)

    def ambiguous(self) -> str | None:
        """A table of theirs in which two rows have the same key."""
        for name in self.fates:
            differing = [row for row in self.theirs[name] if row not in self.base[name]]
            keys = Counter(self._key(name, row) for row in differing) if self.forms[name].key else Counter()
            if any(count > 1 for count in keys.values()):
                return name
        return None

    def failing(self) -> set[tuple[str, str]]:
        """The collisions that end the salvage, by table."""
        policies = self.chosen.policies.model_dump()
        return {
            (name, each.reason) for name, fates in self.fates.items() for each in fates
            if policies.get(each.reason) == "fail"
        }  # fmt: skip

    def _part(self, name: str, rows: list[Row]) -> dict[Key, Row]:
        columns = self.columns[name]
        found = {self._key(name, row): {column: row[column] for column in columns} for row in rows}
        return {key: row for key, row in found.items() if key is not None}

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
                    f, state = self._cells(name, b, t, o)
                fates.append(Fate("update", state, b, t, o, f, None, None))
        return fates

    def _cells(self, name: str, b: Row, t: Row, o: Row) -> tuple[Row, str]:
        """The merged row, and how the change meets ours."""
        side = "t" if self.chosen.policies.update_origin_differs == "theirs" else "o"
        f, conflicts, there = {}, False, True
        for column in t:
            kind = self.choice.json.get((name, column))
            values = b[column], t[column], o[column]
            one = merged_object(kind, *values, side) if kind and "\\N" not in values else None
            if one is not None:
                f[column], conflict, present = one.value, one.conflict, one.there
            else:
                conflict = b[column] != t[column] and o[column] not in (b[column], t[column])
                present = b[column] == t[column] or o[column] == t[column]
                winner = {"t": t, "o": o}[side]
                f[column] = (
                    o[column] if b[column] == t[column] else t[column] if o[column] == b[column] else winner[column]
                )
            conflicts, there = conflicts or conflict, there and present
        if o == b:
            return dict(t), "ready"
        return f, "there" if o == t else "update_origin_differs" if conflicts else "there" if there else "ready"

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

    def _values(self, row: Row | None, columns: tuple[str, ...], fold: bool = False) -> Key | None:
        if row is None or any(row[column] == NULL for column in columns):
            return None
        return tuple(folded(row[column]) if fold else row[column] for column in columns)

    def _child(self, reference: Reference, row: Row | None) -> Key | None:
        return self._values(row, reference.columns, reference.fold)

    def _parent(self, reference: Reference, row: Row | None) -> Key | None:
        return self._values(row, reference.referenced, reference.fold)

    def _usable(self, reference: Reference) -> bool:
        return set(reference.columns) <= set(self.columns[reference.child])

    def _add_parents(self) -> None:
        changed = True
        while changed:
            changed = False
            for each in self.references:
                if each.child not in self.fates or each.parent not in self.fates or not self._usable(each):
                    continue
                wanted = {self._child(each, c.f) for c in self.fates[each.child] if c.action in _WRITES}
                for parent in self.fates[each.parent]:
                    if (
                        parent.action is None
                        and (parent.kind, parent.state, parent.why) == ("insert", "ready", "not chosen")
                        and self._parent(each, parent.t) in wanted
                    ):
                        parent.action, parent.why, changed = "insert", None, True

    def _doubles(self, name: str) -> None:
        gone = {self._key(name, each.o) for each in self.fates[name] if each.action in ("update", "delete")}
        for column in self.forms[name].unique:
            if column not in self.columns[name] or not self.forms[name].key:
                continue
            taken = {row[column] for row in self.ours[name] if self._key(name, row) not in gone}
            taken -= set() if self.forms[name].nulls_equal else {NULL}
            for each in [one for one in self.fates[name] if one.action in _WRITES]:
                assert each.f is not None
                changed = each.action == "insert" or (each.o is not None and each.f[column] != each.o[column])
                if changed and each.f[column] in taken:
                    each.action, each.why = None, "unique_exists"

    def _key(self, name: str, row: Row | None) -> Key | None:
        form = self.forms[name]
        return None if row is None else tuple(folded(row[each]) if form.fold else row[each] for each in form.key)

    def _orphans(self, reference: Reference) -> bool:
        if not self._usable(reference):
            return False
        parents = self.fates.get(reference.parent, [])
        present = {self._parent(reference, row) for row in self.ours[reference.parent]}
        arrives = {self._parent(reference, p.f) for p in parents if p.action in _WRITES}
        leaves = {self._parent(reference, p.b) for p in parents if p.action == "delete"}
        differs = {self._parent(reference, p.t) for p in parents if p.state == "insert_exists" and p.action is None}
        hit = False
        for each in self.fates[reference.child]:
            if each.action not in _WRITES:
                continue
            value = self._child(reference, each.f)
            if value is None or not self._repointed(each, reference):
                continue
            of_theirs = each.kind == "insert" or self._raw(each.b, reference) != self._raw(each.t, reference)
            if of_theirs and self._child(reference, each.t) in differs - {None}:
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
        staying = {self._child(reference, row) for row in self.ours[reference.child] if same(row) not in leaving}
        hit = False
        for each in self.fates[reference.parent]:
            if each.action == "delete" and self._parent(reference, each.b) in staying - {None}:
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
                        by_key[self._key(name, each.f)] = {**self._empty(name), **each.f}
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
                        left[tuple({**self._empty(name), **each.f}.items())] += 1
                after = [dict(row) for row in left.elements()]
            found[name] = Counter(tuple(row[column] for column in self._all(name)) for row in after)
        return found

    def _empty(self, name: str) -> Row:
        return {column: self.empty.get((name, column), NULL) for column in self._all(name)}

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
            for unique in self.forms[name].unique:
                values = [row[columns.index(unique)] for row in rows.elements()]
                values = [value for value in values if value != NULL or self.forms[name].nulls_equal]
                if len(values) != len(set(values)):
                    return False
        return True


_WRITES = ("insert", "update")
