"""Names in PostgreSQL's notation: quoting, and the identity texts of types and functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pglast import keywords

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")
# quote_ident() quotes every keyword that is not unreserved.
_QUOTED_KEYWORDS = frozenset(keywords.RESERVED_KEYWORDS | keywords.COL_NAME_KEYWORDS | keywords.TYPE_FUNC_NAME_KEYWORDS)

# pg_type's internal names of types for which format_type() uses the SQL name, which it never quotes.
_SQL_NAMES = {
    "bit": "bit",
    "interval": "interval",
    "json": "json",
    "numeric": "numeric",
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bpchar": "character",
    "varchar": "character varying",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}


def quoted(name: str) -> str:
    """An identifier as ``quote_ident`` writes it."""
    if _PLAIN.match(name) and name not in _QUOTED_KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def shown(name: object) -> str:
    """A name from a dump for a message: on one line, without control sequences for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(name))


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """A schema-qualified name; ``schema`` is empty if the name is unqualified and the search path is unknown."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)


def of_range_var(node: Any, schema: str) -> Relation:
    """The name in a RangeVar; ``schema`` is that of unqualified names."""
    return Relation(node.schemaname or schema, node.relname)


def of_list(parts: Sequence[Any], schema: str) -> Relation:
    """The name in a list of String nodes (``s.f``)."""
    texts = [part.sval for part in parts]
    return Relation(texts[-2] if len(texts) > 1 else schema, texts[-1])


def type_identity(node: Any) -> str:
    """A TypeName as ``format_type`` writes it, without its modifier: ``integer``, ``s1.mood[]``."""
    texts = [part.sval for part in node.names]
    if len(texts) > 1 and texts[-2] == "pg_catalog":
        texts = texts[-1:]
        text = _SQL_NAMES.get(texts[0], quoted(texts[0]))
    elif len(texts) == 1:
        text = _SQL_NAMES.get(texts[0], quoted(texts[0]))
    else:
        text = f"{quoted(texts[-2])}.{quoted(texts[-1])}"
    return text + "[]" * bool(node.arrayBounds)


def function_identity(name: Sequence[Any], parameters: Sequence[Any] | None, schema: str) -> str:
    """A function in the notation of the catalogue functions: ``s1.f(integer, text)``. Output parameters do not
    count."""
    types = [type_identity(p.argType) for p in parameters or () if p.mode not in ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")]
    return f"{of_list(name, schema)}({', '.join(types)})"


_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s."]+))\s*(\.|\Z)')


def parse(text: str, schema: str) -> Relation | None:
    """A qualified name in SQL notation (``s1."we""ird"``), or None for other text; unquoted letters are folded."""
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            return None
        inner, plain, end = match.groups()
        parts.append(inner.replace('""', '"') if inner is not None else plain.lower())
        position = match.end()
        if not end:
            break
    if position != len(text) or len(parts) > 2:
        return None
    return Relation(parts[-2] if len(parts) == 2 else schema, parts[-1])
