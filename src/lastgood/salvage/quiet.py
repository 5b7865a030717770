"""Locks, triggers and rules for the length of a salvage: nothing but the salvage writes, and nothing fires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from lastgood.errors import NOT_REACHED, Failed, Refused
from lastgood.postgres.access import row_security
from lastgood.postgres.server import Connection
from lastgood.salvage.staged import listed
from lastgood.salvage.tables import Name, Table

LOCK_SECONDS = 10
# Those that would fire: in a session that acts as a replica, and in an ordinary one.
_FIRING = {True: ["A", "R"], False: ["A", "O"]}
_TRIGGERS = """
SELECT n.nspname::text, c.relname::text, g.tgname::text, g.tgenabled::text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), 'TRIGGER' FROM pg_catalog.pg_trigger g
JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (g.tgrelid = ANY (%(leaves)s::oid[]) OR g.tgrelid = ANY (%(roots)s::oid[])) AND NOT g.tgisinternal
  AND g.tgenabled::text = ANY (%(firing)s)
ORDER BY 1, 2, 3
"""
_RULES = """
SELECT n.nspname::text, c.relname::text, r.rulename::text, r.ev_enabled::text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), 'RULE' FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.ev_class = ANY (%(roots)s::oid[]) AND r.ev_enabled::text = ANY (%(firing)s)
ORDER BY 1, 2, 3
"""
_ENABLE = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "O": "ENABLE"}


def lock(connection: Connection, tables: Sequence[Table], known: Mapping[Name, Table]) -> None:
    """Block writers of the tables, and of those that refer to them or to which they refer. Readers continue. Raises
    Failed if a lock is not free in time, and Refused where row-level security hides rows from the role."""
    by_oid = {each.oid: each for each in known.values()}
    wanted = {each.oid for each in tables}
    wanted |= {key.parent for each in tables for key in each.parents}
    wanted |= {key.child for each in tables for key in each.children}
    found = sorted((by_oid[oid] for oid in wanted if oid in by_oid), key=lambda each: each.shown)
    if not found:
        return
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS}s"])
    try:
        connection.execute(
            sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(listed(each.qualified for each in found))
        )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise Failed(
            f"cannot salvage rows: a session that writes did not end its transaction within {LOCK_SECONDS} s",
            hint="Wait for that session, then run the same command again.",
            state=NOT_REACHED,
        ) from error
    refuse_hidden(connection, tables)


def refuse_hidden(connection: Connection, tables: Iterable[Table]) -> None:
    """Raise Refused where row-level security hides rows of these tables from the role."""
    wanted = {(each.schema, each.name) for each in tables}
    hidden = [each for each in row_security.hiding_tables(connection) if (each.schema, each.name) in wanted]
    if hidden:
        raise Refused(
            f"cannot salvage rows: row-level security hides rows of {row_security.first_names(hidden)}",
            hint=row_security.remedy(hidden, "Run the same command"),
        )


@contextmanager
def silenced(connection: Connection, tables: Sequence[Table]) -> Iterator[bool]:
    """Keep triggers and rules from firing for the length of a block. Yield whether the server checks no foreign keys
    either: a session that may act as a replica does so. Otherwise triggers are disabled one by one, and the server
    checks foreign keys until the end of the block. Raises Refused when the role may not."""
    replica = not any(each.checked for each in tables) and _acts_as(connection, "replica")
    if not replica:
        _acts_as(connection, "origin")
    firing = _firing(connection, tables, replica=replica)
    for schema, table, name, _, _, kind in firing:
        _alter(connection, schema, table, f"DISABLE {kind}", name)
    yield replica
    if not replica:
        # A table with pending checks cannot be altered; and a violation must show before the proof.
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for schema, table, name, enabled, _, kind in firing:
        _alter(connection, schema, table, f"{_ENABLE[enabled]} {kind}", name)


def _alter(connection: Connection, schema: str, table: str, what: str, name: str) -> None:
    try:
        connection.execute(
            sql.SQL("ALTER TABLE ONLY {} {} {}").format(
                sql.Identifier(schema, table), sql.SQL(what), sql.Identifier(name)
            )
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f'cannot salvage rows: {_may_not_disable(connection)} of "{schema}.{table}"',
            hint=f"C{_remedy(connection)[1:]}",
        ) from error


def unsilenced(connection: Connection, tables: Sequence[Table]) -> dict[Name, Refused]:
    """The tables whose triggers and rules this role cannot keep from firing, each with its refusal."""
    found = {}
    for each in tables:
        if each.active and not each.owned:
            with connection.transaction(force_rollback=True):
                replica = not each.checked and _acts_as(connection, "replica")
                owned = all(row[4] for row in _firing(connection, [each], replica=replica))
            if not owned:
                found[each.schema, each.name] = Refused(
                    f'cannot salvage table "{each.shown}": {_may_not_disable(connection)}; {_remedy(connection)}',
                    hint=f"Leave the table out: --exclude {each.shown}",
                )
    return found


def _acts_as(connection: Connection, role: str) -> bool:
    """Whether the session may set session_replication_role; then it is set until the end of the transaction."""
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(sql.SQL("SET LOCAL session_replication_role = {}").format(sql.Identifier(role)))
        return True
    return False


def _firing(
    connection: Connection, tables: Sequence[Table], *, replica: bool
) -> list[tuple[str, str, str, str, bool, str]]:
    """The triggers and rules that would fire: schema, table, name, how it is enabled, whether the role may act as the
    owner, and TRIGGER or RULE."""
    given = {
        "leaves": [oid for each in tables for oid in each.leaves],
        "roots": [each.oid for each in tables],
        "firing": _FIRING[replica],
    }
    return [row for query in (_TRIGGERS, _RULES) for row in connection.execute(query, given).fetchall()]


def _may_not_disable(connection: Connection) -> str:
    return f'role "{connection.info.user}" may not disable the triggers'


def _remedy(connection: Connection) -> str:
    role = sql.Identifier(connection.info.user).as_string(connection)
    return (
        "connect as the owner of the table, or as a superuser, who can also run: "
        f"GRANT SET ON PARAMETER session_replication_role TO {role}"
    )
