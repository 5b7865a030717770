r"""Text from elsewhere that steers nothing: what is no letter, digit or sign in it is shown as ``\x1b``, ``\n``.

A name of a database or of a table may hold anything: movements of the cursor, and line ends that would make a line of
output which we never said.
"""

from __future__ import annotations


def visible(text: str) -> str:
    """``text`` on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """``text`` of several lines that we, or a program, made."""
    return text if text.isprintable() else "\n".join(map(visible, text.split("\n")))
