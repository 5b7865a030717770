"""The functions that a statement calls by name, to find those that need a search path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pglast.parser import ParseError, parse_sql_json

from lastgood.dump.names import Relation


def called_functions(text: bytes) -> tuple[Relation, ...]:
    """The functions that ``text`` (UTF-8) calls, each once, in its order; ``schema`` is empty for an unqualified name.

    Functions of operators, casts and types of columns are not included. Text that is not SQL calls none.
    """
    try:
        tree = json.loads(parse_sql_json(text.decode()))
    except (ParseError, RecursionError, UnicodeDecodeError):
        return ()
    return tuple(dict.fromkeys(_calls(tree)))


def _calls(tree: Any) -> Iterator[Relation]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            if "FuncCall" in node:
                parts = [part["String"]["sval"] for part in node["FuncCall"].get("funcname", ())]
                if parts:
                    yield Relation(parts[-2] if len(parts) > 1 else "", parts[-1])
            waiting.extend(reversed(node.values()))
