"""Columns whose values are OIDs of objects, and names in their text: of type *regclass* and its siblings.

An OID without an object, since that was dropped, is written as a number. On another server another object may have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lastgood.postgres.server import Connection

# Without roles and schemas, which stay when objects move.
_COLUMNS = """
WITH RECURSIVE named (oid, scalar) AS (
  SELECT oid, true FROM pg_catalog.pg_type WHERE oid = ANY (ARRAY['regclass', 'regproc', 'regprocedure', 'regoper',
    'regoperator', 'regtype', 'regconfig', 'regdictionary', 'regcollation']::pg_catalog.regtype[]::oid[])
  UNION
  SELECT t.oid, named.scalar AND t.typtype = 'd' FROM named JOIN pg_catalog.pg_type t
    ON t.typbasetype = named.oid OR t.typelem = named.oid AND t.typlen = -1
    OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid
                                   AND a.atttypid = named.oid AND a.attnum > 0 AND NOT a.attisdropped))
SELECT n.nspname, c.relname, a.attname, named.scalar, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a JOIN named ON named.oid = a.atttypid
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND n.nspname = ANY (%s)
ORDER BY 1, 2, a.attnum
"""


@dataclass(frozen=True, slots=True)
class OidColumn:
    """A column of a table; ``scalar``: each value is one such name. ``type`` as ``format_type`` writes it."""

    schema_name: str
    table: str
    name: str
    scalar: bool
    type: str


def find(connection: Connection, schemas: Iterable[str]) -> tuple[OidColumn, ...]:
    """The columns of these schemas with such values. Raises psycopg.Error."""
    return tuple(OidColumn(*row) for row in connection.execute(_COLUMNS, [list(schemas)]))
