"""Foreign keys to tables of extensions, which belong to the operator.

The server looks up each row with the rights of the referenced table's owner, and converts the key by casts. So the
builder may not reference such a table: the operator adds the key without a look at the rows, where no cast can be the
restore point's, and the builder validates it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command, ForeignKeyDefinition
from lastgood.load.repairs import foreign_keys
from lastgood.postgres.server import Connection

Open = Callable[[str], AbstractContextManager[Connection]]

# The columns are of types of the server or of extensions, and the other table is a member.
_SAFE: LiteralString = """
SELECT FROM pg_catalog.pg_depend m
WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.deptype = 'e' AND m.objsubid = 0
  AND m.objid = pg_catalog.to_regclass(%s) AND (
    SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass(%s) AND a.attname = ANY (%s)
      AND (a.atttypid < 16384 OR EXISTS (
        SELECT FROM pg_catalog.pg_depend t WHERE t.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
          AND t.objid = a.atttypid AND t.deptype = 'e'))) = %s
"""
_NAME: LiteralString = """
SELECT conname::text FROM pg_catalog.pg_constraint
WHERE conrelid = pg_catalog.to_regclass(%s) AND contype = 'f'
  AND xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid
"""


def add(operator: Open, builder: Open, command: Command) -> bool:
    """Add the key that a command adds. False: it could run code as the operator, or the server refuses it."""
    key = command.detail
    if not isinstance(key, ForeignKeyDefinition):
        return False
    columns = list(key.columns)
    with operator("add a foreign key") as connection:
        values = [str(key.references), str(key.table), columns, len(columns)]
        if connection.execute(_SAFE, values).fetchone() is None:
            return False
        try:
            with connection.transaction():
                connection.execute(foreign_keys.not_valid(command))
                added = [name for (name,) in connection.execute(_NAME, [str(key.table)])]
            if len(added) == 1:
                _validate(builder, key.table, added[0])
                return True
        except psycopg.Error:
            return False  # a partitioned table before 18, or rows without a match
    return False


def _validate(builder: Open, table: Relation, name: str) -> None:
    with builder("validate a foreign key") as connection:
        connection.execute(
            sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
                sql.Identifier(table.schema, table.name), sql.Identifier(name)
            )
        )
