"""Owners and privileges of a database's objects, carried over to a database restored from a dump without them.

A dump made with --no-owner and --no-acl restores every object under the restoring role, with the default privileges of
its kind: the application loses its grants, and revoked privileges return (PUBLIC may execute every new function).

Three cases:

- *On both sides*: the object gets the live one's owner and privileges, including grant options and grantors.
- *Only in the live database* (created since the restore point): nothing to do.
- *Only in the shadow* (dropped since): as if created in the live database today, by the role that owns most objects of
  its kind in its schema: it gets that owner and the owner's default privileges. But a SECURITY DEFINER routine gets
  only its owner's privileges, because it is unknown which roles could not execute it.

Objects of extensions, and PostgreSQL's own, keep their owner; their privileges follow the live database's wherever
those were changed. The owners of extensions and subscriptions themselves cannot be carried over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import LiteralString

from psycopg import sql

from lastgood.postgres.access import grants, securables
from lastgood.postgres.access.grants import Acl, Grant, Operator
from lastgood.postgres.access.securables import DefaultAcl, ObjectName, Securable
from lastgood.postgres.server import Connection
from lastgood.text.units import listed

# Kind → its keyword in ALTER … OWNER TO, and in GRANT … ON (None: it has no privileges).
_WORDS: dict[str, tuple[LiteralString, LiteralString | None]] = {
    "schema": ("SCHEMA", "SCHEMA"),
    "type": ("TYPE", "TYPE"),
    "table": ("TABLE", "TABLE"),
    "view": ("VIEW", "TABLE"),
    "materialized view": ("MATERIALIZED VIEW", "TABLE"),
    "foreign table": ("FOREIGN TABLE", "TABLE"),
    "sequence": ("SEQUENCE", "SEQUENCE"),
    "column": ("", "TABLE"),
    "routine": ("ROUTINE", "ROUTINE"),
    "language": ("LANGUAGE", "LANGUAGE"),
    "foreign data wrapper": ("FOREIGN DATA WRAPPER", "FOREIGN DATA WRAPPER"),
    "foreign server": ("SERVER", "FOREIGN SERVER"),
    "large object": ("LARGE OBJECT", "LARGE OBJECT"),
    "event trigger": ("EVENT TRIGGER", None),
    "publication": ("PUBLICATION", None),
    "statistics": ("STATISTICS", None),
    "collation": ("COLLATION", None),
    "conversion": ("CONVERSION", None),
    "operator": ("OPERATOR", None),
    "operator class": ("OPERATOR CLASS", None),
    "operator family": ("OPERATOR FAMILY", None),
    "text search dictionary": ("TEXT SEARCH DICTIONARY", None),
    "text search configuration": ("TEXT SEARCH CONFIGURATION", None),
}
# pg_default_acl's letters → the keyword of future objects in ALTER DEFAULT PRIVILEGES.
FUTURE_OBJECTS: dict[str, LiteralString] = {
    "r": "TABLES",
    "S": "SEQUENCES",
    "f": "FUNCTIONS",
    "T": "TYPES",
    "n": "SCHEMAS",
    "L": "LARGE OBJECTS",
}
_LETTER = {
    "table": "r",
    "view": "r",
    "materialized view": "r",
    "foreign table": "r",
    "sequence": "S",
    "routine": "f",
    "type": "T",
    "schema": "n",
    "large object": "L",
}
# Names in a remark.
SHOWN = 5
_RELATIONS = ("table", "view", "materialized view", "foreign table")


@dataclass(frozen=True)
class Privileges:
    """The owners and privileges of all objects in one database, read as ``operator``."""

    operator: Operator
    objects: dict[ObjectName, Securable] = field(repr=False)
    columns: dict[tuple[str, str], frozenset[str]] = field(repr=False)
    defaults: dict[tuple[str, str, str], DefaultAcl] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PrivilegeCarryOver:
    """The statements for the shadow, in this order, each by itself (``apply.apply``), and the facts for the report.

    ``only_shadow``: the user's objects that the live database lacks. ``withheld``: routines that only their owner may
    execute. ``regranted``: objects where the owner replaced a grantor that this role may not SET ROLE to.
    ``kept_owner``: objects that this role may not transfer to their live owner."""

    statements: list[sql.Composed] = field(repr=False)
    only_shadow: list[ObjectName]
    withheld: list[ObjectName]
    regranted: list[ObjectName]
    kept_owner: list[ObjectName]

    def remarks(self) -> Iterator[str]:
        """Yield the remarks for the operator."""
        for names, text in (
            (self.only_shadow, "are in the restore point only, and get the default privileges of the live database"),
            (
                self.withheld,
                "run with their owner's rights and are in the restore point only: granted to the owner alone",
            ),
            (self.regranted, "have grants by a role that this role may not act for; the owner grants them now"),
            (self.kept_owner, "could not be transferred to their owner"),
        ):
            if names:
                yield f"{len(names)} objects {text}: {listed(map(str, names), SHOWN)}"


def read(connection: Connection) -> Privileges:
    """Owners and privileges of all objects in the connection's database. Large objects are read row by row, but the
    result is held in memory: some hundred bytes per object."""
    return Privileges(
        Operator.read(connection),
        {each.name: each for each in securables.read(connection)},
        securables.columns(connection),
        {each.key: each for each in securables.defaults(connection)},
    )


def statements(live: Privileges, shadow: Privileges, *, owners: bool = True, acls: bool = True) -> PrivilegeCarryOver:
    """The statements that give the shadow's objects the ``owners`` and ``acls`` of the live ones.

    Leave one out where the dump has it. Equal objects need no statement, so that, after success, a second reading of
    the shadow yields none."""
    return _Carrying(live, shadow, owners, acls).result()


class _Carrying:
    def __init__(self, live: Privileges, shadow: Privileges, owners: bool, acls: bool) -> None:
        self._live = live
        self._shadow = shadow
        self._owners = owners
        self._acls = acls
        self._operator = shadow.operator
        self._main_owners = _main_owners(live)
        self._admitted: dict[ObjectName, set[Grant]] = {}
        self._withheld: list[ObjectName] = []
        self._regranted: list[ObjectName] = []
        self._kept_owner: list[ObjectName] = []

    def result(self) -> PrivilegeCarryOver:
        in_shadow = {
            name for name, each in self._shadow.objects.items() if each.origin == "user" and name.kind != "column"
        }
        in_live = {name for name, each in self._live.objects.items() if each.origin == "user" and name.kind != "column"}
        statements: list[sql.Composed] = []
        names = sorted(self._names())
        schemas = [name for name in names if name.kind == "schema"]
        others = [name for name in names if name.kind != "schema"]
        # A schema's owner changes after its contents: afterwards this role may lack USAGE on the schema.
        if self._owners:
            statements += self._admit_owners(others)
            statements += [statement for name in (*others, *schemas) for statement in self._owner_statements(name)]
        # A grantor needs USAGE on the schema.
        if self._acls or self._admitted:
            statements += [statement for name in schemas for statement in self._acl_statements(name)]
        if self._acls:
            statements += [statement for name in others for statement in self._acl_statements(name)]
            statements += self._default_statements()
        return PrivilegeCarryOver(
            statements,
            only_shadow=sorted(in_shadow - in_live),
            withheld=self._withheld,
            regranted=self._regranted,
            kept_owner=self._kept_owner,
        )

    def _admit_owners(self, names: list[ObjectName]) -> Iterator[sql.Composed]:
        """Grant CREATE on the schema to each new owner, which is needed unless a superuser transfers the object. It is
        revoked later with all other surplus privileges of the schema."""
        if self._operator.superuser:
            return
        for name in names:
            schema = ObjectName("schema", name.names[:1])
            present = self._present(name)
            place = self._shadow.objects.get(schema)
            owner = self._final_owner(name)
            if owner == present.owner or name.kind == "column" or len(name.names) < 2 or place is None:
                continue
            grant = Grant(place.owner, owner, "CREATE", False)
            had = any((g.grantee, g.privilege) == (owner, "CREATE") for g in place.acl or ())
            if owner != place.owner and not had and grant not in self._admitted.setdefault(schema, set()):
                self._admitted[schema].add(grant)
                yield from grants.changes(
                    _securable(schema), place.owner, frozenset([grant]), frozenset(), self._operator
                )

    def _names(self) -> Iterator[ObjectName]:
        """All objects in the shadow that may need a statement."""
        yield from self._shadow.objects
        for name, each in self._live.objects.items():
            if name in self._shadow.objects:
                continue
            if name.kind == "column":
                schema, relation, column = name.names
                if column in self._shadow.columns.get((schema, relation), ()):
                    yield name
            elif each.origin == "system":
                yield name

    def _final_owner(self, name: ObjectName) -> str:
        """The final owner in the shadow."""
        present = self._present(name)
        if not self._owners or present.origin != "user":
            return present.owner
        table = self._table(name, present)
        if table is not None:
            return self._final_owner(table)
        wanted = self._live.objects.get(name)
        if wanted is not None:
            owner = wanted.owner
        elif present.owner == self._operator.name:
            schema = name.names[0] if len(name.names) > 1 else ""
            owner = self._main_owners.get((schema, name.kind)) or self._main_owners.get((schema, "")) or present.owner
        else:
            owner = present.owner
        return owner if self._operator.superuser or owner in self._operator.settable else present.owner

    def _table(self, name: ObjectName, present: Securable) -> ObjectName | None:
        """The relation that determines the owner of ``name``: a column's, or that of a sequence bound to a table."""
        if name.kind == "column":
            for kind in _RELATIONS:
                relation = ObjectName(kind, name.names[:2])
                if relation in self._shadow.objects:
                    return relation
        return present.follows if present.follows in self._shadow.objects else None

    def _present(self, name: ObjectName) -> Securable:
        """The shadow's object; for one that is not listed because its privileges were never changed, with the initial
        ones."""
        if name in self._shadow.objects:
            return self._shadow.objects[name]
        live = self._live.objects[name]
        owner = live.owner
        for kind in _RELATIONS if name.kind == "column" else ():
            relation = self._shadow.objects.get(ObjectName(kind, name.names[:2]))
            owner = relation.owner if relation is not None else owner
        return Securable(name, owner, live.initial or frozenset(), live.initial, live.origin, None, False)

    def _owner_statements(self, name: ObjectName) -> Iterator[sql.Composed]:
        present = self._present(name)
        if present.origin != "user" or self._table(name, present) is not None:
            return
        owner = self._final_owner(name)
        wanted = self._live.objects.get(name)
        if wanted is not None and wanted.owner != owner:
            self._kept_owner.append(name)
        if owner != present.owner:
            word, _ = _WORDS[name.kind]
            yield sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(word), name.reference(), sql.Identifier(owner))

    def _acl_statements(self, name: ObjectName) -> list[sql.Composed]:
        present = self._present(name)
        if present.acl is None:
            return []
        owner = self._final_owner(name)
        kept = grants.under_owner(present.acl, present.owner, owner)
        wanted = self._wanted(name, present, owner) if self._acls else kept
        reachable = grants.within_reach(wanted, owner, self._operator)
        if reachable != wanted:
            self._regranted.append(name)
        current = grants.under_owner(present.acl | self._admitted.get(name, set()), present.owner, owner)
        return grants.changes(_securable(name), owner, reachable, current, self._operator)

    def _wanted(self, name: ObjectName, present: Securable, owner: str) -> Acl:
        live = self._live.objects.get(name)
        if live is not None and live.acl is not None:
            return grants.under_owner(live.acl, live.owner, owner)
        if name.kind == "column":
            # A column that is not listed in the live database has no privileges of its own.
            relation = self._table(name, present)
            lives = relation is not None and relation in self._live.objects
            return (
                frozenset() if lives or present.acl is None else grants.under_owner(present.acl, present.owner, owner)
            )
        if present.initial is not None:
            return grants.under_owner(present.initial, present.owner, owner)
        return self._as_if_created_now(name, present, owner)

    def _as_if_created_now(self, name: ObjectName, present: Securable, owner: str) -> Acl:
        assert present.acl is not None
        acl = grants.under_owner(present.acl, present.owner, owner)
        letter = _LETTER.get(name.kind)
        if letter is not None:
            everywhere = self._live.defaults.get((owner, "", letter))
            if everywhere is not None:
                acl = everywhere.acl
            schema = self._live.defaults.get((owner, name.names[0], letter)) if len(name.names) > 1 else None
            if schema is not None:
                acl = _union(acl, schema.acl)
        if name.kind == "routine" and present.definer and any(grant.grantee != owner for grant in acl):
            self._withheld.append(name)
            return frozenset(grant for grant in acl if grant.grantee == owner)
        return acl

    def _default_statements(self) -> Iterator[sql.Composed]:
        for key in sorted(self._live.defaults.keys() | self._shadow.defaults.keys()):
            role, schema, letter = key
            live, present = self._live.defaults.get(key), self._shadow.defaults.get(key)
            either = live or present
            assert either is not None
            if schema and ObjectName("schema", (schema,)) not in self._shadow.objects:
                continue
            before = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}").format(sql.Identifier(role))
            if schema:
                before += sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema))
            yield from grants.changes(
                grants.GrantTarget(sql.SQL(FUTURE_OBJECTS[letter]), before=before),
                role,
                live.acl if live is not None else either.builtin,
                present.acl if present is not None else either.builtin,
                self._operator,
            )


def _securable(name: ObjectName) -> grants.GrantTarget:
    word = _WORDS[name.kind][1]
    assert word is not None
    on = sql.SQL("{} {}").format(sql.SQL(word), name.reference())
    return grants.GrantTarget(on, column=name.names[2] if name.kind == "column" else None)


def _union(first: Acl, second: Acl) -> Acl:
    options: dict[tuple[str, str, str], bool] = {}
    for grant in first | second:
        key = (grant.grantor, grant.grantee, grant.privilege)
        options[key] = options.get(key, False) or grant.grantable
    return frozenset(Grant(*key, grantable) for key, grantable in options.items())


def _main_owners(live: Privileges) -> dict[tuple[str, str], str]:
    """(schema, kind), and (schema, "") for all kinds → the role that owns most of the user's objects there."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for name, each in live.objects.items():
        if each.origin == "user" and len(name.names) > 1 and name.kind != "column":
            for key in ((name.names[0], name.kind), (name.names[0], "")):
                counts.setdefault(key, Counter())[each.owner] += 1
    # For equal counts the first role by name, so that the result is stable.
    return {key: min(count.items(), key=lambda item: (-item[1], item[0]))[0] for key, count in counts.items()}
