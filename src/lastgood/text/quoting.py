"""Names and values in statements that are shown to an operator."""

from __future__ import annotations

from psycopg import sql


def identifier(name: str) -> str:
    """Quote a name: always in quotes, with inner quotes doubled."""
    return sql.Identifier(name).as_string()


def literal(value: str) -> str:
    """Quote a text: ``'x'``, or ``E'\\\\x'`` with a backslash in it."""
    return sql.Literal(value).as_string().strip()
