"""Default privileges of the role for the whole database: they change the privileges of what a build creates.

They can't be switched off for a build without changing them for the application. So the build takes their effect back,
before it grants the restore point's own privileges. Default privileges of one schema do not reach staging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg import sql

from lastgood.postgres.server import Connection

# The privileges that defaults add to the server's own, and those that they take away, by kind of object and grantee.
_CHANGES = """
WITH given AS (
  SELECT d.defaclobjtype::text AS kind, a.grantee, a.privilege_type
  FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) a
  WHERE d.defaclnamespace = 0 AND d.defaclrole = current_user::regrole AND d.defaclobjtype <> 'n'),
usual AS (
  SELECT d.defaclobjtype::text AS kind, a.grantee, a.privilege_type
  FROM pg_catalog.pg_default_acl d,
    pg_catalog.aclexplode(pg_catalog.acldefault(
      CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)) a
  WHERE d.defaclnamespace = 0 AND d.defaclrole = current_user::regrole AND d.defaclobjtype <> 'n'),
changes AS (
  (SELECT 'REVOKE' AS verb, * FROM given EXCEPT SELECT 'REVOKE', * FROM usual)
  UNION ALL
  (SELECT 'GRANT', * FROM usual EXCEPT SELECT 'GRANT', * FROM given))
SELECT verb, kind, privilege_type,
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END
FROM changes ORDER BY 1, 2, 4, 3
"""
_ALL = {"r": "TABLES", "S": "SEQUENCES", "f": "ROUTINES"}


def without_effect(connection: Connection, schemas: Iterable[str], types: Iterable[str]) -> Iterator[sql.Composed]:
    """The commands that give new objects of this role in ``schemas`` the privileges that they would have without
    default privileges. ``types``: the types and domains among them, in SQL notation."""
    changes = connection.execute(_CHANGES).fetchall()
    for verb, kind, privilege, grantee in changes:
        # All parts are keywords, or the server's own text.
        change = sql.SQL("{} {} ON {{}} {} {}").format(
            sql.SQL(verb), sql.SQL(privilege), sql.SQL("TO" if verb == "GRANT" else "FROM"), sql.SQL(grantee)
        )
        template = sql.SQL(change.as_string(connection))
        if kind in _ALL:
            for schema in schemas:
                yield template.format(
                    sql.SQL("ALL {} IN SCHEMA {}").format(sql.SQL(_ALL[kind]), sql.Identifier(schema))
                )
        elif kind == "T":
            for name in types:
                yield template.format(sql.SQL("TYPE {}").format(sql.SQL(name)))
