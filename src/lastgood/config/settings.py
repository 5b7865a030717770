"""The settings of one call, from all their sources.

``values`` resolves the value of each option; tables come only from the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lastgood.config import connection_string
from lastgood.config import file as configuration
from lastgood.config.options import OPTIONS, Value
from lastgood.config.source import find
from lastgood.config.tables import Tables
from lastgood.config.values import InvalidInFile, value_of
from lastgood.text.address import as_libpq


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one call of lastgood. ``db`` may hold a password and is not part of ``repr``.

    ``origins`` has the source of each option's value: a flag, a variable, a file, or "default". ``file`` is the
    ``lastgood.toml`` that was read, None without one; ``tables`` are its tables. For the other fields see OPTIONS.
    """

    db: str = field(repr=False, default="")
    store: Path = Path("backups")
    state: Path = Path()
    key_file: Path | None = None
    trust_unsigned: str = ""
    json: bool = False
    quiet: bool = False
    no_color: bool = False
    format: Literal["plain", "custom", "directory"] = "plain"
    fence: Literal["now", "at-swap"] = "now"
    reopen_when: Literal["full", "usable"] = "full"
    on_failure: Literal["undo", "ask", "keep"] = "ask"
    strict: bool = False
    allow_orphans: bool = False
    trust_code: str = ""
    build_as: str = field(repr=False, default="")
    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None
    tables: Tables = field(default_factory=Tables)
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def resolve(
    given: Mapping[str, Value], environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Settings:
    """Settings from the command line, the environment, and the file nearest to ``folder`` (default: the current one).

    Raises UsageError, whose text never contains a password.
    """
    file = find(given.get("config") or environment.get("LASTGOOD_CONFIG"), folder or Path.cwd())
    content = configuration.read(file) if file is not None else configuration.FileContent({}, Tables(), ())
    problems = list(content.problems)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for each in OPTIONS:
        try:
            values[each.name], origins[each.name] = value_of(each, given, environment, content.options, file)
        except InvalidInFile as wrong:
            problems.append(wrong.problem)
    if file is not None and problems:
        raise configuration.refusal(file, problems)
    del values["config"]
    connection_string.check(values["db"], origins["db"])
    values["db"] = as_libpq(values["db"])
    connection_string.check(values["build_as"], origins["build_as"])
    values["state"] = values["state"].expanduser()
    values["store"] = values["store"].expanduser()
    values["key_file"] = values["key_file"].expanduser() if values["key_file"] is not None else None
    return Settings(**values, tables=content.tables, file=file, origins=origins)
