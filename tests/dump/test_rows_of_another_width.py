"""A row with too few values and one with too many are found, each by itself, whatever the form of the dump."""

from __future__ import annotations

import pytest

from lastgood.dump.reader import read
from lastgood.errors import Corrupt
from tests.support.real_dumps import Text

HEAD = b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n"
FOOT = b"\n--\n-- PostgreSQL database dump complete\n--\n"
TABLE = b"CREATE TABLE public.t (\n    id integer,\n    at timestamp with time zone,\n    x text\n);\n\n"
HEADING = b"--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
COPY = b"COPY public.t (id, at, x) FROM stdin;\n%s\\.\n"
HINT = "The file is damaged, or other text was written into it."


def refused(body: bytes) -> str:
    with pytest.raises(Corrupt) as error:
        list(read(Text(HEAD + TABLE + HEADING + body + FOOT)))
    assert error.value.hint == HINT
    assert error.value.line is not None
    return str(error.value)


@pytest.mark.parametrize(
    ("rows", "line", "values"),
    [
        (b"1\t\\N\tx\n2\n3\t\\N\tx\ta\tb\n", 19, "1 value"),
        (b"1\t\\N\tx\ty\n2\t\\N\n", 18, "4 values"),
        (b"1\t\\N\tx\n\n3\t\\N\tx\t\t\n", 19, "1 value"),
        (b"1\t\\N\n", 18, "2 values"),
    ],
)
def test_a_row_of_copy_is_counted_by_itself(rows: bytes, line: int, values: str) -> None:
    assert refused(COPY % rows) == f"cannot use the dump: line {line}, a row of public.t, has {values} instead of 3"


def test_a_long_block_of_rows_is_looked_at_row_by_row() -> None:
    good = b"".join(b"%d\t\\N\tx\n" % number for number in range(200_000))
    bad = good + b"200000\t\\N\n200001\t\\N\tx\ty\n" + good
    assert refused(COPY % bad).endswith("line 200018, a row of public.t, has 2 values instead of 3")


def test_rows_of_a_table_that_is_not_made_here_are_as_wide_as_the_first() -> None:
    with pytest.raises(Corrupt) as error:
        list(read(Text(HEAD + b"COPY public.u FROM stdin;\n1\t2\n3\n4\t5\t6\n\\.\n" + FOOT)))
    assert str(error.value) == "cannot use the dump: line 9, a row of public.u, has 1 value instead of 2"


@pytest.mark.parametrize(
    ("insert", "line", "values"),
    [
        (b"INSERT INTO public.t VALUES (1, NULL);\n", 17, "2 values"),
        (b"INSERT INTO public.t VALUES (1, NULL, 'x', 'y');\n", 17, "4 values"),
        (b"INSERT INTO public.t (id, at, x) VALUES (1, NULL);\n", 17, "2 values"),
        (b"INSERT INTO public.t VALUES\n\t(1, NULL, 'x'),\n\t(2, NULL),\n\t(3, NULL, 'x', 'y');\n", 19, "2 values"),
        (b"INSERT INTO public.t VALUES\n\t(1, NULL, 'x', 'y'),\n\t(2, NULL, 'x', 'y');\n", 18, "4 values"),
    ],
)
def test_a_row_of_insert_is_counted_by_itself(insert: bytes, line: int, values: str) -> None:
    assert refused(insert) == f"cannot use the dump: line {line}, a row of public.t, has {values} instead of 3"


def test_an_insert_of_another_program_may_leave_out_the_last_columns() -> None:
    assert list(read(Text(HEAD + TABLE + b"INSERT INTO public.t VALUES (1, NULL);\n" + FOOT)))
