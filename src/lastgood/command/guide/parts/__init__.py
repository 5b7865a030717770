"""The parts of a guide, as files next to this one: Markdown with blocks of commands, and the SQL of these blocks."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def part(name: str) -> str:
    """Return the text of a part."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
