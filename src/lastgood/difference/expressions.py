"""DuckDB's expressions over ``line``, a line of COPY text that may end with its line end."""

from __future__ import annotations

from collections.abc import Sequence

MASK = "•••"
NO_VALUES = "[]::VARCHAR[]"
_TAB = "chr(9)"


def noted(columns: Sequence[str], wanted: Sequence[str]) -> str:
    r"""A hash of the fields if one of them has a value, NULL otherwise; \N is COPY's NULL."""
    if not wanted:
        return "NULL"
    fields = [field_of(columns, name) for name in wanted]
    given = " OR ".join(rf"{field} NOT IN ('\N', '')" for field in fields)
    return f"CASE WHEN {given} THEN hash([{', '.join(fields)}]) END"


def literal(value: str) -> str:
    """A text."""
    return "'" + value.replace("'", "''") + "'"


def identifier(value: str) -> str:
    """A name, in quotes."""
    return '"' + value.replace('"', '""') + '"'


def with_mask(values: str, places: Sequence[int]) -> str:
    """The list ``values`` with MASK for the values at these places, which count from 1. NULL remains NULL."""
    if not places:
        return values
    hides = f"i IN ({', '.join(map(str, places))}) AND {values}[i] IS NOT NULL"
    hidden = f"[CASE WHEN {hides} THEN {literal(MASK)} ELSE {values}[i] END FOR i IN range(1, len({values}) + 1)]"
    return f"CASE WHEN {values} IS NOT NULL THEN {hidden} END"


def field_of(columns: Sequence[str], name: str) -> str:
    """The field of a column, of a line with these ``columns``."""
    place = columns.index(name)
    if place == 0 and len(columns) > 1:
        # Half the time of split_part, which takes the rest of the line apart, too.
        return f"left(line, strpos(line, {_TAB}) - 1)"
    field = f"split_part(line, {_TAB}, {place + 1})"
    return f"rtrim({field}, chr(10))" if place == len(columns) - 1 else field


def key_of(columns: Sequence[str], key: Sequence[str]) -> str:
    """The fields of the ``key``, separated as in the line."""
    return f" || {_TAB} || ".join(field_of(columns, name) for name in key)


def line_of(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """The line with the wanted fields; fields that are already right are not taken apart."""
    if tuple(columns) == tuple(wanted):
        return "line"
    places = [columns.index(name) + 1 for name in wanted]
    fields = f"string_split(rtrim(line, chr(10)), {_TAB})"
    return f"array_to_string(list_select({fields}, {places}), {_TAB}) || chr(10)"


def values_of(line: str, columns: Sequence[str]) -> str:
    r"""The values of a line: NULL for ``\N``, without COPY's escapes."""
    if not columns:
        return NO_VALUES  # an empty line would have one empty value
    plain = "v"
    for escape, code in (("b", 8), ("f", 12), ("n", 10), ("r", 13), ("t", 9), ("v", 11)):
        plain = f"replace({plain}, '\\{escape}', chr({code}))"
    # Split at escaped backslashes first: what remains between them has no other meaning.
    unescaped = rf"array_to_string([{plain} FOR v IN string_split(f, '\\')], '\')"
    return (
        rf"[CASE WHEN f = '\N' THEN NULL WHEN NOT contains(f, '\') THEN f ELSE {unescaped} END "
        rf"FOR f IN string_split(rtrim({line}, chr(10)), {_TAB})]"
    )
