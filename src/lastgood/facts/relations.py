"""The relations of a database with rows that pg_dump would write, and the COPY commands that read the same rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from lastgood.facts import Facts
from lastgood.facts.rows_text import RowsText
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.server import Connection

# As in pg_dump (selectDumpableTable, getTableData): no system or temporary tables, and no members of extensions except
# configuration tables with their filter.
_RELATIONS = """
WITH RECURSIVE
  zoned(oid) AS (
    SELECT 'pg_catalog.timestamptz'::regtype::oid
    UNION
    SELECT larger.oid FROM zoned JOIN (
        SELECT oid, typelem AS part FROM pg_catalog.pg_type WHERE typelem <> 0
        UNION ALL SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE typbasetype <> 0
        UNION ALL SELECT rngtypid, rngsubtype FROM pg_catalog.pg_range
        UNION ALL SELECT rngmultitypid, rngsubtype FROM pg_catalog.pg_range
        UNION ALL SELECT c.reltype, a.atttypid
                  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
                  WHERE c.reltype <> 0 AND a.attnum > 0 AND NOT a.attisdropped
      ) larger ON larger.part = zoned.oid),
  config AS (
    SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_catalog.pg_extension),
  unsafe AS (
    -- Hash partitioning on an enum hashes OIDs, which a restore changes: pg_dump loads such partitions through the
    -- root (getPartitioningInfo).
    SELECT partrelid AS oid FROM pg_catalog.pg_partitioned_table
    WHERE (SELECT c.oid FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_am a ON a.oid = c.opcmethod
           WHERE c.opcname = 'enum_ops' AND c.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = 'hash')
          = ANY (partclass))
