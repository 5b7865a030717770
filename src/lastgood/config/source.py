"""The location of ``lastgood.toml``, and its text as TOML. ``file`` validates its tables.

Completion uses only this module, which is fast because it does not load the classes of the tables.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.config.options import FILE_NAME, NOTHING_READ, Value
from lastgood.errors import UsageError

LOOK_UP = "See the allowed values in docs/reference/configuration.md."


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a file: ``message`` when it is the only one, ``place`` and ``why`` for a list of several; ``hint``
    is the remedy."""

    message: str
    place: str
    why: str
    hint: str


def find(named: Value | None, folder: Path) -> Path | None:
    """The file ``named`` by the user, or the nearest one in ``folder`` and its parents. Raises UsageError."""
    if named:
        file = Path(str(named)).expanduser()
        if not file.is_file():
            within = file / FILE_NAME
            raise UsageError(
                f'cannot read "{file}": {"it is a folder" if file.is_dir() else "no such file"}',
                hint=f"Name the file in it: --config {within}"
                if within.is_file()
                else "Name an existing file, or write one: lastgood init",
                state=NOTHING_READ,
            )
        return file
    for place in (folder, *folder.parents):
        file = place / FILE_NAME
        if file.is_file():
            return file
        if file.is_symlink() and not file.exists():
            # The link shows that a file is wanted: to continue without one would skip its hooks.
            raise UsageError(
                f'cannot read "{file}": it is a link to "{file.readlink()}", which does not exist',
                hint="Correct the link, or remove it to continue without a configuration file.",
                state=NOTHING_READ,
            )
    return None


def parse(file: Path) -> dict[str, Any]:
    """Return the file's keys and tables, unchecked. Raises UsageError if the file cannot be read."""
    try:
        # Windows editors begin a file with a byte order mark, which is not TOML.
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f'cannot read "{file}": {error.strerror}', state=NOTHING_READ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f'cannot read "{file}": it is not in UTF-8',
            hint="Save it in UTF-8. (PowerShell's > writes UTF-16.)",
            state=NOTHING_READ,
        ) from error
    except tomllib.TOMLDecodeError as error:
        # The parser quotes at most one character of the file.
        raise UsageError(
            f'cannot read "{file}": {error}',
            hint="Correct the file, or write a new one: lastgood init --force",
            state=NOTHING_READ,
        ) from error
