"""Values of a history's model: keys that are equal though their texts differ, and JSON objects merged by their keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

NULL = "\\N"
Objects = dict[str, str]


def folded(value: str) -> str:
    """One text for all that are equal: in any case, and with any number of zeros behind the point."""
    text = value.lower() if value != NULL else value
    return text.rstrip("0").rstrip(".") if "." in text else text


def top_level(text: str) -> list[tuple[str, str]] | None:
    """The keys of an object with the texts of their values; None for any other value."""
    if not text.startswith("{"):
        return None
    decoder, place, found = json.JSONDecoder(), 1, []
    while text[place:].strip() != "}":
        place += len(text[place:]) - len(text[place:].lstrip(" ,"))
        key, place = decoder.raw_decode(text, place)
        place += len(text[place:]) - len(text[place:].lstrip(" :"))
        _, end = decoder.raw_decode(text, place)
        found.append((key, text[place:end]))
        place = end
    return found


@dataclass(frozen=True)
class MergedObject:
    """A cell merged by key: whether a key is in ``conflict``, every change of theirs is ``there``, and the value."""

    conflict: bool
    there: bool
    value: str


def merged_object(kind: str, base: str, theirs: str, ours: str, winner: str) -> MergedObject | None:
    """The merge of three values, ``kind`` json or jsonb; None where they are merged as a whole. ``winner``: ``t`` or
    ``o``, whose value a key in conflict gets."""
    parsed = [top_level(each) for each in (base, theirs, ours)]
    if len({base, theirs, ours}) < 3 or any(each is None or len(dict(each)) < len(each) for each in parsed):
        return None
    b, t, o = (dict(each or ()) for each in parsed)
    values: Objects = {}
    conflict, there = False, True
    for key in [*o, *(each for each in t if each not in o)]:
        old, their, own = b.get(key), t.get(key), o.get(key)
        value = own if old == their else their if own == old else {"t": their, "o": own}[winner]
        conflict = conflict or (old != their and own not in (their, old))
        there = there and (old == their or own == their)
        if value is not None:
            values[key] = value
    return MergedObject(conflict, there, ours if values == o else "".join(_printed(kind, values)))


def _printed(kind: str, values: Objects) -> Iterator[str]:
    """As the server prints it: jsonb with the shortest keys first."""
    pairs = sorted(values.items(), key=lambda pair: (len(pair[0]), pair[0])) if kind == "jsonb" else values.items()
    if kind == "jsonb":
        yield "{" + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}"
    else:
        yield "{ " + ", ".join(f'"{key}" : {value}' for key, value in pairs) + " }"
