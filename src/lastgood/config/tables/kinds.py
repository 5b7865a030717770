"""The types of values in ``lastgood.toml``, and how they are parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import psycopg
from psycopg import conninfo
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from lastgood.text import redact, units


def _duration(value: object) -> object:
    return units.read_duration(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return units.read_size(value)
    except ValueError:
        raise ValueError("write a size like 500MB or 2GB") from None


def as_list(value: object) -> object:
    """A list of one text, where one text is given instead of a list."""
    return [value] if isinstance(value, str) else value


def _without_password(texts: tuple[str, ...]) -> tuple[str, ...]:
    if any(redact.written_passwords(text) for text in texts):
        raise ValueError("it contains a password: put it in ~/.pgpass or the variable PGPASSWORD")
    return texts


def _resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Resolve a relative path against the folder of the file."""
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path.expanduser()


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": units.DURATION_PATTERN}]}
    ),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=0),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
]
Command = Annotated[tuple[str, ...], Field(min_length=1)]


def _one_host_each(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            keywords = conninfo.conninfo_to_dict(text)
        except psycopg.ProgrammingError as error:
            raise ValueError(str(error).strip()) from None
        if "," in str(keywords.get("host") or ""):
            raise ValueError("it names several hosts: write one entry for each host, in a list")
    return texts


Conninfos = Annotated[
    tuple[str, ...],
    BeforeValidator(as_list),
    AfterValidator(_without_password),
    AfterValidator(_one_host_each),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Folder = Annotated[Path, AfterValidator(_resolve_path)]
Expected = int | float | str | bool


class SettingsTable(BaseModel):
    """A table of the file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
