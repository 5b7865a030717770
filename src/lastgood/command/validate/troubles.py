"""Reasons why a rule cannot be checked: a missing privilege, a lock, the time limit, the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from lastgood.command.validate.rule import Found
from lastgood.postgres.build_role import PREFIX
from lastgood.postgres.server import Connection

_DENIED = re.compile(r"permission denied for (table|view|materialized view|sequence|schema|function) (.+)")
_LACKS = """
SELECT n.nspname, c.relname, c.relkind::text, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
            ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END,
       CASE WHEN c.relkind = 'S' THEN false ELSE pg_catalog.row_security_active(c.oid) END, current_user
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])
ORDER BY n.nspname, c.relname
"""


def skipped(connection: Connection, error: psycopg.Error, relations: Sequence[int], *, timed: bool) -> Found | None:
    """Return a skipped finding if ``error`` is not caused by the data; None if it may be. ``timed``: the task had a
    time limit. Queries the server for missing privileges. Raises psycopg.Error."""
    message = error.diag.message_primary or str(error)
    if error.sqlstate == "57014" and timed:
        return OUT_OF_TIME
    if error.sqlstate == "55P03":
        return Found(
            message="another session holds a lock on it (ALTER TABLE, VACUUM FULL, …)",
            hint="Find the session in pg_stat_activity, and try again when it has ended.",
            skipped="locked",
        )
    if error.sqlstate in ("57014", "40001") or (error.sqlstate or "").startswith("53"):
        return Found(message=f"the server cancelled the check: {message}", hint="Try again.", skipped="locked")
    if error.sqlstate in ("0A000", "25006"):
        return Found(message=f"the check is not possible on this server: {message}", skipped="unavailable")
    if error.sqlstate == "42501":
        return Found(message=message, hint=_grants(connection, message, relations), skipped="privilege")
    return None


OUT_OF_TIME = Found(
    message="time limit reached",
    hint="Raise time_limit in [validate] or --time-limit, or use --full, which has no limit.",
    skipped="time",
)


def _grants(connection: Connection, message: str, relations: Sequence[int]) -> str:
    if connection.info.user.startswith(PREFIX):
        return "Validate as a role that has this privilege, and none outside of the database."
    commands = list(_missing(connection, relations))
    if not commands and (match := _DENIED.fullmatch(message)):
        role = sql.Identifier(connection.info.user).as_string(connection)
        right = {"schema": "USAGE", "function": "EXECUTE"}.get(match[1], "SELECT")
        what = match[1] if match[1] in ("schema", "function", "sequence") else "table"
        commands = [f"GRANT {right} ON {what.upper()} {match[2]} TO {role}"]
    return f"As the owner or a superuser, run: {'; '.join(commands)}" if commands else ""


def _missing(connection: Connection, relations: Sequence[int]) -> Iterator[str]:
    schemas = set()
    for schema, name, kind, usage, select, hidden, user in connection.execute(_LACKS, [list(relations)]).fetchall():
        role = sql.Identifier(user)
        if not usage and schema not in schemas:
            schemas.add(schema)
            yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role).as_string(connection)
        if not select:
            what = sql.SQL("SEQUENCE" if kind == "S" else "TABLE")
            grant = sql.SQL("GRANT SELECT ON {} {} TO {}").format(what, sql.Identifier(schema, name), role)
            yield grant.as_string(connection)
        if hidden:
            yield sql.SQL("ALTER ROLE {} BYPASSRLS").format(role).as_string(connection)
