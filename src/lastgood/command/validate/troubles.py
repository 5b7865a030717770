"""What keeps a rule from being looked at: a missing privilege, a lock, the time, the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from lastgood.command.validate.rule import Found
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
    """What is to be said when ``error`` says nothing about the data; None when it may. ``timed``: the task had a time
    limit. Asks the server which privileges are missing. Raises psycopg.Error."""
    said = error.diag.message_primary or str(error)
    if error.sqlstate == "57014" and timed:
        return OUT_OF_TIME
    if error.sqlstate == "55P03":
        return Found(
            said="another session holds a lock on it (ALTER TABLE, VACUUM FULL, …)",
            hint="Try again when it is done: pg_stat_activity shows who it is.",
            skipped="locked",
        )
    if error.sqlstate in ("57014", "40001") or (error.sqlstate or "").startswith("53"):
        return Found(said=f"the server ended the look at it: {said}", hint="Try again.", skipped="locked")
    if error.sqlstate in ("0A000", "25006"):
        return Found(said=f"the server can't do it here: {said}", skipped="unavailable")
    if error.sqlstate == "42501":
        return Found(said=said, hint=_grants(connection, said, relations), skipped="privilege")
    return None


OUT_OF_TIME = Found(
    said="out of time",
    hint="Raise time_limit in the table [validate] (or --time-limit), or use --full, which has none.",
    skipped="time",
)


def _grants(connection: Connection, said: str, relations: Sequence[int]) -> str:
    commands = list(_missing(connection, relations))
    if not commands and (match := _DENIED.fullmatch(said)):
        role = sql.Identifier(connection.info.user).as_string(connection)
        right = {"schema": "USAGE", "function": "EXECUTE"}.get(match[1], "SELECT")
        what = match[1] if match[1] in ("schema", "function", "sequence") else "table"
        commands = [f"GRANT {right} ON {what.upper()} {match[2]} TO {role}"]
    return f"Let somebody who may run: {'; '.join(commands)}" if commands else ""


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
