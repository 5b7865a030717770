"""Differences that a proof accepts because a repair caused them: read from the server, so that a resumed run knows them
too."""

from __future__ import annotations

from collections.abc import Mapping

from xxhash import xxh3_128_hexdigest

from lastgood.facts import Difference
from lastgood.facts.compare import Comparison
from lastgood.facts.settled import settled
from lastgood.postgres.server import Connection

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


def accepted(connection: Connection, comparison: Comparison) -> Comparison:
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


def _remark(each: Difference, valid: Mapping[str, str], available: set[str]) -> str | None:
    if each.kind == "definition" and valid.get(each.what) == each.expected:
        return f"The {each.what} is NOT VALID here: rows of the restore point violate it."
    versions = each.expected.startswith("version ") and each.found.startswith("version ")
    if each.kind == "extension" and versions and f"{each.what} {each.expected}" not in available:
        return (
            f'The extension "{each.what}" has {each.found} here: {each.expected} of the restore point is not available '
            "on this server."
        )
    return None
