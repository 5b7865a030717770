"""Checks that call functions of the database's own, put off until all rows are there.

A dump declares them with their tables. A function may read a table whose rows come later, or name it without its
schema under the empty search path of a dump: no row would get in. So the constraint is taken away before the first row,
and comes back, under the same name and with its comment, when the last one is in. What the rows then break stays NOT
VALID and is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation, quoted
from lastgood.load.repairs import paths
from lastgood.load.repairs.repair import USUAL_PATH, Rules
from lastgood.postgres.server import Connection

# Functions in C or of the server look nothing up by name, and read no tables of the user's.
_CALLS = sql.SQL("""
  EXISTS (SELECT FROM pg_catalog.pg_depend d
          LEFT JOIN pg_catalog.pg_operator o
            ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
          JOIN pg_catalog.pg_proc p
            ON p.oid = CASE d.refclassid WHEN 'pg_catalog.pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END
          WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = c.oid AND p.oid >= 16384
            AND p.prolang NOT IN (12, 13))
""")
# Only what this role may alter, and extensions' own tables are left to them. A parent before its children: what they
# inherit goes with it, and only what is theirs alone is left.
_OF_TABLES = sql.SQL(
    """
    SELECT 'table', n.nspname, r.relname, c.conname,
           pg_catalog.pg_get_constraintdef(c.oid), pg_catalog.obj_description(c.oid, 'pg_constraint')
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
    WHERE c.contype = 'c' AND c.conislocal AND c.convalidated AND r.relkind IN ('r', 'p')
      AND pg_catalog.pg_has_role(r.relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                      WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = r.oid AND e.deptype = 'e')
      AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) AND {calls}
    ORDER BY c.coninhcount, r.oid, c.conname
    """
).format(calls=_CALLS)
# A domain inside of another type can't be checked later: ALTER DOMAIN refuses to look into those.
_OF_DOMAINS = sql.SQL(
    """
    SELECT 'domain', n.nspname, t.typname, c.conname,
           pg_catalog.pg_get_constraintdef(c.oid), pg_catalog.obj_description(c.oid, 'pg_constraint')
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_type t ON t.oid = c.contypid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE c.contype = 'c' AND c.convalidated AND pg_catalog.pg_has_role(t.typowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                      WHERE e.classid = 'pg_catalog.pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_type d WHERE d.typbasetype = t.oid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_range g WHERE g.rngsubtype = t.oid)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.atttypid = t.typarray)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class k ON k.oid = a.attrelid
                      WHERE a.atttypid = t.oid AND k.relkind = 'c') AND {calls}
    ORDER BY t.oid, c.conname
    """
).format(calls=_CALLS)
_BROKEN = frozenset({"23514", "23502"})


@dataclass(frozen=True, slots=True)
class PutOff:
    """A constraint that was taken away. ``kind``: ``table`` or ``domain``; ``definition`` is the
    server's own text."""

    kind: str
    schema_name: str
    owner: str
    name: str
    definition: str
    comment: str | None

    @property
    def what(self) -> str:
        """The constraint in words, as a dump's command is told that declares it."""
        kind = "domain constraint" if self.kind == "domain" else "check constraint"
        return f"{kind} {quoted(self.name)} on {Relation(self.schema_name, self.owner)}"

    def alter(self, action: LiteralString) -> sql.Composed:
        """``ALTER TABLE s.t`` and an action with the constraint's name in it."""
        alter = sql.SQL("ALTER DOMAIN {} " if self.kind == "domain" else "ALTER TABLE {} ")
        return alter.format(self._identifier) + sql.SQL(action).format(sql.Identifier(self.name))

    @property
    def _identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema_name, self.owner)

    def add(self) -> Sequence[sql.Composed]:
        """The commands that bring it back, as NOT VALID."""
        commands = [self.alter("ADD CONSTRAINT {} ") + sql.SQL(self.definition) + sql.SQL(" NOT VALID")]
        if self.comment is not None:
            on = sql.SQL("COMMENT ON CONSTRAINT {} ON DOMAIN {} IS {}" if self.kind == "domain" else
                         "COMMENT ON CONSTRAINT {} ON {} IS {}")  # fmt: skip
            commands.append(on.format(sql.Identifier(self.name), self._identifier, sql.Literal(self.comment)))
        return commands


def put_off(connection: Connection) -> list[PutOff]:
    """Takes away every check that calls a function of the database's own."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")  # so that definitions name everything with its schema
        found = [PutOff(*row) for query in (_OF_TABLES, _OF_DOMAINS) for row in connection.execute(query)]
    for each in found:
        connection.execute(each.alter("DROP CONSTRAINT {}"))  # alone: it holds no lock while it waits for the next
    return found


def bring_back(connection: Connection, put_off: Sequence[PutOff]) -> None:
    """Declares them again, unchecked; ``validate`` is to follow for each of them."""
    with connection.transaction():
        for each in put_off:
            for command in each.add():
                connection.execute(command)


def validate(connection: Connection, each: PutOff, rules: Rules) -> str | None:
    """Checks all rows. Returns what the report must tell: nothing when they hold under the path that the dump sets.

    A constraint that rows break, or that can't be checked, stays NOT VALID. Raises psycopg.Error for what is no
    answer: a lost connection, a cancellation.
    """
    error = _validate(connection, each, None)
    if error is None:
        return None
    for path in dict.fromkeys((rules.search_path, USUAL_PATH)):
        if error.sqlstate in paths.STATES and paths.in_function(error):
            error = _validate(connection, each, path)
            if error is None:
                return (
                    f"a function that it calls names things without their schema; checked with the search path {path}"
                )
    said = "rows break it" if error.sqlstate in _BROKEN else f"it can't be checked: {error.diag.message_primary}"
    return f"{said}; it was left NOT VALID, and holds for new rows only"


def _validate(connection: Connection, each: PutOff, path: str | None) -> psycopg.Error | None:
    try:
        with connection.transaction():
            if path is not None:
                connection.execute(paths.add_path(path))
            connection.execute(each.alter("VALIDATE CONSTRAINT {}"))
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate[:2] in ("08", "40", "53", "55", "57", "58", "XX"):
            raise
        return error
    return None
