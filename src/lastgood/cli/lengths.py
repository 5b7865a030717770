"""Durations on the command line."""

from __future__ import annotations

from lastgood import config
from lastgood.errors import UsageError
from lastgood.text import units


def seconds(option: str, text: str) -> float:
    """Parse the value of ``option`` as seconds. Raises UsageError."""
    try:
        return units.read_duration(text)
    except ValueError as error:
        raise UsageError(
            f'cannot use {option} "{text}": {error}',
            hint=f"Run the command again with a valid duration, or without {option}.",
            state=config.NOTHING_READ,
        ) from error
