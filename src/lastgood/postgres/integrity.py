"""Integrity that a database's catalogue does not guarantee: foreign keys row by row, invalid indexes, unfinished views.

Rows may have been loaded without a check of a validated constraint (``session_replication_role = replica`` skips
foreign keys and leaves ``convalidated`` true), so the rows themselves are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg import sql

from lastgood.postgres.server import Connection

SAMPLES = 5


@dataclass(frozen=True, slots=True)
class KeyOrphans:
    """The result for a foreign key: ``orphans`` rows whose key has no match, with up to five sample keys as text.

    ``validated`` is what the catalogue claims; for one that is NOT VALID, or not enforced (18), orphans are allowed.
    """

    schema_name: str
    table: str
    name: str
    references: str
    validated: bool
    orphans: int
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IntegrityFinding:
    """Another fault of integrity. ``kind``: ``invalid index``, ``unpopulated materialized view``,
    ``unfinished view``.
    """

    kind: str
    what: str
    detail: str


_FOREIGN_KEYS = """
SELECT n.nspname, c.relname, k.conname, fn.nspname, f.relname, k.convalidated, k.confmatchtype = 'f',
       coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false),
       (SELECT array_agg(a.attname::text ORDER BY p.position)
        FROM unnest(k.conkey) WITH ORDINALITY p(number, position)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.number),
       (SELECT array_agg(a.attname::text ORDER BY p.position)
        FROM unnest(k.confkey) WITH ORDINALITY p(number, position)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.number),
       (SELECT array_agg(n.nspname::text ORDER BY p.position)
        FROM unnest(k.conpfeqop) WITH ORDINALITY p(operator, position)
        JOIN pg_catalog.pg_operator o ON o.oid = p.operator JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace),
       (SELECT array_agg(o.oprname::text ORDER BY p.position)
        FROM unnest(k.conpfeqop) WITH ORDINALITY p(operator, position)
        JOIN pg_catalog.pg_operator o ON o.oid = p.operator),
       c.relkind = 'p', f.relkind = 'p'
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname, k.conname
"""


@dataclass(frozen=True, slots=True)
class ForeignKeyConstraint:
    """A foreign key from the catalogue, for ``look_up``."""

    schema_name: str
    table: str
    name: str
    other_schema: str
    other: str
    validated: bool
    full: bool
    period: bool
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    operators: tuple[tuple[str, str], ...]
    partitioned: bool
    other_partitioned: bool


def foreign_key_constraints(connection: Connection) -> list[ForeignKeyConstraint]:
    """Every foreign key of the database, without the parts of partitioned ones. Raises psycopg.Error."""
    constraints = []
    for *plain, columns, keys, places, operators, partitioned, other in connection.execute(_FOREIGN_KEYS).fetchall():
        schema, table, name, other_schema, other_table, validated, full, period = plain
        pairs = tuple(zip(places, operators, strict=True))
        constraints.append(
            ForeignKeyConstraint(
                schema,
                table,
                name,
                other_schema,
                other_table,
                validated,
                full,
                period,
                tuple(columns),
                tuple(keys),
                pairs,
                partitioned,
                other,
            )
        )
    return constraints


def keys_with_orphans(
    connection: Connection, *, chosen: Callable[[tuple[str, str, str]], bool] = lambda key: True
) -> Iterator[KeyOrphans]:
    """Look up every row of every foreign key, one key at a time, in the caller's transaction. ``chosen`` selects keys
    by schema, table and name.

    Raises psycopg.Error.
    """
    for key in foreign_key_constraints(connection):
        if chosen((key.schema_name, key.table, key.name)):
            yield look_up(connection, key)


def orphans(key: ForeignKeyConstraint, sample: float | None = None) -> sql.Composed:
    """The clauses FROM and WHERE that select the rows without a match from a key's table, as ``l``. ``sample``: the
    percentage of the table's pages to read, always the same pages.

    A key with a NULL column needs no match (MATCH SIMPLE); under MATCH FULL, only if all columns are NULL.
    A key with PERIOD (18) must be covered by the union of the matching rows' periods.
    """
    pairs = list(zip(key.columns, key.keys, key.operators, strict=True))
    equal = sql.SQL(" AND ").join(
        sql.SQL("r.{} OPERATOR({}.{}) l.{}").format(
            # An operator's name cannot be quoted; it comes from the catalogue and has no letters in it.
            sql.Identifier(other),
            sql.Identifier(place),
            sql.SQL(operator),
            sql.Identifier(column),
        )
        for column, other, (place, operator) in (pairs[:-1] if key.period else pairs)
    )
    candidates = sql.SQL("FROM {}{} r WHERE {}").format(
        sql.SQL("" if key.other_partitioned else "ONLY "), sql.Identifier(key.other_schema, key.other), equal
    )
    if key.period:
        covered = sql.SQL("coalesce(l.{} OPERATOR(pg_catalog.<@) (SELECT pg_catalog.range_agg(r.{}) {}), false)")
        has_match = covered.format(sql.Identifier(key.columns[-1]), sql.Identifier(key.keys[-1]), candidates)
    else:
        has_match = sql.SQL("EXISTS (SELECT {})").format(candidates)
    not_null = sql.SQL(" OR " if key.full else " AND ").join(
        sql.SQL("l.{} IS NOT NULL").format(sql.Identifier(column)) for column in key.columns
    )
    return sql.SQL("FROM {}{} l{} WHERE ({}) AND NOT {}").format(
        sql.SQL("" if key.partitioned else "ONLY "),
        sql.Identifier(key.schema_name, key.table),
        tablesample(sample),
        not_null,
        has_match,
    )


def tablesample(percent: float | None) -> sql.Composable:
    """``TABLESAMPLE`` for a percentage of a table's pages, always the same pages; empty for None."""
    if percent is None:
        return sql.SQL("")
    return sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(sql.Literal(percent))


