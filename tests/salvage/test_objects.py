"""JSON objects that are merged by key: the server's merge of random objects, compared with a model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lastgood.errors import UsageError
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from lastgood.salvage.plan import Chosen
from lastgood.salvage.policy import Choice, Policies
from tests.salvage.sides import BASE, LIVE, THEIRS, everywhere, planned, salvaged

ROWS = 400
COLUMNS = ("live.objects.doc", "live.objects.text", "live.objects.own")
CREATE = """
CREATE DOMAIN own_json AS jsonb; CREATE DOMAIN own AS own_json CHECK (VALUE IS NOT NULL);
CREATE TABLE objects (id int PRIMARY KEY, doc jsonb, text json, own own, note text);
CREATE TABLE bare (doc jsonb);
"""
MISSING = object()
Merge = tuple[Any, set[str | None]]


def same(one: Any, other: Any) -> bool:
    if one is MISSING or other is MISSING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def cell(base: Any, theirs: Any, ours: Any, policy: Choice, key: str | None = None) -> Merge:
    """The merged value, and the key if it is in conflict."""
    if same(base, theirs) or same(ours, theirs):
        return ours, set()
    if same(ours, base):
        return theirs, set()
    return theirs if policy == "theirs" else ours, {key}


def document(base: Any, theirs: Any, ours: Any, policy: Choice) -> Merge:
    """The merged value of a column, and its keys in conflict; None among them if it is merged as a whole."""
    whole = cell(base, theirs, ours, policy)
    if not whole[1] or not all(isinstance(each, dict) for each in (base, theirs, ours)):
        return whole
    merged, conflicts = {}, set()
    for key in {**ours, **theirs}:
        one, two, three = (each.get(key, MISSING) for each in (base, theirs, ours))
        value, clash = cell(one, two, three, policy, key)
        conflicts |= clash
        if value is not MISSING:
            merged[key] = value
    return merged, conflicts


def documents() -> list[tuple[Any, Any, Any]]:
    """The values of base, theirs and ours by row: mostly objects that differ in some keys."""
    chance = random.Random(13)  # a reproducible test, no secret

    def value() -> Any:
        return chance.choice([None, 0, 1, "x", "é\n\"'", [1], {"b": 1}, {"b": 2}, True])

    def changed(base: dict[str, Any]) -> Any:
        if chance.random() < 0.08:
            return chance.choice([None, 3, [], {}])
        keys = chance.sample("abcde", chance.randint(0, 2))
        kept = {key: each for key, each in base.items() if key not in keys or chance.random() < 0.6}
        found = {**kept, **{key: value() for key in keys if chance.random() < 0.7}}
        return {key: found[key] for key in sorted(found)}

    bases = [{key: value() for key in sorted(chance.sample("abcde", chance.randint(0, 4)))} for _ in range(ROWS)]
    return [(base, changed(base), changed(base)) for base in bases]


def fill(target: Target, schema: str, values: list[str]) -> None:
    with target.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", [schema])
        cursor.execute(
            "INSERT INTO objects SELECT place, each::jsonb, each::json, each::jsonb, %s "
            "FROM unnest(%s::text[]) WITH ORDINALITY r (each, place)",
            [schema if schema == LIVE else "", values],
        )


@pytest.mark.parametrize("policy", ["skip", "ours", "theirs"])
def test_random_objects_are_merged_as_the_model_says(server: EmbeddedServer, policy: Choice, tmp_path: Path) -> None:
    target, rows = server.target("postgres"), documents()
    everywhere(target, CREATE)
    for schema, values in zip((BASE, THEIRS, LIVE), zip(*rows, strict=True), strict=True):
        fill(target, schema, [json.dumps(each) for each in values])
    (summary,) = salvaged(
        target, tmp_path, "run", Chosen(merge_json=COLUMNS, policies=Policies(update_origin_differs=policy))
    )
    merges = [document(*each, policy) for each in rows]
    assert summary.json_conflicts == {
        column: dict(
            sorted(
                ((key, count) for key in "abcde" if (count := sum(key in keys for _, keys in merges))),
                key=lambda pair: (-pair[1], pair[0]),
            )
        )
        for column in ("doc", "text", "own")
    }
    assert summary.conflicts == dict.fromkeys(("doc", "text", "own"), sum(bool(keys) for _, keys in merges))
    with target.connect() as connection:
        written = connection.execute("SELECT doc, text, own, note FROM live.objects ORDER BY id").fetchall()
    assert written == [
        (*[ours if keys and policy == "skip" else value] * 3, LIVE)
        for (value, keys), (_, _, ours) in zip(merges, rows, strict=True)
    ]


# The documents of base, theirs and ours, and what live has afterwards as jsonb and as json.
EXACT = (
    # The scale of a number and the white space of json count, and json keeps the order of its keys.
    ('{"z": 1.0}', '{"z": 1.00}', '{"z": 1.0, "a":  2}', '{"a": 2, "z": 1.00}', '{ "z" : 1.00, "a" : 2 }'),
    # What ours has already is left as it is, to the byte.
    ('{"a": 1}', '{"a": 2}', '{"b":3,  "a": 2}', '{"a": 2, "b": 3}', '{"b":3,  "a": 2}'),
    # Both removed a key.
    ('{"a": 1, "b": 1}', '{"b": 1}', "{}", "{}", "{}"),
    # A key twice: merged as a whole, and in conflict. jsonb has it once.
    ('{"a": 1, "a": 1}', '{"a": 1, "c": 2}', '{"a": 1, "b": 1}', '{"a": 1, "b": 1}', '{"a": 1, "b": 1}'),
)


def test_values_are_compared_by_their_image(server: EmbeddedServer, tmp_path: Path) -> None:
    target = server.target("postgres")
    everywhere(target, CREATE)
    for number, schema in enumerate((BASE, THEIRS, LIVE)):
        fill(target, schema, [each[number] for each in EXACT])
    (summary,) = salvaged(target, tmp_path, "run", Chosen(merge_json=COLUMNS))
    with target.connect() as connection:
        rows = connection.execute("SELECT doc::text, text::text FROM live.objects ORDER BY id").fetchall()
    assert rows == [each[3:] for each in EXACT]
    assert (summary.conflicts, summary.json_conflicts) == ({"text": 1}, {"text": {}})


def test_a_column_without_objects_cannot_be_merged_by_key(server: EmbeddedServer, tmp_path: Path) -> None:
    target = server.target("postgres")
    everywhere(target, CREATE)
    for column, message in (
        (
            "live.objects.note",
            'cannot merge column "live.objects.note" by JSON keys: its type is neither json nor jsonb',
        ),
        ("live.bare.doc", 'cannot merge column "live.bare.doc" by JSON keys: its table has no key'),
        ("objects.none", 'cannot salvage rows: no table of the live database has the column "objects.none"'),
    ):
        with pytest.raises(UsageError) as caught, planned(target, tmp_path, Chosen(merge_json=(column,))):
            pass
        assert caught.value.message == message
