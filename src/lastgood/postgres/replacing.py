"""The obstacles for a role that replaces a whole database by another one: owners of objects that it cannot act as, and
tables that it cannot lock."""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.postgres.server import Connection

_LOCKS = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT pg_catalog.has_table_privilege(c.oid, %s)
ORDER BY 1
"""
# The schema public is left out: it exists in every database.
_OWNERS = """
WITH owned AS (
  SELECT 'pg_namespace'::regclass AS class, oid, nspowner AS owner, pg_catalog.quote_ident(nspname) AS name,
         oid AS schema
  FROM pg_catalog.pg_namespace WHERE nspname <> 'public'
  UNION ALL SELECT 'pg_class'::regclass, oid, relowner, oid::regclass::text, relnamespace FROM pg_catalog.pg_class
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, oid::regprocedure::text, pronamespace FROM pg_catalog.pg_proc
)
SELECT r.rolname, count(*), min(owned.name)
FROM owned JOIN pg_catalog.pg_roles r ON r.oid = owned.owner JOIN pg_catalog.pg_namespace n ON n.oid = owned.schema
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND r.rolname <> 'pg_database_owner'
  AND NOT pg_catalog.pg_has_role(r.oid, %s)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = owned.class AND d.objid = owned.oid AND d.deptype = 'e')
GROUP BY 1 ORDER BY 2 DESC, 1
"""


@dataclass(frozen=True, slots=True)
class ForeignOwner:
    """A role that owns ``objects`` objects, and that this role cannot act as. ``first`` is the name of one of them."""

    role: str
    objects: int
    first: str


def foreign_owners(connection: Connection) -> list[ForeignOwner]:
    """The owners to which this role cannot transfer objects, those of most objects first: it would own the objects
    itself after a restore."""
    right = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    return [ForeignOwner(*row) for row in connection.execute(_OWNERS, [right])]


def unlockable(connection: Connection) -> list[str]:
    """The tables that this role cannot lock against writers."""
    rights = "UPDATE, DELETE, TRUNCATE" + (", MAINTAIN" if connection.info.server_version >= 170000 else "")
    return [str(row[0]) for row in connection.execute(_LOCKS, [rights])]
