"""Ties: what binds the schemas that go back to the rest of the database, by name.

An object refers to another one by OID. After a move, a trigger on a platform's table would still call the kept
function, and a publication would still publish the kept table. So each tie is cut and made again, as the restore point
had it. ``Ties`` is data: read from the live database, from a scratch database with the restore point's definitions, or
from the mark of a kept schema.

Expressions are the server's own text, read with an empty search path: all names in them are qualified."""

from __future__ import annotations

from typing import Any

from lastgood.models import Frozen
from lastgood.postgres.grants import Acl, Grant


class ForeignKey(Frozen):
    """A foreign key of a table that goes back, to a table that stays. ``definition`` is pg_get_constraintdef's, without
    NOT VALID. ``partitioned``: of a partitioned table, which before 18 cannot have one that is NOT VALID."""

    schema_name: str
    table: str
    name: str
    definition: str
    target_schema: str
    target_table: str
    validated: bool = True
    partitioned: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        return self.schema_name, self.table, self.name


class Trigger(Frozen):
    """A trigger on a table that stays. ``tied``: its function goes back. ``enabled`` is pg_trigger's letter, ``O`` for
    the usual state."""

    schema_name: str
    table: str
    name: str
    definition: str
    tied: bool
    constraint: bool = False
    enabled: str = "O"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.schema_name, self.table, self.name


class Policy(Frozen):
    """A policy on a table that stays. ``tied``: its expressions use an object that goes back. ``command`` is ALL or the
    word of a statement; an empty role is PUBLIC."""

    schema_name: str
    table: str
    name: str
    command: str
    permissive: bool
    roles: tuple[str, ...]
    using: str | None
    check: str | None
    tied: bool

    @property
    def key(self) -> tuple[str, str, str]:
        return self.schema_name, self.table, self.name


class Member(Frozen):
    """A table in a publication; ``columns`` is None for all of them, ``condition`` is the row filter."""

    schema_name: str
    table: str
    columns: tuple[str, ...] | None = None
    condition: str | None = None


class Publication(Frozen):
    """A publication with the members that go back: tables, and schemas as a whole. ``publish``: as WITH has it."""

    name: str
    publish: str
    via_root: bool
    members: tuple[Member, ...] = ()
    schemas: tuple[str, ...] = ()


class EventTrigger(Frozen):
    """An event trigger whose function goes back."""

    name: str
    event: str
    tags: tuple[str, ...]
    function_schema: str
    function: str
    enabled: str = "O"


class Privilege(Frozen):
    """One privilege as data; an empty grantee is PUBLIC."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool


class DefaultPrivileges(Frozen):
    """ALTER DEFAULT PRIVILEGES FOR ``role`` IN SCHEMA; ``kind`` is pg_default_acl's letter."""

    schema_name: str
    role: str
    kind: str
    privileges: tuple[Privilege, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.schema_name, self.role, self.kind


class Schema(Frozen):
    """A schema that goes back. ``privileges`` include the defaults of its owner."""

    name: str
    owner: str
    privileges: tuple[Privilege, ...]
    comment: str | None = None


class Ties(Frozen):
    """All ties of the schemas that go back; sorted, so that equal ties are equal documents."""

    schemas: tuple[Schema, ...] = ()
    default_privileges: tuple[DefaultPrivileges, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    publications: tuple[Publication, ...] = ()
    event_triggers: tuple[EventTrigger, ...] = ()

    def schema_named(self, name: str) -> Schema | None:
        """The schema of that name, if it is one of these."""
        return next((each for each in self.schemas if each.name == name), None)


def acl(privileges: tuple[Privilege, ...]) -> Acl:
    """The privileges as an ACL of ``lastgood.postgres.grants``."""
    return frozenset(Grant(each.grantor, each.grantee, each.privilege, each.grantable) for each in privileges)


def privileges_of(rows: Any) -> tuple[Privilege, ...]:
    """Privileges from JSON rows of (grantor, grantee, privilege, grantable), sorted."""
    return tuple(
        Privilege(grantor=grantor, grantee=grantee, privilege=privilege, grantable=grantable)
        for grantor, grantee, privilege, grantable in sorted(rows or ())
    )
