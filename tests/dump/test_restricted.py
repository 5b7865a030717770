r"""Signs that a dump was cut behind its end, or that a tool has commented ``\restrict`` out."""

from __future__ import annotations

import pytest

from lastgood.dump.reader import read
from tests.support.real_dumps import Text

KEY = "taFROqFHOLhmLD4HWjFhBLt0SQf3un5aakrPMx3H1nUoBfVY4ScZz5EJQlsEG9n"
DUMP = r"""--
-- PostgreSQL database dump
--

\restrict KEY

-- Dumped from database version 15.18
-- Dumped by pg_dump version 15.18

SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);

CREATE TABLE public.notes (
    id integer,
    body text
);

COPY public.notes (id, body) FROM stdin;
1	-- \\restrict
2	-- \\unrestrict
\.

INSERT INTO public.notes VALUES (3, 'first
\restrict me
last');

--
-- PostgreSQL database dump complete
--

\unrestrict KEY

""".replace("KEY", KEY)
CUT = (
    "the file is truncated after the end of the dump: the dump is complete, its last lines are not; compare the size "
    "of the file with that of the original"
)
COMMENTED = r"a tool commented \restrict out (line 5): the file is not as pg_dump wrote it"


def cautions(text: str) -> list[str]:
    reading = read(Text(text.encode(), 1 << 18))
    list(reading)
    return reading.summary.cautions


def test_a_dump_as_pg_dump_wrote_it_has_no_caution() -> None:
    assert cautions(DUMP) == []
    assert cautions(DUMP.rstrip()) == []


def test_a_dump_cut_anywhere_behind_its_end_is_complete_with_a_caution() -> None:
    end = DUMP.index("-- PostgreSQL database dump complete") + len("-- PostgreSQL database dump complete")
    for at in range(end, len(DUMP.rstrip())):
        assert cautions(DUMP[:at]) == [CUT], DUMP[end:at]


def test_without_restrict_the_line_after_the_end_decides() -> None:
    text = "".join(line for line in DUMP.splitlines(keepends=True) if "restrict " + KEY not in line)
    assert cautions(text) == []
    assert cautions(text.rstrip()) == []
    assert cautions(text.rstrip().removesuffix("--")) == [CUT]


@pytest.mark.parametrize(
    ("before", "after", "caution"),
    [
        (rf"\unrestrict {KEY}", r"\unrestrict abc", r"line 31 has \unrestrict with another key than \restrict"),
        (rf"\restrict {KEY}", "", r"line 31 has \unrestrict without \restrict before it"),
    ],
)
def test_keys_that_do_not_fit(before: str, after: str, caution: str) -> None:
    assert cautions(DUMP.replace("\n" + before, "\n" + after, 1)) == [f"{caution}: a tool changed the file"]


def test_a_tool_that_commented_restrict_out() -> None:
    lines = [line for line in DUMP.splitlines(keepends=True) if line != "\\restrict me\n"]
    text = "".join("-- " + line if line.startswith(("\\restrict", "\\unrestrict")) else line for line in lines)
    assert cautions(text) == [COMMENTED]


def test_a_value_that_such_a_tool_may_have_changed() -> None:
    # The whole of what "sed" does: lines within values too.
    text = "".join(
        "-- " + line if line.startswith(("\\restrict", "\\unrestrict")) else line
        for line in DUMP.splitlines(keepends=True)
    )
    line = text[: text.index("-- \\restrict me")].count("\n") + 1
    assert cautions(text) == [
        rf'a tool commented \restrict out (line 5), and line {line} within a command begins with "-- \restrict" or '
        r'"-- \unrestrict" too: the same tool may have changed that value'
    ]
