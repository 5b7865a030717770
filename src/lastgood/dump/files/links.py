"""Symbolic links among restore points. Other users may write to a store: links that lead out of it are not followed."""

from __future__ import annotations

from pathlib import Path

from lastgood.errors import BadPoint, Unsafe

_COPY = "Put a copy of the file in its place, or name the file itself if you trust it."


def leads_out(path: Path, folder: Path) -> bool:
    """Whether ``path`` is a symbolic link to a place outside ``folder``, or passes through such a link below it."""
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return True  # a cycle


def outside(path: Path) -> BadPoint:
    """The error for such a link."""
    return Unsafe(f'cannot use "{path}": it is a symbolic link that leads out of its folder', hint=_COPY)
