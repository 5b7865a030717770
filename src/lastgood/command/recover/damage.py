"""Signs of damage: what the live database lacks compared with a restore point, and what a rollback would remove. Pure
functions of the evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from lastgood.command.recover.evidence import Candidate, Key, Live, Seen
from lastgood.dump.names import quoted
from lastgood.facts import Facts
from lastgood.loss import table_losses
from lastgood.plan.loss import TableLoss
from lastgood.text.units import counted, listed

NAMED = 3
RIGHTS = "pg_class.relacl"
OURS = "lastgood_"
# Kinds whose names are the same in a dump and in the catalogue. Their absence matters: an interrupted restore has the
# tables, but not these.
KEYS = ("primary key", "unique constraint", "foreign key", "index")
OTHERS = ("view", "materialized view", "trigger", "policy", "sequence")
_MANY = {
    "index": "indexes",
    "invalid index": "invalid indexes",
    "policy": "policies",
    "view": "views",
    "materialized view": "materialized views",
}


@dataclass(frozen=True, slots=True)
class Sign(Seen):
    """A sign of damage in the live database. ``decisive``: it is sufficient by itself. ``put_off``: of a kind that a
    rollback may defer."""

    decisive: bool = True
    put_off: bool = False


@dataclass(frozen=True, slots=True)
class DamageReference:
    """The restore point that the live database is compared with. ``counted``: its facts list its schema objects.
    ``deployed``: a successful deployment began with it."""

    name: str
    facts: Facts
    deployed: bool = False

    @classmethod
    def of(cls, candidate: Candidate) -> Self:
        """Build the reference from a restore point with known content."""
        assert candidate.facts is not None
        note = candidate.point.manifest.deployment if candidate.point.manifest is not None else None
        return cls(candidate.point.path.name, candidate.facts, note is not None and note.outcome == "deployed")

    @property
    def source(self) -> str:
        """The source of a sign, in words."""
        return f"the facts of {self.name}"

    @property
    def counted(self) -> bool:
        """Whether its schema objects are known."""
        return bool(self.facts.object_counts)


def signs(live: Live, reference: DamageReference | None, *, finishing: bool = False) -> tuple[Sign, ...]:
    """Return all signs of damage, decisive ones first. Without a reference, only the signs in the catalogue itself.
    ``finishing``: a run has deferred indexes and foreign keys, so their absence is expected."""
    found: list[Sign] = []
    if reference is not None:
        found += _against(live, reference)
    found += _alone(live)
    if finishing:
        found = [replace(sign, decisive=False) if sign.put_off else sign for sign in found]
    if not any(sign.decisive for sign in found):
        # In an undamaged database, missing privileges are intended.
        found = [sign for sign in found if sign.source != RIGHTS]
    return tuple(sorted(found, key=lambda sign: not sign.decisive))


def _against(live: Live, reference: DamageReference) -> Iterator[Sign]:
    # A later migration may have dropped the missing objects on purpose: then only a person can call it damage. The same
    # holds if migrations are unknown, because the rows of a large dump were only counted.
    since = _migrated_since(live, reference)
    unexplained = since is False or (since is None and live.migration is None)
    yield from _rows_against(live, reference, unexplained)
    if live.objects is None or not reference.counted:
        return
    yield from _objects_against(live, reference, unexplained)
    leftovers = _leftovers(live, reference)
    if leftovers and since is False:
        text = f"{_shown(leftovers)}: in the database, not in {reference.name}, and no later migration is recorded"
        yield Sign(text, live.migrations_table)


def _rows_against(live: Live, reference: DamageReference, unexplained: bool) -> Iterator[Sign]:
    expected = {(table.schema_name, table.name): table.rows for table in reference.facts.tables}
    missing = [key for key in expected if key not in live.tables]
    if missing:
        text = f"{len(missing)} of {counted(len(expected), 'table')} {_are(missing)} missing: {_names(missing)}"
        yield Sign(text, reference.source, unexplained)
    with_rows = [key for key, rows in expected.items() if rows > 0 and key in live.tables]
    empty = [key for key in with_rows if live.tables[key].rows == 0 and live.tables[key].exact]
    if empty:
        text = f"{counted(len(empty), 'table')} that had rows {_are(empty)} empty: {_names(empty)}"
        # A queue is often empty; a table with a large share of all rows is not.
        share = sum(expected[key] for key in empty) * 20 >= reference.facts.rows
        yield Sign(text, reference.source, (unexplained and share) or len(empty) * 2 > len(with_rows))
    few = [
        key
        for key in with_rows
        if key not in empty and live.tables[key].exact and (live.tables[key].rows or 0) < expected[key]
    ]
    for key in few[:NAMED]:
        rows = live.tables[key].rows or 0
        # Deleting rows is normal; losing half a table is not.
        decisive = unexplained and rows * 2 < expected[key]
        yield Sign(f"{_name(key)} has {rows:,} of {expected[key]:,} rows", reference.source, decisive)


def _objects_against(live: Live, reference: DamageReference, unexplained: bool) -> Iterator[Sign]:
    # Objects of missing tables are already reported with the table.
    tables = ((table.schema_name, table.name) for table in reference.facts.tables)
    with_table = tuple(f" on {_name(key)}" for key in tables if key not in live.tables)
    for kind in (*KEYS, *OTHERS):
        names = {one.identity for one in reference.facts.objects if one.kind == kind}
        there = {identity for each, identity in live.objects or () if each == kind}
        gone = sorted(name for name in names - there if not name.endswith(with_table))
        if not gone:
            continue
        text = f"{len(gone)} of {_of(kind, len(names))} {_are(gone)} missing: {_shown(gone)}"
        if len(gone) == len(names) > 1:
            text = f"all {_of(kind, len(names))} are missing"
        most = len(names) > 1 and len(gone) * 2 >= len(names)  # no migration drops half of them
        decisive = kind == "primary key" or (kind in KEYS and (unexplained or most))
        yield Sign(text, reference.source, decisive, put_off=kind in ("index", "foreign key"))


def _alone(live: Live) -> Iterator[Sign]:
    if not live.tables:
        yield Sign("the database has no tables", "pg_class")
    if live.migrations and set(live.tables) <= {_key(live.migrations_table)}:
        text = f"the only table is {live.migrations_table}, which lists {live.migrations} applied migrations"
        yield Sign(text, live.migrations_table)
    if live.invalid:
        text = f"{_of('invalid index', len(live.invalid))}: {_shown(live.invalid)}"
        yield Sign(text, "pg_index", put_off=True)
    if live.unvalidated:
        text = f"{_of('foreign key', len(live.unvalidated))} never validated (NOT VALID): {_shown(live.unvalidated)}"
        yield Sign(text, "pg_constraint", decisive=False)
    out = [each for each in live.locked_out if each.readable == 0 and each.tables > 0]
    if out and len(out) == len(live.locked_out):
        who = ", ".join(f'"{each.role}"' for each in out[:NAMED])
        text = f"no application role can read any of {counted(out[0].tables, 'table')}: {who}"
        yield Sign(text, RIGHTS)
    elif out:
        for each in out[:NAMED]:
            text = f'role "{each.role}" cannot read any of {counted(each.tables, "table")}'
            yield Sign(text, RIGHTS, decisive=False)
    if live.no_grants:
        text = f"{_shown(live.no_grants)}: no privileges granted, unlike most tables of the schema"
        yield Sign(text, RIGHTS, decisive=False)


def _leftovers(live: Live, reference: DamageReference) -> list[str]:
    """Return the tables and views of the database that the restore point lacks."""
    there = {f"{kind} {name}" for kind, name in live.objects or () if kind in ("table", "view", "materialized view")}
    then = {f"{one.kind} {one.identity}" for one in reference.facts.objects}
    return sorted(each for each in there - then if not each.startswith(f"table {OURS}"))


def _migrated_since(live: Live, reference: DamageReference) -> bool | None:
    """Whether a migration or a successful deployment followed the restore point. psql with a file records nothing."""
    return True if reference.deployed else _recorded_since(live, reference.facts)


def _recorded_since(live: Live, facts: Facts) -> bool | None:
    """Whether a migration was recorded after the restore point was made; None if unknown on one side."""
    if facts.migration is None or live.migration is None or facts.migration.version is None:
        return None
    return (live.migration, live.migrations) != (facts.migration.version, facts.migration.applied)


def migrated_since(live: Live | None, candidate: Candidate) -> bool:
    """Whether the live database has a migration that the restore point lacks."""
    if live is None or candidate.facts is None:
        return False
    return bool(_recorded_since(live, candidate.facts)) and live.migration != candidate.migration


def made_after(candidate: Candidate, older: Collection[Candidate], live: Live) -> str:
    """Return why a restore point must have been made after the damage: it lacks what an older one has, as does the live
    database. Empty without such evidence: a migration may drop a table, and a queue may be empty."""
    other = next((each for each in older if each.facts is not None and each.usable), None)
    if candidate.facts is None or other is None or other.facts is None:
        return ""
    if candidate.migration is not None and candidate.migration != other.migration:
        return ""
    has = {(table.schema_name, table.name): table.rows for table in candidate.facts.tables}
    then = {(table.schema_name, table.name): table.rows for table in other.facts.tables}
    empty = [
        key
        for key, rows in then.items()
        if rows > 0
        and has.get(key, 0) == 0
        and (key not in live.tables or (live.tables[key].rows == 0 and live.tables[key].exact))
    ]
    gone = []
    if candidate.facts.object_counts and live.objects is not None:
        now = {(one.kind, one.identity) for one in candidate.facts.objects} | live.objects
        lacking = {(one.kind, one.identity) for one in other.facts.objects} - now
        gone = sorted(f"{kind} {identity}" for kind, identity in lacking if kind in ("table", "primary key"))
    many = len(empty) > 1 and sum(then[key] for key in empty) * 20 >= other.facts.rows
    if not gone and not many:
        return ""
    what = f"rows of {_names(empty)}" if empty else _shown(gone)
    return f"like the database now, it lacks what {other.point.path.name} has: {what}"


def equal(live: Live, facts: Facts, place: int) -> bool:
    """Whether the live database has exactly the rows and tables of the restore point, so that a rollback would change
    nothing."""
    content = live.content[place] if place < len(live.content) else {}
    if not facts.tables or _leftovers(live, DamageReference("", facts)):
        return False
    losses = table_losses(live.tables, facts, place, content, live.rules)
    return all(each.content == "equal" and not each.differs for each in losses)


def losses(live: Live, facts: Facts, place: int | None) -> tuple[TableLoss, ...]:
    """Return the change per table, without tables known to be equal. ``place``: the position of the restore point among
    those compared with the live database, None if it was not compared. Estimates count as different from 10 % on."""
    content = live.content[place] if place is not None and place < len(live.content) else {}
    return tuple(
        each
        for each in table_losses(live.tables, facts, place, content, live.rules)
        if each.content == "not compared" or (each.differs and not _like_the_estimate(each))
    )


def _like_the_estimate(loss: TableLoss) -> bool:
    """Whether an estimate is too close to show a difference."""
    if not loss.estimated or loss.point_rows is None or loss.content == "changed":
        return False
    return loss.live_rows is None or _near(loss.live_rows, loss.point_rows)


def _near(estimate: int, then: int) -> bool:
    return abs(estimate - then) * 10 <= max(then, 100)


def _are(several: Sequence[object]) -> str:
    return "is" if len(several) == 1 else "are"


def _of(kind: str, count: int) -> str:
    return counted(count, kind, _MANY.get(kind, ""))


def _key(table: str) -> Key:
    schema, _, name = table.partition(".")
    return schema, name


def _name(key: Key) -> str:
    return f"{quoted(key[0])}.{quoted(key[1])}"


def _names(keys: Collection[Key]) -> str:
    return _shown([_name(key) for key in sorted(keys)])


def _shown(names: Iterable[str]) -> str:
    return listed(names, NAMED)
