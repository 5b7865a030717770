"""``lastgood.toml``: its content, its errors and its JSON Schema for editors.

No message quotes a value of the file: it may be a misplaced password.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lastgood.config.options import NOTHING_READ, OPTIONS, Option, Value
from lastgood.config.source import LOOK_UP, Problem, parse
from lastgood.config.tables import Tables
from lastgood.errors import UsageError
from lastgood.text import redact

TABLES = tuple(each.alias or name for name, each in Tables.model_fields.items())


# Our words for pydantic's types of error; names in braces are the limits of the declaration.
_REASONS = {
    "model_type": "it must be a table",
    "mapping_type": "it must be a table",
    "dict_type": "it must be a table",
    "tuple_type": 'it must be a list: ["…", "…"]',
    "list_type": "it must be a list",
    "string_type": "it must be a string",
    "path_type": "it must be a string",
    "int_type": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "string_too_short": "it must not be empty",
    "too_short": "it must not be empty",
    "less_than_equal": "it must be {le:g} or less",
    "greater_than_equal": "it must be {ge:g} or more",
    "greater_than": "it must be more than {gt:g}",
    "literal_error": "it must be {expected}",
    "string_pattern_mismatch": "it must match the pattern {pattern}",
}
# Where a value may be of several types, pydantic reports an error for each of them.
_TRIED = ("int", "float", "str", "bool")
_SEVERAL = "it must be a number, a text, or true or false"


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of a file: its options, not yet converted, its tables, and all its errors."""

    options: dict[str, Value]
    tables: Tables
    problems: tuple[Problem, ...]


def refusal(file: Path, problems: Sequence[Problem]) -> UsageError:
    """One UsageError for all problems, so that they can be fixed together."""
    if len(problems) == 1:
        return UsageError(problems[0].message, hint=problems[0].hint, state=NOTHING_READ)
    lines = [f"{each.place}: {each.why}" + (f" ({each.hint})" if each.hint != LOOK_UP else "") for each in problems]
    return UsageError(
        f'cannot use "{file}": it has {len(problems)} errors',
        hint="\n".join(("Fix each of them:", *lines)),
        state=NOTHING_READ,
    )


def read(file: Path) -> FileContent:
    """Read the file. Raises UsageError when it cannot be parsed at all."""
    content = parse(file)
    names = [each.name for each in OPTIONS if each.in_file]
    problems = [_unknown_key(file, key, (*names, *TABLES)) for key in content if key not in names and key not in TABLES]
    problems += [
        Problem(
            f'cannot use "{file}": its "{key}" contains a password',
            f'"{key}"',
            "it contains a password",
            "Remove the password from the file and put it in ~/.pgpass or the variable PGPASSWORD.",
        )
        for key in ("db", "build_as")
        if isinstance(url := content.get(key), str) and redact.written_passwords(url)
    ]
    read = Tables()
    try:
        written = {key: value for key, value in content.items() if key in TABLES}
        read = Tables.model_validate(written, context={"folder": file.parent})
    except ValidationError as error:
        problems += _validation_problems(file, error)
    return FileContent({key: value for key, value in content.items() if key in names}, read, tuple(problems))


def _unknown_key(file: Path, key: str, known: Sequence[str]) -> Problem:
    table, _, last = key.rpartition(".")
    near = difflib.get_close_matches(last, known, n=1)
    prefix = f"{table}." if table else ""
    return Problem(
        f'cannot read "{file}": unknown key "{key}"',
        f'"{key}"',
        "unknown key",
        f'Did you mean "{prefix}{near[0]}"?' if near else f"The known keys are: {', '.join(known)}.",
    )


def _validation_problems(file: Path, error: ValidationError) -> Iterator[Problem]:
    """All errors in the tables, without the values that pydantic would show."""
    reported: set[tuple[str | int, ...]] = set()
    for each in error.errors(include_url=False, include_context=True, include_input=False):
        of_several = each["loc"][-1] in _TRIED
        location = each["loc"][:-1] if of_several else each["loc"]
        # pydantic does not count a wrong element of a list, and reports the list as too short as well.
        inside = each["type"] == "too_short" and any(other[: len(location)] == location for other in reported)
        if location in reported or inside:
            continue
        reported.add(location)
        key = _key_path(location)
        if each["type"] == "extra_forbidden":
            yield _unknown_key(file, key, _sibling_keys(location))
        elif each["type"] == "missing":
            yield Problem(
                f'cannot use "{file}": "{key}" is missing',
                f'"{key}"',
                "it is missing",
                "See the keys of each table in docs/reference/configuration.md.",
            )
        else:
            why = _SEVERAL if of_several else reason(each["type"], each.get("ctx", {}), each["msg"])
            yield Problem(f'cannot use "{key}" in "{file}": {why}', f'"{key}"', why, LOOK_UP)


def reason(kind: str, declared: Mapping[str, Any], message: str) -> str:
    """Why a value is wrong, from the type, the context and the message of an error of pydantic."""
    if kind in _REASONS:
        return _REASONS[kind].format(**{name: _quoted(value) for name, value in declared.items()})
    why = message.removeprefix("Value error, ")
    return f"{why[:1].lower()}{why[1:]}"


def _quoted(value: Any) -> Any:
    return value.replace("'", '"') if isinstance(value, str) else value


def _key_path(location: Iterable[str | int]) -> str:
    """``validate.rules[2].query``, the rules counted from 1."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _sibling_keys(location: tuple[str | int, ...]) -> list[str]:
    model: Any = Tables
    for part in location[:-1]:
        if isinstance(part, str):
            model = _table(next(e.annotation for n, e in model.model_fields.items() if part in (n, e.alias)))
    return [each.alias or name for name, each in model.model_fields.items()]


def _table(annotation: Any) -> type[BaseModel]:
    """The table behind ``Table``, ``Table | None`` or ``tuple[Table, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_table(each) for each in annotation.__args__ if each not in (type(None), ...))


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """One document: the plain keys from the registry, the tables from their classes."""
    tables = Tables.model_json_schema()
    properties = {each.name: _property(each) for each in OPTIONS if each.in_file}
    return {
        "$schema": DIALECT,
        "title": "lastgood.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": properties | tables["properties"],
        "$defs": tables["$defs"],
    }


def _property(each: Option) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": each.doc}
    if each.choices:
        schema["enum"] = list(each.choices)
    elif each.type is bool:
        schema["type"] = "boolean"
    elif each.type is int:
        number: dict[str, Any] = {"type": "integer"}
        if each.minimum is not None:
            number["minimum"] = each.minimum
        schema |= {"anyOf": [number, {"type": "string"}]} if each.unit else number
    else:
        schema["type"] = "string"
    return schema
