"""Foreign keys whose rows have no match, in a dump that is faithful to a database that was broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from lastgood.dump.names import Relation, quoted
from lastgood.dump.statements import Command
from lastgood.load.repairs.repair import Repair, Rules
from lastgood.postgres import integrity
from lastgood.postgres.integrity import ForeignKey
from lastgood.postgres.server import Connection

STATES = frozenset({"23503"})


def repairs(connection: Connection, command: Command, error: psycopg.Error, rules: Rules) -> Iterator[Repair]:
    """The key NOT VALID, where the operator allows it: it holds for what is written from now on."""
    if not rules.allow_orphans:
        return
    key = orphans(connection, command)
    if key is not None:
        yield Repair(not_valid(command), f"{counted(key)}; it was added NOT VALID, and holds for new rows only")


def not_valid(command: Command) -> bytes:
    """The command that adds the key without looking at the rows that are there."""
    return command.statement.text + b" NOT VALID"


def orphans(connection: Connection, command: Command) -> ForeignKey | None:
    """How many rows have no match, and a few of their keys; None where the server can't have such a key NOT VALID (on
    a partitioned table, up to 17), or the command adds anything else. Leaves nothing behind."""
    with contextlib.suppress(psycopg.Error), connection.transaction(force_rollback=True):
        connection.execute(not_valid(command))
        for key in integrity.foreign_keys(connection, chosen=lambda key: identity(*key) == _added(command)):
            return key
    return None


def counted(key: ForeignKey) -> str:
    """``2 rows have no match in public.p, 7, 8 for example``."""
    rows = "1 row has" if key.orphans == 1 else f"{key.orphans:,} rows have"
    return f"{rows} no match in {key.references}, {', '.join(key.samples)} for example"


def identity(schema: str, table: str, name: str) -> str:
    """A constraint as the dump's commands name it."""
    return f"{quoted(name)} on {Relation(schema, table)}"


def _added(command: Command) -> str:
    return command.creates[0].identity if command.creates else ""
