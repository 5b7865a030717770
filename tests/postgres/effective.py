"""What every role may do in a database, as the server itself answers: the judge of privileges carried over."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from lastgood.postgres.access import securables
from lastgood.postgres.server import Connection

# A query for (role, kind, object, privilege) each, and the privileges to ask for. Of the system's routines and types,
# those that are not granted to PUBLIC.
_EFFECTIVE: tuple[tuple[LiteralString, LiteralString], ...] = (
    (
        """SELECT r.role, 'relation', format('%I.%I', n.nspname, c.relname), p
        FROM {roles}, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest({privileges}) p
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384 AND c.relpersistence <> 't'
          AND n.nspname <> 'pg_toast' AND has_table_privilege(r.role, c.oid, p)""",
        "SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER",
    ),
    (
        """SELECT r.role, 'column', format('%I.%I.%I', n.nspname, c.relname, a.attname), p
        FROM {roles}, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped, unnest({privileges}) p
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384 AND c.relpersistence <> 't'
          AND n.nspname <> 'pg_toast' AND has_column_privilege(r.role, c.oid, a.attnum, p)""",
        "SELECT,INSERT,UPDATE,REFERENCES",
    ),
    (
        """SELECT r.role, 'sequence', format('%I.%I', n.nspname, c.relname), p
        FROM {roles}, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest({privileges}) p
        WHERE c.relkind = 'S' AND c.oid >= 16384 AND c.relpersistence <> 't'
          AND has_sequence_privilege(r.role, c.oid, p)""",
        "SELECT,UPDATE,USAGE",
    ),
    (
        """SELECT r.role, 'routine', o.oid::regprocedure::text, p
        FROM {roles}, pg_proc o, unnest({privileges}) p
        WHERE (o.oid >= 16384 OR NOT has_function_privilege('public', o.oid, p))
          AND has_function_privilege(r.role, o.oid, p)""",
        "EXECUTE",
    ),
    (
        """SELECT r.role, 'type', o.oid::regtype::text, p
        FROM {roles}, pg_type o, unnest({privileges}) p
        WHERE (o.oid >= 16384 OR NOT has_type_privilege('public', o.oid, p)) AND o.typrelid = 0 AND o.typelem = 0
          AND has_type_privilege(r.role, o.oid, p)""",
        "USAGE",
    ),
    (
        """SELECT r.role, 'schema', quote_ident(o.nspname), p FROM {roles}, pg_namespace o, unnest({privileges}) p
        WHERE o.nspname !~ '^pg_(toast|temp)' AND has_schema_privilege(r.role, o.oid, p)""",
        "USAGE,CREATE",
    ),
    (
        """SELECT r.role, 'language', quote_ident(o.lanname), p FROM {roles}, pg_language o, unnest({privileges}) p
        WHERE has_language_privilege(r.role, o.oid, p)""",
        "USAGE",
    ),
    (
        """SELECT r.role, 'foreign data wrapper', quote_ident(o.fdwname), p
        FROM {roles}, pg_foreign_data_wrapper o, unnest({privileges}) p
        WHERE has_foreign_data_wrapper_privilege(r.role, o.oid, p)""",
        "USAGE",
    ),
    (
        """SELECT r.role, 'foreign server', quote_ident(o.srvname), p
        FROM {roles}, pg_foreign_server o, unnest({privileges}) p WHERE has_server_privilege(r.role, o.oid, p)""",
        "USAGE",
    ),
    (
        # has_largeobject_privilege came with 18: direct grants, to a role or to one whose rights it has.
        """SELECT r.role, 'large object', o.oid::text, p
        FROM {roles}, pg_largeobject_metadata o, unnest({privileges}) p
        WHERE EXISTS (SELECT FROM aclexplode(coalesce(o.lomacl, acldefault('L', o.lomowner))) a
                      WHERE a.privilege_type = p AND (a.grantee = 0
                         OR (r.role <> 'public' AND a.grantee <> 0 AND pg_has_role(r.oid, a.grantee, 'USAGE'))))""",
        "SELECT,UPDATE",
    ),
)


def effective(connection: Connection) -> set[tuple[str, str, str]]:
    """(role, object, privilege) for all that any role, or ``public``, may do with the user's objects, directly or
    through other roles, as the server itself answers; and (owner, object, ``OWNER``). Equal sets: no role can do more
    or less. Its size is roles × objects × privileges.
    """
    roles = sql.SQL("(SELECT oid, rolname FROM pg_roles UNION ALL SELECT 0, 'public') r(oid, role)")
    found: set[tuple[str, str, str]] = set()
    for query, words in _EFFECTIVE:
        privileges = words.split(",")
        if "TRUNCATE" in privileges and connection.info.server_version >= 170000:
            privileges.append("MAINTAIN")
        rows = connection.execute(
            sql.SQL(query).format(roles=roles, privileges=sql.SQL("{}::text[]").format(sql.Literal(privileges)))
        )
        found.update((role, f"{kind} {name}", privilege) for role, kind, name, privilege in rows)
    for each in securables.read(connection):
        if each.origin == "user" and each.name.kind != "column":
            found.add((each.owner, str(each.name), "OWNER"))
    return found
