"""The objects of the schemas to roll back: how each is moved, and what prevents it.

The objects are found through pg_depend: each object of a schema depends on it, whatever its kind. A kind that is not in
``_KINDS`` is refused, never skipped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from lastgood.in_place.definitions.ranges import RangeType, belonging, immovable, staying
from lastgood.in_place.ties import Ties, queries
from lastgood.in_place.ties.queries import Dependent
from lastgood.postgres.access.securables import ObjectName
from lastgood.postgres.server import Connection, only_row

# Kind → its words in ALTER … SET SCHEMA. In the order of moves: what has types in its name goes before the types, or
# the names read at the start no longer hold.
_KINDS: dict[str, LiteralString] = {
    "routine": "ROUTINE",
    "operator": "OPERATOR",
    "operator class": "OPERATOR CLASS",
    "operator family": "OPERATOR FAMILY",
    "view": "TABLE",
    "materialized view": "TABLE",
    "table": "TABLE",
    "foreign table": "TABLE",
    "sequence": "TABLE",
    "type": "TYPE",
    "statistics": "STATISTICS",
    "collation": "COLLATION",
    "conversion": "CONVERSION",
    "text search dictionary": "TEXT SEARCH DICTIONARY",
    "text search configuration": "TEXT SEARCH CONFIGURATION",
    "text search parser": "TEXT SEARCH PARSER",
    "text search template": "TEXT SEARCH TEMPLATE",
}
_ORDER = {kind: number for number, kind in enumerate(_KINDS)}
# The share of the lock table that a swap may take.
LOCK_SHARE = 0.5
# Ties that the swap cuts and makes again; any other dependent prevents it.
_MADE_AGAIN = frozenset({"pg_trigger", "pg_policy", "pg_publication_rel", "pg_event_trigger"})

_TYPES: LiteralString = """ARRAY(
    SELECT v.x FROM unnest({}) WITH ORDINALITY u(type, n) LEFT JOIN pg_type t ON t.oid = u.type
    LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
    CROSS JOIN LATERAL (VALUES (1, coalesce(tn.nspname::text, '')), (2, coalesce(t.typname::text, ''))) v(k, x)
    ORDER BY u.n, v.k)"""

# Left out: members of extensions; what moves with another object (an owned sequence with its table); default privileges
# and publications of the schema, which are ties; an extension itself, which stays.
_OBJECTS = sql.SQL("""
SELECT n.nspname, d.classid::regclass::text, i.type, i.name,
       CASE WHEN d.classid = 'pg_proc'::regclass THEN {routine}
            WHEN d.classid = 'pg_operator'::regclass THEN {operator} ELSE '{{}}' END,
       CASE WHEN d.classid = 'pg_opclass'::regclass
            THEN (SELECT a.amname::text FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod WHERE o.oid = d.objid)
            WHEN d.classid = 'pg_opfamily'::regclass
            THEN (SELECT a.amname::text FROM pg_opfamily o JOIN pg_am a ON a.oid = o.opfmethod WHERE o.oid = d.objid)
       END,
       c.relkind::text, coalesce(c.relname, p.proname, t.typname, o.oprname,
         (SELECT a.object_names[cardinality(a.object_names)]
          FROM pg_identify_object_as_address(d.classid, d.objid, 0) a)),
       coalesce(pg_get_userbyid(s.owner), 'a superuser'),
       CASE WHEN s.owner IS NULL THEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            ELSE pg_has_role(s.owner, 'USAGE') END,
       d.objid::int8
FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
LEFT JOIN pg_operator o ON d.classid = 'pg_operator'::regclass AND o.oid = d.objid
CROSS JOIN LATERAL (SELECT CASE d.classid
    WHEN 'pg_class'::regclass THEN c.relowner
    WHEN 'pg_proc'::regclass THEN p.proowner
    WHEN 'pg_type'::regclass THEN t.typowner
    WHEN 'pg_operator'::regclass THEN o.oprowner
    WHEN 'pg_opclass'::regclass THEN (SELECT opcowner FROM pg_opclass WHERE oid = d.objid)
    WHEN 'pg_opfamily'::regclass THEN (SELECT opfowner FROM pg_opfamily WHERE oid = d.objid)
    WHEN 'pg_statistic_ext'::regclass THEN (SELECT stxowner FROM pg_statistic_ext WHERE oid = d.objid)
    WHEN 'pg_collation'::regclass THEN (SELECT collowner FROM pg_collation WHERE oid = d.objid)
    WHEN 'pg_conversion'::regclass THEN (SELECT conowner FROM pg_conversion WHERE oid = d.objid)
    WHEN 'pg_ts_dict'::regclass THEN (SELECT dictowner FROM pg_ts_dict WHERE oid = d.objid)
    WHEN 'pg_ts_config'::regclass THEN (SELECT cfgowner FROM pg_ts_config WHERE oid = d.objid)
    END) s (owner)
WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = ANY (%s)
  AND d.classid <> ALL (ARRAY['pg_default_acl', 'pg_publication_namespace', 'pg_extension']::regclass[])
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE c.relkind = 'S' AND e.classid = d.classid AND e.objid = d.objid
                  AND e.refclassid = 'pg_class'::regclass AND e.refobjsubid > 0 AND e.deptype IN ('a', 'i'))
ORDER BY 1, 2, 4
""").format(
    routine=sql.SQL(_TYPES.replace("{}", "p.proargtypes")),
    operator=sql.SQL(_TYPES.replace("{}", "ARRAY[o.oprleft, o.oprright]")),
)
_RELKINDS = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
}
_CATALOGUES = {
    "pg_proc": "routine",
    "pg_operator": "operator",
    "pg_opclass": "operator class",
    "pg_opfamily": "operator family",
    "pg_type": "type",
    "pg_statistic_ext": "statistics",
    "pg_collation": "collation",
    "pg_conversion": "conversion",
    "pg_ts_dict": "text search dictionary",
    "pg_ts_config": "text search configuration",
    "pg_ts_parser": "text search parser",
    "pg_ts_template": "text search template",
}

# A partition or an inheriting table inside of the schemas whose parent is outside.
_PARENTS_OUTSIDE = """
SELECT n.nspname, c.relname, pn.nspname, p.relname
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname = ANY (%(schemas)s) AND pn.nspname <> ALL (%(schemas)s) ORDER BY 1, 2
"""
_SUBSCRIBED = """
SELECT n.nspname, c.relname FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (%s) ORDER BY 1, 2
"""
_ALL_TABLES = "SELECT pubname FROM pg_publication WHERE puballtables ORDER BY 1"
# Locks of a swap, measured: 1.25 for each relation moved (2.5 for a table with its sequence), one for each other
# object, and those of the catalogues.
_LOCKS = """
SELECT current_setting('max_locks_per_transaction')::int8,
       (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
       (SELECT count(*) FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid
        WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = ANY (%s)
          AND NOT EXISTS (SELECT FROM pg_depend e
                          WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'))
"""
LOCKS_EACH, LOCKS_ALWAYS = 1.25, 200
# The catalogues that a survey reads. A row that was added or changed has a new xmin; one that was removed is missing.
_CATALOGUES_READ: tuple[LiteralString, ...] = (
    "pg_class",
    "pg_constraint",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_event_trigger",
    "pg_inherits",
    "pg_namespace",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_trigger",
    "pg_type",
)
_FINGERPRINT = sql.SQL(" UNION ALL ").join(
    sql.SQL("SELECT {}, count(*), sum(xmin::text::int8) FROM {}").format(sql.Literal(name), sql.SQL(name))
    for name in _CATALOGUES_READ
)


@dataclass(frozen=True, slots=True)
class Object:
    """An object that is moved by itself. ``owned``: this role has the rights of its owner, which the move needs."""

    name: ObjectName
    owner: str
    owned: bool
    oid: int

    @property
    def schema(self) -> str:
        return self.name.names[0]

    def set_schema(self, schema: str) -> sql.Composed:
        """The statement that moves it."""
        return sql.SQL("ALTER {} {} SET SCHEMA {}").format(
            sql.SQL(_KINDS[self.name.kind]), self.name.reference(), sql.Identifier(schema)
        )


@dataclass(frozen=True, slots=True)
class Survey:
    """The schemas, as one transaction saw them. ``objects`` are in the order of their moves. ``refusals``: each
    prevents the swap, in words; ``cautions`` do not. ``locks``: how many a swap takes."""

    schemas: tuple[str, ...]
    objects: tuple[Object, ...]
    ties: Ties
    refusals: tuple[str, ...]
    cautions: tuple[str, ...]
    locks: int

    def of(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [each for each in self.objects if each.name.kind in kinds]

    def names(self) -> frozenset[str]:
        """The objects' names, for a comparison with a later survey."""
        return frozenset(str(each.name) for each in self.objects)


def objects(
    connection: Connection, schemas: Iterable[str], stay: Iterable[RangeType] | None = None
) -> tuple[list[Object], list[str]]:
    """The objects of the schemas in the order of their moves, and those that cannot be moved, in words. ``stay``: the
    range types that are left out, by default those that this role cannot move."""
    schemas = list(schemas)
    left_out = belonging(staying(connection, schemas) if stay is None else stay)
    found: list[Object] = []
    unknown: list[str] = []
    for schema, catalogue, type_, name, arguments, method, relkind, bare, owner, owned, oid in connection.execute(
        _OBJECTS, [schemas]
    ):
        if oid in left_out.get(catalogue, ()):
            continue
        kind = _RELKINDS.get(relkind, "") if catalogue == "pg_class" else _CATALOGUES.get(catalogue, "")
        if not kind:
            unknown.append(f'{type_} "{schema}.{name}" is of a kind that cannot be moved')
            continue
        names = (schema, bare, method) if method is not None else (schema, bare)
        found.append(Object(ObjectName(kind, names, tuple(arguments)), owner, owned, oid))
    found.sort(key=lambda each: (_ORDER[each.name.kind], each.name))
    return found, unknown


def survey(connection: Connection, schemas: Sequence[str], *, arriving: Sequence[str] | None = None) -> Survey:
    """Survey the schemas that go back. ``arriving``: the schemas whose objects take their place, which count for the
    locks; None before they are built, and then as many are expected. Raises psycopg.Error."""
    stay = staying(connection, schemas)
    found, refusals = objects(connection, schemas, stay)
    refusals += immovable(stay)
    outside = queries.dependents(connection, schemas)
    tied = queries.read(connection, schemas, outside)
    refusals += [
        f'{each.name} belongs to role "{each.owner}", whose privileges this role lacks'
        for each in found
        if not each.owned
    ]
    refusals += [_refusal(each) for each in outside if each.catalogue not in _MADE_AGAIN]
    every = {"schemas": list(schemas)}
    refusals += [
        f'table "{schema}.{table}" is a partition or a child of "{parent_schema}.{parent}", which is not rolled back'
        for schema, table, parent_schema, parent in connection.execute(_PARENTS_OUTSIDE, every)
    ]
    refusals += [
        f'table "{schema}.{table}" is filled by a subscription of logical replication'
        for schema, table in connection.execute(_SUBSCRIBED, [list(schemas)])
    ]
    refusals += [
        f'trigger "{each.name}" on "{each.schema_name}.{each.table}" is set to DISABLE, ALWAYS or REPLICA; '
        "only the table's owner can set that"
        for each in tied.triggers
        if each.tied and each.enabled != "O"
    ]
    cautions = [
        f'publication "{name}" is FOR ALL TABLES: it also publishes staging and kept schemas'
        for (name,) in connection.execute(_ALL_TABLES)
    ]
    each, sessions, moved = only_row(connection, _LOCKS, [[*schemas, *(arriving or ())]])
    if arriving is None:
        moved *= 2
    available, locks = each * sessions, LOCKS_ALWAYS + int(LOCKS_EACH * moved)
    if locks > available * LOCK_SHARE:
        refusals.append(
            f"the switchover needs {locks} locks, more than half of the server's {available}: raise "
            f"max_locks_per_transaction to {math.ceil(locks / LOCK_SHARE / sessions)}"
        )
    return Survey(tuple(schemas), tuple(found), tied, tuple(refusals), tuple(cautions), locks)


_SIZE = """
SELECT coalesce(sum(pg_table_size(c.oid) + pg_indexes_size(c.oid)), 0)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND n.nspname = ANY (%s)
"""


def size_bytes(connection: Connection, schemas: Iterable[str]) -> int:
    """The size of the schemas' tables and materialized views on disk, with their indexes."""
    row = only_row(connection, _SIZE, [list(schemas)])
    return int(row[0])


def _refusal(dependent: Dependent) -> str:
    return f"{dependent.what} depends on {dependent.on}, but is not rolled back"


def fingerprint(connection: Connection) -> list[tuple[object, ...]]:
    """A value that changes with each change of a catalogue that ``survey`` reads; much cheaper than a survey."""
    return connection.execute(_FINGERPRINT).fetchall()
