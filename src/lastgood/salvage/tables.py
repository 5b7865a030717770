"""The tables of the live database, with everything that decides how rows are merged into them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from psycopg import sql

from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.server import Connection

Name = tuple[str, str]

_TABLES = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind = 'p', c.relispartition,
       c.relhasrules OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
                                AND g.tgenabled <> 'D'),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       ARRAY(SELECT l.relid::oid::int8 FROM pg_catalog.pg_partition_tree(c.oid) l WHERE l.isleaf)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                  AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
ORDER BY 2, 3
"""
# ``deptype``: a serial or identity column owns its sequence (a, i); any other default may still use one (n).
_COLUMNS = """
SELECT a.attrelid::int8, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attidentity::text, a.attgenerated <> '',
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
         AND (SELECT t.typdefault IS NULL FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid),
       a.atttypid IN ('pg_catalog.timestamptz'::regtype, 'pg_catalog.timestamp'::regtype),
       a.atttypid IN ('pg_catalog.int2'::regtype, 'pg_catalog.int4'::regtype, 'pg_catalog.int8'::regtype,
                      'pg_catalog.numeric'::regtype),
       a.atttypid IN ('pg_catalog.int2'::regtype, 'pg_catalog.int4'::regtype, 'pg_catalog.int8'::regtype),
       (SELECT q.oid::int8 FROM pg_catalog.pg_class q
        WHERE q.relkind = 'S' AND q.oid IN (
          SELECT d.objid FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
          UNION ALL
          SELECT d.refobjid FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_depend d
            ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = f.oid
           AND d.refclassid = 'pg_catalog.pg_class'::regclass
          WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum)
        ORDER BY q.oid LIMIT 1),
       (WITH RECURSIVE below (oid) AS (
          SELECT a.atttypid UNION ALL SELECT t.typbasetype FROM below
          JOIN pg_catalog.pg_type t ON t.oid = below.oid AND t.typtype = 'd')
        SELECT coalesce(max(oid::regtype::text), '') FROM below
        WHERE oid IN ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype))
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
_INDEXES = """
SELECT i.indrelid::int8, i.indisprimary,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.place <= i.indnkeyatts ORDER BY k.place),
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
       ARRAY(SELECT ARRAY[s.nspname::text, o.oprname::text]
             FROM unnest(i.indclass::oid[]) WITH ORDINALITY k (class, place)
             JOIN pg_catalog.pg_opclass q ON q.oid = k.class
             JOIN pg_catalog.pg_amop m ON m.amopfamily = q.opcfamily AND m.amopstrategy = 3
              AND m.amoplefttype = q.opcintype AND m.amoprighttype = q.opcintype
             JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
             JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
             WHERE k.place <= i.indnkeyatts ORDER BY k.place)
FROM pg_catalog.pg_index i
WHERE i.indrelid = ANY (%s::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indrelid, NOT i.indisprimary, i.indnkeyatts, i.indexrelid
"""
_FOREIGN_KEYS = """
SELECT k.conname::text, k.conrelid::int8, k.confrelid::int8, k.condeferrable,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY p (number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.number ORDER BY p.place),
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY p (number, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.number ORDER BY p.place),
       ARRAY(SELECT ARRAY[s.nspname::text, o.oprname::text] FROM unnest(k.conpfeqop) WITH ORDINALITY p (operator, place)
             JOIN pg_catalog.pg_operator o ON o.oid = p.operator
             JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace ORDER BY p.place),
       k.confmatchtype = 'f'
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = ANY (%s::oid[]) AND k.confrelid = ANY (%s::oid[])
  AND NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
  AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
ORDER BY k.conrelid, k.conname
"""
# Foreign keys of single partitions and of tables that are not read, and those over periods.
_OTHER_KEYS = """
SELECT k.conrelid::int8, k.confrelid::int8 FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = ANY (%s::oid[]) OR k.confrelid = ANY (%s::oid[]))
  AND (NOT (k.conrelid = ANY (%s::oid[]) AND k.confrelid = ANY (%s::oid[]))
       OR coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false))
