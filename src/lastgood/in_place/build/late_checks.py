"""Checks and generated columns whose functions may read tables by name.

The text of a function is no reference: in a build, ``SELECT … FROM public.t`` reads the live table, not the restored
one. So such a check is created NOT VALID in staging, and validated after the switch; the value of such a generated
column, which no dump holds, is compared with its expression then. Functions with a SQL-standard body are references,
and are rewritten with their schema."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation, quoted
from lastgood.in_place.marks import Check, GeneratedColumn
from lastgood.load.repairs import checks as repaired
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

# User-defined functions with a text that may read a table, or that call such a function. A text in another language
# than these two may read anything.
_READING: LiteralString = """
WITH RECURSIVE texts AS (
  SELECT p.oid, p.proname::text AS name, lower(p.prosrc) AS source, l.lanname
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND p.prosqlbody IS NULL
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')),
reading (oid, name) AS (
  SELECT oid, name FROM texts
  WHERE lanname NOT IN ('sql', 'plpgsql') OR source ~ '\\m(from|join|table|execute|perform)\\M'
  UNION
  SELECT t.oid, t.name FROM texts t JOIN reading r ON strpos(t.source, lower(r.name)) > 0),
computed (classid, objid) AS (
  SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
  LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
  JOIN reading r
    ON r.oid = CASE d.refclassid WHEN 'pg_catalog.pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END)
"""
_CHECKS = sql.SQL("""{}
SELECT n.nspname, coalesce(r.relname, t.typname), c.conname
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
LEFT JOIN pg_catalog.pg_class r ON r.oid = c.conrelid LEFT JOIN pg_catalog.pg_type t ON t.oid = c.contypid
WHERE c.contype = 'c' AND n.nspname = ANY (%s)
  AND EXISTS (SELECT FROM computed WHERE classid = 'pg_catalog.pg_constraint'::regclass AND objid = c.oid)
""").format(sql.SQL(_READING))
_COLUMNS = sql.SQL("""{}
SELECT n.nspname, r.relname, a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_catalog.pg_class r ON r.oid = d.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE a.attgenerated = 's' AND r.relkind = 'r' AND n.nspname = ANY (%s)
  AND EXISTS (SELECT FROM computed WHERE classid = 'pg_catalog.pg_attrdef'::regclass AND objid = d.oid)
ORDER BY 1, 2, 3
""").format(sql.SQL(_READING))
_INDEXES = sql.SQL("""{}
SELECT n.nspname, r.relname FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE r.relkind = 'i' AND n.nspname = ANY (%s)
  AND EXISTS (SELECT FROM computed WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = r.oid)
ORDER BY 1, 2
""").format(sql.SQL(_READING))


def postpone(scratch: Connection, schemas: Collection[str]) -> tuple[Check, ...]:
    """Make the checks of these schemas NOT VALID, as staging is to have them, and return them."""
    reading = set(scratch.execute(_CHECKS, [list(schemas)]))
    found = [
        each for each in repaired.find(scratch, list(schemas)) if (each.schema_name, each.owner, each.name) in reading
    ]
    repaired.drop(scratch, found)  # all before the first is added: those of children merge with their parents'
    repaired.add_again(scratch, found)
    return tuple(
        Check(domain=each.kind == "domain", schema_name=each.schema_name, owner=each.owner, name=each.name)
        for each in found
    )


def generated_columns(scratch: Connection, schemas: Iterable[str]) -> tuple[GeneratedColumn, ...]:
    """The generated columns of these schemas. Needs an empty search path."""
    return tuple(
        GeneratedColumn(schema_name=schema, table=table, name=name, expression=expression)
        for schema, table, name, expression in scratch.execute(_COLUMNS, [list(schemas)])
    )


def indexes(scratch: Connection, schemas: Iterable[str]) -> tuple[Relation, ...]:
    """The indexes of these schemas over such functions."""
    return tuple(Relation(*row) for row in scratch.execute(_INDEXES, [list(schemas)]))


def validate(connection: Connection, checks: Iterable[Check]) -> Iterator[str]:
    """Validate the checks that exist. Readers and writers continue; but for a domain, writers of its tables wait.
    Yields each failure in words: such a check holds for new rows only."""
    for check in checks:
        try:
            connection.execute(_validation(check))
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
            continue  # dropped since
        except psycopg.Error as error:
            if connection.broken:
                raise
            kind, of = "domain" if check.domain else "check", Relation(check.schema_name, check.owner)
            yield f"{kind} constraint {quoted(check.name)} on {of} is still NOT VALID: {message_of(error)}"


_NOT_RUN = "lastgood does not run its functions with your rights"


def _validation(check: Check) -> sql.Composed:
    return sql.SQL("ALTER {} {} VALIDATE CONSTRAINT {}").format(
        sql.SQL("DOMAIN" if check.domain else "TABLE"),
        sql.Identifier(check.schema_name, check.owner),
        sql.Identifier(check.name),
    )


def to_validate(check: Check) -> str:
    """A check that was not validated, in words."""
    kind, of = "domain" if check.domain else "check", Relation(check.schema_name, check.owner)
    return (
        f"{kind} constraint {quoted(check.name)} on {of} is NOT VALID: {_NOT_RUN}; read them, then run as the owner: "
        f"{_validation(check).as_string()}"
    )


def _differs(column: GeneratedColumn) -> sql.Composed:
    # As text: not all types can be compared.
    return sql.SQL("{}::text IS DISTINCT FROM ({})::text").format(
        sql.Identifier(column.name), sql.SQL(column.expression)
    )


def _outdated(column: GeneratedColumn) -> sql.Composed:
    return sql.SQL("SELECT count(*) FROM ONLY {} WHERE {}").format(
        sql.Identifier(column.schema_name, column.table), _differs(column)
    )


def to_compare(column: GeneratedColumn) -> str:
    """A generated column that was not compared with its expression, in words."""
    relation = Relation(column.schema_name, column.table)
    return (
        f"generated column {quoted(column.name)} of {relation} was not compared with its expression: {_NOT_RUN}; read "
        f"them, then compare: {_outdated(column).as_string()}"
    )


def compare(connection: Connection, columns: Iterable[GeneratedColumn]) -> Iterator[str]:
    """Compare the values of generated columns with their expressions. Yields each difference in words."""
    for column in columns:
        relation = Relation(column.schema_name, column.table)
        what = f"generated column {quoted(column.name)} of {relation}"
        try:
            row = connection.execute(_outdated(column)).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            continue  # dropped since
        except psycopg.Error as error:
            if connection.broken:
                raise
            yield f"cannot compare {what} with its expression: {message_of(error)}"
            continue
        if row is not None and row[0]:
            again = sql.SQL("UPDATE ONLY {} SET {} = DEFAULT WHERE {}").format(
                sql.Identifier(column.schema_name, column.table), sql.Identifier(column.name), _differs(column)
            )
            yield (
                f"{what} has outdated values in "
                f"{counted(row[0], 'row')}; to recompute them: {again.as_string(connection)}"
            )
