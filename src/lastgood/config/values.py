"""The value of an option, from the first source that has one: the command line, its environment variables in their
order, the file, its default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lastgood.config.options import LIBPQ, NOTHING_READ, Option, Value, option
from lastgood.config.source import LOOK_UP, Problem, find, parse
from lastgood.errors import UsageError
from lastgood.text import units


class InvalidInFile(Exception):
    """An invalid option in the file; it is reported together with the other errors of the file."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def folder(name: str, given: Mapping[str, Value]) -> Path:
    """Return the folder of an option, regardless of errors in other options. Raises UsageError."""
    file = find(given.get("config") or os.environ.get("LASTGOOD_CONFIG"), Path.cwd())
    value, _ = value_of(option(name), given, os.environ, parse(file) if file is not None else {}, file)
    return Path(str(value)).expanduser()


def value_of(
    each: Option,
    given: Mapping[str, Value],
    environment: Mapping[str, str],
    in_file: Mapping[str, Value],
    file: Path | None,
) -> tuple[Value | None, str]:
    """Return the value of an option and its source. Raises UsageError; InvalidInFile for a value in the file."""
    if given.get(each.name) is not None:
        return _convert(each, given[each.name], each.flags[0]), each.flags[0]
    for variable in each.environment:
        if text := environment.get(variable):
            # https://no-color.org: any value that is not empty.
            return (True if each.type is bool else _convert(each, text, variable)), variable
    if each.name in in_file:
        origin = f'"{each.name}" in "{file}"'
        try:
            value = _convert(each, in_file[each.name], origin)
        except UsageError as error:
            why = error.message.removeprefix(f"cannot use {origin}: ")
            raise InvalidInFile(Problem(error.message, f'"{each.name}"', why, LOOK_UP)) from error
        if isinstance(value, Path) and file is not None:
            value = file.parent / value.expanduser()
        return value, str(file)
    return each.default, LIBPQ if each.name == "db" else "default"


def _convert(each: Option, value: Value, origin: str) -> Value:
    if each.type is int:
        number = _number(each, str(value)) if not isinstance(value, bool) else None
        if number is not None:
            return number
        problem = _expected(each)
    elif each.choices and value not in each.choices:
        problem = " or ".join(f'"{choice}"' for choice in each.choices)
    elif each.type is Path and isinstance(value, str | Path):
        return Path(value)
    elif isinstance(value, each.type):
        return value
    else:
        problem = {str: "a string", Path: "a string", bool: "true or false"}[each.type]
    raise UsageError(
        f"cannot use {origin}: it must be {problem}",
        hint="`lastgood COMMAND --help` lists the options and their values.",
        state=NOTHING_READ,
    )


def _number(each: Option, text: str) -> int | None:
    """The number in the text; None when it is not a number, or too small."""
    try:
        number = units.read_size(text.strip().removesuffix("/s")) if each.unit else int(text)
    except ValueError:
        return None
    return number if each.minimum is None or number >= each.minimum else None


def _expected(each: Option) -> str:
    if each.unit and each.minimum is not None:
        a_second = " a second" if each.unit == "bytes/s" else ""
        return f"a size like 500MB or 2GB{a_second}, {units.size(each.minimum)} or more"
    return f"a whole number, {each.minimum} or more" if each.minimum is not None else "a whole number"
