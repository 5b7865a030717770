"""Ties: what binds the schemas that go back to the rest of the database, by name.

An object refers to another one by OID. After a move, a trigger on a platform's table would still call the kept
function, and a publication would still publish the kept table. So each tie is cut and made again, as the restore point
had it. ``Ties`` is data: from the catalogue of the live database or of a scratch database with the restore point's
definitions (``tie_queries``), or from the mark of a kept schema.

Expressions are the server's own text, read with an empty search path: all names in them are qualified."""

from __future__ import annotations

from lastgood.models import Frozen
from lastgood.postgres.access.grants import Acl, Grant


class TiedKey(Frozen):
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
    comment: str | None = None

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
    """A publication with the members that go back: tables, and schemas as a whole. ``publish``, ``via_root`` and, since
    18, ``generated``: its options as WITH has them; they go back, too. ``owner``: for one that is created again."""

    name: str
    publish: str
    via_root: bool
    generated: str | None = None
    owner: str = ""
    members: tuple[Member, ...] = ()
    schemas: tuple[str, ...] = ()


class EventTrigger(Frozen):
    """An event trigger whose function goes back. ``owner`` is empty where a restore point does not name it."""

    name: str
    event: str
    tags: tuple[str, ...]
    function_schema: str
    function: str
    enabled: str = "O"
    comment: str | None = None
    owner: str = ""


class Privilege(Frozen):
    """One privilege as data; an empty grantee is PUBLIC."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool


class DefaultPrivileges(Frozen):
    """ALTER DEFAULT PRIVILEGES FOR ``role``, in a schema that goes back or, with an empty name, in the whole database.
    ``kind`` is pg_default_acl's letter. ``builtin``: the privileges without such an entry."""

    schema_name: str
    role: str
    kind: str
    privileges: tuple[Privilege, ...]
    builtin: tuple[Privilege, ...] = ()

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
    foreign_keys: tuple[TiedKey, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    policies: tuple[Policy, ...] = ()
    publications: tuple[Publication, ...] = ()
    event_triggers: tuple[EventTrigger, ...] = ()

    def tables(self) -> list[tuple[str, str]]:
        """The tables that stay and are tied, as (schema, name), sorted."""
        found = {(each.target_schema, each.target_table) for each in self.foreign_keys}
        found |= {(each.schema_name, each.table) for each in self.triggers if each.tied}
        found |= {(each.schema_name, each.table) for each in self.policies if each.tied}
        return sorted(found)

    def schema_named(self, name: str) -> Schema | None:
        """The schema of that name, if it is one of these."""
        return next((each for each in self.schemas if each.name == name), None)


def acl(privileges: tuple[Privilege, ...]) -> Acl:
    """The privileges as an ACL of ``lastgood.postgres.access.grants``."""
    return frozenset(Grant(each.grantor, each.grantee, each.privilege, each.grantable) for each in privileges)
