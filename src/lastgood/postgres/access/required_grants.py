"""The grants that a superuser must give the current role once, for everything that lastgood does by name."""

from __future__ import annotations

from lastgood.postgres.access import row_security
from lastgood.postgres.server import Connection
from lastgood.text.quoting import identifier

_ROLE = """
SELECT r.rolname::text, o.rolname::text, o.rolsuper, r.rolsuper, r.rolcreatedb,
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


def lacking(connection: Connection) -> tuple[str, ...]:
    """Return the statements; none for a superuser and for a role that has them all."""
    row = connection.execute(_ROLE).fetchone()
    assert row is not None, "the catalogue has a row for the current role and database"
    name, owner, owned_by_superuser, superuser, creates, acts_as_owner, signals, monitors, cannot_read = row
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
    return (*statements, *([f"GRANT {', '.join(roles)} TO {role};"] if roles else []))
