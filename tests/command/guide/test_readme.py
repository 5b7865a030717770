"""The section in a README is added or refreshed, and no other byte changes."""

from __future__ import annotations

import pytest

from lastgood.command.guide.freshness import BEGIN, END, with_section
from lastgood.errors import Refused

SECTION = "## Operations\n\nline"
MARKED = BEGIN + b"\n## Operations\n\nline\n" + END


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", MARKED + b"\n"),
        (b"# Title\n", b"# Title\n\n" + MARKED + b"\n"),
        (b"# Title\n\n", b"# Title\n\n" + MARKED + b"\n"),
        (b"# Title", b"# Title\n\n" + MARKED + b"\n"),
        (b"# Title\r\n\r\ntext", b"# Title\r\n\r\ntext\r\n\r\n" + MARKED.replace(b"\n", b"\r\n") + b"\r\n"),
        (b"\xef\xbb\xbfcaf\xe9\n", b"\xef\xbb\xbfcaf\xe9\n\n" + MARKED + b"\n"),
        (b"a\n" + BEGIN + b"old" + END + b" rest without an end", b"a\n" + MARKED + b" rest without an end"),
        (b"a\r\n" + BEGIN + b"\r\nold\r\n" + END, b"a\r\n" + MARKED.replace(b"\n", b"\r\n")),
    ],
)
def test_only_the_section_changes(before: bytes, after: bytes) -> None:
    assert with_section(before, SECTION, "README.md") == after
    assert with_section(after, SECTION, "README.md") == after


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (b"a\n" + BEGIN + b"\nb\n", "1 × begin, 0 × end"),
        (END, "0 × begin, 1 × end"),
        (END + BEGIN, "end before begin"),
        (MARKED + MARKED, "2 × begin, 2 × end"),
        (BEGIN + MARKED, "2 × begin, 1 × end"),
    ],
)
def test_damaged_marks_are_refused(damaged: bytes, expected: str) -> None:
    with pytest.raises(Refused) as raised:
        with_section(damaged, SECTION, "README.md")
    assert str(raised.value) == f'cannot update the section in "README.md": its markers are damaged ({expected})'
    assert raised.value.state == "The file was not changed."


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(Refused) as raised:
        with_section("# Titel\n".encode("utf-16"), SECTION, "README.md")
    assert str(raised.value) == 'cannot add a section to "README.md": it is not a text file'
