"""Routines, views, rules, triggers, policies, operators and casts as the commands of the restore point made them: the
proof that its code replaced none, where no guard refuses that.

The owner of a SECURITY DEFINER routine, or of a view, lends its rights to the definition. The builder owns all of them
while it loads, so code could replace them before the hand-over. Each is therefore read in the message that creates it,
before any code can run, and again when the builder's login has ended.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.dump.statements import NEXT, Command, Kind
from lastgood.postgres.server import Connection

# The catalogue's own rows, with all names qualified: whatever the search path is, they are written in the same way.
_ROWS: dict[str, LiteralString] = {
    "pg_proc": """
    SELECT p.oid::pg_catalog.int8, pg_catalog.md5(pg_catalog.concat(p::pg_catalog.text, ' ', (
      SELECT pg_catalog.concat_ws(' ', aggkind, aggnumdirectargs, aggtransfn::pg_catalog.oid,
        aggfinalfn::pg_catalog.oid, aggcombinefn::pg_catalog.oid, aggmtransfn::pg_catalog.oid,
        aggminvtransfn::pg_catalog.oid,
        aggmfinalfn::pg_catalog.oid, aggsortop, aggtranstype, aggmtranstype, agginitval, aggminitval)
      FROM pg_catalog.pg_aggregate WHERE aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) p.oid)))
    FROM pg_catalog.pg_proc p WHERE p.oid
    """,
    "pg_rewrite": """
    SELECT r.oid::pg_catalog.int8, pg_catalog.md5(pg_catalog.concat_ws(' ', ev_type, is_instead, ev_qual, ev_action, (
      SELECT reloptions FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) ev_class)))
    FROM pg_catalog.pg_rewrite r WHERE r.oid
    """,
    "pg_trigger": """
    SELECT t.oid::pg_catalog.int8, pg_catalog.md5(pg_catalog.concat_ws(' ', tgfoid, tgtype, tgargs, tgqual, tgattr,
      tgdeferrable, tginitdeferred, tgoldtable, tgnewtable))
    FROM pg_catalog.pg_trigger t WHERE t.oid
    """,
    "pg_policy": """
    SELECT p.oid::pg_catalog.int8, pg_catalog.md5(p::pg_catalog.text) FROM pg_catalog.pg_policy p WHERE p.oid
    """,
    "pg_operator": """
    SELECT o.oid::pg_catalog.int8, pg_catalog.md5(o.oprcode::pg_catalog.oid::pg_catalog.text)
    FROM pg_catalog.pg_operator o WHERE o.oid
    """,
    "pg_cast": """
    SELECT c.oid::pg_catalog.int8, pg_catalog.md5(c::pg_catalog.text) FROM pg_catalog.pg_cast c WHERE c.oid
    """,
}
# Written by the transaction of the message, and by no code in it, which runs in a later command.
_NEWEST: LiteralString = (
    "OPERATOR(pg_catalog.=) (SELECT pg_catalog.max(oid) FROM pg_catalog.{catalogue}"
    " WHERE xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.xid)"
)
_ROUTINE: LiteralString = "OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure({name})"
_VIEW: tuple[str, LiteralString] = (
    "pg_rewrite",
    "OPERATOR(pg_catalog.=) ANY (SELECT oid FROM pg_catalog.pg_rewrite"
    " WHERE ev_class OPERATOR(pg_catalog.=) pg_catalog.to_regclass({name}))",
)
# Where to find the object that a command has just created, by its kind.
_PLACES: dict[Kind, tuple[str, LiteralString]] = {
    Kind.AGGREGATE: ("pg_proc", _ROUTINE),
    Kind.FUNCTION: ("pg_proc", _ROUTINE),
    Kind.PROCEDURE: ("pg_proc", _ROUTINE),
    Kind.OPERATOR: ("pg_operator", "OPERATOR(pg_catalog.=) pg_catalog.to_regoperator({name})"),
    Kind.VIEW: _VIEW,
    Kind.MATERIALIZED_VIEW: _VIEW,
    Kind.CAST: ("pg_cast", _NEWEST),
    Kind.RULE: ("pg_rewrite", _NEWEST),
    Kind.TRIGGER: ("pg_trigger", _NEWEST),
    Kind.POLICY: ("pg_policy", _NEWEST),
}
_COLUMN = "lastgood_definition"


@dataclass(slots=True)
class Definitions:
    """The definitions as they were made, by catalogue and OID, and the names of those that could not be read then.
    Several workers may use it."""

    _made: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    _unread: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def asking(self, command: Command, connection: Connection) -> bytes:
        """What follows a command in its message; empty if it creates nothing of these kinds."""
        queries = []
        for made in command.creates:
            if made.kind in _PLACES:
                catalogue, place = _PLACES[made.kind]
                found = sql.SQL(_ROWS[catalogue]) + sql.SQL(place).format(
                    name=sql.Literal(made.identity), catalogue=sql.Identifier(catalogue)
                )
                queries.append(
                    sql.SQL(
                        "SELECT {}::pg_catalog.text AS {}, {}::pg_catalog.text, found.* FROM (SELECT) one"
                        " LEFT JOIN ({}) found ON true"
                    ).format(
                        sql.Literal(catalogue),
                        sql.Identifier(_COLUMN),
                        sql.Literal(f"{made.kind} {made.identity}"),
                        found,
                    )
                )
        return b"".join(NEXT + query.as_bytes(connection) for query in queries)

    def note(self, cursor: psycopg.Cursor[tuple[object, ...]]) -> None:
        """Record the answers among the results of a message. A later one replaces an earlier one: the restore point
        itself may define a view twice."""
        more: bool | None = True
        while more:
            if cursor.description is not None and cursor.description[0].name == _COLUMN:
                with self._lock:
                    for catalogue, name, oid, digest in cursor:
                        if oid is None:
                            self._unread.append(str(name))
                        else:
                            self._made[str(catalogue), int(str(oid))] = str(name), str(digest)
            more = cursor.nextset()

    def changed(self, connection: Connection) -> list[str]:
        """The objects that have another definition now, in words. ``connection``: the operator's, before it gives
        owners and privileges, which are part of the catalogue's rows."""
        now: dict[tuple[str, int], str] = {}
        for catalogue, rows in _ROWS.items():
            oids = [oid for of, oid in self._made if of == catalogue]
            query = sql.SQL(rows) + sql.SQL("OPERATOR(pg_catalog.=) ANY (%s)")
            now.update({(catalogue, oid): digest for oid, digest in connection.execute(query, [oids])})
        return [
            *(
                f"{name}: changed by code while it was restored"
                for place, (name, digest) in self._made.items()
                if now.get(place) != digest
            ),
            *(f"{name}: could not be read when it was created" for name in self._unread),
        ]
