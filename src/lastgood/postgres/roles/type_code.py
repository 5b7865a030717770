"""Types whose constants run code when the server reads them: the checks of domains in them."""

from __future__ import annotations

from collections.abc import Collection

from lastgood.postgres.server import Connection

NamedType = tuple[str, str, bool]
"""The schema and name of a type, and whether an array of it is meant."""

# ``checked``: the types whose input runs a check. A constant of a domain itself is read as one of its base type.
_CHECKED = """
WITH RECURSIVE part (oid, whole) AS (
  SELECT a.atttypid, c.reltype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  WHERE c.reltype <> 0 AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL SELECT typelem, oid FROM pg_catalog.pg_type WHERE typelem <> 0
  UNION ALL SELECT typbasetype, oid FROM pg_catalog.pg_type WHERE typbasetype <> 0
  UNION ALL SELECT rngsubtype, rngtypid FROM pg_catalog.pg_range
  UNION ALL SELECT rngtypid, rngmultitypid FROM pg_catalog.pg_range
), checked (oid) AS (
  SELECT contypid FROM pg_catalog.pg_constraint WHERE contypid <> 0
  UNION SELECT part.whole FROM checked JOIN part ON part.oid = checked.oid
), named AS (
  SELECT w.schema, w.name, w.is_array, CASE WHEN w.is_array THEN t.typarray ELSE t.oid END AS oid
  FROM unnest(%s::text[], %s::text[], %s::bool[]) w (schema, name, is_array)
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
  JOIN pg_catalog.pg_type t ON t.typnamespace = n.oid AND t.typname = w.name
), base (schema, name, is_array, oid) AS (
  SELECT * FROM named
  UNION SELECT b.schema, b.name, b.is_array, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid
  WHERE t.typbasetype <> 0
)
SELECT DISTINCT b.schema, b.name, b.is_array FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid
WHERE t.typtype <> 'd' AND b.oid IN (SELECT oid FROM checked)
"""


def running_code(connection: Connection, types: Collection[NamedType]) -> set[NamedType]:
    """Those of the types whose constants run a check when they are read."""
    if not types:
        return set()
    columns = [list(column) for column in zip(*types, strict=True)]
    return {(schema, name, array) for schema, name, array in connection.execute(_CHECKED, columns)}
