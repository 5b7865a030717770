"""Typed verbs on databases (describe, create like another, rename, close, comment, drop, analyze).

Every verb takes a connection to the maintenance database: a session cannot rename or drop the database it is connected
to. ``create_like`` and ``drop`` need autocommit; all others may be part of a transaction. All raise the errors of
``lastgood.postgres.errors.failed``.
"""

from __future__ import annotations

import difflib
import hashlib
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.errors import NOT_REACHED, Blocked, Failed, LastgoodError, Refused
from lastgood.postgres.errors import Context, failed
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.waits import TimedOut, bounded
from lastgood.text.quoting import identifier

NAME_BYTES = 63
UNMARKED = 0x4C67  # the upper half of the connection limit of a database that is not marked yet
INVALID = -2  # datconnlimit of a database whose DROP or CREATE was interrupted (15.4 and newer)

_PROVIDERS: dict[str, LiteralString] = {"c": "libc", "i": "icu", "b": "builtin"}


class NoSuchDatabase(LookupError):
    """The cause of an error about a name that no database of the server has."""


@dataclass(frozen=True, slots=True)
class Database:
    """One row of pg_database, with its owner, tablespace, size and comment.

    ``locale_provider`` is ``libc``, ``icu`` or ``builtin``; ``locale`` and ``icu_rules`` are those of the providers
    other than libc. ``connection_limit`` is -1 without a limit. ``size_bytes`` is None without the privilege to read
    it. ``invalid``: a DROP or CREATE was interrupted; such a database can only be dropped.
    """

    oid: int
    name: str
    owner: str
    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    locale: str | None
    icu_rules: str | None
    tablespace: str
    allow_connections: bool
    connection_limit: int
    is_template: bool
    size_bytes: int | None
    comment: str | None
    invalid: bool


def maintenance_name(live: str) -> str:
    """The database from which lastgood changes ``live``, and in which it takes the lock.

    It depends only on the name, so that two operators on two machines use the same one.
    """
    return "template1" if live == "postgres" else "postgres"


def connect_maintenance(target: Target, live: str) -> Connection:
    """A connection (autocommit) to the maintenance database of ``live``.

    Where the database "postgres" does not exist, template1 takes its place, for all operators alike. No other error
    leads to it: a database that only some operators may connect to would split the lock in two. Raises Failed, or
    Refused when this role may not connect.
    """
    name = maintenance_name(live)
    try:
        return target.at(name).connect()
    except psycopg.OperationalError as error:
        # libpq reports no SQLSTATE for a failed login: template1's catalogue shows whether the database exists.
        try:
            other = target.at("template1").connect()
        except psycopg.OperationalError:
            raise _not_connected(error, live, name) from error
        if name != "template1" and find(other, name) is None:
            return other
        other.close()
        raise _not_connected(error, live, name) from error


def _not_connected(error: psycopg.OperationalError, live: str, name: str) -> LastgoodError:
    """Name the live database too: users need not know the maintenance database."""
    what = f'reach the server of "{live}" (maintenance database "{name}")'
    return failed(error, what, context="connect", state=NOT_REACHED)


def fit_name(base: str, suffix: str) -> str:
    """``base`` + ``suffix``, cut to 63 bytes of UTF-8 between characters; only ``base`` is shortened.

    The server would cut silently at the end, and two names could become the same. Raises ValueError when the suffix
    alone is too long.
    """
    room = NAME_BYTES - len(suffix.encode())
    if room < 1:
        raise ValueError(f"the suffix {suffix!r} leaves no room for a name")
    return base.encode()[:room].decode("utf-8", "ignore") + suffix


def find(connection: Connection, name: str) -> Database | None:
    """The database of exactly that name, or None."""
    matches = _read(connection, sql.SQL("d.datname = {}").format(sql.Literal(name)))
    # The server cuts a longer name, silently.
    return next((each for each in matches if each.name == name), None)


def by_oid(connection: Connection, oid: int) -> Database | None:
    """The database with that OID, whatever its present name, or None. It shows the outcome of a lost COMMIT."""
    matches = _read(connection, sql.SQL("d.oid = {}").format(sql.Literal(oid)))
    return matches[0] if matches else None


def all_databases(connection: Connection) -> list[Database]:
    """All databases of the server, templates and invalid ones too, by name.

    Without their sizes: the server would have to read the size of every file, and a database may be dropped meanwhile.
    """
    return _read(connection, sql.SQL("true"), sizes=False)


def describe(connection: Connection, name: str) -> Database:
    """The database of exactly that name. Raises Refused when there is none."""
    match = find(connection, name)
    if match is None:
        raise Refused(
            f'cannot find the database "{name}": the server has no database of that name',
            hint=_others(connection, name),
            state=NOT_REACHED,
        ) from NoSuchDatabase(name)
    return match


def _others(connection: Connection, name: str) -> str:
    """The hint for a name that no database has: the most similar one."""
    names = [each.name for each in all_databases(connection) if each.allow_connections and not each.is_template]
    # A URL of a driver may have the schema after the name: /crm/public.
    near = difflib.get_close_matches(name.partition("/")[0].lower(), {each.lower(): each for each in names}, 1)
    meant = [f'Did you mean "{each}"? ' for each in names if [each.lower()] == near]
    return f"{''.join(meant)}Run psql --list to see the names; they are case-sensitive."


