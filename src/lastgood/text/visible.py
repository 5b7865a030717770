r"""Text from elsewhere without control characters: those are shown as ``\x1b``, ``\n``.

The name of a database or a table may contain any character: escape sequences that move the cursor, and line ends that
would forge a line of output.
"""

from __future__ import annotations


def visible(text: str) -> str:
    """``text`` on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """``text`` of several lines, with its line ends."""
    return text if text.isprintable() else "\n".join(map(visible, text.split("\n")))
