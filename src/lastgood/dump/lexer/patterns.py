r"""Regular expressions for PostgreSQL's tokens, in bytes; they follow psqlscan.l.

Quantifiers are possessive wherever possible, without backtracking, so that time is linear in the text. Groups are
repeated as ``(?>(?:…)*)`` and not as the equivalent ``(?:…)*+``, which is broken in Python 3.11.0 to 3.11.4
(gh-106052): a dump would be split in the wrong place.
"""

from __future__ import annotations

import re

_STRING_OR_OTHER = re.compile(
    rb"--[^\n]*|/\*.*?\*/|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$"
    rb"|(?:[eEbBxXnN]|[uU]&)'(?:[^'\\]|\\.|'')*'"
    rb"|('(?:[^'\\]|\\.|'')*')",
    re.DOTALL,
)
SPACE = re.compile(rb"[ \t\n\r\f\v]*+")
LINE_END = re.compile(rb"[\n\r]")
REST_OF_LINE = re.compile(rb"[ \t\f\v\r]*+(?=([^ \t\f\v\r]))")
WORD = re.compile(rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*+")
STRING = re.compile(rb"(?:([eE])|[bBxX]|([uU]&))?'")
ESCAPED = re.compile(rb"(?>(?:[^'\\]++|\\[\s\S]|'')*)")
DOLLAR = re.compile(rb"\$(?>(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?)(\$)?")
SPACE_AND_LINE_COMMENTS = re.compile(rb"(?>(?:[ \t\n\r\f\v]++|--[^\n\r]*+(?=[\n\r]))*)")
GAP = re.compile(rb"(?>(?:[ \t\n\r\f\v]++|--[^\n\r]*+)*)")
COMMENT_MARK = re.compile(rb"/\*|\*/")
BODY_WORD = re.compile(rb"(?i:begin|atomic|case|end)(?=[^\w$\x80-\xff])")
MESSAGE = re.compile(rb"pg_(?:dump|dumpall|restore): ")
"""The beginning of a message of PostgreSQL's programs, in every language: no command begins so."""
SQL = re.compile(
    rb"(?i:alter|analyze|begin|call|cluster|comment|commit|copy|create|declare|delete|discard|do|drop|end|execute"
    rb"|grant|import|insert|lock|merge|refresh|reindex|reset|revoke|rollback|security|select|set|start|table|truncate"
    rb"|update|vacuum|values|with)(?![\w$\x80-\xff])|[(;]"
)
"""The beginning of a command."""
END_OF_ROWS = re.compile(rb"\r?\n")
# A fifth faster than find().
MAYBE_END_OF_ROWS = re.compile(rb"\n\\\.")
# A token between COPY and FROM stdin: 1 is a word, 2 the escape character of the preceding U&"name".
COPY_PIECE = re.compile(
    rb"(?!(?:[eEbBxX]|[uU]&)')([A-Za-z_\x80-\xff][\w$\x80-\xff]*+)|\"(?>(?:[^\"]++|\"\")*)\"|('[^']')|[.,()&]"
)


def _run(*, escapes: bool, keywords: bool) -> bytes:
    r"""A pattern for as many complete tokens as possible that can't end a command.

    It stops before tokens that need more work: an unbalanced parenthesis, a semicolon, a backslash, a dollar quote, and
    any token whose end is not in the buffer. ``escapes``: a backslash escapes in ordinary strings too
    (standard_conforming_strings is off). ``keywords``: it also stops before the words that delimit a function's body.
    """
    # A word at the end of the buffer may continue after it, or be the prefix of a string.
    ahead = rb"(?=[\s\S])"
    word = rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*+"
    # A string before a line end is excluded: it may continue on another line.
    escaped = rb"'(?>(?:[^'\\]++|\\[\s\S]|'')*)'(?=[^'\s\-])"
    if escapes:
        no_prefix = rb"(?!(?:[eEbBxX]|[uU]&)')(?![uU]&\Z)"
        strings = [rb"[eE]?" + escaped]
    else:
        no_prefix = rb"(?![eE]')"
        strings = [rb"'[^']*+'", rb"[eE]" + escaped]
    no_keyword = rb"(?!(?i:begin|atomic|case|end)(?![\w$\x80-\xff]))" if keywords else rb""

    def tokens(no_keyword: bytes) -> bytes:
        alternatives = [
            rb"[^\w\x80-\xff'\"$();\\/\-]++",
            no_keyword + no_prefix + word + ahead,
            rb"\$?[0-9]++(?>(?:" + word + rb")?)" + ahead,
            *strings,
            rb"\"[^\"]*+\"",
            rb"--[^\n\r]*+[\n\r]",
            rb"-(?=[^\-])",
            rb"/(?=[^*])",
        ]
        return rb"|".join(alternatives)

    return rb"(?>(?:" + tokens(no_keyword) + rb"|\((?>(?:" + tokens(rb"") + rb")*)\))*)"


RUNS = {
    (escapes, keywords): re.compile(_run(escapes=escapes, keywords=keywords))
    for escapes in (False, True)
    for keywords in (False, True)
}
# A whole command of the simplest kind, which is most of a dump with INSERTs.
SIMPLE = {
    escapes: re.compile(
        rb"[ \t\n\r\f\v]*+(?!(?i:copy|create|set|reset|discard)\b|"
        + MESSAGE.pattern
        + rb")((?=[A-Za-z])"
        + _run(escapes=escapes, keywords=False)
        + rb");"
    )
    for escapes in (False, True)
}

# The commands that control backslash escapes in ordinary strings, in the recognized forms.
CONFORMING = re.compile(
    rb"(?i:set\s+(?:session\s+|local\s+)?standard_conforming_strings\s*(?:=|\sto\s)\s*'?(?P<value>\w+)'?\s*\Z"
    rb"|reset\s+(?:standard_conforming_strings|all)\s*\Z|discard\s+all\s*\Z)"
)
OFF = frozenset({b"off", b"of", b"false", b"fals", b"fal", b"fa", b"f", b"no", b"n", b"0"})


def with_explicit_escapes(text: bytes) -> bytes:
    r"""The same command, with each ordinary string that contains a backslash as ``E'…'``."""

    def replace(found: re.Match[bytes]) -> bytes:
        return found[0] if found[2] is None or b"\\" not in found[2] else b" E" + found[2]

    return _STRING_OR_OTHER.sub(replace, text)
