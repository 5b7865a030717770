"""The meaning of a server's error: its cause, its effect, the next command, and whether to retry.

Only the SQLSTATE counts. The server translates its messages, and versions reword them, so no message is interpreted,
except for the hint about a connection that could not be made (``unreachable``).
The knowledge is the table ``RULES``; for a new error, add a row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import psycopg

from lastgood.errors import Failed, LastgoodError
from lastgood.postgres import unreachable
from lastgood.postgres.server import ClosedDatabase
from lastgood.text.quoting import argument, identifier

Context = Literal[
    "any",
    "optional",  # SET of the dump's prologue, COMMENT, SECURITY LABEL: nothing depends on it
    "statistics",  # pg_restore_relation_stats and its siblings
    "privileges",  # OWNER TO, GRANT, REVOKE, ALTER DEFAULT PRIVILEGES
    "extension",  # CREATE EXTENSION, and what belongs to one
    "catalogue",  # a unique index of pg_catalog: two commands created the same object at the same time
    "copy",
    "constraint",
    "refresh",
    "function",  # raised inside a function's body, while an index or a view is built with it
    "own timeout",  # a timeout set by lastgood
    "connect",
    "swap",
    "drop",
]


class ErrorPolicy(Enum):
    """The reaction of the caller to a statement's error."""

    IGNORE = "record it and continue"
    RETRY = "run the statement again, a few times"
    RECONNECT = "run it again on a new connection"
    REQUEUE = "run it again when the other statements are done"
    REPAIR = "load what it needs first, then run it again"
    STOP = "stop, and keep the shadow database for inspection"


@dataclass(frozen=True, slots=True)
class Explanation:
    """For the operator: the cause, the effect and the next command, a sentence each."""

    cause: str
    effect: str
    next_command: str


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """``state`` is a SQLSTATE, or the two characters of a class. A rule for a context is preferred to ``any``."""

    state: str
    context: Context
    policy: ErrorPolicy
    cause: str
    next_command: str


_EFFECTS = {
    ErrorPolicy.IGNORE: "Nothing depends on it; it is recorded, and the run continues.",
    ErrorPolicy.RETRY: "The statement had no effect; it is retried a few times, and then the run stops.",
    ErrorPolicy.RECONNECT: "Uncommitted work on that connection is lost; it is repeated on a new one.",
    ErrorPolicy.REQUEUE: "The statement had no effect; it runs again after the others.",
    ErrorPolicy.REPAIR: "The statement had no effect; it runs again when its prerequisites are loaded.",
    ErrorPolicy.STOP: "The statement had no effect; the shadow database is kept, and the live database is unchanged.",
}

_STATUS = "Run lastgood status to see the databases."
_AGAIN = "Run the same command again."
_CHECK = "Run lastgood rollback --dry-run to see what the role or the server lacks."
_HOLDER = "Run lastgood rollback --dry-run to see what holds it."
_POINTS = "Run lastgood points to choose another restore point."
_LOG = "Read the server's log of this time."

I, R, N, Q, F, S = (  # noqa: E741  # the table below is read by columns
    ErrorPolicy.IGNORE,
    ErrorPolicy.RETRY,
    ErrorPolicy.RECONNECT,
    ErrorPolicy.REQUEUE,
    ErrorPolicy.REPAIR,
    ErrorPolicy.STOP,
)

RULES: tuple[ErrorRule, ...] = (
    # Objects on which nothing depends
    ErrorRule("42704", "optional", I, "This server does not have a setting or an object that the dump names.", _AGAIN),
    ErrorRule("22023", "optional", I, "This server does not accept a setting or a label of the dump.", _AGAIN),
    ErrorRule("42501", "optional", I, "The role may not set this; only the owner or a superuser may do so.", _CHECK),
    ErrorRule(
        "42883", "statistics", I, "The dump's statistics are for a newer server.", "Run ANALYZE in the database."
    ),
    ErrorRule("22", "statistics", I, "The dump's statistics do not fit this server.", "Run ANALYZE in the database."),
    ErrorRule(
        "42501", "privileges", I, "The role may not grant or revoke this privilege, or change this owner.", _CHECK
    ),
    ErrorRule("42704", "privileges", I, "A role that the privileges name does not exist on this server.", _CHECK),
    ErrorRule("42710", "extension", I, "The extension already created this object.", _AGAIN),
    ErrorRule("42P06", "any", I, "The schema already exists; every new database has a schema public.", _AGAIN),
    # Concurrency
    ErrorRule("40P01", "any", R, "Two sessions waited for each other's locks (deadlock).", _AGAIN),
    ErrorRule("40001", "any", R, "Another transaction changed the same rows.", _AGAIN),
    ErrorRule(
        "55P03", "any", R, "A lock was not available in time.", "Find the holder in pg_locks, then run it again."
    ),
    ErrorRule("XX000", "any", R, "Two commands changed the same catalogue row at once.", _LOG),
    ErrorRule("23505", "catalogue", R, "Two commands created the same object at the same time.", _AGAIN),
    ErrorRule("57014", "own timeout", R, "It exceeded its time limit.", _AGAIN),
    # Connections
    ErrorRule("57P01", "any", N, "An administrator terminated the session, or the server is shutting down.", _LOG),
    ErrorRule("57P02", "any", N, "Another server process crashed, and the server terminated all sessions.", _LOG),
    ErrorRule("57P03", "any", N, "The server is starting, shutting down or recovering.", "Wait, then run it again."),
    ErrorRule(
        "57P04", "any", S, "The database was dropped while the session was in it.", "Run psql --list to see the names."
    ),
    ErrorRule("57P05", "any", N, "The session was idle for longer than idle_session_timeout allows.", _AGAIN),
    # libpq has no SQLSTATE for a failed connection: a dead server and a wrong password cannot be distinguished.
    ErrorRule(
        "08",
        "connect",
        N,
        "The server could not be reached, or it rejected the connection.",
        "Check the host, the port, the database's name, the user, the password and the connection limits.",
    ),
    ErrorRule("08", "any", N, "The connection to the server broke.", "Check that the server is running and reachable."),
    ErrorRule(
        "3D000",
        "connect",
        N,
        "No database of that name exists at this moment; directly after a switchover this lasts only an instant.",
        "Run psql --list to see the names.",
    ),
    ErrorRule(
        "53300",
        "any",
        N,
        "The server, the database or the role has no connection left.",
        "Terminate unneeded sessions, or raise the limit, then run it again.",
    ),
    ErrorRule("28", "any", S, "The server refused the login.", "Check the user name, the password and pg_hba.conf."),
    ErrorRule("3D000", "any", S, "No database of that name exists.", "Run psql --list to see the names."),
    ErrorRule(
        "55000",
        "connect",
        S,
        "The database is closed to connections, or is invalid after an interrupted DROP DATABASE.",
        _STATUS,
    ),
    # Order of commands
    ErrorRule("55000", "refresh", Q, "It reads a materialized view that has no rows yet.", _AGAIN),
    ErrorRule("42P01", "function", Q, "A function reads a table that does not exist yet.", _AGAIN),
    ErrorRule("42883", "function", Q, "A function calls another one that does not exist yet.", _AGAIN),
    ErrorRule("23514", "copy", F, "A check constraint reads tables that are loaded later.", _POINTS),
    ErrorRule("42P01", "copy", F, "A check constraint or a trigger reads a table that is loaded later.", _POINTS),
    ErrorRule("23505", "extension", F, "The extension already created these rows.", _AGAIN),
    ErrorRule(
        "23503",
        "constraint",
        S,
        "Rows refer to rows that the restore point lacks: it was already inconsistent when it was made.",
        _POINTS,
    ),
    # The restore point's content
    ErrorRule("22021", "any", S, "The text holds bytes that are not valid in the database's encoding.", _POINTS),
    ErrorRule("22P04", "any", S, "A COPY block of the restore point is damaged.", _POINTS),
    ErrorRule("22P02", "any", S, "A value does not fit its type: the restore point is damaged.", _POINTS),
    ErrorRule("22P05", "any", S, "A character has no equivalent in the database's encoding.", _POINTS),
    ErrorRule("22", "any", S, "The server does not accept a value.", _POINTS),
    ErrorRule(
        "23505",
        "any",
        S,
        "Two rows have the same key: damage, or another collation than in the original database.",
        _POINTS,
    ),
    ErrorRule("23514", "any", S, "A row breaks a check constraint.", _POINTS),
    ErrorRule("23", "any", S, "A row breaks a constraint.", _POINTS),
    ErrorRule(
        "42601",
        "any",
        S,
        "The server does not understand this command: the command may be from a newer server, or damaged.",
        _POINTS,
    ),
    ErrorRule("0A000", "any", S, "This server, or this build of it, lacks a feature.", _CHECK),
    ErrorRule("42703", "any", S, "A column that the command needs does not exist.", _POINTS),
    ErrorRule("42P16", "any", S, "The definition does not fit the existing object.", _STATUS),
    ErrorRule(
        "42P17",
        "any",
        S,
        "The definition is not allowed here: for example, a function in it is not IMMUTABLE.",
        _POINTS,
    ),
    ErrorRule("428C9", "any", S, "A generated or identity column was given a value.", _POINTS),
    ErrorRule("P0001", "any", S, "A trigger or a function of the database rejected it.", _POINTS),
    ErrorRule("42P07", "any", S, "A relation of that name already exists.", _STATUS),
    ErrorRule("42710", "any", S, "An object of that name already exists.", _STATUS),
    ErrorRule("42723", "any", S, "A function of that name already exists.", _STATUS),
    ErrorRule("42P04", "any", S, "A database of that name already exists.", _STATUS),
    ErrorRule("42P01", "any", S, "A table or view that the command needs does not exist.", _POINTS),
    ErrorRule("42883", "any", S, "A function that the command needs does not exist here.", _CHECK),
    ErrorRule("3F000", "any", S, "A schema that the command needs does not exist.", _POINTS),
    ErrorRule("42704", "any", S, "A role, type or other object that the command needs does not exist.", _CHECK),
    ErrorRule("2BP01", "any", S, "Other objects depend on it.", "Read the error's detail: it lists them."),
    ErrorRule(
        "58P01", "any", S, "The server lacks a file: an extension's library, or a part of the data directory.", _LOG
    ),
    # Privileges
    ErrorRule("42501", "any", S, "The role lacks a required privilege.", _CHECK),
    # Resources
    ErrorRule(
        "53100", "any", S, "The server's disk is full.", "Free space on it, then run lastgood abort to drop the shadow."
    ),
    ErrorRule(
        "53200",
        "any",
        S,
        "The server ran out of memory or of locks.",
        "Give it more memory, or raise max_locks_per_transaction, then run it again.",
    ),
    ErrorRule("53400", "any", S, "A limit of the server's configuration was reached.", _LOG),
    ErrorRule("54", "any", S, "A limit of PostgreSQL was exceeded.", _LOG),
    ErrorRule("25006", "any", S, "The session or the server is read-only: a standby, or a fence.", _CHECK),
    ErrorRule(
        "25001",
        "any",
        S,
        "The command cannot run inside a transaction: a pooler or a driver opened one.",
        "Connect without a transaction pooler: to the server directly, or to the pooler's session port.",
    ),
    ErrorRule("25P02", "any", S, "An earlier statement of the same transaction failed.", "Look for the first error."),
    ErrorRule(
        "26000",
        "any",
        S,
        "A prepared statement is gone: the connection goes through a transaction pooler.",
        "Connect to the server directly, or to the pooler's session port.",
    ),
    ErrorRule(
        "42P05",
        "any",
        S,
        "A prepared statement already exists: the connection goes through a transaction pooler.",
        "Connect to the server directly, or to the pooler's session port.",
    ),
    # Damage
    ErrorRule(
        "XX001", "any", S, "The server found damaged data in its own files.", "Do not write to it; read its log."
    ),
    ErrorRule("XX002", "any", S, "The server found a damaged index.", "Run REINDEX on the index that the log names."),
    ErrorRule("58", "any", S, "The server could not read or write a file.", _LOG),
    # Holders of the database
    ErrorRule(
        "55006",
        "swap",
        R,
        "A session is connected to the database, or a prepared transaction or subscription holds it.",
        _HOLDER,
    ),
    ErrorRule("57014", "swap", R, "The switchover exceeded its time limit and was rolled back.", _AGAIN),
    ErrorRule("25P03", "swap", R, "The switchover was idle for too long and was rolled back.", _AGAIN),
    ErrorRule(
        "55006",
        "drop",
        S,
        "A prepared transaction, a replication slot or a subscription holds the database.",
        _HOLDER,
    ),
    ErrorRule("55006", "any", S, "The object is in use.", _HOLDER),
    ErrorRule("57014", "any", S, "The statement was cancelled by an operator or by a timeout.", _AGAIN),
    ErrorRule("25P03", "any", S, "The session was idle in a transaction for longer than the server allows.", _AGAIN),
    ErrorRule("25P04", "any", S, "The transaction took longer than transaction_timeout allows.", _AGAIN),
    ErrorRule("55000", "any", S, "The object is not in a state that allows this.", _STATUS),
)

_TABLE = {(rule.state, rule.context): rule for rule in RULES}
_UNKNOWN_RULE = ErrorRule("", "any", S, "The server rejected it, for a reason that lastgood does not know.", _LOG)
# The SQLSTATEs of COPY for text that no dump has: a wrong number of values, invalid bytes.
DAMAGED_ROWS = frozenset({"22021", "22P04"})
# SQLSTATEs whose DETAIL names the obstacle. Others may quote rows, which must not be logged.
_SAFE_DETAIL = frozenset({"55006", "2BP01"})


def rule(sqlstate: str | None, context: Context = "any") -> ErrorRule:
    """The row for a SQLSTATE: an exact code before its class, the context's before ``any``. A broken connection has no
    SQLSTATE; None counts as class 08."""
    state = sqlstate or "08000"
    for key in ((state, context), (state, "any"), (state[:2], context), (state[:2], "any")):
        if key in _TABLE:
            return _TABLE[key]
    return _UNKNOWN_RULE


def policy(sqlstate: str | None, context: Context = "any") -> ErrorPolicy:
    """The policy for an error with that SQLSTATE in the given context."""
    return rule(sqlstate, context).policy


def policy_of(error: psycopg.Error, context: Context = "any") -> ErrorPolicy:
    """The policy for an error of psycopg; distinguishes a catalogue's unique index from a user's."""
    if error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog":
        context = "catalogue"
    if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
        return ErrorPolicy.STOP
    return policy(error.sqlstate, context)


