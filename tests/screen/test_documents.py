"""Markdown and HTML of texts from anywhere, and the picture of phases."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastgood.screen import markdown
from lastgood.screen.page import anchor, page
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
    assert any(text and text.startswith("a <b> & long") and text.endswith("…") for text in texts)
    assert 2 <= len([text for text in texts if text and re.match(r"\d", text)]) <= 14
