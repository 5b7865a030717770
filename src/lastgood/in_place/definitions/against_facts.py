"""The definitions of a restore point against its facts, schema by schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

from lastgood.errors import Failed
from lastgood.facts import Facts, ObjectFacts
from lastgood.facts.objects import DEFINITIONS
from lastgood.text.redact import visible
from lastgood.text.units import counted

SHOWN = 20
_SCHEMA = re.compile(r'(?:"((?:[^"]|"")+)"|([^\s."(]+))\.')
_ON_RELATION = frozenset(
    {
        "primary key",
        "unique constraint",
        "exclusion constraint",
        "foreign key",
        "check constraint",
        "domain constraint",
        "trigger",
        "policy",
        "rule",
    }
)


def schema_of_object(kind: str, identity: str) -> str | None:
    """The schema in the identity of an object of the facts; None for an object without a schema."""
    text = identity.rpartition(" on ")[2] if kind in _ON_RELATION else identity
    found = _SCHEMA.match(text)
    if found is None:
        return None
    return found[1].replace('""', '"') if found[1] is not None else found[2]


def schemas_of(facts: Facts) -> frozenset[str]:
    """The schemas of a restore point. A dump does not create *public*, which every database has from the beginning."""
    created = {each.identity for each in facts.objects if each.kind == "schema"}
    unquoted = {each[1:-1].replace('""', '"') if each.startswith('"') else each for each in created}
    return frozenset({"public", *unquoted, *(table.schema_name for table in facts.tables)})


def compare(
    facts: Facts, found: Iterable[ObjectFacts], schemas: Collection[str], unpopulated: Collection[str], name: str
) -> None:
    """Compare the created objects with those of the restore point's facts. Raises Failed with every difference."""
    sides = [
        {
            (each.kind, each.identity): each.digest
            for each in side
            if schema_of_object(each.kind, each.identity) in schemas
        }
        for side in (facts.objects, found)
    ]
    expected, created = sides
    lines: list[str] = []
    if facts.origin == "database" and facts.rules.definitions == DEFINITIONS:
        lines += [f"{kind} {identity}: missing" for kind, identity in sorted(expected.keys() - created.keys())]
        lines += [f"{kind} {identity}: not expected" for kind, identity in sorted(created.keys() - expected.keys())]
        lines += [
            f"{kind} {identity}: definition differs"
            for kind, identity in sorted(expected.keys() & created.keys())
            if expected[kind, identity] != created[kind, identity] and identity not in unpopulated
        ]
    else:
        counts = [Counter(kind for kind, _ in side) for side in sides]
        lines += [
            f"number of objects of the kind {kind}: expected {counts[0][kind]}, found {counts[1][kind]}"
            for kind in sorted(counts[0].keys() | counts[1].keys())
            if counts[0][kind] != counts[1][kind]
        ]
    if lines:
        raise Failed(
            f'the rewritten definitions differ from "{visible(name)}" ({counted(len(lines), "difference")}):'
            + "".join(f"\n  {visible(line)}" for line in lines[:SHOWN]),
            hint="Choose another restore point: lastgood points",
        )