SELECT c.oid, n.nspname, c.relname, c.relkind::text, coalesce(g.condition, ''),
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND a.atttypid IN ('pg_catalog.timestamptz'::regtype, 'pg_catalog.timestamp'::regtype,
                             'pg_catalog.date'::regtype)),
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND a.atttypid = 'pg_catalog.timestamptz'::regtype),
       EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN zoned ON zoned.oid = a.atttypid
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       CASE WHEN c.relispartition AND EXISTS (
           SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) p(oid) JOIN unsafe ON unsafe.oid = p.oid)
         THEN pg_catalog.pg_partition_root(c.oid)::oid END,
       c.relpages::bigint, g.oid IS NOT NULL
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN config g ON g.oid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (g.oid IS NOT NULL OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'))
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class FactsRelation:
    """A table, a partition or a partition root, with the properties for reading its rows.

    ``columns`` are in COPY's order, without generated ones; ``dated`` are those of a date or time stamp type,
    ``offset`` those of them with a time zone. ``zoned``: the text of its rows depends on the session's time zone.
    ``condition``: an extension's own WHERE clause. ``root``: the partition root through which pg_dump loads this
    partition. ``configuration``: an extension created it, and its rows are part of a dump.
    """

    oid: int
    schema_name: str
    name: str
    kind: str
    condition: str
    columns: tuple[str, ...]
    dated: tuple[str, ...]
    offset: tuple[str, ...]
    zoned: bool
    root: int | None
    pages: int
    configuration: bool

    @property
    def qualified(self) -> sql.Identifier:
        """The name as SQL."""
        return sql.Identifier(self.schema_name, self.name)

    def copy(self) -> sql.Composed:
        """The command that writes the rows as pg_dump would. It plans no query, which could run code of the table's
        owner, except for the WHERE clause of an extension."""
        if self.condition:
            # The extension's own text, from the catalogue: pg_dump uses it in the same way.
            rows = sql.SQL("(SELECT {} FROM ONLY {} {})").format(
                self._columns(), self.qualified, sql.SQL(self.condition)
            )
            return sql.SQL("COPY {} TO STDOUT").format(rows)
        columns = sql.SQL(" ({})").format(self._columns()) if self.columns else sql.SQL("")
        return sql.SQL("COPY {}{} TO STDOUT").format(self.qualified, columns)

    def for_counting(self) -> FactsRelation:
        """The same rows with no more columns than their number and the newest time stamps need."""
        return replace(self, columns=tuple(each for each in self.columns if each in self.dated) or self.columns[:1])

    def text(self) -> RowsText:
        """The collector of the facts of the rows that ``copy`` writes."""
        return RowsText(self.columns, dated=self.dated, offset=self.offset)

    def _columns(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(column) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of ``Facts.tables``: its name and columns, and the relations with its rows."""

    schema_name: str
    name: str
    columns: tuple[str, ...]
    parts: tuple[FactsRelation, ...]

    @property
    def zoned(self) -> bool:
        """Whether the text of the rows depends on the session's time zone."""
        return any(part.zoned for part in self.parts)


def as_dumped(connection: Connection) -> list[Source]:
    """The tables that a backup has, by schema and name: ordinary tables and leaf partitions; where pg_dump loads
    partitions through their root, that root with its partitions as parts. Without the schemas of runs in place.
    """
    ours = schemas_of_runs(connection)
    everything = [each for each in _relations(connection) if each.schema_name not in ours]
    by_oid = {relation.oid: relation for relation in everything}
    through_root: dict[int, list[FactsRelation]] = defaultdict(list)
    sources = []
    for relation in everything:
        if relation.kind != "r":
            continue
        if relation.root is not None:
            through_root[relation.root].append(relation)
        else:
            sources.append(Source(relation.schema_name, relation.name, relation.columns, (relation,)))
    for oid, leaves in through_root.items():
        root = by_oid[oid]
        sources.append(Source(root.schema_name, root.name, leaves[0].columns, tuple(leaves)))
    return sorted(sources, key=lambda source: (source.schema_name, source.name))


def of_schemas(connection: Connection, schemas: Collection[str]) -> list[Source]:
    """The tables of these schemas with rows of their own, by schema and name: ordinary tables and leaf partitions. A
    run in place may have made the schemas."""
    return [
        Source(each.schema_name, each.name, each.columns, (each,))
        for each in _relations(connection)
        if each.kind == "r" and each.schema_name in schemas
    ]


def as_in(connection: Connection, like: Facts, *, beyond: bool) -> list[Source]:
    """The tables that both ``like`` and this database have, with the columns of ``like``.

    A table that lacks one of these columns is read with its own. ``beyond`` adds the tables that ``like`` does not
    have; but if ``like`` is a dump, without tables of extensions, which a dump need not list.
    """
    by_name = {(relation.schema_name, relation.name): relation for relation in _relations(connection)}
    by_oid = {relation.oid: relation for relation in by_name.values()}
    listed = {(table.schema_name, table.name) for table in like.tables}
    of_like = [by_name[name] for name in listed if name in by_name]
    partitions = _partitions_of(connection, {each.oid for each in of_like if each.kind == "p"})
    own = {each.oid for each in of_like}
    sources = []
    for table in like.tables:
        relation = by_name.get((table.schema_name, table.name))
        if relation is None:
            continue
        parts = [relation]
        if relation.kind == "p":
            # Partitions that like lists by themselves are sources of their own.
            below = [by_oid[oid] for oid in partitions[relation.oid] if oid in by_oid and oid not in own]
            parts = [each for each in below if each.kind == "r"]
        columns = relation.columns
        if set(table.columns) <= set(columns):
            columns = table.columns
        sources.append(
            Source(table.schema_name, table.name, columns, tuple(replace(each, columns=columns) for each in parts))
        )
    if beyond:
        inside = {oid for oids in partitions.values() for oid in oids}
        sources += [
            source
            for source in as_dumped(connection)
            if (source.schema_name, source.name) not in listed
            and not any(part.oid in inside or (part.configuration and like.origin == "dump") for part in source.parts)
        ]
    return sources


def _relations(connection: Connection) -> list[FactsRelation]:
    return [
        FactsRelation(
            oid, schema, name, kind, condition, tuple(columns or ()), tuple(dated or ()), tuple(zoned or ()), *others
        )
        for oid, schema, name, kind, condition, columns, dated, zoned, *others in connection.execute(_RELATIONS)
    ]


def _partitions_of(connection: Connection, roots: set[int]) -> dict[int, list[int]]:
    query = (
        "SELECT root, array_agg(t.relid::oid ORDER BY t.relid) FROM unnest(%s::oid[]) root,"
        " pg_catalog.pg_partition_tree(root) t GROUP BY root"
    )
    return dict(connection.execute(query, [list(roots)]).fetchall())


def lock(connection: Connection, sources: Sequence[Source]) -> None:
    """Lock the relations against DROP and TRUNCATE for the duration of the transaction, as pg_dump does.

    TRUNCATE affects older snapshots, too. Readers and writers are not blocked. Raises psycopg.Error.
    """
    names = [part.qualified for source in sources for part in source.parts]
    for start in range(0, len(names), 500):
        batch = sql.SQL(", ").join(sql.SQL("ONLY {}").format(name) for name in names[start : start + 500])
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(batch))
