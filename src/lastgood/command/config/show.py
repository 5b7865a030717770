"""The settings in effect, as text and JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lastgood.config import OPTIONS
from lastgood.config.settings import Settings
from lastgood.screen.screen import Screen, TableColumn

Scrub = Callable[[str], str]


def document(settings: Settings, scrub: Scrub) -> dict[str, Any]:
    """Return each option with its value and source, and the tables of the file, as JSON."""
    return {
        "file": str(settings.file) if settings.file is not None else None,
        "options": {
            name: {"value": scrub(value) if isinstance(value, str) else value, "from": settings.origins[name]}
            for name, value in _values(settings)
        },
        "tables": settings.tables.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def show(screen: Screen, settings: Settings) -> None:
    """Print the file and a table of the options."""
    if settings.file is None:
        screen.say("No lastgood.toml here or in the folders above. To write one: lastgood init")
    else:
        screen.say(f'"{settings.file}" is valid.', style="bold")
    rows = [(name, _value(value), settings.origins[name]) for name, value in _values(settings)]
    screen.table((TableColumn("option"), TableColumn("value", fold=True), TableColumn("from", fold=True)), rows)
    written = settings.tables.model_dump(by_alias=True, exclude_unset=True)
    if written:
        screen.heading("Tables: " + ", ".join(f"[{name}]" for name in written))


def _values(settings: Settings) -> list[tuple[str, object]]:
    return [(each.name, getattr(settings, each.name)) for each in OPTIONS if each.in_file]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "decided after connecting"
    return str(value) or "default of libpq"
