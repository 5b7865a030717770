"""Resolution of unqualified names in a dump with the current search path, as on the server."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from lastgood.dump import names
from lastgood.dump.names import Relation

SERVERS_DEFAULT = '"$user", public'
"""The default path of a session, as in psql."""

_LISTED = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"\s]+))\s*(?:,|\Z)')
# Schemas without relations of a dump: the role's own schema is unknown here, the others are the server's.
_NOT_A_DUMPS = frozenset({"", "$user", "pg_catalog", "pg_temp", "information_schema"})


@dataclass(frozen=True, slots=True)
class SearchPath:
    """A search path. ``schemas`` are in their order, without those in which no dump creates objects. ``existing``: the
    relations that exist so far; the reader adds to it. ``before_catalogue``: the schemas before pg_catalog if the path
    names it; None if it does not, so that the server searches pg_catalog first.
    """

    schemas: tuple[str, ...] = ()
    existing: Collection[Relation] = field(default=(), repr=False, compare=False)
    before_catalogue: tuple[str, ...] | None = None

    @property
    def first(self) -> str:
        """The schema for new unqualified objects; empty if the path has none."""
        if self.before_catalogue == ():
            return names.PG_CATALOG
        return self.schemas[0] if self.schemas else ""

    def schema_of(self, name: str) -> str:
        """The schema of an existing relation: the first one that has it; without one, the schema where it would be
        created."""
        if name in names.SYSTEM_RELATIONS:
            before = self.before_catalogue or ()
            return next((schema for schema in before if Relation(schema, name) in self.existing), names.PG_CATALOG)
        if len(self.schemas) > 1:
            return next((schema for schema in self.schemas if Relation(schema, name) in self.existing), self.first)
        return self.first


def schemas_of(value: str | None) -> tuple[str, ...]:
    """The schemas in a setting's text (``"$user", public``), which is None for the default."""
    return tuple(schema for schema in _listed(value) if schema not in _NOT_A_DUMPS)


def path_of(value: str | None, made: Collection[Relation]) -> SearchPath:
    """The path from a setting's text."""
    listed = _listed(value)
    before = None
    if names.PG_CATALOG in listed:
        before = tuple(schema for schema in listed[: listed.index(names.PG_CATALOG)] if schema not in _NOT_A_DUMPS)
    return SearchPath(schemas_of(value), made, before)


def system_schema_in(value: str | None) -> str:
    """A system schema in a setting's text; empty without one. pg_catalog is permitted, because old versions of pg_dump
    name it."""
    return next(
        (schema for schema in _listed(value) if names.is_system_schema(schema) and schema != names.PG_CATALOG), ""
    )


def _listed(value: str | None) -> list[str]:
    text = SERVERS_DEFAULT if value is None else value
    schemas = (
        quoted.replace('""', '"') if quoted or not plain else plain.lower() for quoted, plain in _LISTED.findall(text)
    )
    return list(dict.fromkeys(schemas))
