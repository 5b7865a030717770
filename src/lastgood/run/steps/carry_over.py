"""The transfer of owners and grants to the shadow if the dump was made without them. The state of the database itself
(owner, settings, ACL, comment) is carried over inside the swap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.errors import Failed
from lastgood.events import Caution
from lastgood.load.deferred import remainder
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres import privileges
from lastgood.postgres.apply import apply
from lastgood.postgres.server import Connection, quiet_event_triggers
from lastgood.run.context import Run
from lastgood.run.runner import Result
from lastgood.text.units import counted

# Roles without superuser that may read a table: the possible roles of the application.
_READERS = """
SELECT r.rolname, n.nspname, c.relname
FROM pg_catalog.pg_roles r
CROSS JOIN LATERAL (
  SELECT c.oid, c.relname, c.relnamespace FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'SELECT')
  ORDER BY c.oid LIMIT 3
) c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT r.rolsuper AND r.rolname !~ '^pg_'
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOver(Result):
    """The number of owners and grants that were carried over, the roles that were tried as readers, and remarks for the
    operator."""

    privileges: int
    roles_tried: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"roles": self.roles_tried}


class CarryOver:
    """Give each role the same privileges in the shadow as in the live database."""

    name = "carry_over"
    title = "carry over owners and grants"
    commits = False

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan; the settings that it names are carried over by the swap."""
        return PlannedStep(name=self.name, title="Carry over owners, grants and settings", effect="users do not notice")

    def do(self, run: Run) -> CarriedOver:
        plan = run.plan
        with run.connected(plan.live, "reads grants") as live, run.connected(plan.shadow, "carry over") as shadow:
            # The shadow has its event triggers already.
            quiet_event_triggers(shadow)
            remainder.forget(shadow, plan.run)  # of an earlier attempt, interrupted before its swap
            carried = _carried(run, live, shadow) if plan.carry_owners or plan.carry_acls else None
            fault.point("carry_over.after_objects")
            roles, lost = _try_roles(run, live, shadow)
        count = len(carried.statements) if carried is not None else 0
        tried = f"; {counted(len(roles), 'role')} can read" if roles else ""
        return CarriedOver(
            privileges=count,
            roles_tried=roles,
            remarks=(*(carried.remarks() if carried is not None else ()), *lost),
            detail=f"{counted(count, 'owner or grant', 'owners and grants')}{tried}",
        )

    def undo(self, run: Run) -> None:
        """Do nothing: the whole shadow is dropped."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # fast, and safe to repeat


def _carried(run: Run, live: Connection, shadow: Connection) -> privileges.CarryOver:
    """Apply owners and grants of the live database to the shadow. Raises Failed when the server refuses any."""
    plan = run.plan
    carried = privileges.statements(
        privileges.read(live), privileges.read(shadow), owners=plan.carry_owners, acls=plan.carry_acls
    )
    refused = apply(shadow, carried.statements)
    if refused:
        raise Failed(
            f"cannot carry over {len(refused)} of {len(carried.statements)} owners and grants: {refused[0].message}",
            hint="Run the rollback as a superuser, or as the owner of the live database's objects.",
        )
    return carried


def _try_roles(run: Run, live: Connection, shadow: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read tables in the shadow as each role that can read them in the live database. Returns the roles that succeed,
    and remarks about those that fail because the restore point's own grants are older.

    Skipped are roles that we may not assume, and tables that the restore point lacks.
    """
    tables = {(n, c) for n, c in shadow.execute("SELECT schemaname, tablename FROM pg_catalog.pg_tables").fetchall()}
    tried: dict[str, None] = {}
    lost: list[str] = []
    for role, schema, table in live.execute(_READERS).fetchall():
        if (schema, table) not in tables or not _may_become(shadow, role):
            continue
        query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(schema, table))
        become = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role))
        if not _reads(live, become, query):
            continue  # a policy that fails in the live database may fail in the shadow, too
        if not _reads(shadow, become, query):
            if not run.plan.carry_acls:
                lost.append(f'role "{role}" can read {schema}.{table} today, and could not at the restore point')
                run.emit(Caution(lost[-1]))
                continue
            raise Failed(
                f'cannot switch: role "{role}" can read {schema}.{table} in "{run.plan.live}" but not in the restored '
                "database",
                hint="Run the rollback again with --keep-shadow, and compare the grants of that table.",
            )
        tried[role] = None
    return tuple(tried), tuple(lost)


def _may_become(connection: Connection, role: str) -> bool:
    row = connection.execute("SELECT pg_has_role(current_user, %s, 'MEMBER')", [role]).fetchone()
    return row is not None and bool(row[0])


def _reads(connection: Connection, become: sql.Composed, query: sql.Composed) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(become)
            connection.execute("SET LOCAL transaction_read_only = on")
            connection.execute("SET LOCAL statement_timeout = '10s'")
            connection.execute(query)
    except psycopg.errors.QueryCanceled:
        return True  # the role may read; the query is only slow
    except psycopg.Error:
        return False
    return True