def unmarked_limit(live: str) -> int:
    """The connection limit of a database that was created for ``live`` and is not marked yet: lastgood recognises it by
    this limit. The upper half is always the same; no operator sets such a limit."""
    digest = hashlib.sha256(b"lastgood unmarked\0" + live.encode()).digest()
    return UNMARKED << 16 | int.from_bytes(digest[:2], "big")


def is_unmarked(database: Database) -> bool:
    """Whether lastgood created ``database``, for any live database, and never marked it."""
    return not database.allow_connections and database.comment is None and database.connection_limit >> 16 == UNMARKED


def creation(
    name: str, model: Database, comment: str, *, live: str, template: str = "pg_default"
) -> list[sql.Composed]:
    """The statements that create a database with the same encoding, locale and tablespace as ``model``.

    The template is template0: template1 may be in use, or have objects of its own. The database is closed until it is
    marked and PUBLIC has lost CONNECT: monitoring agents connect to every open database, and would block the rename.
    Run the first statement outside of a transaction, the others in one. ``template`` is template0's tablespace: a
    TABLESPACE clause needs a privilege that an ordinary owner lacks, so it is left out if ``model`` has the same one.
    Until it is marked, its connection limit shows that it was created for ``live`` (``unmarked_limit``).

    The collation version is not copied: the new database's indexes are built with the server's present one.
    """
    database = sql.Identifier(name)
    options: list[sql.Composable] = [
        sql.SQL("ENCODING {}").format(sql.Literal(model.encoding)),
        sql.SQL("LOCALE_PROVIDER {}").format(sql.SQL(_provider(model.locale_provider))),
        sql.SQL("LC_COLLATE {}").format(sql.Literal(model.collate)),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(model.ctype)),
    ]
    if model.locale_provider == "icu":
        options.append(sql.SQL("ICU_LOCALE {}").format(sql.Literal(model.locale)))
        if model.icu_rules is not None:
            options.append(sql.SQL("ICU_RULES {}").format(sql.Literal(model.icu_rules)))
    elif model.locale_provider == "builtin":
        options.append(sql.SQL("BUILTIN_LOCALE {}").format(sql.Literal(model.locale)))
    if model.tablespace != template:
        options.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(model.tablespace)))
    options.append(sql.SQL("ALLOW_CONNECTIONS false CONNECTION LIMIT {}").format(sql.Literal(unmarked_limit(live))))
    return [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(database, sql.SQL(" ").join(options)),
        comment_statement(name, comment),
        sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(database),
        allow_connections_statement(name, True),
    ]


def create_like(
    connection: Connection,
    name: str,
    model: Database,
    comment: str,
    *,
    owner: str | None = None,
    live: str | None = None,
) -> Database:
    """Create an empty database like ``model`` (see ``creation``), owned by ``owner`` or by this role, with ``comment``,
    for the live database ``live`` (default: ``model`` itself).

    Only a database's owner may create objects in its schema public, and so only the owner can receive objects there.

    If killed in between, it leaves nothing, or a database that is closed to connections. Raises Refused when the name
    is taken.
    """
    if find(connection, name) is not None:
        raise Refused(
            f'cannot create the database "{name}": a database of that name exists',
            hint="Run lastgood status to identify it.",
        )
    template = describe(connection, "template0").tablespace
    create, *prepare = creation(name, model, comment, live=live or model.name, template=template)
    if owner is not None:
        prepare.append(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner)))
    doing = f'create the database "{name}"'
    _execute(connection, create, doing)
    created = describe(connection, name)
    try:
        fault.point("build.before_mark")
        with connection.transaction():
            for statement in prepare:
                _execute(connection, statement, doing)
    except BaseException as error:
        # Without its comment it would not be recognised later.
        with suppress(psycopg.Error, LastgoodError):
            drop(connection, name, created.oid)
        if isinstance(error, psycopg.Error):
            raise failed(error, doing) from error
        raise
    return describe(connection, name)


def rename(connection: Connection, name: str, new: str) -> None:
    """Rename a database. With sessions in it this waits up to 5 seconds while new logins queue (SQLSTATE 55006)."""
    _execute(
        connection,
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new)),
        f'rename the database "{name}" to "{new}"',
        "swap",
    )


def allow_connections(connection: Connection, name: str, allowed: bool) -> None:
    """Open a database, or close it to new connections, superusers' too. Existing sessions remain."""
    _execute(
        connection,
        allow_connections_statement(name, allowed),
        f'{"open" if allowed else "close"} the database "{name}"',
    )


def comment(connection: Connection, name: str, text: str | None) -> None:
    """Set a database's comment; None removes it."""
    _execute(connection, comment_statement(name, text), f'set the comment of the database "{name}"')


