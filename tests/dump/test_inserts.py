"""INSERTs of literals as COPY text: whatever the values are, the rows are those that COPY would have written."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastgood.dump.entries import Rows, RowsStart
from lastgood.dump.names import Relation
from lastgood.dump.rows import inserts

EXAMPLES = 200_000 if os.environ.get("LASTGOOD_FUZZ") == "long" else 200
ESCAPES = {"\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"}
# Characters that mean something to one of the two quotings, and some that mean nothing.
LETTERS = st.sampled_from([*"\\'\"\b\t\n\v\f\r;(),.-ENx0$ é東"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(LETTERS, max_size=12).map(str), st.text(max_size=8).map(str)
).filter(lambda value: not isinstance(value, str) or "\0" not in value)
TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1, max_size=4)
)
Value = str | int | bool | None


def literal(value: Value, *, escaped: bool) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    doubled = value.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if escaped else f"'{doubled}'"


def copied(value: Value) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return "".join(ESCAPES.get(letter, letter) for letter in str(value))


@settings(max_examples=EXAMPLES, deadline=None)
@given(table=TABLES, escaped=st.booleans())
def test_fuzz_rows_are_those_of_copy(table: list[list[Value]], escaped: bool) -> None:
    rows = ", ".join("(" + ", ".join(literal(value, escaped=escaped) for value in row) + ")" for row in table)
    text = b"INSERT INTO public.t VALUES " + rows.encode("utf-8", "surrogatepass")
    head = inserts.head(text)
    assert head is not None and head.values is not None and (head.table, head.columns) == (b"public.t", None)
    found = inserts.values(text, head.values)
    expected = ["\t".join(map(copied, row)).encode("utf-8", "surrogatepass") for row in table]
    assert found == inserts.Values(expected, len(table[0]), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"INSERT INTO t VALUES (1)", (b"t", None)),
        (b'INSERT INTO "a""b.c"."d (" ("x, y", z) VALUES (1, 2)', (b'"a""b.c"."d ("', (b'"x, y"', b"z"))),
        (b"INSERT INTO s.t OVERRIDING SYSTEM VALUE VALUES (1)", (b"s.t", None)),
        (b"INSERT INTO s.t DEFAULT VALUES", (b"s.t", None)),
        (b"INSERT INTO s.t DEFAULT VALUES RETURNING a", None),
        (b"INSERT INTO s.t OVERRIDING USER VALUE VALUES (1)", None),
        (b"INSERT INTO s.t SELECT 1", None),
        (b"INSERT INTO s.t AS x VALUES (1)", None),
    ],
)
def test_heads(text: bytes, expected: tuple[bytes, tuple[bytes, ...] | None] | None) -> None:
    found = inserts.head(text)
    assert (None if found is None else (found.table, found.columns)) == expected


def test_columns_of_which_a_row_has_the_default() -> None:
    text = b"INSERT INTO t VALUES (1, DEFAULT, 'a'), (2, DEFAULT, 'b')"
    assert inserts.values(text, text.index(b"(")) == inserts.Values([b"1\ta", b"2\tb"], 3, (1,))
    text = b"INSERT INTO t VALUES (1, DEFAULT), (DEFAULT, 1)"
    assert inserts.values(text, text.index(b"(")) is None


@pytest.mark.parametrize(
    "text",
    [
        b"(1",
        b"(1,)",
        b"(1) x",
        b"(1), 2",
        b"(a)",
        b"(1;)",
        b"(now())",
        b"('a' 'b')",
        b"('a'::text)",
        b"(1) RETURNING a",
        b"",
    ],
)
def test_anything_else_is_left_alone(text: bytes) -> None:
    assert inserts.values(text, 0) is None


def test_backslashes_while_standard_conforming_strings_is_off() -> None:
    assert inserts.values(b"('a\\n')", 0, escapes_in_strings=True) is None
    assert inserts.values(b"('an')", 0, escapes_in_strings=True) == inserts.Values([b"an"], 1, ())


def test_one_insert_of_many_rows_comes_in_portions() -> None:
    section = inserts.InsertSection(RowsStart(Relation("s", "t"), ("a",), b"", 0, 1))
    given_out = list(section.add([b"x" * 999] * 5000, 7, 3))
    given_out += [entry for entry in section.end() if isinstance(entry, Rows)]
    assert sum(rows.rows for rows in given_out) == 5000
    assert max(len(rows.data) for rows in given_out) < 2_000_000 and len(given_out) > 3
