"""A Markdown document as one self-contained HTML page, to be mailed, archived and printed.

It loads no resources and runs no scripts, enforced by its Content-Security-Policy. HTML in the document is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

_STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --muted: #5b6675; --line: #d5dbe3; --soft: #f4f6f9; --link: #0b57a4;
  --bad: #b3261e; --good: #1b6e3c; --warn: #8a5a00; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --muted: #9aa6b5; --line: #3a4350; --soft: #1f2630;
  --link: #8ab8f0; --bad: #ff8a80; --good: #7bd6a0; --warn: #f0c36a; --page: #151a21; } }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
td.good, td.bad, td.warn { font-weight: 600; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 62rem;
  margin: 2rem auto; padding: 0 1.25rem; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; margin: 2em 0 .6em; } h1 { margin-top: 0; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .25em; }
a { color: var(--link); }
code, pre { font: .9em/1.45 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1em .3em; } pre { padding: .8em 1em; overflow-x: auto; } pre code { padding: 0; font-size: 1em; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--line); padding: .3em .7em; text-align: left; vertical-align: top; }
th { background: var(--soft); }
td.moment, td[style*="right"] { white-space: nowrap; }
blockquote { margin: 1em 0; padding: .1em 1em; border-left: 4px solid var(--line); color: var(--muted); }
li.task { list-style: none; margin-left: -1.3em; }
svg { max-width: 100%; height: auto; }
@media (max-width: 40rem) { td + td, td code { overflow-wrap: anywhere; }
  td.moment { white-space: normal; min-width: 6.5em; } }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } pre { white-space: pre-wrap; }
  table { display: table; } h2, h3 { break-after: avoid; } pre, tr, svg { break-inside: avoid; } }
""".strip()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_TASK = re.compile(r"\[([ xX])\] ")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: UTC)?")
# Words that a table or the end of the main title has as a verdict. The colour repeats what the word says.
_VERDICTS = {
    "good": ("done", "passed", "equal", "yes", "go", "valid", "pass", "present"),
    "bad": ("failed", "differs", "no", "no-go", "invalid", "fail", "missing", "changed"),
    "warn": ("same number of rows", "go with warnings", "warn"),
}
_CLASSES = {word: name for name, words in _VERDICTS.items() for word in words}


def fragment(markdown: str) -> str:
    """Render the document as an HTML fragment for a mail or a chat."""
    rendered: str = _reader().render(markdown)
    return rendered


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def page(title: str, markdown: str, pictures: Mapping[str, str] | None = None) -> str:
    """Render the page. ``pictures``: the SVG for each file name in the document (``![Timeline](timeline.svg)``). Any
    other picture is replaced by its text."""
    reader = _reader()
    reader.add_render_rule("image", _picture_of(pictures or {}))
    tokens = reader.parse(markdown)
    _add_ids(tokens)
    _show_tasks(tokens)
    _show_verdicts(tokens)
    tokens = _without_empty_heads(tokens)
    body = reader.renderer.render(tokens, reader.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def anchor(heading: str) -> str:
    """Return the anchor of a heading as on GitHub: ``4-swap-in-one-transaction``."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _picture_of(pictures: Mapping[str, str]) -> Any:
    def render(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        source = str(token.attrs.get("src", ""))
        return pictures.get(source) or f"<em>{html.escape(token.content or source)}</em>"

    return render


def _add_ids(tokens: Sequence[Token]) -> None:
    """Give every heading an id; repeated texts get a number."""
    counts: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            name = anchor("".join(each.content for each in inline.children or ()))
            times = counts[name] = counts.get(name, -1) + 1
            token.attrSet("id", f"{name}-{times}" if times else name)


def _show_verdicts(tokens: Sequence[Token]) -> None:
    """Colour the verdicts in tables and in the title, and keep moments on one line."""
    for opening, inline in pairwise(tokens):
        text = "".join(each.content for each in inline.children or ())
        if opening.type == "td_open":
            name = _CLASSES.get(text.lower()) or ("moment" if _MOMENT.fullmatch(text) else "")
        elif opening.type == "heading_open" and opening.tag == "h1":
            name = _CLASSES.get(re.split(r"[,;]", text.rpartition(": ")[2])[0].lower(), "")
        else:
            continue
        if name:
            opening.attrJoin("class", name)


def _without_empty_heads(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens without the heads of tables that name no column, which Markdown requires."""
    kept: list[Token] = []
    for token in tokens:
        kept.append(token)
        if token.type == "thead_close":
            start = max(place for place, each in enumerate(kept) if each.type == "thead_open")
            if not any(each.content for each in kept[start:] if each.type == "inline"):
                del kept[start:]
    return kept


def _show_tasks(tokens: Sequence[Token]) -> None:
    for place, token in enumerate(tokens):
        first = token.children[0] if token.type == "inline" and token.children else None
        if first is None or place < 2 or tokens[place - 2].type != "list_item_open":
            continue
        if match := _TASK.match(first.content):
            tokens[place - 2].attrSet("class", "task")
            first.content = ("☐ " if match[1] == " " else "☑ ") + first.content[match.end() :]