def drop(connection: Connection, name: str, oid: int) -> None:
    """Drop the database and terminate its sessions; no error when it is dropped already.

    Only if the name still belongs to that OID. Never with logical replication slots in it (they would be dropped
    silently), with subscriptions (dropping one there can drop a slot that production uses), or if it is a template.
    The server waits for each of its processes; a commit that waits for a synchronous standby does not respond. So the
    DROP is cancelled after a time (``waits``), which leaves the database unchanged or invalid, with its comment.
    Raises Blocked then, naming the session; Refused, Failed.
    """
    current = find(connection, name)
    if current is None or current.oid != oid:
        _refuse_other(connection, name, oid, current)
        return
    if current.is_template:
        raise Refused(
            f'cannot drop the database "{name}": it is a template',
            hint=f"If it may be dropped, run: ALTER DATABASE {identifier(name)} IS_TEMPLATE false",
        )
    slots = _names(connection, sql.SQL("SELECT slot_name FROM pg_replication_slots WHERE database = {}"), name)
    if slots:
        raise Refused(
            f'cannot drop the database "{name}": it has the logical replication slot {_listed(slots)}',
            hint=f"If no consumer needs it, run: SELECT pg_drop_replication_slot('{slots[0]}')",
        )
    subscriptions = _names(connection, sql.SQL("SELECT subname FROM pg_subscription WHERE subdbid = {}"), oid)
    if subscriptions:
        first = subscriptions[0]
        raise Refused(
            f'cannot drop the database "{name}": it has the subscription {_listed(subscriptions)}',
            hint=(
                f'In that database, run: ALTER SUBSCRIPTION "{first}" DISABLE; ALTER SUBSCRIPTION "{first}"'
                f' SET (slot_name = NONE); DROP SUBSCRIPTION "{first}"'
            ),
        )
    doing = f'drop the database "{name}"'
    try:
        _execute(connection, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)), doing, "drop")
    except Failed as error:
        if not isinstance(error.__cause__, TimedOut):
            raise
        raise Blocked(error.message, hint=error.hint, state=NOT_REACHED) from error.__cause__


def _refuse_other(connection: Connection, name: str, oid: int, current: Database | None) -> None:
    renamed = by_oid(connection, oid)
    if renamed is not None:
        reason = f'the database with OID {oid} is now named "{renamed.name}"'
    elif current is not None:
        reason = f"its OID is {current.oid}, not {oid}: it is another database"
    else:
        return
    raise Refused(
        f'cannot drop the database "{name}": {reason}', hint="Run lastgood status to see the present databases."
    )


def _names(connection: Connection, query: sql.SQL, value: object) -> list[str]:
    try:
        with connection.transaction():
            return [row[0] for row in connection.execute(query.format(sql.Literal(value)))]
    except psycopg.errors.InsufficientPrivilege:
        # Some hosts hide pg_subscription completely. DROP DATABASE itself refuses where there is a subscription.
        return []


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _execute(connection: Connection, statement: sql.Composed, doing: str, context: Context = "any") -> None:
    try:
        with bounded(connection):
            connection.execute(statement)
    except TimedOut as error:
        raise Failed(f"cannot {doing}: {error}", hint=error.hint) from error
    except psycopg.Error as error:
        raise failed(error, doing, context=context) from error


def allow_connections_statement(name: str, allowed: bool) -> sql.Composed:
    """The statement of ``allow_connections``, for use in a transaction with others."""
    return sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allowed))


def comment_statement(name: str, text: str | None) -> sql.Composed:
    """The statement of ``comment``, for use in a transaction with others."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text))


def _provider(name: str) -> LiteralString:
    for provider in _PROVIDERS.values():
        if provider == name:
            return provider
    raise Failed(
        f'cannot create a database: unknown locale provider "{name}"',
        hint="Install a newer lastgood, or report the server's version.",
    )


def _read(connection: Connection, condition: sql.Composable, *, sizes: bool = True) -> list[Database]:
    major = connection.info.server_version // 10000
    locale = sql.Identifier("d", "datlocale" if major >= 17 else "daticulocale")
    rules = sql.SQL("d.daticurules") if major >= 16 else sql.SQL("NULL")
    provider = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(letter), sql.Literal(name)) for letter, name in _PROVIDERS.items()
    )
    query = sql.SQL("""
        SELECT d.oid, d.datname, pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding),
               CASE d.datlocprovider {provider} ELSE d.datlocprovider::text END,
               d.datcollate, d.datctype, {locale}, {rules}, t.spcname, d.datallowconn, d.datconnlimit, d.datistemplate,
               CASE WHEN {sizes} AND (has_database_privilege(d.oid, 'CONNECT')
                                      OR pg_has_role('pg_read_all_stats', 'USAGE')) THEN pg_database_size(d.oid) END,
               shobj_description(d.oid, 'pg_database'), d.datconnlimit = {invalid}
        FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
        WHERE {condition} ORDER BY d.datname""").format(
        sizes=sql.Literal(sizes),
        provider=provider,
        locale=locale,
        rules=rules,
        invalid=sql.Literal(INVALID),
        condition=condition,
    )
    names = [field.name for field in fields(Database)]
    return [Database(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]
