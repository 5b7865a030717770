"""Pins: restore points that nobody may remove, each with the reason, in a small file beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from lastgood.dump import links
from lastgood.journal import person
from lastgood.models import Frozen
from lastgood.points.manifest import SUFFIX
from lastgood.process import durable

# Ends as manifests do: no version of lastgood takes it for a restore point.
PIN = ".pin" + SUFFIX
_LARGEST = 1 << 20


class Pin(Frozen):
    """Who pinned a restore point, when and why."""

    format: Literal[1] = 1
    reason: str
    by: str
    host: str
    at: AwareDatetime

    @property
    def said(self) -> str:
        """In a few words."""
        return f"pinned by {self.by}: {self.reason}" if self.by else f"pinned: {self.reason}"


def pin_path(point: Path) -> Path:
    """Where the pin of a restore point lies."""
    return point.with_name(point.name + PIN)


def pin_of(point: Path) -> Pin | None:
    """The pin, None when there is none. One that can't be read still pins."""
    path = pin_path(point)
    try:
        if path.is_symlink() and links.leads_out(path, path.parent):
            raise OSError
        with path.open("rb") as file:
            return Pin.model_validate_json(file.read(_LARGEST))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return Pin(reason=f'its pin "{path.name}" can\'t be read', by="", host="", at=datetime.fromtimestamp(0, UTC))


def pin(point: Path, reason: str) -> Pin:
    """Pins it; a pin that is there gets the new reason. Raises OSError."""
    made = Pin(reason=reason, by=person.user(), host=person.host(), at=datetime.now(UTC))
    with durable.writing(pin_path(point)) as file:
        file.write(made.model_dump_json(indent=1).encode() + b"\n")
    return made


def unpin(point: Path) -> bool:
    """Takes the pin away: whether there was one. Raises OSError."""
    path = pin_path(point)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there
