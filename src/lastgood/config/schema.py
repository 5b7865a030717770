"""The JSON Schema of ``lastgood.toml``, for editors."""

from __future__ import annotations

from typing import Any

from lastgood.config.options import OPTIONS, Option
from lastgood.config.tables import Tables

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
