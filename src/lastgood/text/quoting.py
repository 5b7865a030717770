"""Names and values in statements and commands that are shown to an operator."""

from __future__ import annotations

import shlex

from psycopg import sql


def identifier(name: str) -> str:
    """Quote a name: always in quotes, with inner quotes doubled."""
    return sql.Identifier(name).as_string()


def literal(value: str) -> str:
    """Quote a text: ``'x'``, or ``E'\\\\x'`` with a backslash in it."""
    return sql.Literal(value).as_string().strip()


def argument(text: str) -> str:
    """Quote the last argument of a command for a shell; a name must not be read as an option."""
    return f"-- {shlex.quote(text)}" if text.startswith("-") else shlex.quote(text)
