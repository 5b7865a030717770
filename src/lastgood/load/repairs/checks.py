"""Checks that call user-defined functions, dropped until all rows are loaded.

A dump declares them with their tables. A function may read a table whose rows come later, or use an unqualified name
under the empty search path of a dump: every row would be refused. The constraint is therefore dropped before the first
row and added again, with its name and comment, after the last. If the rows violate it, it stays NOT VALID and is
reported.
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

# Built-in and C functions look up no names and read no user tables.
_CALLS = sql.SQL("""
  EXISTS (SELECT FROM pg_catalog.pg_depend d
          LEFT JOIN pg_catalog.pg_operator o
            ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
          JOIN pg_catalog.pg_proc p
            ON p.oid = CASE d.refclassid WHEN 'pg_catalog.pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END
          WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = c.oid AND p.oid >= 16384
            AND p.prolang NOT IN (12, 13))
""")
# Only tables that this role may alter, without those of extensions. Parents before children: inherited constraints go
# with the parent's, and only the children's own are left.
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
      AND (%(within)s::text[] IS NULL OR n.nspname = ANY (%(within)s))
    ORDER BY c.coninhcount, r.oid, c.conname
    """
).format(calls=_CALLS)
# A domain inside another type can't be checked later: ALTER DOMAIN does not support that.
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
      AND (%(within)s::text[] IS NULL OR n.nspname = ANY (%(within)s))
    ORDER BY t.oid, c.conname
    """
).format(calls=_CALLS)
_BROKEN = frozenset({"23514", "23502"})


@dataclass(frozen=True, slots=True)
class DroppedCheck:
    """A constraint that was dropped for the load. ``kind``: ``table`` or ``domain``; ``definition`` is the server's own
    text."""

    kind: str
    schema_name: str
    owner: str
    name: str
    definition: str
    comment: str | None

    @property
    def what(self) -> str:
        """The constraint in words, like the command of a dump that declares it."""
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
        """The commands that add it again, as NOT VALID."""
        commands = [self.alter("ADD CONSTRAINT {} ") + sql.SQL(self.definition) + sql.SQL(" NOT VALID")]
        if self.comment is not None:
            on = sql.SQL("COMMENT ON CONSTRAINT {} ON DOMAIN {} IS {}" if self.kind == "domain" else
                         "COMMENT ON CONSTRAINT {} ON {} IS {}")  # fmt: skip
            commands.append(on.format(sql.Identifier(self.name), self._identifier, sql.Literal(self.comment)))
        return commands


def find(connection: Connection, within: Sequence[str] | None = None) -> list[DroppedCheck]:
    """Every check that calls a user-defined function, parents before children. ``within``: only those in these
    schemas."""
    schemas = {"within": None if within is None else list(within)}
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")  # so that names in definitions are qualified
        return [DroppedCheck(*row) for query in (_OF_TABLES, _OF_DOMAINS) for row in connection.execute(query, schemas)]


def drop(connection: Connection, found: Sequence[DroppedCheck]) -> None:
    """Drop these checks."""
    for each in found:
        # Each by itself, so that no lock is held while the next one is waited for.
        connection.execute(each.alter("DROP CONSTRAINT {}"))


def add_again(connection: Connection, dropped: Sequence[DroppedCheck]) -> None:
    """Add the checks again as NOT VALID; ``validate`` has to follow for each of them."""
    with connection.transaction():
        for each in dropped:
            for command in each.add():
                connection.execute(command)


def validate(connection: Connection, each: DroppedCheck, rules: Rules) -> str | None:
    """Check all rows. Returns a remark for the report; None if they pass under the search path of the dump.

    A constraint that rows violate, or that can't be checked, stays NOT VALID. Raises psycopg.Error if there is no
    result: a lost connection, a cancellation.
    """
    error = _validate(connection, each, None)
    if error is None:
        return None
    for path in dict.fromkeys((rules.search_path, USUAL_PATH)):
        if error.sqlstate in paths.STATES and paths.in_function(error):
            error = _validate(connection, each, path)
            if error is None:
                return f"a function that it calls uses unqualified names; checked with the search path {path}"
    why = "rows violate it" if error.sqlstate in _BROKEN else f"it can't be checked: {error.diag.message_primary}"
    return f"{why}; it was left NOT VALID, and applies to new rows only"


def _validate(connection: Connection, each: DroppedCheck, path: str | None) -> psycopg.Error | None:
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
