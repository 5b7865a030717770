"""Deferred work that would run functions of the database with the rights of the operator.

A rollback defers no such work. But the list is a table in the database: a restore point may bring one of its own.
"""

from __future__ import annotations

from typing import LiteralString

from lastgood.dump.deferred_task import DeferredTask
from lastgood.dump.rulings.code import constructs
from lastgood.dump.rulings.tree import parse
from lastgood.dump.statements import Kind
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection

# Casts and operator classes act wherever values of their types are compared.
_ANYWHERE: LiteralString = """
WITH function (oid) AS (
  SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
)
SELECT FROM function f WHERE EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castfunc = f.oid)
  OR EXISTS (SELECT FROM pg_catalog.pg_amproc a WHERE a.amproc = f.oid)
  OR EXISTS (SELECT FROM pg_catalog.pg_amop o JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr
             WHERE p.oprcode = f.oid)
LIMIT 1
"""
_REFERENCED: LiteralString = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class t ON t.oid = k.conrelid JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace
JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE s.nspname = %s AND t.relname = %s AND k.conname = %s AND k.contype = 'f'
"""


def runs_code(connection: Connection, later: DeferredTask) -> bool:
    """Whether a task would run functions of the database with rights that they could use elsewhere."""
    if not strength(connection):
        return False
    if connection.execute(_ANYWHERE).fetchone() is not None:
        return True
    tables = {(later.table.schema, later.table.name)}
    if later.kind is Kind.INDEX:
        if any(constructs(parse(later.statements[0])[0])):
            return True
    else:
        tables.update(connection.execute(_REFERENCED, [later.table.schema, later.table.name, later.name]).fetchall())
    return not tables.isdisjoint(not_to_query(connection))
