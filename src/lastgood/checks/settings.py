"""The right to carry over the settings and grants of the live database: tried on the live database itself, in
transactions that are rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
from psycopg import sql

from lastgood.checklist import Finding
from lastgood.checks.subject import Subject
from lastgood.postgres.access.grants import Operator
from lastgood.postgres.apply import NotApplied, rehearse
from lastgood.postgres.server import Connection, only_row
from lastgood.postgres.state import DatabaseSetting, DatabaseState
from lastgood.text.quoting import identifier, literal

# Another session's change of the same row must not block this check.
LOCK_TIMEOUT = "2s"


def carried_over(s: Subject) -> Iterator[Finding]:
    """ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET, and the grants on the database: the switch repeats them for
    the restored database, and fails where this role lacks the privilege. Security labels are not carried over."""
    if s.database.invalid or only_row(s.maintenance, "SELECT pg_catalog.pg_is_in_recovery()")[0]:
        return
    me = s.maintenance.info.user
    operator = Operator.read(s.maintenance)
    state = DatabaseState.read(s.maintenance, s.database.name)
    for each in state.settings:
        alone = replace(state, settings=(each,))
        for refused in _refused(s.maintenance, alone, replace(state, settings=()), s.database.name, operator):
            whose = f'role "{each.role}" in "{s.database.name}"' if each.role else f'"{s.database.name}"'
            yield Finding(
                level="refusal",
                code="setting_not_carried_over",
                text=f'role "{me}" cannot carry over the setting {each.name} of {whose}: {refused.message}',
                hint=_hint(each, refused, s.database.name, me),
                known="tried",
                final=True,
            )
    refusals = _refused(s.maintenance, state, replace(state, acl=frozenset()), s.database.name, operator)
    if refusals:
        yield Finding(
            level="refusal",
            code="grants_not_carried_over",
            text=f'role "{me}" cannot carry over {len(refusals)} of the grants on the database "{s.database.name}": '
            f"{refusals[0].message}",
            hint="Connect as a superuser, or as the role that granted them.",
            known="tried",
            final=True,
        )
    for provider, label in state.security_labels:
        labelled = f"{identifier(provider)} ON DATABASE {identifier(s.database.name)}"
        yield Finding(
            level="caution",
            code="label_not_carried_over",
            text=f'the security label of provider "{provider}" on the database "{s.database.name}" is not carried over',
            hint=f"Set it again after the rollback: SECURITY LABEL FOR {labelled} IS {literal(label)}",
            known="looked up",
        )


def _refused(
    maintenance: Connection, wanted: DatabaseState, current: DatabaseState, name: str, operator: Operator
) -> list[NotApplied]:
    """The statements from ``current`` to ``wanted`` that the server refuses; all of them are rolled back."""
    try:
        with maintenance.transaction(force_rollback=True):
            maintenance.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            refused = rehearse(maintenance, wanted.statements(name, current, operator))
    except psycopg.errors.LockNotAvailable:
        return []
    return [each for each in refused if each.sqlstate != psycopg.errors.LockNotAvailable.sqlstate]


def _hint(setting: DatabaseSetting, refused: NotApplied, database: str, me: str) -> str:
    if refused.sqlstate != psycopg.errors.InsufficientPrivilege.sqlstate:
        whose = f"ROLE {identifier(setting.role)} IN DATABASE" if setting.role else "DATABASE"
        return (
            f"Correct the setting, or remove it: ALTER {whose} {identifier(database)} RESET {identifier(setting.name)}"
        )
    if setting.role:
        return f'Connect as a superuser, or as a role that may alter the role "{setting.role}".'
    grant = f"GRANT SET ON PARAMETER {identifier(setting.name)} TO {identifier(me)}"
    return f"As a superuser: {grant}; or connect as a superuser."
