"""The first inspection of a database: enough to write a configuration and to report obstacles to a rollback early."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from lastgood.errors import NOT_REACHED
from lastgood.facts import migrations
from lastgood.in_place.capabilities import by_name, probe
from lastgood.models import Frozen
from lastgood.plan.plan import Way
from lastgood.postgres.access import required_grants, row_security
from lastgood.postgres.errors import failed
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.pooled import shares_sessions
from lastgood.postgres.server import Connection, Target, only_row

POOLERS = ("pgbouncer", "supavisor", "odyssey", "pgcat", "rds-proxy", "pgpool")

_DATABASE = """
SELECT current_database(), pg_catalog.pg_get_userbyid(datdba), pg_catalog.current_setting('server_version'),
       pg_catalog.current_setting('server_version_num')::int4 / 10000,
       CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') THEN pg_catalog.pg_database_size(oid) END,
       pg_catalog.pg_has_role(datdba, 'MEMBER'), pg_catalog.pg_is_in_recovery()
FROM pg_catalog.pg_database WHERE datname = current_database()
"""
_ROLE = """
SELECT rolname, rolsuper, rolcreatedb OR rolsuper, rolbypassrls OR rolsuper,
       rolsuper OR pg_catalog.pg_has_role('pg_signal_backend', 'MEMBER')
FROM pg_catalog.pg_roles WHERE rolname = current_user
"""
_APPLICATION_ROLES = """
WITH granted AS (
  SELECT acl.grantee, count(DISTINCT c.oid) AS tables
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       LATERAL pg_catalog.aclexplode(c.relacl) acl
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND acl.grantee <> c.relowner
  GROUP BY 1
), connected AS (
  SELECT usesysid, count(*) AS sessions FROM pg_catalog.pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid() AND backend_type = 'client backend'
  GROUP BY 1
)
SELECT r.rolname, coalesce(g.tables, 0), coalesce(s.sessions, 0)
FROM pg_catalog.pg_roles r LEFT JOIN granted g ON g.grantee = r.oid LEFT JOIN connected s ON s.usesysid = r.oid
WHERE r.rolcanlogin AND (g.tables > 0 OR s.sessions > 0) AND r.rolname <> current_user
ORDER BY 1
"""
_SESSIONS = """
SELECT coalesce(nullif(application_name, ''), '(no name)'), count(*) FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid() AND backend_type = 'client backend'
GROUP BY 1 ORDER BY 2 DESC, 1
"""
_TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname::text)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relname = ANY (%s)
GROUP BY 1, 2
"""


class ApplicationRole(Frozen):
    """A login role with privileges on tables it does not own, or with sessions in this database."""

    name: str
    tables: int
    sessions: int


class InitSurvey(Frozen):
    """The result of the inspection. ``size`` is in bytes, None without the CONNECT privilege.

    ``pooled``: the connection goes through a transaction pooler. ``poolers``: names of poolers among the sessions.
    ``migrations``: the table in which a migration tool records them, and the tool's name. ``rollback``: how one is
    possible, in words; empty if that was not examined. ``hidden``: the tables in which row-level security hides rows
    from the role. ``obstacles``: sentences about what a rollback would be refused for.
    ``grants``: what a superuser must run once for a rollback by name.
    """

    server_version: str
    server_major: int
    database: str
    owner: str
    size: int | None
    standby: bool
    role: str
    superuser: bool
    may_create_databases: bool
    acts_as_owner: bool
    bypasses_row_security: bool
    may_end_sessions: bool
    migrations: str | None
    application_roles: tuple[ApplicationRole, ...]
    rollback: str = ""
    pooled: bool
    poolers: tuple[str, ...]
    hidden: str = ""
    obstacles: tuple[str, ...]
    grants: tuple[str, ...] = ()


def survey(target: Target) -> InitSurvey:
    """Inspect a database without changing it. Raises Failed when it cannot connect, psycopg.Error."""
    try:
        connected = target.connect(application_name="lastgood init")
    except psycopg.OperationalError as error:
        raise failed(error, "connect to the database", context="connect", state=NOT_REACHED) from error
    with connected as connection:
        pooled = shares_sessions(connection)
        database, owner, version, major, size, acts_as_owner, standby = only_row(connection, _DATABASE)
        role, superuser, createdb, bypass, signal = only_row(connection, _ROLE)
        roles = [ApplicationRole(name=n, tables=t, sessions=s) for n, t, s in connection.execute(_APPLICATION_ROLES)]
        migrations_table = _migrations(connection)
        names = [str(name) for name, _ in connection.execute(_SESSIONS)]
        lacking, hidden = (
            required_grants.lacking(connection),
            row_security.first_names(row_security.hiding_tables(connection)),
        )
        way, rollback = _way(connection) if not pooled and not standby else (None, "")
    result = InitSurvey(
        server_version=version,
        server_major=major,
        database=database,
        owner=owner,
        size=size,
        standby=standby,
        role=role,
        superuser=superuser,
        may_create_databases=createdb,
        acts_as_owner=acts_as_owner or superuser,
        bypasses_row_security=bypass,
        may_end_sessions=signal,
        migrations=migrations_table,
        application_roles=tuple(roles),
        rollback=rollback,
        pooled=pooled,
        poolers=tuple(name for name in names if any(pooler in name.lower() for pooler in POOLERS)),
        hidden=hidden,
        obstacles=(),
        grants=lacking,
    )
    return result.model_copy(update={"obstacles": tuple(_obstacles(result, in_place=way == "in-place"))})


def _way(connection: Connection) -> tuple[Way | None, str]:
    """Return how a rollback would switch, and the same in words."""
    if by_name(connection):
        return "by-name", "by name: the restored database takes the name of the live one"
    capabilities = probe(connection)
    renaming = next(each.text for each in capabilities.answers if each.name == "rename database")
    if capabilities.in_place:
        return "in-place", f"in place, of the schemas {', '.join(capabilities.schemas)}; this role cannot {renaming}"
    others = [renaming, *(each.text for each in capabilities.missing())]
    return None, (
        f"not possible: this role cannot {'; cannot '.join(others)}. Backups and restores on another server work "
        "(lastgood drill, lastgood restore --db URL)"
    )


def _migrations(connection: Connection) -> str | None:
    own_schemas = schemas_of_runs(connection)
    tables = [
        (migrations.preference(schema, table), f"{schema}.{table} ({tool.name})")
        for schema, table, columns in connection.execute(_TABLES, [[tool.table for tool in migrations.TOOLS]])
        if schema not in own_schemas and (tool := migrations.recognise(schema, table, columns)) is not None
    ]
    return min(tables)[1] if tables else None


def _obstacles(survey: InitSurvey, *, in_place: bool) -> Iterator[str]:
    if survey.standby:
        yield "This server is a standby. Run the rollback on the primary."
    if survey.pooled:
        yield (
            "This connection goes through a transaction pooler. Connect to the server directly, or to the pooler's "
            "session port."
        )
    if not survey.may_create_databases and not in_place:
        yield f'Role "{survey.role}" cannot create databases, so no shadow database can be built.'
    if not survey.acts_as_owner and not in_place:
        yield (f'Role "{survey.role}" is not a member of the owner "{survey.owner}", so it cannot rename the database.')
    if not survey.may_end_sessions and not in_place:
        yield f'Role "{survey.role}" cannot terminate sessions of other roles.'
    if survey.hidden:
        yield (
            f'Row-level security hides rows from role "{survey.role}" in {survey.hidden}: backups and proofs of these '
            "tables are refused."
        )
