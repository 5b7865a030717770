"""The rights of a role that code in its session could misuse beyond the databases that the role owns."""

from __future__ import annotations

from typing import LiteralString

from lastgood.postgres.server import Connection

# Code can become each role of which its role is a member. ``session_user``, because RESET ROLE returns to it.
_RIGHTS: LiteralString = """
WITH it AS (SELECT coalesce(%s::text, session_user::text)::name AS role), mine AS (
  SELECT r.*, it.role FROM pg_catalog.pg_roles r, it WHERE pg_catalog.pg_has_role(it.role, r.oid, 'MEMBER')
)
SELECT 1 AS place, rolname = role AS own, 'superuser' AS what, rolname::text AS name
FROM mine WHERE rolsuper
UNION ALL
SELECT 2, rolname = role, 'CREATEROLE', rolname::text FROM mine WHERE rolcreaterole
UNION ALL
SELECT 3, false, 'member', rolname::text FROM mine
WHERE rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
UNION ALL
SELECT 4, false, 'admin', g.rolname::text
FROM pg_catalog.pg_auth_members m JOIN mine ON mine.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE m.admin_option
ORDER BY place, own DESC, name
"""


def strength(connection: Connection, role: str | None = None) -> str:
    """The greatest right of a role, by default the session's, that reaches beyond the databases that it owns, in words;
    empty if it has none."""
    row = connection.execute(_RIGHTS, [role]).fetchone()
    if row is None:
        return ""
    _, own, what, name = row
    if own:
        return "a superuser" if what == "superuser" else "a role with CREATEROLE"
    if what == "admin":
        return f'a role that can grant membership in "{name}"'
    return f'a member of "{name}"' + ("" if what == "member" else f", which is {_ARTICLED[what]}")


_ARTICLED = {"superuser": "a superuser", "CREATEROLE": "a role with CREATEROLE"}
