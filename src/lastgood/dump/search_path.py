"""Which schema an unqualified name means at a place of a dump: the search path in force, read as the server does."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from lastgood.dump.names import Relation

SERVERS_DEFAULT = '"$user", public'
"""The path of a session in which nothing sets one, as of psql."""

_LISTED = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"\s]+))\s*(?:,|\Z)')
# What holds no relation of a dump: the role's own schema is not known here, the others are the server's.
_NOT_A_DUMPS = frozenset({"", "$user", "pg_catalog", "pg_temp", "information_schema"})


@dataclass(frozen=True, slots=True)
class SearchPath:
    """``schemas`` in their order, without those in which no dump makes anything. ``made``: the relations that exist so
    far; whoever makes some adds them there.
    """

    schemas: tuple[str, ...] = ()
    made: Collection[Relation] = field(default=(), repr=False, compare=False)

    @property
    def first(self) -> str:
        """The schema in which something without one is made; empty where the path has none."""
        return self.schemas[0] if self.schemas else ""

    def schema_of(self, name: str) -> str:
        """The schema of an existing relation: the first that has it; where none has, the one where it would be made."""
        if len(self.schemas) > 1:
            return next((schema for schema in self.schemas if Relation(schema, name) in self.made), self.first)
        return self.first


def schemas_of(value: str | None) -> tuple[str, ...]:
    """The schemas of a setting's text (``"$user", public``), which is None where the default holds."""
    text = SERVERS_DEFAULT if value is None else value
    found = (
        quoted.replace('""', '"') if quoted or not plain else plain.lower() for quoted, plain in _LISTED.findall(text)
    )
    return tuple(dict.fromkeys(schema for schema in found if schema not in _NOT_A_DUMPS))
