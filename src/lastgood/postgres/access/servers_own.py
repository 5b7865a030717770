"""Rights on PostgreSQL's own objects, and on routines that an extension keeps from PUBLIC.

They reach beyond a database: functions read and write files of the server, or connect as its superuser; catalogues have
the passwords of all roles. A restore point can grant them to any role.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from psycopg import sql

from lastgood.postgres.server import Connection


class Right(NamedTuple):
    """A privilege of a role, ``PUBLIC`` included, on an object; names as SQL writes them."""

    role: str
    privilege: str
    kind: str
    object: str

    def __str__(self) -> str:
        return f"{self.privilege} on {self.object} for {self.role}"


# Beyond those that initdb gives. A column's privilege has its name with it.
_GRANTED = """
WITH own (class, oid, sub, acl, letter, owner, kind, name) AS (
  SELECT 'pg_class'::regclass, oid, 0, relacl, 'r'::"char", relowner, 'TABLE', oid::regclass::text
  FROM pg_class WHERE oid < 16384 AND relacl IS NOT NULL
  UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, attacl, 'c'::"char", 10, quote_ident(attname),
                   attrelid::regclass::text
  FROM pg_attribute WHERE attrelid < 16384 AND attacl IS NOT NULL
  UNION ALL SELECT 'pg_proc'::regclass, oid, 0, proacl, 'f'::"char", proowner, 'ROUTINE', oid::regprocedure::text
  FROM pg_proc p WHERE proacl IS NOT NULL AND (
    oid < 16384 OR EXISTS (SELECT FROM pg_init_privs i WHERE (i.classoid, i.objoid) = ('pg_proc'::regclass, p.oid)))
  UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspacl, 'n'::"char", nspowner, 'SCHEMA', oid::regnamespace::text
  FROM pg_namespace WHERE oid < 16384 AND nspname <> 'public' AND nspacl IS NOT NULL
)
SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.privilege_type, o.kind, o.name
FROM own o CROSS JOIN LATERAL aclexplode(o.acl) a
LEFT JOIN pg_init_privs i ON i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = o.sub
WHERE a.grantee <> o.owner AND NOT EXISTS (
  SELECT FROM aclexplode(coalesce(i.initprivs, acldefault(o.letter, o.owner))) b
  WHERE (b.grantee, b.privilege_type) = (a.grantee, a.privilege_type))
ORDER BY 4, 3, 1, 2
"""


def rights(connection: Connection) -> list[Right]:
    """The rights on PostgreSQL's own objects that a database gives beyond those of a new one."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")  # so that names are qualified
        return [Right(*row) for row in connection.execute(_GRANTED)]


def withdraw(connection: Connection, allowed: Collection[Right] = ()) -> list[Right]:
    """Revoke the rights on PostgreSQL's own objects that are not ``allowed``; returns them."""
    found = [each for each in rights(connection) if each not in allowed]
    for role, privilege, kind, name in found:
        of_column = kind not in ("TABLE", "ROUTINE", "SCHEMA")
        # All parts are the catalogue's own text.
        connection.execute(
            sql.SQL("REVOKE {} ON {} {} FROM {} CASCADE").format(
                sql.SQL(f"{privilege} ({kind})" if of_column else privilege),
                sql.SQL("TABLE" if of_column else kind),
                sql.SQL(name),
                sql.SQL(role),
            )
        )
    return found
