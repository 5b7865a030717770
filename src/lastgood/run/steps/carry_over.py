"""The transfer of owners and grants to the shadow if the dump was made without them. The state of the database itself
(owner, settings, ACL, comment) is carried over inside the swap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastgood import fault
from lastgood.errors import Failed
from lastgood.events import Caution
from lastgood.load.deferred import remainder
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres.access import privileges
from lastgood.postgres.apply import apply
from lastgood.postgres.mark import forget_marks
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

_MAY_READ = """
SELECT w.role, w.schema_name, w.name,
       pg_catalog.has_schema_privilege(w.role, n.oid, 'USAGE')
       AND pg_catalog.has_table_privilege(w.role, c.oid, 'SELECT')
FROM unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY w (role, schema_name, name, number)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema_name
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
ORDER BY w.number
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
            forget_marks(shadow)
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


def _carried(run: Run, live: Connection, shadow: Connection) -> privileges.PrivilegeCarryOver:
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
    """Look up in the catalogue whether each role that can read tables in the live database can read them in the shadow.
    Returns the roles that can, and remarks about those that cannot because the restore point's own grants are older.
    No table is read: policies, expressions of indexes and triggers are code of the restore point.

    Skipped are tables that the restore point lacks.
    """
    wanted = live.execute(_READERS).fetchall()
    columns = [list(each) for each in zip(*wanted, strict=True)] or [[], [], []]
    tried: dict[str, None] = {}
    lost: list[str] = []
    for role, schema, table, may_read in shadow.execute(_MAY_READ, columns).fetchall():
        if may_read:
            tried[role] = None
        elif not run.plan.carry_acls:
            lost.append(f'role "{role}" can read {schema}.{table} today, and could not at the restore point')
            run.emit(Caution(lost[-1]))
        else:
            raise Failed(
                f'cannot switch: role "{role}" can read {schema}.{table} in "{run.plan.live}" but not in the restored '
                "database",
                hint="Run the rollback again with --keep-shadow, and compare the grants of that table.",
            )
    return tuple(tried), tuple(lost)
