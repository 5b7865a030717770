"""Which rows the bad migration wrote last, from the kept database itself.

Each row has the number of the transaction that wrote it. Transactions that changed definitions after the restore point,
or recorded a migration, are the migration's; those between its first and its last one ran while it did. A transaction
that wrote very many rows is treated alike: an UPDATE without WHERE needs no definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from psycopg import sql

from lastgood.difference import NewNames
from lastgood.dump.names import Relation
from lastgood.facts import migrations
from lastgood.journal import JOURNAL_ERRORS, Journal
from lastgood.journal.reader import MIGRATE, SESSIONS_ENDED, entries
from lastgood.models import Frozen
from lastgood.postgres.server import Connection
from lastgood.text import units

# A transaction that wrote so many rows of a table, or at least some and half of them, is no user's.
MANY, SOME = 100, 10
# The last transaction of a migration whose end is unknown.
NO_END = (1 << 63) - 1

# Definitions in the user's schemas, with the transaction that wrote each. A move to another schema, as an exchange in
# place makes it, does not write the catalogues in the first part.
_DEFINITIONS = """
SELECT a.xmin FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY ({schemas}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
UNION SELECT i.xmin FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ({schemas})
"""
_MOVED = """
UNION SELECT c.xmin FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY ({schemas}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
UNION SELECT k.xmin FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace
WHERE n.nspname = ANY ({schemas})
UNION SELECT p.xmin FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY ({schemas})
UNION SELECT g.xmin FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ({schemas})
"""
_SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""


class Migration(Frozen):
    """Transactions of a migration: ``first`` to ``last``, as numbers of 64 bits. ``by``: how they are known."""

    first: int
    last: int
    by: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A table of the other side under its stored name, with its columns. ``renamed``: stored columns by the names under
    which they are compared, where these differ."""

    schema: str
    name: str
    columns: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def qualified(self) -> sql.Identifier:
        """The name as SQL."""
        return sql.Identifier(self.schema, self.name)

    def column(self, name: str) -> sql.Identifier:
        """A column, by the name under which it is compared, of the table with the alias ``o``."""
        return sql.Identifier("o", self.renamed.get(name, name))


def of_database(
    connection: Connection,
    since: int,
    tables: Iterable[Stored],
    changed: Iterable[Stored],
    schemas: Mapping[str, str],
) -> list[Migration]:
    """The transactions in which definitions changed, or a migration was recorded, from the first to the last; and those
    that wrote many rows of the ``changed`` tables. ``connection``: to the kept database. ``since``: the next
    transaction when the restore point was made. ``schemas``: the stored names of kept schemas, empty for a kept
    database. Nothing if the database itself was restored after that moment."""
    inside = list(schemas.values()) or [name for (name,) in connection.execute(_SCHEMAS)]
    parts: list[sql.Composable] = [
        sql.SQL(_DEFINITIONS if schemas else _DEFINITIONS + _MOVED).format(schemas=sql.Literal(inside))
    ]
    for each in tables:
        if migrations.recognise(each.schema, each.name, each.columns) is not None:
            parts.append(sql.SQL("SELECT xmin FROM {}").format(each.qualified))
    # Literals, not parameters: a name may contain a percent sign.
    row = connection.execute(
        sql.SQL("""
        WITH written (xmin) AS ({written}), now (full_xid) AS ({now}),
             numbers (number) AS (SELECT full_xid - {distance} FROM now, written WHERE xmin::text::int8 > 2)
        SELECT min(number) FILTER (WHERE number >= {since}), max(number), min(number) FROM numbers
        """).format(written=sql.SQL(" UNION ").join(parts), now=_NOW, distance=_DISTANCE, since=sql.Literal(since))
    ).fetchone()
    if row is None or row[2] is None or row[2] >= since:
        return []
    found = []
    if row[0] is not None:
        found.append(Migration(first=row[0], last=row[1], by="definitions that changed after the restore point"))
    rows: Counter[int] = Counter()
    for each in changed:
        rows.update(dict(_of_many_rows(connection, each, since)))
    return found + [
        Migration(first=number, last=number, by=f"one transaction wrote {units.counted(count, 'row')}")
        for number, count in sorted(rows.items())
        if not any(each.first <= number <= each.last for each in found)
    ]


def _of_many_rows(connection: Connection, table: Stored, since: int) -> list[tuple[int, int]]:
    """The transactions that wrote many rows of a table: an UPDATE without WHERE, an import."""
    return connection.execute(
        sql.SQL("""
        WITH numbers (number) AS (SELECT full_xid - {distance} FROM {table}, ({now}) now (full_xid)
                                  WHERE xmin::text::int8 > 2)
        SELECT number, count(*) FROM numbers WHERE number >= {since} GROUP BY 1
        HAVING count(*) >= {many} OR (count(*) >= {some} AND 2 * count(*) >= (SELECT count(*) FROM numbers))
        """).format(
            distance=_DISTANCE,
            table=table.qualified,
            now=_NOW,
            since=sql.Literal(since),
            many=sql.Literal(MANY),
            some=sql.Literal(SOME),
        )
    ).fetchall()


def without(found: Iterable[Migration], taken: Iterable[int]) -> list[Migration]:
    """The transactions without those that are ``taken``."""
    left = list(found)
    for number in taken:
        left = [
            each.model_copy(update={"first": first, "last": last})
            for each in left
            for first, last in (
                ((each.first, number - 1), (number + 1, each.last))
                if each.first <= number <= each.last
                else ((each.first, each.last),)
            )
            if first <= last
        ]
    return left


def of_deployments(state: Path, live: str, since: datetime) -> list[Migration]:
    """The transactions during the deployments of ``live`` that this machine recorded after ``since``."""
    found = []
    for journal in Journal.newest(state, "deploy"):
        with suppress(*JOURNAL_ERRORS):
            begun = last = None
            for each in entries(journal, "begun", "doing", "done", SESSIONS_ENDED):
                if each.event == "begun" and each.live != live:
                    break
                # A deployment begins before its restore point is made, and migrates afterwards.
                number = each.number("transaction")
                if each.step == MIGRATE and number is not None and each.at >= since:
                    begun, last = (number, last) if each.event == "doing" else (begun, number)
            if begun is not None:
                # Nothing recorded the end of a deployment that was killed with its dead-man switch: everything after
                # its beginning may be the migration's.
                end = int(last) - 1 if last is not None else NO_END
                found.append(Migration(first=int(begun), last=end, by=f"deployment {journal.run}"))
    return found


_NOW = sql.SQL("SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8")
# Transactions back from now. A row has the lower half of the number only.
_DISTANCE = sql.SQL("pg_catalog.mod(pg_catalog.mod(full_xid - xmin::text::int8, 4294967296) + 4294967296, 4294967296)")


def written_since(table: Stored, columns: Sequence[str], first: int) -> sql.Composed:
    """The query for the ``columns`` of the rows that transactions from ``first`` on wrote last, with their numbers."""
    return sql.SQL("""
        SELECT {}, full_xid - {} FROM {} o, ({}) now (full_xid)
        WHERE o.xmin::text::int8 > 2 AND full_xid - {} >= {}
        """).format(
        sql.SQL(", ").join(table.column(each) for each in columns),
        _DISTANCE,
        table.qualified,
        _NOW,
        _DISTANCE,
        sql.Literal(first),
    )


def last_writers(connection: Connection, tables: Iterable[Stored], numbers: Sequence[int]) -> set[int]:
    """Those of the transactions that wrote a row of one of the tables last."""
    found: set[int] = set()
    for each in tables if numbers else ():
        query = sql.SQL("""
            SELECT DISTINCT number FROM (SELECT full_xid - {} AS number FROM {} o, ({}) now (full_xid)
                                         WHERE o.xmin::text::int8 > 2) o WHERE number = ANY ({}::int8[])
            """).format(_DISTANCE, each.qualified, _NOW, sql.Literal([*numbers]))
        found.update(number for (number,) in connection.execute(query))
    return found


def filled(
    connection: Connection, table: Stored, columns: Sequence[str], ranges: Sequence[tuple[int, int]]
) -> dict[str, int]:
    """The rows with a value in each of some columns; if the migration is known, those that users wrote after its
    beginning."""
    number = sql.SQL("full_xid - {}").format(_DISTANCE)
    users = sql.SQL(" AND ").join(
        [
            sql.SQL("{} >= {}").format(number, sql.Literal(min((first for first, _ in ranges), default=0))),
            *(
                sql.SQL("{} NOT BETWEEN {} AND {}").format(number, sql.Literal(first), sql.Literal(last))
                for first, last in ranges
            ),
        ]
    )
    counts = (sql.SQL("count({})").format(table.column(each)) for each in columns)
    row = connection.execute(
        sql.SQL("SELECT ARRAY[{}] FROM {} o, ({}) now (full_xid) WHERE {}").format(
            sql.SQL(", ").join(counts), table.qualified, _NOW, users if ranges else sql.SQL("true")
        )
    ).fetchone()
    assert row is not None  # an aggregate always gives a row
    return dict(zip(columns, row[0], strict=True))


_COLUMNS = """
SELECT n.nspname::text, c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
GROUP BY 1, 2
"""


def stored(connection: Connection, schemas: Mapping[str, str], names: NewNames) -> dict[tuple[str, str], Stored]:
    """The tables of the other side, by their live names."""
    shown = {kept: live for live, kept in schemas.items()}
    rows: list[tuple[str, str, list[str]]] = connection.execute(_COLUMNS).fetchall()
    found = {}
    for schema, name, columns in rows:
        if not schemas or schema in shown:
            relation = Relation(shown.get(schema, schema), name)
            relation = names.tables.get(relation, relation)
            renamed = {new: old for old, new in names.columns.get(relation, {}).items()}
            found[relation.schema, relation.name] = Stored(schema, name, tuple(columns), renamed)
    return found
