"""Texts like those that pg_dump writes, made of statements whose ends are known because they were put together here.

The content of a statement is nonsense; that it is *one* statement is certain by PostgreSQL's rules for tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

# Without NUL, which no text of PostgreSQL may hold, and lone surrogates, which are no text at all.
_LETTERS = st.characters(min_codepoint=1, exclude_categories=["Cs"]) | st.sampled_from("';\"$\\()-/*\n\r\t.,:&é")
_TEXT = st.text(_LETTERS, max_size=8)
_LINE = st.text(_LETTERS.filter(lambda letter: letter not in "\n\r"), max_size=8)


@dataclass(frozen=True)
class Part:
    """One statement: ``text`` without its semicolon. ``rows`` are those of COPY FROM stdin, each with its line end;
    None for other statements. ``body``: it has semicolons of its own, outside parentheses."""

    text: str
    rows: str | None = None
    body: bool = False

    def written(self) -> str:
        return f"{self.text};" if self.rows is None else f"{self.text};\n{self.rows}\\.\n"


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return inner.map(lambda text: f"/*{text}*/")


def _harmless(text: str) -> str:
    """Without what would open or close a comment, also where it meets what stands around it."""
    return text.replace("*", "+").replace("/", "|")


BLOCK = st.recursive(
    _nested(_TEXT.map(_harmless)), lambda inner: _nested(st.tuples(_TEXT.map(_harmless), inner).map("".join))
)
LINE_COMMENT = _LINE.map(lambda text: f"--{text}\n")
SPACE = st.sampled_from([" ", "\n", "\t", "\r\n", "  ", "\f"])
_GAP = st.lists(SPACE | BLOCK | LINE_COMMENT, max_size=2).map(lambda parts: " " + "".join(parts))
_LINE_BREAK = st.tuples(st.sampled_from(["\n", " \n ", "\r\n"]), st.sampled_from(["", "-- ' c;\n", " "])).map("".join)

# In the body of a function CASE and END count.
_PLAIN_WORDS = st.sampled_from(["a", "t", "größe", "a$b$c", "_", "from", "stdin", "copy", "e", "U"])
_WORDS = _PLAIN_WORDS | st.sampled_from(["case", "CASE", "end", "begin", "BEGIN", "atomic"])
_QUOTED = _TEXT.filter(bool).map(lambda text: '"' + text.replace('"', '""') + '"')
_PLAIN = _TEXT.map(lambda text: "'" + text.replace("'", "''") + "'")
_ESCAPES = st.lists(st.sampled_from(["\\\\", "\\'", "''", "\\;", "\\n", ";", "a", "é", "--", "/*", "$$"]), max_size=5)
_INSIDE = _ESCAPES.map("".join)
_ESCAPED = st.tuples(
    st.sampled_from("eE"),
    _INSIDE,
    st.lists(st.tuples(_LINE_BREAK, _INSIDE).map(lambda p: f"{p[0]}'{p[1]}'"), max_size=2),
).map(lambda parts: f"{parts[0]}'{parts[1]}'{''.join(parts[2])}")
_OTHER_STRINGS = st.sampled_from(["U&'d\\0061t;'", "u&'a'", "B'01'", "x'0fA'", "N'a;\\'", 'U&"d\\0061;"', "''"])


@st.composite
def _dollar(draw: st.DrawFn) -> str:
    mark = draw(st.sampled_from(["$$", "$a$", "$größe$", "$_1$", "$b$"]))
    inside = draw(_TEXT | st.sampled_from(["$b$;", "$a", "$1;", "COPY t FROM stdin;\n1\n\\.\n"]))
    if (inside + mark).index(mark) != len(inside):
        inside = inside.replace("$", "")
    return mark + inside + mark


_NUMBERS = st.sampled_from(["1", "1.5", ".5", "1e5", "$1", "$22", "0x1F", "1_000"])
_OPERATORS = st.sampled_from(["+", "-", "*", "/", "<->", "@-@", "||", "::", "=", "#>>", ":=", ".", "^", "[", "]", ":"])
_STRINGS = _PLAIN | _ESCAPED | _OTHER_STRINGS | _dollar() | _QUOTED


@st.composite
def _tokens(draw: st.DrawFn, depth: int, words: st.SearchStrategy[str] = _WORDS) -> str:
    """Tokens with a gap in front of each. A comma follows every string, so that adjacent strings are not joined."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        choice = draw(st.integers(0, 3 if depth else 2))
        if choice == 0:
            parts.append(draw(_GAP) + draw(_STRINGS) + draw(st.sampled_from(["", " "])) + ",")
        elif choice == 1:
            parts.append(draw(_GAP) + draw(words | _NUMBERS))
        elif choice == 2:
            parts.append(draw(_GAP) + draw(_OPERATORS))
        else:
            inner = draw(_tokens(depth=depth - 1, words=words))
            more = draw(st.sampled_from(["", ";", "; SELECT 1"]))
            parts.append(f"({inner}{more})")
    return "".join(parts)


@st.composite
def _statement(draw: st.DrawFn) -> Part:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return Part(
            draw(st.sampled_from(["COPY t FROM stdin", 'copy public."f;" (a, b) from STDIN', "COPY t  FROM stdin"])),
            draw(_ROWS),
        )
    if kind == 1:
        header = draw(st.sampled_from(["CREATE FUNCTION f()", "create or replace procedure p()"]))
        case = draw(st.booleans())
        inner = [f"SELECT{draw(_tokens(depth=1, words=_PLAIN_WORDS))};" for _ in range(draw(st.integers(0, 3)))]
        inner += [" SELECT CASE WHEN a THEN 1 ELSE 2 END;"] if case else []
        return Part(f"{header}{draw(_GAP)}BEGIN{draw(_GAP)}ATOMIC {' '.join(inner)}{draw(_GAP)}END", body=True)
    head = draw(
        st.sampled_from(["SELECT", "INSERT INTO t VALUES", "CREATE VIEW v AS", "COMMENT ON TABLE t IS", "(SELECT"])
    )
    text = head + draw(_tokens(depth=2)) + (")" if head.startswith("(") else "")
    # What follows the last token is not part of what is compared.
    return Part(text.rstrip(" \t\n\r\f"))


_ROW = _LINE.filter(lambda line: line != "\\.").map(lambda line: f"{line}\n")
_ROWS = st.lists(
    _ROW | st.sampled_from(["1\t\\N\n", "\\\\.\n", "';\n", "$$\n", "\n", "COPY t FROM stdin;\n"]), max_size=4
).map("".join)
_BETWEEN = st.lists(SPACE | BLOCK | LINE_COMMENT | st.just(";"), max_size=3).map("".join)
PARTS = st.lists(_statement(), max_size=6)


@st.composite
def texts(draw: st.DrawFn, *, rows: bool = True) -> tuple[str, list[Part]]:
    """A text and the statements in it. Without ``rows``: no COPY FROM stdin."""
    parts = [part for part in draw(PARTS) if rows or part.rows is None]
    text = draw(_BETWEEN)
    for part in parts:
        text += part.written() + draw(_BETWEEN)
    return text, parts
