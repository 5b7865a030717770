"""Markdown and HTML of texts from anywhere, and the picture of phases."""

from __future__ import annotations

import html
import io
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastgood import cli  # noqa: F401  # registers the handler of streams
from lastgood.screen import markdown
from lastgood.screen.blocks import Block, Items, Pairs, Paragraph, TableBlock, Title, as_markdown, show
from lastgood.screen.page import anchor, page
from lastgood.screen.screen import Screen, TableColumn
from lastgood.screen.timeline import Bar, timeline

NAMES = st.text(st.one_of(st.sampled_from("\\`*_[]<>&|~#-+=.)1 \n\t\x1bé!():"), st.characters(codec="utf-8")))


def body(text: str) -> str:
    return page("Title", text).partition("<body>\n")[2].partition("</body>")[0]


def words(rendered: str) -> str:
    """What a reader sees, without the kind of spaces between."""
    return " ".join(html.unescape(re.sub("<[^>]*>", "", rendered)).split())


@given(NAMES)
@example("<script>alert(1)</script>")
@example("1. [x](javascript:alert(1))")
@example("a\\|b`|`c")
@example("    indented")
@example("- [ ] x")
def test_a_name_comes_out_as_it_is(name: str) -> None:
    seen = " ".join(markdown.one_line(name).split())
    assert words(body(markdown.text(name).strip())) == seen
    assert "<code>" not in body(markdown.text(name).strip())
    if name.strip():
        assert words(body(markdown.code(name))).strip("“” ") == seen.strip("“” ")


@given(NAMES, NAMES)
@example("a|b", "a\\|b")
@example("\\", "`|")
@example("", " ")
def test_a_table_keeps_its_columns(one: str, two: str) -> None:
    rendered = body(markdown.table(["A", "B"], [[markdown.text(one), markdown.code(two)]], right=[1]))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rendered, re.DOTALL)
    assert [words(cell).strip("“” ") for cell in cells] == [
        " ".join(markdown.one_line(each).split()).strip("“” ") for each in (one, two)
    ]


def test_the_page_is_complete_in_itself() -> None:
    text = markdown.document(
        "# A title",
        "",
        "## The swap, in one",
        "## The swap, in one",
        markdown.tasks([(True, "done"), (False, "not yet")]),
        "![Timeline](timeline.svg) ![else](http://127.0.0.1/x.png) <b>raw</b>",
        "[there](#the-swap-in-one) [no](javascript:alert)",
    )
    rendered = page("A <title>", text, {"timeline.svg": "<svg></svg>"})
    assert "<title>A &lt;title&gt;</title>" in rendered
    assert rendered.partition("<body>\n")[2] == (
        '<h1 id="a-title">A title</h1>\n'
        '<h2 id="the-swap-in-one">The swap, in one</h2>\n'
        '<h2 id="the-swap-in-one-1">The swap, in one</h2>\n'
        '<ul>\n<li class="task">☑ done</li>\n<li class="task">☐ not yet</li>\n</ul>\n'
        "<p><svg></svg> <em>else</em> &lt;b&gt;raw&lt;/b&gt;</p>\n"
        '<p><a href="#the-swap-in-one">there</a> [no](javascript:alert)</p>\n'
        "</body>\n</html>\n"
    )
    assert anchor("The swap, in one") == "the-swap-in-one"
    assert "http" not in rendered.replace("http-equiv", "")


@pytest.mark.parametrize("longest", [0.0, 0.04, 3.0, 95.0, 4000.0, 2_000_000.0])
def test_the_picture_is_svg_whatever_the_time(longest: float) -> None:
    picture = timeline(
        "Run <1>",
        [
            Bar("fence", 0, longest / 2),
            Bar("a <b> & " + "long " * 20, longest / 2, longest, "failed"),
            Bar("swap", 0, 0),
        ],
    )
    texts = [each.text for each in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert "fence" in texts
    assert any(text and text.endswith("failed") for text in texts)
    assert any(text and text == "a <b> & " + "long " * 20 for text in texts)
    assert 2 <= len([text for text in texts if text and re.match(r"\d", text)]) <= 14


def test_verdicts_have_a_colour_and_keep_their_words() -> None:
    rows = [["equal"], ["DIFFERS"], ["same number of rows"], ["2026-11-30 07:57:57.143"], ["equal opportunities"]]
    rendered = page("T", markdown.document("# Rollback 1: failed, later undone", markdown.table(["verdict"], rows)))
    assert re.findall(r"<(h1|td)([^>]*)>", rendered) == [
        ("h1", ' id="rollback-1-failed-later-undone" class="bad"'),
        ("td", ' class="good"'),
        ("td", ' class="bad"'),
        ("td", ' class="warn"'),
        ("td", ' class="moment"'),
        ("td", ""),
    ]


def test_a_table_of_names_and_values_has_no_empty_head() -> None:
    rendered = body(markdown.document(markdown.table(["", ""], [["a", "1"]]), markdown.table(["x", ""], [["a", "1"]])))
    assert rendered.count("<thead>") == 1
    assert rendered.count("<td>a</td>") == 2


def test_a_section_without_content_has_no_heading() -> None:
    document: list[Block] = [
        Title("Whole", 1),
        Title("Empty"),
        Items([]),
        TableBlock((TableColumn("a"),), []),
        Pairs((("name", ""),)),
        Paragraph(" "),
        Title("Filled"),
        Paragraph("text"),
        Title("At the end"),
    ]
    assert as_markdown(document) == "# Whole\n\n## Filled\n\ntext\n"
    shown = io.StringIO()
    show(Screen(stdout=shown, no_color=True, width=80), document)
    assert shown.getvalue() == "Whole\n\nFilled\n  text\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "−1 × 2 … „é“"), ("latin-1", '-1 × 2 ... ?é"'), ("ascii", '-1 x 2 ... ??"')],
)
def test_a_terminal_without_unicode_shows_plain_characters(encoding: str, expected: str) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="lastgood")
    stream.write("−1 × 2 … „é“")
    stream.flush()
    assert written.getvalue().decode(encoding) == expected
