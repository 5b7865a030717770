"""Normal form of definitions: the same before and after a dump and restore."""

from __future__ import annotations

import re

_ARRAY = re.compile(r"\bARRAY\[")
_TO_ARRAY = re.compile(r"::([a-z][a-z0-9_ ]*(?:\([0-9, ]+\))?)\[\]")
_NAMED_CONSTANT = re.compile(
    r"""((?:'(?:[^']|'')*'|\bNULL)::[a-z][a-z0-9_ ]*(?:\([0-9, ]+\))?(?:\[\])*) AS (?:\\?")?([a-z0-9_]+)(?:\\?")?"""
)
# The default name of a column with a constant of a type, if it differs from the type's SQL name.
_INTERNAL = {
    "bigint": "int8",
    "boolean": "bool",
    "character": "bpchar",
    "character varying": "varchar",
    "double precision": "float8",
    "integer": "int4",
    "real": "float4",
    "smallint": "int2",
    "time with time zone": "timetz",
    "time without time zone": "time",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}


def settled(definition: str) -> str:
    """The definition as it looks after it was dumped and restored once.

    PostgreSQL shows ``v IN ('a', 'b')`` on a varchar as a cast of the whole array, ``((ARRAY['a'::character varying,
    'b'::character varying])::text[])``; read again, that becomes an array of casts, ``(ARRAY[('a'::character
    varying)::text, ('b'::character varying)::text])``. Both mean the same. Likewise, a view AS VALUES turns ``(VALUES
    (1))`` into ``( VALUES (1))``, and in a subquery an unnamed constant ``'x'::text`` gets the name of its type:
    ``'x'::text AS text``.
    """
    definition = _NAMED_CONSTANT.sub(_nameless, definition.replace("( VALUES (", "(VALUES ("))
    position = 0
    while (match := _ARRAY.search(definition, position)) is not None:
        position = match.end()
        items, end = _items(definition, match.end())
        if not items or not items[0] or definition[end] != "]":
            continue
        # With minimal parentheses in statistics objects, with all parentheses everywhere else.
        begin, after, item = match.start(), end + 1, "{}::{}"
        in_parentheses = definition[max(begin - 1, 0)] == "(" and definition[after : after + 1] == ")"
        if in_parentheses:
            begin, after, item = begin - 1, after + 1, "({})::{}"
        cast = _TO_ARRAY.match(definition, after)
        if cast is None:
            continue
        after = cast.end()
        array = f"ARRAY[{', '.join(item.format(each, cast[1]) for each in items)}]"
        # The cast array has parentheses of its own; the array of casts does not.
        if in_parentheses and definition[max(begin - 1, 0)] == "(" and definition[after : after + 1] == ")":
            begin, after, array = begin - 1, after + 1, f"({array})"
        definition = definition[:begin] + array + definition[after:]
    return definition


def _nameless(found: re.Match[str]) -> str:
    type_name = re.sub(r"\([0-9, ]+\)|\[\]", "", found[1].rpartition("::")[2])
    return found[1] if found[2] == _INTERNAL.get(type_name, type_name) else found[0]


def _items(text: str, start: int) -> tuple[list[str], int]:
    """Split at top-level commas from ``start`` to the closing bracket; return the items and the bracket's position."""
    items: list[str] = []
    depth = 0
    begin = at = start
    while at < len(text):
        sign = text[at]
        if sign in "'\"":
            at = text.find(sign, at + 1)
            if at < 0:
                break
        elif sign in "([":
            depth += 1
        elif sign in ")]":
            if depth == 0:
                items.append(text[begin:at].strip())
                return items, at
            depth -= 1
        elif sign == "," and depth == 0:
            items.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    return [], len(text) - 1
