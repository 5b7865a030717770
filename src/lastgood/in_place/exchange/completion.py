"""The work that a committed move leaves outside of its transaction: foreign keys and checks to validate, materialized
views to refresh, generated columns to compare. Readers and writers continue meanwhile."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.in_place import marks
from lastgood.in_place.build import late_checks
from lastgood.in_place.platform import keys
from lastgood.in_place.ties import TiedKey, queries, retie
from lastgood.postgres.errors import message_of
from lastgood.postgres.roles.build_role import PREFIX
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.server import Connection, event_triggers_off

# The beginning of a failure's words.
FOREIGN_KEY = "foreign key "


def complete(connection: Connection, run: str) -> Iterator[str]:
    """Do what the committed move of a run left to do, and record that. Yields each failure in words; such a foreign key
    holds for new rows only. May run again after an interruption, on any machine, under the lock of the live database.
    """
    with event_triggers_off(connection):
        for left in marks.rest(connection, run):
            confined = not left.trusted
            yield from validated(connection, left.foreign_keys, confined=confined)
            unrefreshed = []
            for view in left.views:
                for failure in _refresh(connection, view, confined=confined):
                    unrefreshed.append(view)
                    yield failure
            if confined:
                # The server would run their functions with the rights of this session.
                yield from map(late_checks.to_validate, left.checks)
                yield from map(late_checks.to_compare, left.columns)
            else:
                yield from late_checks.validate(connection, left.checks)
                yield from late_checks.compare(connection, left.columns)
            with connection.transaction():
                for each in marks.marked(connection, run=run):
                    if each.ours and each.mark.kept is not None:
                        done = each.mark.model_copy(update={"kept": each.mark.kept.completed(unrefreshed)})
                        marks.write(connection, each.name, done)


def _refresh(connection: Connection, view: tuple[str, str], *, confined: bool) -> Iterator[str]:
    """Refresh a view, which runs its functions with the rights of its owner; ``confined``: not if these are of use for
    anything but the database."""
    statement = sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*view))
    try:
        row = connection.execute(_OWNER, view).fetchone()
        if confined and row is not None and strength(connection, row[0]):
            _refresh_apart(connection, view, row[0], statement)
        else:
            connection.execute(statement)
    except psycopg.Error as error:
        if connection.broken:
            raise
        yield (
            f"cannot refresh materialized view {Relation(*view)}, which may be empty or out of date: "
            f"{message_of(error)}; run: {statement.as_string(connection)}"
        )


_OWNER = """
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""


def _refresh_apart(connection: Connection, view: tuple[str, str], owner: str, refresh: sql.Composed) -> None:
    """Refresh a view of which a new role, which may only read, is the owner meanwhile. REFRESH runs as the owner, and
    its code can neither reset the role nor act after it. All in one transaction: nothing is left of the role.

    Rows that row-level security would hide from the role are an error. Raises psycopg.Error.
    """
    role = sql.Identifier(f"{PREFIX}view_{secrets.token_hex(4)}")
    name = sql.SQL("MATERIALIZED VIEW {}").format(sql.Identifier(*view))
    schema = sql.Identifier(view[0])
    superuser = connection.info.parameter_status("is_superuser") == "on"
    membership = " WITH INHERIT TRUE, SET TRUE" if connection.info.server_version >= 160000 else ""
    with connection.transaction():
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
        with suppress(psycopg.Error), connection.transaction():
            connection.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(role))
        if not superuser:
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER" + membership).format(role))
        with suppress(psycopg.Error), connection.transaction():
            connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(role))
        for (grant,) in connection.execute(_READING, [role.as_string(connection)] * 2 + list(view)).fetchall():
            connection.execute(str(grant).encode())
        connection.execute(sql.SQL("GRANT CREATE ON SCHEMA {} TO {}").format(schema, role))
        connection.execute(sql.SQL("ALTER {} OWNER TO {}").format(name, role))
        connection.execute(sql.SQL("REVOKE CREATE ON SCHEMA {} FROM {}").format(schema, role))
        connection.execute("SET LOCAL row_security = off")
        connection.execute(refresh)
        connection.execute(sql.SQL("ALTER {} OWNER TO {}").format(name, sql.Identifier(owner)))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


# What this session may let others read; pg_read_all_data is not everyone's to give.
_READING = """
SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %%I TO %%s', n.nspname, %s::text)
FROM pg_catalog.pg_namespace n
WHERE nspname !~ '^(pg|lastgood)_' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION')
UNION ALL
SELECT pg_catalog.format('GRANT SELECT ON %%s TO %%s', c.oid::pg_catalog.regclass, %s::text)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg|lastgood)_' AND n.nspname <> 'information_schema'
  AND (n.nspname, c.relname) <> (%s, %s) AND pg_catalog.has_table_privilege(c.oid, 'SELECT WITH GRANT OPTION')
"""


def validate(connection: Connection, tied: Iterable[TiedKey]) -> list[tuple[TiedKey, str]]:
    """Validate foreign keys after a move, each in a transaction of its own. Returns those that failed, with the
    server's reason: rows that they refer to were deleted meanwhile.

    VALIDATE blocks neither readers nor writers. Before 18, a foreign key of a partitioned table cannot be NOT VALID: it
    is created here, and writers of both tables wait meanwhile; after a failure it does not exist.
    """
    failed = []
    for key in tied:
        fault.point("inplace.before_validate")
        there = {each.key for each in queries.foreign_keys(connection, [key.schema_name])}
        try:
            if key.key in there:
                connection.execute(retie.validate_foreign_key(key))
            elif key.partitioned:
                retie.single(connection, retie.add_foreign_key(key, valid=True))
                if key.comment is not None:
                    connection.execute(retie.comment_foreign_key(key))
        except psycopg.errors.ForeignKeyViolation as error:
            failed.append((key, message_of(error)))
    return failed


def validated(connection: Connection, tied: Sequence[TiedKey], *, confined: bool) -> Iterator[str]:
    """Validate foreign keys, and yield each failure in words: such a key holds for new rows only. ``confined``: not
    those whose table has definitions that call functions. The server would run these with the rights of this session.
    """
    safe = keys.tied_without_code(connection, tied) if confined else tied
    for key, why in validate(connection, safe):
        yield f'{FOREIGN_KEY}"{key.name}" of "{key.schema_name}.{key.table}" is still NOT VALID: {why}'
    for key in tied:
        if key in safe:
            continue
        whole = key.partitioned and connection.info.server_version < keys.NOT_VALID_ON_PARTITIONED
        state = "is missing" if whole else "is still NOT VALID"
        command = retie.add_foreign_key(key, valid=True) if whole else retie.validate_foreign_key(key)
        yield (
            f'{FOREIGN_KEY}"{key.name}" of "{key.schema_name}.{key.table}" {state}: functions in definitions of the '
            f"table would run with the rights of this role; run as a role with fewer rights: {command.as_string()}"
        )
