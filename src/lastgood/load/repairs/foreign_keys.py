"""Foreign keys that rows violate in an accurate dump of a broken database, and the differences after their repair.

A proof accepts these differences. They are read from the server, so that a resumed run has them too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import psycopg
from xxhash import xxh3_128_hexdigest

from lastgood.dump.names import Relation, quoted
from lastgood.dump.statements import Command
from lastgood.facts import FactsDifference
from lastgood.facts.compare import FactsComparison
from lastgood.facts.settled import settled
from lastgood.load.repairs.repair import Repair, Rules
from lastgood.postgres import integrity
from lastgood.postgres.integrity import KeyOrphans
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
    return command.statement.text + b"\nNOT VALID"


def orphans(connection: Connection, command: Command) -> KeyOrphans | None:
    """The number of rows without a match, and a few of their keys; None if the server does not support such a key NOT
    VALID (on a partitioned table, up to 17), or if the command adds anything else. Changes nothing."""
    with contextlib.suppress(psycopg.Error), connection.transaction(force_rollback=True):
        connection.execute(not_valid(command))
        for key in integrity.keys_with_orphans(connection, chosen=lambda key: identity(*key) == _added(command)):
            return key
    return None


def counted(key: KeyOrphans) -> str:
    """``2 rows have no match in public.p, for example 7, 8``."""
    rows = "1 row has" if key.orphans == 1 else f"{key.orphans:,} rows have"
    return f"{rows} no match in {key.references}, for example {', '.join(key.samples)}"


def identity(schema: str, table: str, name: str) -> str:
    """The name of a constraint in the dump's commands."""
    return f"{quoted(name)} on {Relation(schema, table)}"


def _added(command: Command) -> str:
    return command.creates[0].identity if command.creates else ""


_NOT_VALID = """
SELECT CASE WHEN c.contypid <> 0 THEN 'domain constraint' WHEN c.contype = 'f' THEN 'foreign key'
            ELSE 'check constraint' END
       || format(' %I on %I.%I', c.conname, n.nspname, coalesce(r.relname, t.typname)),
       pg_catalog.pg_get_constraintdef(c.oid)
FROM pg_catalog.pg_constraint c
LEFT JOIN pg_catalog.pg_class r ON r.oid = c.conrelid LEFT JOIN pg_catalog.pg_type t ON t.oid = c.contypid
JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(r.relnamespace, t.typnamespace)
WHERE NOT c.convalidated AND c.contype IN ('c', 'f')
"""
_VERSIONS = "SELECT name || ' version ' || version FROM pg_catalog.pg_available_extension_versions"


def accepted(connection: Connection, comparison: FactsComparison) -> FactsComparison:
    """The comparison without the differences that repairs caused, which move to ``not_compared``: a constraint that
    differs only in NOT VALID, and an extension in a version that the server does not have.

    ``connection`` is to the restored database, its search path empty. Raises psycopg.Error.
    """
    if not any(each.kind in ("definition", "extension") for each in comparison.differences):
        return comparison
    valid = {
        what: f"definition {xxh3_128_hexdigest(settled(definition.removesuffix(' NOT VALID')).encode())}"
        for what, definition in connection.execute(_NOT_VALID)
    }
    available = {text for (text,) in connection.execute(_VERSIONS)}
    remarks = {each: _remark(each, valid, available) for each in comparison.differences}
    return comparison.model_copy(
        update={
            "differences": tuple(each for each, text in remarks.items() if text is None),
            "not_compared": (*comparison.not_compared, *(text for text in remarks.values() if text is not None)),
        }
    )


def _remark(each: FactsDifference, valid: Mapping[str, str], available: set[str]) -> str | None:
    if each.kind == "definition" and valid.get(each.what) == each.expected:
        return f"The {each.what} is NOT VALID here: rows of the restore point violate it."
    versions = each.expected.startswith("version ") and each.found.startswith("version ")
    if each.kind == "extension" and versions and f"{each.what} {each.expected}" not in available:
        return (
            f'The extension "{each.what}" has {each.found} here: {each.expected} of the restore point is not available '
            "on this server."
        )
    return None
