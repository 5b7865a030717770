"""What stands in a page of the documentation for programs: settings, and commands in their order."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of ``sh``, ``toml`` or ``ini`` in docs/``page``.md."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(block: str) -> list[str]:
    """The lines of a block, without their comments."""
    return [re.sub(r"\s#.*", "", line).strip() for line in block.splitlines()]
