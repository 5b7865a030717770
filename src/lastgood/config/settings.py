"""The settings of one call, from all their sources.

An option's value is the first one given by: the command line, its environment variables in their order, the file, its
default. Tables come from the file alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import conninfo

from lastgood.config import file as configuration
from lastgood.config.file import NOTHING_LOOKED_AT, Problem
from lastgood.config.options import OPTIONS, Option, Value
from lastgood.config.tables import Tables
from lastgood.errors import UsageError
from lastgood.text import redact, units

LIBPQ = "libpq's own settings"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one call of lastgood. ``db`` may hold a password and is not part of ``repr``.

    ``origins`` has the source of each option's value: a flag, a variable, a file, or "default". ``file`` is the
    ``lastgood.toml`` that was read, None without one; ``tables`` are its tables. The others: see OPTIONS.
    """

    db: str = field(repr=False, default="")
    store: Path = Path("backups")
    state: Path = Path()
    json: bool = False
    quiet: bool = False
    no_color: bool = False
    format: Literal["plain", "custom", "directory"] = "plain"
    fence: Literal["now", "at-swap"] = "now"
    reopen_when: Literal["full", "usable"] = "full"
    on_failure: Literal["undo", "ask", "keep"] = "ask"
    strict: bool = False
    allow_orphans: bool = False
    jobs: int | None = None
    max_wal_lag: int = 1 << 30
    throttle: int | None = None
    tables: Tables = field(default_factory=Tables)
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


class _WrongInFile(Exception):
    """An invalid option in the file; it is reported together with the other errors of the file."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def resolve(
    given: Mapping[str, Value], environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Settings:
    """Settings from the command line, the environment, and the file nearest to ``folder`` (default: the current one).

    Raises UsageError, whose text never contains a password.
    """
    file = configuration.find(given.get("config") or environment.get("LASTGOOD_CONFIG"), folder or Path.cwd())
    content = configuration.read(file) if file is not None else configuration.Content({}, Tables(), ())
    problems = list(content.problems)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for each in OPTIONS:
        try:
            values[each.name], origins[each.name] = _value(each, given, environment, content.options, file)
        except _WrongInFile as wrong:
            problems.append(wrong.problem)
    if file is not None and problems:
        raise configuration.refusal(file, problems)
    del values["config"]
    check_database(values["db"], origins["db"])
    values["state"] = values["state"].expanduser()
    values["store"] = values["store"].expanduser()
    return Settings(**values, tables=content.tables, file=file, origins=origins)


def _value(
    each: Option, given: Mapping[str, Value], environment: Mapping[str, str], in_file: Mapping[str, Value], file: Any
) -> tuple[Value | None, str]:
    if given.get(each.name) is not None:
        return _converted(each, given[each.name], each.flags[0]), each.flags[0]
    for variable in each.environment:
        if text := environment.get(variable):
            # https://no-color.org: any value that is not empty.
            return (True if each.type is bool else _converted(each, text, variable)), variable
    if each.name in in_file:
        origin = f'"{each.name}" in "{file}"'
        try:
            value = _converted(each, in_file[each.name], origin)
        except UsageError as error:
            why = error.message.removeprefix(f"cannot use {origin}: ")
            raise _WrongInFile(Problem(error.message, f'"{each.name}"', why, configuration.LOOK_UP)) from error
        if isinstance(value, Path):
            value = file.parent / value.expanduser()
        return value, str(file)
    return each.default, LIBPQ if each.name == "db" else "default"


def _converted(each: Option, value: Value, origin: str) -> Value:
    if each.type is int:
        number = _number(each, str(value)) if not isinstance(value, bool) else None
        if number is not None:
            return number
        problem = _wanted(each)
    elif each.choices and value not in each.choices:
        problem = " or ".join(f'"{choice}"' for choice in each.choices)
    elif each.type is Path and isinstance(value, str | Path):
        return Path(value)
    elif isinstance(value, each.type):
        return value
    else:
        problem = {str: "a text", Path: "a text", bool: "true or false"}[each.type]
    raise UsageError(
        f"cannot use {origin}: it must be {problem}",
        hint="List the options: lastgood --help",
        state=NOTHING_LOOKED_AT,
    )


def _number(each: Option, text: str) -> int | None:
    """The number in the text; None when it is not a number, or too small."""
    try:
        number = units.read_size(text.strip().removesuffix("/s")) if each.unit else int(text)
    except ValueError:
        return None
    return number if each.minimum is None or number >= each.minimum else None


def _wanted(each: Option) -> str:
    if each.unit and each.minimum is not None:
        a_second = " a second" if each.unit == "bytes/s" else ""
        return f"a size like 500MB or 2GB{a_second}, {units.size(each.minimum)} or more"
    return f"a whole number, {each.minimum} or more" if each.minimum is not None else "a whole number"


def check_database(text: str, origin: str) -> None:
    """Refuse a URL or connection string that libpq cannot parse; ``origin`` is its source.

    Raises UsageError. libpq's own message would quote parts of the password.
    """
    if redact.is_url(text) and redact.needs_encoding(text):
        raise UsageError(
            f"cannot read the database URL from {origin}: its password has characters with a meaning in URLs",
            hint="Write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25, or remove the password from the URL and "
            "put it in ~/.pgpass or the variable PGPASSWORD.",
            state=NOTHING_LOOKED_AT,
        )
    try:
        conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        why = "libpq cannot parse it" if "password" in text.lower() or "@" in text else str(error).strip()
        raise UsageError(
            f"cannot read the database from {origin}: {why}",
            hint='Give it as "postgresql://user@host:5432/name" or "host=… dbname=…".',
            state=NOTHING_LOOKED_AT,
        ) from None
