"""Keys that a migration dropped: rows that violate such a key since then count like violations of an existing key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import IsolationLevel, sql

from lastgood.command.deploy.report import Worse
from lastgood.command.validate.rule import sample_text
from lastgood.command.validate.validate import ValidationVerdict
from lastgood.postgres import integrity
from lastgood.postgres.integrity import ForeignKeyConstraint
from lastgood.postgres.server import Connection, Target, only_row
from lastgood.text.redact import HIDDEN
from lastgood.text.units import counted

# Keys without expressions or predicates; those of partitions are reported with the key of the parent.
_UNIQUE = """
SELECT n.nspname, t.relname, c.relname, i.indisprimary, i.indnullsnotdistinct, t.relkind = 'p',
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY k (number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND NOT c.relispartition
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A primary key, a unique constraint or a unique index."""

    schema_name: str
    table: str
    name: str
    primary: bool
    nulls_equal: bool
    partitioned: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """The keys that a database declares."""

    foreign: tuple[ForeignKeyConstraint, ...] = ()
    unique: tuple[UniqueKey, ...] = ()

    @classmethod
    def read(cls, connection: Connection) -> Declared:
        """Read the keys from the catalogue. Raises psycopg.Error."""
        unique = tuple(
            UniqueKey(schema, table, name, primary, nulls_equal, partitioned, tuple(columns))
            for schema, table, name, primary, nulls_equal, partitioned, columns in connection.execute(_UNIQUE)
        )
        return cls(tuple(integrity.foreign_key_constraints(connection)), unique)


def broken_since(
    target: Target, before: Declared, verdict: ValidationVerdict, ignore: Collection[str], seconds: float
) -> tuple[tuple[Worse, ...], tuple[str, ...]]:
    """Return the dropped keys with more violations now than in ``verdict``, and what could not be checked, in
    sentences. A key whose table or columns were dropped has no violations. Raises psycopg.Error."""
    then = {each.name: each.violations for each in verdict.rules}
    found: list[Worse] = []
    unseen: list[str] = []
    with target.connect(application_name="lastgood inspects") as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        now = Declared.read(connection)
        limit = sql.Literal(f"{max(1000, round(seconds * 1000))}ms")
        for name, message, count, samples, query in _key_checks(before, now):
            if name in ignore:
                continue
            try:
                with connection.transaction():
                    connection.execute("SET LOCAL row_security = off")
                    connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(limit))
                    (rows,) = only_row(connection, count)
                    some = [str(text) for (text,) in connection.execute(samples)] if rows else []
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName):
                continue
            except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege) as error:
                unseen.append(f"{name} was dropped, and its rows could not be checked: {error.diag.message_primary}")
                continue
            if rows > then.get(name, 0):
                found.append(
                    Worse(
                        name=name,
                        outcome="FAIL",
                        message=message.format(counted(rows, "row")),
                        violations=rows,
                        samples=tuple(some),
                        query=query.as_string(connection),
                    )
                )
    return tuple(found), tuple(unseen)


_KeyCheck = tuple[str, str, sql.Composed, sql.Composed, sql.Composed]


def _key_checks(before: Declared, now: Declared) -> Iterator[_KeyCheck]:
    """Yield for each dropped key: its rule, its message, and the queries for the number, for samples and for all
    rows."""
    still = {(each.schema_name, each.table, each.columns, each.other_schema, each.other) for each in now.foreign}
    for key in before.foreign:
        if (key.schema_name, key.table, key.columns, key.other_schema, key.other) in still:
            continue
        orphans = integrity.orphans(key)
        yield (
            f"foreign_key:{key.schema_name}.{key.table}.{key.name}",
            f"the foreign key was dropped; {{}} of {_plain(key.schema_name, key.table)} without a match for "
            f"{_plain(*key.columns, by=', ')} in {_plain(key.other_schema, key.other)} "
            f"({_plain(*key.keys, by=', ')})",
            sql.SQL("SELECT count(*) ") + orphans,
            sql.SQL("SELECT DISTINCT {} {} LIMIT {}").format(
                _texts(key.columns, "l"), orphans, sql.Literal(integrity.SAMPLES)
            ),
            sql.SQL("SELECT l.* ") + orphans,
        )
    unique = {(each.schema_name, each.table, frozenset(each.columns)) for each in now.unique}
    for each in before.unique:
        if (each.schema_name, each.table, frozenset(each.columns)) not in unique:
            yield _duplicates(each)


def _duplicates(key: UniqueKey) -> _KeyCheck:
    columns = sql.SQL(", ").join(map(sql.Identifier, key.columns))
    given = sql.SQL(" WHERE pg_catalog.num_nulls({}) = 0").format(columns)
    same = sql.SQL("SELECT {}, count(*) AS times FROM {}{}{} GROUP BY {} HAVING count(*) > 1").format(
        columns,
        sql.SQL("" if key.partitioned else "ONLY "),
        sql.Identifier(key.schema_name, key.table),
        sql.SQL("") if key.nulls_equal else given,
        columns,
    )
    kind = "primary key" if key.primary else "unique key"
    return (
        f"unique:{key.schema_name}.{key.table}.{key.name}",
        f"the {kind} was dropped; {{}} rows of {_plain(key.schema_name, key.table)} duplicate "
        f"{_plain(*key.columns, by=', ')}",
        sql.SQL("SELECT coalesce(sum(times - 1), 0)::int8 FROM ({}) t").format(same),
        sql.SQL("SELECT {} FROM ({}) t LIMIT {}").format(
            _texts(key.columns, "t"), same, sql.Literal(integrity.SAMPLES)
        ),
        same,
    )


def _texts(columns: Sequence[str], alias: Literal["l", "t"]) -> sql.Composed:
    """Render the values of these columns as ``id=17, organization_id=99``. Columns with the name of a secret are not
    read."""
    return sql.SQL("concat_ws(', ', {})").format(
        sql.SQL(", ").join(
            sql.Literal(sample_text([name], [HIDDEN]))
            if sample_text([name], [""]) != f"{name}="
            else sql.SQL("{} || coalesce({}.{}::text, 'NULL')").format(
                sql.Literal(f"{name}="), sql.Identifier(alias), sql.Identifier(name)
            )
            for name in columns
        )
    )


def _plain(*names: str, by: str = ".") -> str:
    return by.join(names).replace("{", "{{").replace("}", "}}")
