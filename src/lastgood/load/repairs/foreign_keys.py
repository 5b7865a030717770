"""Foreign keys that rows violate, in an accurate dump of a broken database."""

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
    """Add the key NOT VALID, if the operator allows it: it applies to new rows."""
    if not rules.allow_orphans:
        return
    key = orphans(connection, command)
    if key is not None:
        yield Repair(not_valid(command), f"{counted(key)}; it was added NOT VALID, and applies to new rows only")


def not_valid(command: Command) -> bytes:
    """The command that adds the key without a check of existing rows."""
    return command.statement.text + b" NOT VALID"


def orphans(connection: Connection, command: Command) -> ForeignKey | None:
    """The number of rows without a match, and a few of their keys; None if the server does not support such a key NOT
    VALID (on a partitioned table, up to 17), or if the command adds anything else. Changes nothing."""
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
    """The name of a constraint in the dump's commands."""
    return f"{quoted(name)} on {Relation(schema, table)}"


def _added(command: Command) -> str:
    return command.creates[0].identity if command.creates else ""
