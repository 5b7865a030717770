"""Put all decisions into the site's navigation, in the place of ``adr/`` in mkdocs.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> None:
    """Fill the navigation. MkDocs calls this after it has read its configuration."""
    pages = sorted(Path(config.docs_dir, "adr").glob("*.md"))
    _fill(config.nav, [f"adr/{page.name}" for page in pages])


def _fill(entries: list[Any], decisions: list[str]) -> None:
    for entry in entries:
        for title, content in entry.items() if isinstance(entry, dict) else ():
            if content == "adr/":
                entry[title] = decisions
            elif isinstance(content, list):
                _fill(content, decisions)
