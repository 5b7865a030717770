"""``lastgood.toml``: where it lies, what it says, and what is wrong with it.

No message quotes a value of the file: it may be a password that is in the wrong place.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lastgood import secrecy
from lastgood.config.options import FILE_NAME, OPTIONS, Value
from lastgood.config.tables import Tables
from lastgood.errors import UsageError

NOTHING_LOOKED_AT = "Nothing was looked at or changed."
TABLES = tuple(each.alias or name for name, each in Tables.model_fields.items())


# What pydantic says of these in words of Python.
_WHY = {
    "model_type": "it must be a table",
    "mapping_type": "it must be a table",
    "tuple_type": "it must be a list: the program, then its arguments",
    "too_short": "it must not be empty",
    "string_too_short": "it must not be empty",
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "int_parsing": "it must be a whole number",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "string_type": "it must be a text",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
}


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
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    return None


def read(file: Path) -> tuple[dict[str, Value], Tables]:
    """The options in the file, not yet converted, and its tables. Raises UsageError."""
    try:
        # Editors of Windows begin a file with a byte order mark, which is no TOML.
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
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
    known = [each.name for each in OPTIONS if each.in_file]
    for key in found:
        if key not in known and key not in TABLES:
            raise _unknown(file, key, (*known, *TABLES))
    database = found.get("db")
    if isinstance(database, str) and secrecy.written_passwords(database):
        raise UsageError(
            f'cannot use "{file}": its "db" contains a password',
            hint="Take the password out of the file and put it into ~/.pgpass or the variable PGPASSWORD.",
            state=NOTHING_LOOKED_AT,
        )
    tables = {key: value for key, value in found.items() if key in TABLES}
    try:
        read = Tables.model_validate(tables, context={"folder": file.parent})
    except ValidationError as error:
        raise _wrong(file, error) from None
    return {key: value for key, value in found.items() if key in known}, read


def _unknown(file: Path, key: str, known: Iterable[str]) -> UsageError:
    where, _, last = key.rpartition(".")
    near = difflib.get_close_matches(last, known, n=1)
    prefix = f"{where}." if where else ""
    return UsageError(
        f'cannot read "{file}": unknown key "{key}"',
        hint=f'Did you mean "{prefix}{near[0]}"?' if near else f"The known keys are: {', '.join(known)}.",
        state=NOTHING_LOOKED_AT,
    )


def _wrong(file: Path, error: ValidationError) -> UsageError:
    """The first thing that is wrong; without the value, which pydantic would show."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    key = _written(first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(file, key, _keys_beside(first["loc"]))
    if first["type"] == "missing":
        return UsageError(
            f'cannot use "{file}": "{key}" is missing',
            hint="docs/reference/configuration.md lists the keys of each table.",
            state=NOTHING_LOOKED_AT,
        )
    if first["type"] == "string_pattern_mismatch" and key == "health.url":
        first["msg"] = "it must begin with http:// or https://"
    why = _WHY.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return UsageError(
        f'cannot use "{key}" in "{file}": {why[:1].lower()}{why[1:]}',
        hint="docs/reference/configuration.md says what it may be.",
        state=NOTHING_LOOKED_AT,
    )


def _written(location: Iterable[str | int]) -> str:
    """``validate.rules[2].query``, the rules counted from 1."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _keys_beside(location: tuple[str | int, ...]) -> list[str]:
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
