"""Which schema an unqualified name means at a place of a dump: the search path in force, read as the server does."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from lastgood.dump import system
from lastgood.dump.names import Relation

SERVERS_DEFAULT = '"$user", public'
"""The path of a session in which nothing sets one, as of psql."""

_LISTED = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"\s]+))\s*(?:,|\Z)')
# What holds no relation of a dump: the role's own schema is not known here, the others are the server's.
_NOT_A_DUMPS = frozenset({"", "$user", "pg_catalog", "pg_temp", "information_schema"})


@dataclass(frozen=True, slots=True)
class SearchPath:
    """``schemas`` in their order, without those in which no dump makes anything. ``made``: the relations that exist so
    far; the reader adds to it. ``before_catalogue``: those before pg_catalog where the path names it; None where it
    does not, so that the server looks there before all others.
    """

    schemas: tuple[str, ...] = ()
    made: Collection[Relation] = field(default=(), repr=False, compare=False)
    before_catalogue: tuple[str, ...] | None = None

    @property
    def first(self) -> str:
        """The schema in which something without one is made; empty where the path has none."""
        if self.before_catalogue == ():
            return system.PG_CATALOG
        return self.schemas[0] if self.schemas else ""

    def schema_of(self, name: str) -> str:
        """The schema of an existing relation: the first that has it; where none has, the one where it would be made."""
        if name in system.RELATIONS:
            before = self.before_catalogue or ()
            return next((schema for schema in before if Relation(schema, name) in self.made), system.PG_CATALOG)
        if len(self.schemas) > 1:
            return next((schema for schema in self.schemas if Relation(schema, name) in self.made), self.first)
        return self.first


def schemas_of(value: str | None) -> tuple[str, ...]:
    """The schemas of a setting's text (``"$user", public``), which is None where the default holds."""
    return tuple(schema for schema in _listed(value) if schema not in _NOT_A_DUMPS)


def path_of(value: str | None, made: Collection[Relation]) -> SearchPath:
    """The path that a setting's text means."""
    listed = _listed(value)
    before = None
    if system.PG_CATALOG in listed:
        before = tuple(schema for schema in listed[: listed.index(system.PG_CATALOG)] if schema not in _NOT_A_DUMPS)
    return SearchPath(schemas_of(value), made, before)


def system_schema_in(value: str | None) -> str:
    """A schema of PostgreSQL's that a setting's text names, other than pg_catalog, which old versions of pg_dump name;
    empty when there is none."""
    return next(
        (schema for schema in _listed(value) if system.is_system_schema(schema) and schema != system.PG_CATALOG), ""
    )


def _listed(value: str | None) -> list[str]:
    text = SERVERS_DEFAULT if value is None else value
    found = (
        quoted.replace('""', '"') if quoted or not plain else plain.lower() for quoted, plain in _LISTED.findall(text)
    )
    return list(dict.fromkeys(found))
