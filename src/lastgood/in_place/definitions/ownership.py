"""Owners and privileges of the live objects, for a restore point that was dumped without them (``--no-owner``,
``--no-acl``).

They are given to the objects of the same names in the scratch database. So pg_dump writes them with the definitions,
the build restores them, and the proof compares them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from lastgood.errors import Failed
from lastgood.postgres.access import privileges
from lastgood.postgres.access.privileges import Privileges
from lastgood.postgres.apply import apply
from lastgood.postgres.server import Connection


def of_schemas(live: Connection, schemas: Collection[str]) -> Privileges:
    """The owners and privileges of the user's objects in these schemas, and the default privileges that this role may
    change."""
    return _within(privileges.read(live), schemas)


def roles(found: Privileges) -> frozenset[str]:
    """All roles in owners and privileges, without PUBLIC."""
    named = {each.owner for each in found.objects.values()}
    named |= {role for role, _, _ in found.defaults}
    for acl in (*(each.acl for each in found.objects.values()), *(each.acl for each in found.defaults.values())):
        named |= {role for grant in acl or () for role in (grant.grantor, grant.grantee) if role}
    return frozenset(named)


def carry_over(
    live: Privileges, scratch: Connection, schemas: Collection[str], *, owners: bool, acls: bool
) -> Iterable[str]:
    """Give the objects in ``scratch`` the owners and privileges of the live ones. Returns remarks for the operator.
    Raises Failed when the server refuses any."""
    # With the rights of the live session: the build must be able to repeat it there.
    present = replace(_within(privileges.read(scratch), schemas), operator=live.operator)
    carried = privileges.statements(live, present, owners=owners, acls=acls)
    refused = apply(scratch, carried.statements)
    if refused:
        raise Failed(
            f"cannot carry over {len(refused)} of {len(carried.statements)} owners and grants: {refused[0].message}",
            hint="Run the rollback as the owner of the live database's objects.",
        )
    return carried.remarks()


def _within(found: Privileges, schemas: Collection[str]) -> Privileges:
    operator = found.operator
    return replace(
        found,
        objects={
            name: each
            for name, each in found.objects.items()
            if name.names[0] in schemas and each.origin == "user" and (len(name.names) > 1 or name.kind == "schema")
        },
        defaults={
            key: each
            for key, each in found.defaults.items()
            if (key[1] == "" or key[1] in schemas) and (operator.superuser or key[0] in operator.inherits)
        },
    )