"""
_PARTITIONS = """
SELECT n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relispartition
"""


@dataclass(frozen=True, slots=True)
class Column:
    """``identity``: ``a`` for GENERATED ALWAYS, ``d`` for BY DEFAULT, else empty. ``sequence``: the OID of the sequence
    that numbers it. ``given``: each new row must give it a value. ``dated``: a time stamp; ``number``: an integer or a
    numeric; ``integer``: an integer. ``json``: ``json`` or ``jsonb`` for such a type or a domain over it, else empty.
    """

    name: str
    type: str
    required: bool
    identity: str
    generated: bool
    given: bool
    dated: bool
    number: bool
    integer: bool
    sequence: int | None
    json: str


@dataclass(frozen=True, slots=True)
class Equality:
    """The operator by which a key compares two values: its schema and its name. It may be an extension's."""

    schema: str
    name: str

    def between(self, one: sql.Composable, other: sql.Composable) -> sql.Composed:
        """``one`` = ``other``, as SQL."""
        return sql.SQL("({} OPERATOR({}.{}) {})").format(
            one,
            sql.Identifier(self.schema),
            sql.SQL(self.name),
            other,
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A unique key without expressions and conditions. ``nulls_equal``: NULLS NOT DISTINCT."""

    columns: tuple[str, ...]
    equalities: tuple[Equality, ...]
    nulls_equal: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """``child`` and ``parent`` are OIDs of tables; each of ``equalities`` has the referenced column on its left;
    ``full``: MATCH FULL."""

    name: str
    child: int
    parent: int
    deferrable: bool
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    equalities: tuple[Equality, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class Table:
    """An ordinary table, or the root of a partitioned one, which stands for its partitions.

    ``key``: the primary key, else the smallest unique key without nulls; None without one. ``unique``: all others.
    ``active``: it has enabled triggers or rules. ``checked``: only the server can check all of its foreign keys.
    ``leaves``: the OIDs of the tables with its rows. ``owned``: this role may act as the owner.
    """

    oid: int
    schema: str
    name: str
    partitioned: bool
    active: bool
    owned: bool
    leaves: tuple[int, ...]
    columns: tuple[Column, ...] = ()
    key: Key | None = None
    unique: tuple[Key, ...] = ()
    parents: tuple[ForeignKey, ...] = ()
    children: tuple[ForeignKey, ...] = field(default=(), repr=False)
    checked: bool = False

    @property
    def shown(self) -> str:
        """``schema.name``, for people."""
        return f"{self.schema}.{self.name}"

    @property
    def qualified(self) -> sql.Identifier:
        """The name as SQL."""
        return sql.Identifier(self.schema, self.name)

    @property
    def rows(self) -> sql.Composed:
        """The text after FROM, UPDATE or DELETE FROM: children of a plain table are tables of their own."""
        return sql.SQL("{} {}").format(sql.SQL("" if self.partitioned else "ONLY"), self.qualified)

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns whose values are stored, not generated."""
        return tuple(each.name for each in self.columns if not each.generated)

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(each for each in self.columns if each.name == name)


def read(connection: Connection) -> dict[Name, Table]:
    """The tables of the database by name, without partitions and without the schemas of runs."""
    ours = schemas_of_runs(connection)
    found = [row for row in connection.execute(_TABLES) if not row[4] and row[1] not in ours]
    oids = [row[0] for row in found]
    columns: dict[int, list[Column]] = defaultdict(list)
    for oid, *values in connection.execute(_COLUMNS, [oids]):
        columns[oid].append(Column(*values))
    unique: dict[int, list[Key]] = defaultdict(list)
    keys: dict[int, Key] = {}
    for oid, _, names, nulls_equal, operators in connection.execute(_INDEXES, [oids]):
        key = Key(tuple(names), tuple(Equality(*each) for each in operators), nulls_equal)
        required = {each.name for each in columns[oid] if each.required}
        if oid not in keys and required.issuperset(names):
            keys[oid] = key
        else:
            unique[oid].append(key)
    tables = [
        Table(
            oid=oid,
            schema=schema,
            name=name,
            partitioned=partitioned,
            active=active,
            owned=owned,
            leaves=tuple(leaves) or (oid,),
            columns=tuple(columns[oid]),
            key=keys.get(oid),
            unique=tuple(unique[oid]),
        )
        for oid, schema, name, partitioned, _, active, owned, leaves in found
    ]
    return {(each.schema, each.name): each for each in _with_foreign_keys(connection, tables)}


def _with_foreign_keys(connection: Connection, tables: Sequence[Table]) -> Iterable[Table]:
    oids = [each.oid for each in tables]
    parents: dict[int, list[ForeignKey]] = defaultdict(list)
    children: dict[int, list[ForeignKey]] = defaultdict(list)
    for name, child, parent, deferrable, columns, referenced, operators, full in connection.execute(
        _FOREIGN_KEYS, [oids, oids]
    ):
        equalities = tuple(Equality(*each) for each in operators)
        key = ForeignKey(name, child, parent, deferrable, tuple(columns), tuple(referenced), equalities, full)
        parents[child].append(key)
        children[parent].append(key)
    every = [oid for each in tables for oid in (each.oid, *each.leaves)]
    of_others = {oid for pair in connection.execute(_OTHER_KEYS, [every, every, oids, oids]) for oid in pair}
    return [
        replace(
            each,
            parents=tuple(parents[each.oid]),
            children=tuple(children[each.oid]),
            checked=not of_others.isdisjoint((each.oid, *each.leaves)),
        )
        for each in tables
    ]


def roots(connection: Connection) -> dict[Name, Name]:
    """The partitions of the database by name, each with the partitioned table at their root."""
    rows: list[tuple[str, str, str, str]] = connection.execute(_PARTITIONS).fetchall()
    return {(schema, name): (root_schema, root) for schema, name, root_schema, root in rows}


def in_order(tables: Iterable[Table]) -> tuple[list[Table], frozenset[ForeignKey]]:
    """The tables with parents before their children, and the foreign keys that this order cannot satisfy: one of each
    cycle, if possible one that is deferrable or may be null."""
    known = {each.oid: each for each in tables}
    edges = {
        (key.child, key.parent): key
        for each in sorted(known.values(), key=lambda table: table.shown)
        for key in each.parents
        if key.parent in known and key.parent != key.child
    }
    broken: set[ForeignKey] = set()
    while True:
        graph = {oid: {parent for child, parent in edges if child == oid} for oid in known}
        try:
            return [known[oid] for oid in TopologicalSorter(graph).static_order()], frozenset(broken)
        except CycleError as error:
            # Each node of the cycle is a parent of the next one; the first and the last are the same.
            ring: list[int] = error.args[1]
            pair = max(
                ((child, parent) for parent, child in pairwise(ring)),
                key=lambda pair: _flexible(known[pair[0]], edges[pair]),
            )
            broken |= {key for key in known[pair[0]].parents if key.parent == pair[1]}
            del edges[pair]


def _flexible(child: Table, key: ForeignKey) -> tuple[bool, bool]:
    """Whether a key of a cycle can be checked later: it may be null for a moment, or its check can be deferred."""
    return key.deferrable, not any(child.column(name).required for name in key.columns)
