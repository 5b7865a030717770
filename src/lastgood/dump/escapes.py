"""Conversion of strings with backslash escapes (``standard_conforming_strings`` is off) to a form that is independent
of that setting."""

from __future__ import annotations

import re

_PIECE = re.compile(
    rb"--[^\n]*|/\*.*?\*/|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$"
    rb"|(?:[eEbBxXnN]|[uU]&)'(?:[^'\\]|\\.|'')*'"
    rb"|('(?:[^'\\]|\\.|'')*')",
    re.DOTALL,
)


def with_escapes(text: bytes) -> bytes:
    r"""The same command, with each ordinary string that contains a backslash as ``E'…'``."""

    def replace(found: re.Match[bytes]) -> bytes:
        return found[0] if found[2] is None or b"\\" not in found[2] else b" E" + found[2]

    return _PIECE.sub(replace, text)
