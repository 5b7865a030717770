"""Where ``lastgood.toml`` lies, and its text as TOML. What its tables mean is for ``file`` to say.

Completion reads no more than this at each key press: nothing here loads the classes of the tables.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.config.options import FILE_NAME, NOTHING_LOOKED_AT, Value
from lastgood.errors import UsageError

LOOK_UP = "docs/reference/configuration.md says what it may be."


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file: ``message`` as an error says it when it is the only one, ``place`` and
    ``why`` for a list; ``hint`` what to do about it."""

    message: str
    place: str
    why: str
    hint: str


def find(named: Value | None, folder: Path) -> Path | None:
    """The file that is ``named``, or the nearest one in ``folder`` and those above it. Raises UsageError."""
    if named:
        file = Path(str(named)).expanduser()
        if not file.is_file():
            raise UsageError(
                f'cannot read "{file}": no such file',
                hint="`lastgood init` writes a configuration file.",
                state=NOTHING_LOOKED_AT,
            )
        return file
    for place in (folder, *folder.parents):
        file = place / FILE_NAME
        if file.is_file():
            return file
        if file.is_symlink() and not file.exists():
            # Somebody wants a file: to go by none would be to go without its hooks.
            raise UsageError(
                f'cannot read "{file}": it is a link to "{file.readlink()}", which is not there',
                hint="Mend the link, or remove it to go on without a configuration file.",
                state=NOTHING_LOOKED_AT,
            )
    return None


def parsed(file: Path) -> dict[str, Any]:
    """The file's keys and tables, unchecked. Raises UsageError when it can't be read at all."""
    try:
        # Editors of Windows begin a file with a byte order mark, which is no TOML.
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f'cannot read "{file}": {error.strerror}', state=NOTHING_LOOKED_AT) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f'cannot read "{file}": it is not in UTF-8',
            hint="Save it in that encoding. (What PowerShell writes with > is UTF-16.)",
            state=NOTHING_LOOKED_AT,
        ) from error
    except tomllib.TOMLDecodeError as error:
        # The parser quotes no more than one character of the file.
        raise UsageError(
            f'cannot read "{file}": {error}',
            hint="Mend the file, or let `lastgood init --force` write a new one.",
            state=NOTHING_LOOKED_AT,
        ) from error
