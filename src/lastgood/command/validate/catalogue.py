"""The relations of a database from its catalogue, read once and used by every kind of rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from psycopg import sql

from lastgood.config.tables import Validate
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.server import Connection

# Measuring a relation under an ACCESS EXCLUSIVE lock would wait for that lock.
_RELATIONS = """
WITH held AS (
  SELECT DISTINCT relation FROM pg_catalog.pg_locks
  WHERE mode = 'AccessExclusiveLock' AND granted AND locktype = 'relation'
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relispartition,
       CASE WHEN c.relkind = 'p' THEN 0
            WHEN held.relation IS NULL
            THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0)
                 / pg_catalog.current_setting('block_size')::int8
            ELSE greatest(c.relpages, 0)::int8 END,
       greatest(c.reltuples, 0)::int8, coalesce(i.inhparent, 0)::bigint, c.relispopulated, held.relation IS NOT NULL,
       c.relkind = 'p' AND EXISTS (
         SELECT FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class f ON f.oid = t.relid
         WHERE f.relkind = 'f')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN held ON held.relation = c.oid
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname
"""
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname, a.atttypid::bigint, t.typtype::text, t.typlen = -1, a.attnotnull
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY a.attrelid, a.attnum
"""
_PRIMARY_KEYS = """
SELECT i.indrelid::bigint, array_agg(a.attname::text ORDER BY k.position)
FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(number, position)
JOIN pg_catalog.pg_attribute a ON a.attnum = k.number
WHERE i.indisprimary AND a.attrelid = i.indrelid AND k.position <= i.indnkeyatts
GROUP BY i.indrelid
"""


@dataclass(frozen=True, slots=True)
class CatalogueColumn:
    """A column. ``type``: the OID of its type. ``domain``: whether that is a domain. ``varies``: whether values may be
    stored outside the table (TOAST)."""

    name: str
    type: int
    domain: bool
    varies: bool
    not_null: bool


@dataclass(frozen=True, slots=True)
class CatalogueRelation:
    """A table (``r``), a partitioned table (``p``) or a materialized view (``m``). ``pages`` and ``rows`` of a
    partitioned table are the sums of its partitions; ``rows`` is the planner's estimate. ``parent``: the OID of its
    partitioned table, 0 without one. ``locked``: another session holds a lock that blocks readers. ``remote``: parts
    are on another server. ``key``: the columns of its primary key.
    """

    oid: int
    schema_name: str
    name: str
    kind: str
    partition: bool
    pages: int
    rows: int
    parent: int
    populated: bool
    locked: bool = False
    remote: bool = False
    columns: tuple[CatalogueColumn, ...] = ()
    key: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.name}"

    @property
    def qualified(self) -> sql.Identifier:
        """The qualified name as SQL."""
        return sql.Identifier(self.schema_name, self.name)

    @property
    def only(self) -> sql.Composed:
        """The FROM item for its own rows: with partitions, without inheriting tables."""
        return sql.SQL("{} {}").format(sql.SQL("" if self.kind == "p" else "ONLY"), self.qualified)

    def column(self, name: str) -> CatalogueColumn | None:
        """Return the column with that name."""
        return next((each for each in self.columns if each.name == name), None)


@dataclass(frozen=True)
class Catalogue:
    """The source of all rules. ``connection``: for further catalogue queries. ``settings``: the user's [validate].
    ``remote``: relations that are skipped, because their rows are on another server."""

    connection: Connection
    settings: Validate
    relations: tuple[CatalogueRelation, ...]
    remote: tuple[CatalogueRelation, ...] = ()

    @cached_property
    def by_oid(self) -> Mapping[int, CatalogueRelation]:
        """The relations, by OID."""
        return {each.oid: each for each in self.relations}

    @cached_property
    def by_name(self) -> Mapping[tuple[str, str], CatalogueRelation]:
        """The relations, by schema and name."""
        return {(each.schema_name, each.name): each for each in self.relations}

    @cached_property
    def by_bare_name(self) -> Mapping[str, list[CatalogueRelation]]:
        """The tables, by name without the schema."""
        found: dict[str, list[CatalogueRelation]] = defaultdict(list)
        for each in self.tables:
            found[each.name].append(each)
        return found

    @cached_property
    def open(self) -> list[int]:
        """The OIDs of relations without a blocking lock. The server's functions for definitions would wait for the
        others."""
        return [each.oid for each in self.relations if not each.locked]

    @cached_property
    def tables(self) -> tuple[CatalogueRelation, ...]:
        """The tables; partitions count as part of their table."""
        return tuple(each for each in self.relations if each.kind in "rp" and not each.partition)


def read(connection: Connection, settings: Validate) -> Catalogue:
    """Read the catalogue in the caller's transaction, without the schemas of runs in place. Raises psycopg.Error."""
    ours = schemas_of_runs(connection)
    columns: dict[int, list[CatalogueColumn]] = defaultdict(list)
    for oid, name, kind, typtype, varies, not_null in connection.execute(_COLUMNS):
        columns[oid].append(CatalogueColumn(name, kind, typtype == "d", varies, not_null))
    keys = {oid: tuple(names) for oid, names in connection.execute(_PRIMARY_KEYS)}
    found = {
        row[0]: replace(CatalogueRelation(*row), columns=tuple(columns[row[0]]), key=keys.get(row[0], ()))
        for row in connection.execute(_RELATIONS)
        if row[1] not in ours
    }
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for each in found.values():
        above = each.parent
        while above and above in found and each.kind == "r":
            sums[above][0] += each.pages
            sums[above][1] += each.rows
            above = found[above].parent
    relations = [
        replace(each, pages=sums[each.oid][0], rows=sums[each.oid][1]) if each.kind == "p" else each
        for each in found.values()
    ]
    return Catalogue(
        connection,
        settings,
        tuple(each for each in relations if not each.remote),
        tuple(each for each in relations if each.remote),
    )