def look_up(connection: Connection, key: ForeignKeyConstraint) -> KeyOrphans:
    """Look up every row of one foreign key: an anti-join. Different keys may be looked up on several connections in
    parallel. For rows without a match see ``orphans``. Raises psycopg.Error.
    """
    orphan = orphans(key)
    row = connection.execute(sql.SQL("SELECT count(*) ") + orphan).fetchone()
    count = row[0] if row is not None else 0
    samples: tuple[str, ...] = ()
    if count:
        key_text = sql.SQL("concat_ws(', ', {})").format(
            sql.SQL(", ").join(
                sql.SQL("coalesce(l.{}::text, 'NULL')").format(sql.Identifier(column)) for column in key.columns
            )
        )
        distinct = sql.SQL("SELECT DISTINCT {} {} ORDER BY 1 LIMIT {}").format(key_text, orphan, SAMPLES)
        samples = tuple(text for (text,) in connection.execute(distinct))
    return KeyOrphans(
        key.schema_name, key.table, key.name, f"{key.other_schema}.{key.other}", key.validated, count, samples
    )


# A column of pg_dump's stand-in view (createDummyViewAsClause): type, collation and name, which may be quoted, and
# types may have arguments.
_BARE_NULL = r"""\(?NULL::([^,;("]|"([^"]|"")*"|\([^)]*\))+"""


def findings(connection: Connection) -> list[IntegrityFinding]:
    """Invalid indexes, materialized views without data, and views that an interrupted restore left with pg_dump's
    stand-in body (``SELECT NULL::type AS column …`` without FROM). Raises psycopg.Error."""
    faults = []
    for kind, what, detail in connection.execute(
        r"""
        SELECT 'invalid index', format('%%I.%%I', n.nspname, c.relname),
               format('on %%s%%s', i.indrelid::regclass,
                      CASE WHEN c.relkind = 'I' THEN ', not all partitions have theirs' ELSE '' END)
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND n.nspname !~ '^pg_temp'
        UNION ALL
        SELECT 'unpopulated materialized view', format('%%I.%%I', n.nspname, c.relname), 'reading it is an error'
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm' AND NOT c.relispopulated
        UNION ALL
        SELECT 'unfinished view', format('%%I.%%I', n.nspname, c.relname), 'every column is a bare NULL'
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'v'
          -- CASE: or every view of the system would be written out first, and matched.
          AND CASE WHEN n.nspname ~ '^pg_' OR n.nspname = 'information_schema' THEN false
                   WHEN pg_catalog.pg_get_viewdef(c.oid) ~ '\sFROM\s' THEN false
                   ELSE pg_catalog.pg_get_viewdef(c.oid) ~ %s END
        ORDER BY 1, 2
        """,
        [rf"^ *SELECT ({_BARE_NULL},\s+)*{_BARE_NULL};$"],
    ):
        faults.append(IntegrityFinding(kind, what, detail))
    return faults
