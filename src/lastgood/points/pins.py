"""Pins: restore points that must not be removed, each with the reason in a small file next to it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from lastgood.dump.files import links
from lastgood.journal import caller
from lastgood.models import Frozen
from lastgood.points.manifest import SUFFIX
from lastgood.process import durable

# The suffix of manifests: no version of lastgood mistakes it for a restore point.
PIN = ".pin" + SUFFIX
_LARGEST = 1 << 20


class Pin(Frozen):
    """The pin of a restore point: who set it, when and why."""

    format: Literal[1] = 1
    reason: str
    by: str
    host: str
    at: AwareDatetime

    @property
    def summary(self) -> str:
        """The pin in a few words."""
        return f"pinned by {self.by}: {self.reason}" if self.by else f"pinned: {self.reason}"


def pin_path(point: Path) -> Path:
    """The path of the pin of a restore point."""
    return point.with_name(point.name + PIN)


def pin_of(point: Path) -> Pin | None:
    """The pin, None without one. An unreadable pin still pins."""
    path = pin_path(point)
    try:
        if path.is_symlink() and links.leads_out(path, path.parent):
            raise OSError
        with path.open("rb") as file:
            return Pin.model_validate_json(file.read(_LARGEST))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return Pin(reason=f'its pin "{path.name}" cannot be read', by="", host="", at=datetime.fromtimestamp(0, UTC))


def pin(point: Path, reason: str) -> Pin:
    """Pin a restore point; an existing pin gets the new reason. Raises OSError."""
    new = Pin(reason=reason, by=caller.user(), host=caller.host(), at=datetime.now(UTC))
    with durable.written_file(pin_path(point)) as file:
        file.write(new.model_dump_json(indent=1).encode() + b"\n")
    return new


def unpin(point: Path) -> bool:
    """Remove the pin; return whether there was one. Raises OSError."""
    path = pin_path(point)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed
