"""The privileges of this role that a run needs, tried with commands that change nothing where possible."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import Rollback, sql

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.postgres import database, pooled
from lastgood.postgres.replacing import foreign_owners, unlockable
from lastgood.postgres.server import only_row
from lastgood.text.quoting import identifier
from lastgood.text.units import listed

# Not an option of a deployment, which cannot let writers continue.
FENCE_LATER = ", or fence only during the switch: --fence at-swap"
# Names in a text.
SHOWN = 5
_ROLE = """
SELECT r.rolname, r.rolsuper, pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'),
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""


def standby(s: Subject) -> Iterator[Finding]:
    """Only a primary accepts writes."""
    if _in_recovery(s):
        yield Finding(
            level="refusal",
            code="standby",
            text="this server is in recovery (a standby, or still starting) and accepts no writes",
            hint="Connect to the primary.",
            known="measured",
            final=True,
        )


def pooler(s: Subject) -> Iterator[Finding]:
    """All statements must reach the same session."""
    if pooled.shares_sessions(s.live):
        yield Finding(
            level="refusal",
            code="transaction_pooler",
            text=pooled.TEXT,
            hint=pooled.HINT,
            known="tried",
            final=True,
        )


def read_only(s: Subject) -> Iterator[Finding]:
    """A database left read-only by default, as some guides recommend."""
    row = s.maintenance.execute(
        "SELECT 1 FROM pg_catalog.pg_db_role_setting WHERE setdatabase = %s AND setrole = 0"
        " AND 'default_transaction_read_only=on' = ANY (setconfig)",
        [s.database.oid],
    ).fetchone()
    if row is not None:
        yield Finding(
            level="caution",
            code="read_only_by_default",
            text=f'"{s.database.name}" is read-only by default (default_transaction_read_only), '
            "and remains so after the rollback",
            hint=f"To reset it, run: ALTER DATABASE {identifier(s.database.name)} RESET default_transaction_read_only",
        )


def databases(s: Subject) -> Iterator[Finding | Passed]:
    """The right to create a database like the live one, and to rename the live one: both tried without effect."""
    me, is_superuser, _, _ = s.maintenance.execute(_ROLE).fetchone() or ("", False, False, False)
    if _in_recovery(s):
        return
    refusals = (*_create(s, me), *_alter(s, me))
    yield from refusals
    if not refusals:
        prefix = "superuser " if is_superuser else ""
        yield Passed(
            text=f'{prefix}"{me}" may create a database like "{s.database.name}", and rename it', known="tried"
        )


def _create(s: Subject, me: str) -> Iterator[Finding]:
    """Try CREATE DATABASE with the name of the database of this connection, which cannot be dropped meanwhile: the
    server checks the role, the template, the encoding, the locale and the tablespace before it finds that the name is
    taken, and creates nothing."""
    existing = s.maintenance.info.dbname
    template = database.describe(s.maintenance, "template0").tablespace
    create, *_ = database.creation(existing, s.database, "", live=s.database.name, template=template)
    try:
        s.maintenance.execute(create)
    except psycopg.errors.DuplicateDatabase:
        return
    except psycopg.errors.InsufficientPrivilege as error:
        if "tablespace" in (error.diag.message_primary or ""):
            text = f'role "{me}" may not create a database in tablespace "{s.database.tablespace}"'
            hint = f'As a superuser: GRANT CREATE ON TABLESPACE "{s.database.tablespace}" TO "{me}"'
        else:
            text = f'role "{me}" may neither create nor rename a database'
            hint = f'As a superuser: ALTER ROLE "{me}" CREATEDB'
        yield Finding(level="refusal", code="no_createdb", text=text, hint=hint, known="tried", final=True)
    except psycopg.Error as error:
        yield Finding(
            level="refusal",
            code="no_database_like_it",
            text=f'cannot create a database like "{s.database.name}": {error.diag.message_primary}',
            hint="Check its encoding, locale and tablespace: psql --list",
            known="tried",
            final=True,
        )


def _alter(s: Subject, me: str) -> Iterator[Finding]:
    """Try an ALTER DATABASE without effect: like the switch, it needs the owner's privileges."""
    statement = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
        sql.Identifier(s.database.name), sql.Literal(s.database.connection_limit)
    )
    try:
        with s.maintenance.transaction():
            # Another session's change of the same row must not block this check.
            s.maintenance.execute("SET LOCAL lock_timeout = '2s'")
            s.maintenance.execute(statement)
            raise Rollback
    except psycopg.errors.InsufficientPrivilege:
        yield Finding(
            level="refusal",
            code="not_owner",
            text=f'role "{me}" is not a member of "{s.database.owner}", which owns "{s.database.name}"',
            hint=f'As a superuser: GRANT "{s.database.owner}" TO "{me}", or connect as "{s.database.owner}"',
            known="tried",
            final=True,
        )
    except psycopg.Error as error:
        yield Finding(
            level="caution",
            code="rename_untried",
            text=f'cannot verify that "{s.database.name}" may be renamed: {error.diag.message_primary}',
            hint="Check whether another session is changing it at this moment: lastgood status",
            known="tried",
        )


def fence(s: Subject) -> Iterator[Finding]:
    """Locking a table against writers needs a write privilege on it."""
    if s.request.fence != "now":
        return
    tables = unlockable(s.live)
    if tables:
        yield Finding(
            level="refusal",
            code="no_lock",
            text=f"this role cannot lock {listed(tables, SHOWN)} against writers: it lacks write privileges",
            hint=f"Connect as the tables' owner or a superuser{FENCE_LATER}",
            final=True,
        )


def owners(s: Subject) -> Iterator[Finding]:
    """Objects of roles that this role cannot act as: it would own them after the restore, and their owners lose
    access."""
    found = foreign_owners(s.live)
    if found:
        me = s.live.info.user
        whose = ", ".join(f'{each.objects} of "{each.role}" ({each.first})' for each in found[:SHOWN])
        more = f" and of {len(found) - SHOWN} other roles" if len(found) > SHOWN else ""
        roles = ", ".join(f'"{each.role}"' for each in found[:SHOWN])
        yield Finding(
            level="refusal",
            code="foreign_owners",
            text=f'role "{me}" cannot transfer ownership of these objects; their owners would lose access: '
            f"{whose}{more}",
            hint=f'As a superuser: GRANT {roles} TO "{me}"; or connect as a superuser',
        )


def signals(s: Subject) -> Iterator[Finding | Passed]:
    """The privileges to terminate sessions and to see their activity."""
    me, is_superuser, signals, sees_activity = s.maintenance.execute(_ROLE).fetchone() or ("", False, False, False)
    if is_superuser:
        return
    if signals:
        yield Passed(text=f'"{me}" may terminate all sessions except superusers\' (pg_signal_backend)')
    else:
        yield Finding(
            level="note",
            code="cannot_signal",
            text=f'"{me}" may terminate only sessions of roles whose privileges it has',
            hint=f'As a superuser: GRANT pg_signal_backend TO "{me}"',
        )
    if not sees_activity:
        yield Finding(
            level="note",
            code="cannot_see_activity",
            text=f'"{me}" cannot see the activity of other sessions, nor the progress of WAL receivers',
            hint=f'As a superuser: GRANT pg_monitor TO "{me}"',
        )


def _in_recovery(s: Subject) -> bool:
    return bool(only_row(s.maintenance, "SELECT pg_catalog.pg_is_in_recovery()")[0])
