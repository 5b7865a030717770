"""Tables of extensions, and the rows in them that no dump holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql
from xxhash import xxh3_128_digest

from lastgood.dump.names import Relation
from lastgood.postgres.server import Connection, only_row

_TABLES = """
SELECT e.extname, n.nspname, c.relname, c.oid = ANY (e.extconfig),
       e.extcondition[array_position(e.extconfig, c.oid)],
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
JOIN pg_catalog.pg_class c ON c.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.classid = 'pg_catalog.pg_class'::regclass
  AND d.deptype = 'e' AND e.oid >= 16384 AND c.relkind = 'r' AND c.relpersistence <> 't'
ORDER BY c.oid
"""


@dataclass(frozen=True, slots=True)
class MemberTable:
    """A table of an extension. ``condition``: the extension's own WHERE clause for the rows that a dump holds; None
    where it holds none. ``columns``: without generated ones."""

    extension: str
    relation: Relation
    condition: str | None
    columns: tuple[str, ...]

    @property
    def name(self) -> sql.Identifier:
        """The name as SQL."""
        return sql.Identifier(self.relation.schema, self.relation.name)

    def outside(self) -> sql.Composed:
        """The text after FROM or DELETE FROM for the rows that no dump holds."""
        if self.condition is None:
            return sql.SQL("ONLY {}").format(self.name)
        # The condition is the extension's own text, from the catalogue; pg_dump reads the other rows with it.
        return sql.SQL(
            "ONLY {0} outside WHERE NOT EXISTS (SELECT FROM (SELECT ctid AS place FROM ONLY {0} {1}) dumped"
            " WHERE dumped.place = outside.ctid)"
        ).format(self.name, sql.SQL(self.condition))

    def copy(self, columns: tuple[str, ...] | None = None) -> sql.Composed:
        """The command that writes these rows."""
        listed = sql.SQL(", ").join(map(sql.Identifier, columns or self.columns))
        return sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(listed, self.outside())


def member_tables(connection: Connection) -> list[MemberTable]:
    """The tables that may have rows that no dump holds, in the order of creation."""
    return [
        MemberTable(extension, Relation(schema, name), condition if configuration else None, tuple(columns or ()))
        for extension, schema, name, configuration, condition, columns in connection.execute(_TABLES)
        if not (configuration and not condition)
    ]


def hashes(connection: Connection, table: MemberTable) -> frozenset[bytes]:
    """A hash of each row that no dump holds. The rows of an extension's script fit into memory."""
    return frozenset(each_hash(connection, table))


def each_hash(connection: Connection, table: MemberTable) -> Iterator[bytes]:
    """The same as an iterator."""
    with connection.cursor() as cursor, cursor.copy(table.copy()) as lines:
        for line in lines:
            yield xxh3_128_digest(bytes(line))


def count(connection: Connection, table: MemberTable) -> int:
    """The number of rows that no dump holds."""
    row = only_row(connection, sql.SQL("SELECT count(*) FROM ") + table.outside())
    return int(row[0])
