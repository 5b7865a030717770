"""A guess at the changes to an extension whose script can't be run: what was written after its creation."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from lastgood.members.parts import MEMBERS
from lastgood.postgres.server import Connection

# By the transaction that wrote the catalogue row: it is none of those that created the extension's members. Not a proof
# (an upgraded cluster has new transactions for all), but ``carry`` leaves parts that are in place unchanged.
_LATER: LiteralString = """
  , own AS (
    SELECT DISTINCT e.extname, d.xmin::text AS by
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'),
  written AS (
    SELECT f.extname, 'function' AS kind, f.identity, p.xmin::text AS by
    FROM func f JOIN pg_catalog.pg_proc p ON p.oid = f.oid
    UNION ALL
    SELECT r.extname, 'index', format('%I.%I', c.relnamespace::regnamespace::text, c.relname), i.xmin::text
    FROM pg_catalog.pg_index i JOIN relation r ON r.oid = i.indrelid JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT r.extname, CASE c.contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END,
           format('%I on %s', c.conname, r.identity), c.xmin::text
    FROM pg_catalog.pg_constraint c JOIN relation r ON r.oid = c.conrelid
    UNION ALL
    SELECT r.extname, 'trigger', format('%I on %s', t.tgname, r.identity), t.xmin::text
    FROM pg_catalog.pg_trigger t JOIN relation r ON r.oid = t.tgrelid
    UNION ALL
    SELECT r.extname, 'rule', format('%I on %s', w.rulename, r.identity), w.xmin::text
    FROM pg_catalog.pg_rewrite w JOIN relation r ON r.oid = w.ev_class
    UNION ALL
    SELECT r.extname, 'policy', format('%I on %s', p.polname, r.identity), p.xmin::text
    FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL
    SELECT r.extname, 'column', format('%s.%I', r.identity, a.attname), a.xmin::text
    FROM pg_catalog.pg_attribute a JOIN relation r ON r.oid = a.attrelid WHERE a.attnum > 0)
SELECT kind, identity FROM written w
WHERE NOT EXISTS (SELECT FROM own WHERE own.extname = w.extname AND own.by = w.by)
"""


def written_later(connection: Connection) -> frozenset[tuple[str, str]]:
    """Kind and identity of the parts that were written after their extension was created, as far as the catalogue
    shows. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        return frozenset(connection.execute(sql.SQL(MEMBERS) + sql.SQL(_LATER)).fetchall())