def explain(sqlstate: str | None, message: str = "", context: Context = "any") -> Explanation:
    """The explanation of an error. ``message``, the server's own text, is repeated and never interpreted."""
    match = rule(sqlstate, context)
    quoted = f' Message of the server: "{message}".' if message else ""
    return Explanation(match.cause + quoted, _EFFECTS[match.policy], match.next_command)


def row_in(error: psycopg.Error) -> int:
    """The row of a COPY that failed, from the error's context ``COPY t, line 7, column x``, or 0."""
    match = re.search(r"line (\d+)", error.diag.context or "")
    return int(match[1]) if match else 0


def message_of(error: psycopg.Error) -> str:
    """The message of the server, or of libpq, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return error.diag.message_primary or "; ".join(lines) or "the connection broke"


def not_caused_by_statement(error: psycopg.Error) -> bool:
    """Whether a statement is not the cause of its failure: the connection broke, or an operator intervened."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57"))


def one_line(error: Exception) -> str:
    """The message of an error, ours or the server's, on one line."""
    return message_of(error) if isinstance(error, psycopg.Error) else " ".join(str(error).split())


def failed(
    error: psycopg.Error, doing: str, *, context: Context = "any", state: str = "", sqlstate: bool = False
) -> LastgoodError:
    """Our error for a server's: ``cannot <doing>: <the server's message>``, with the cause and the next command as the
    hint. ``sqlstate`` adds the server's code to its message.

    Never shows a connection string: libpq's message about an invalid one quotes it, and is left out.
    """
    if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
        return Failed(
            f"cannot {doing}: the client library rejected the request ({type(error).__name__})",
            hint="Check the connection's URL: special characters in a password must be percent-encoded.",
            state=state,
        )
    if isinstance(error, ClosedDatabase):
        return _closed(error, doing, state)
    message = message_of(error)
    if error.sqlstate in _SAFE_DETAIL and error.diag.message_detail:
        message += f" ({error.diag.message_detail})"
    if sqlstate and error.sqlstate is not None:
        message += f" [SQLSTATE {error.sqlstate}]"
    match = rule(error.sqlstate, context)
    hint = unreachable.hint(error) if isinstance(error, psycopg.OperationalError) else None
    return Failed(f"cannot {doing}: {message}", hint=hint or f"{match.cause} {match.next_command}", state=state)


def _closed(error: ClosedDatabase, doing: str, state: str) -> Failed:
    opened = f"ALTER DATABASE {identifier(error.name)} ALLOW_CONNECTIONS true"
    if error.role == "kept":
        return Failed(
            f'cannot {doing}: "{error.name}" is a kept database of "{error.live}", closed to connections',
            hint=f"Read it with lastgood facts {argument(error.name)}, as its owner or as a superuser. For "
            f"psql, open it first and close it again afterwards: {opened}",
            state=state,
        )
    if error.role == "shadow":
        return Failed(
            f'cannot {doing}: "{error.name}" is being built for "{error.live}" by a run, and closed to connections',
            hint="Run lastgood status to see the run.",
            state=state,
        )
    return Failed(f'cannot {doing}: "{error.name}" is closed to connections', hint=f"Open it: {opened}", state=state)
