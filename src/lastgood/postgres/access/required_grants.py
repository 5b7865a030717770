"""The grants that a superuser must give the current role once, for everything that lastgood does by name."""

from __future__ import annotations

from collections.abc import Sequence

from lastgood.postgres.access import row_security
from lastgood.postgres.roles.second_login import BUILDER
from lastgood.postgres.server import Connection, only_row
from lastgood.text.quoting import identifier

_ROLE = """
SELECT r.rolname::text, o.rolname::text, o.rolsuper, r.rolsuper, r.rolcreatedb,
       r.rolcreaterole OR EXISTS (SELECT FROM pg_catalog.pg_roles b
                                  WHERE b.rolname = %s AND pg_catalog.pg_has_role(b.oid, 'MEMBER')),
       pg_catalog.pg_has_role(d.datdba, 'MEMBER'), pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER'),
       pg_catalog.pg_has_role('pg_monitor', 'MEMBER'),
       EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
                 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
                 AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
                 AND NOT pg_catalog.has_table_privilege(d.datdba, c.oid, 'SELECT'))
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()
"""

# Settings of the database that the switch repeats: those that only superusers may set, and those that no loaded module
# defines.
_PARAMETERS = """
SELECT DISTINCT p.name FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) c (entry)
CROSS JOIN LATERAL (SELECT pg_catalog.split_part(c.entry, '=', 1)) p (name)
LEFT JOIN pg_catalog.pg_settings g ON pg_catalog.lower(g.name) = pg_catalog.lower(p.name)
WHERE d.datname = pg_catalog.current_database() AND s.setrole = 0
    AND (g.name IS NULL OR g.context = 'superuser' OR coalesce(g.short_desc, '') = '')
    AND NOT pg_catalog.has_parameter_privilege(p.name, 'SET')
ORDER BY 1
"""
# Roles with settings in the database. Since 16, CREATEROLE alone does not alter another role.
_ROLES = """
SELECT DISTINCT s.setrole::regrole::text FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
JOIN pg_catalog.pg_roles me ON me.rolname = current_user
WHERE d.datname = pg_catalog.current_database() AND s.setrole NOT IN (0, me.oid)
    AND NOT (me.rolcreaterole
             AND (%s < 160000 OR pg_catalog.pg_has_role(s.setrole, 'MEMBER WITH ADMIN OPTION')))
ORDER BY 1
"""

_CODE = "-- To load the code of restore points as a role without rights:"


def lacking(connection: Connection) -> tuple[str, ...]:
    """Return the statements; none for a superuser and for a role that has them all."""
    (
        name,
        owner,
        owned_by_superuser,
        superuser,
        creates,
        confines,
        acts_as_owner,
        signals,
        monitors,
        cannot_read,
    ) = only_row(connection, _ROLE, [BUILDER])
    if superuser:
        return ()
    role = identifier(name)
    attributes = [] if creates else ["CREATEDB"]
    attributes += ["BYPASSRLS"] if row_security.hiding_tables(connection) else []
    # Membership in a superuser would be the rights of one.
    roles = [] if acts_as_owner or owned_by_superuser else [identifier(owner)]
    roles += [each for each, has in (("pg_signal_backend", signals), ("pg_monitor", monitors)) if not has]
    roles += ["pg_read_all_data"] if cannot_read else []
    statements = [f"ALTER ROLE {role} {' '.join(attributes)};"] if attributes else []
    if owned_by_superuser and not acts_as_owner:
        statements.append(f"-- Give the database to a role that is no superuser, or connect as {identifier(owner)}.")
    statements += [f"GRANT {', '.join(roles)} TO {role};"] if roles else []
    parameters = [identifier(each) for (each,) in connection.execute(_PARAMETERS)]
    statements += [f"GRANT SET ON PARAMETER {', '.join(parameters)} TO {role};"] if parameters else []
    version = connection.info.server_version
    statements += [] if confines else [_CODE, *_confining(role, version)]
    if others := [each for (each,) in connection.execute(_ROLES, [version])]:
        statements.append(f"-- To repeat the settings of {', '.join(others)} in the restored database:")
        statements += _creating(role, statements)
        statements += [f"GRANT {', '.join(others)} TO {role} WITH ADMIN OPTION;"] if version >= 160000 else []
    return tuple(statements)


def _confining(role: str, version: int) -> list[str]:
    """The statements that let ``role`` load code of restore points as another role. Before 16, one with CREATEROLE
    could grant itself nearly every role."""
    if version >= 160000:
        return _creating(role, ())
    return [
        f"CREATE ROLE {BUILDER} LOGIN;",
        f"GRANT {BUILDER} TO {role};",
        f"-- Then give {BUILDER} a password, and its URL to lastgood as build_as.",
    ]


def _creating(role: str, before: Sequence[str]) -> list[str]:
    statement = f"ALTER ROLE {role} CREATEROLE;"
    return [statement] if statement not in before else []
