"""What else names a database: a ``.env`` file, or a ``lastgood.toml`` below the working folder.

lastgood uses neither by itself: a project has several, and the wrong one may be that of another database.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from lastgood.config.options import FILE_NAME

# In this order; the first file that has a variable is named.
ENVIRONMENTS = (".env", ".env.local", ".env.production", ".env.development")
OURS = ("LASTGOOD_DB", "DATABASE_URL")
_LINE = re.compile(r"(?m)^([ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*)([\"']?\w.*?)[ \t\r]*$")
_URL = re.compile(r"[\"']?postgres(?:ql)?(?:\+\w+)?://")
_PARENTS = 3
_DEPTH = 2
_FOLDERS = 200
_BYTES = 1 << 16
_SKIPPED_FOLDERS = frozenset({"node_modules", "venv", "site-packages", "target", "dist"})


def databases(folder: Path) -> list[str]:
    """Two lines for each find: what it is, and, indented, the command that uses it. No value of a file is shown."""
    lines: list[str] = []
    for file, name, value in islice(_variables(folder), 1):
        path = os.path.relpath(file, folder)
        quoted = shlex.quote(path if "/" in path else f"./{path}")
        exported = name if name in OURS else OURS[0]
        lines += [f'"{path}" has {name}. To use it:', f"  export {exported}=$(sed -n '{value}' {quoted})"]
    files = sorted(_files(folder))
    for path in [os.path.relpath(each, folder) for each in files[:1]]:
        others = f", and {len(files) - 1} more below this folder" if len(files) > 1 else ""
        lines += [f'"{path}" exists{others}. To use it:', f"  export LASTGOOD_CONFIG={shlex.quote(path)}"]
    return lines


def _variables(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """The file, the variable, and the commands of sed that print its value, without executing the file.

    A variable that lastgood reads goes before another one with a URL of PostgreSQL; of two lines, the last counts.
    """
    for place in (folder, *folder.parents[:_PARENTS]):
        for name in ENVIRONMENTS:
            with suppress(OSError), (place / name).open("rb") as file:
                lines = _LINE.findall(file.read(_BYTES).decode("utf-8", "replace"))
                named = [each for each in lines if each[1] in OURS] or [each for each in lines if _URL.match(each[2])]
                for lead, variable, value in named[-1:]:
                    yield place / name, variable, f"{'s/ #.*//;' if ' #' in value else ''}s/^{lead}//p"


def _files(folder: Path) -> Iterator[Path]:
    """Configuration files below the folder; the one in it or above it is found anyway."""
    waiting, folders = deque([(folder, 0)]), 0
    while waiting and folders < _FOLDERS:
        place, depth = waiting.popleft()
        folders += 1
        if depth and (place / FILE_NAME).is_file():
            yield place / FILE_NAME
        with suppress(OSError), os.scandir(place) as scanned:
            for entry in scanned:
                below = depth < _DEPTH and entry.is_dir(follow_symlinks=False)
                if below and not entry.name.startswith(".") and entry.name not in _SKIPPED_FOLDERS:
                    waiting.append((place / entry.name, depth + 1))
