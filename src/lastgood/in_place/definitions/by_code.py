"""Changes in the scratch database that code of the restore point made, where no guard of a superuser prevents them.

The rewritten definitions and the ties come from there, and the operator creates the ties in the live database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from lastgood.dump.names import Relation, quoted
from lastgood.dump.statements import Kind
from lastgood.facts import ObjectFacts
from lastgood.facts.objects import read_objects
from lastgood.in_place.definitions.against_facts import schema_of_object
from lastgood.in_place.definitions.sorting import Placed
from lastgood.in_place.marks import Check
from lastgood.load.builder import Builder
from lastgood.load.hand_over import CodeActed
from lastgood.load.rebuild import SHOWN
from lastgood.postgres.server import Connection
from lastgood.text.redact import visible
from lastgood.text.units import counted

# Triggers and policies of tables that stay, without those of extensions.
_OUTSIDE = """
SELECT o.kind, n.nspname::text, c.relname::text, o.name::text
FROM (
  SELECT 'trigger' AS kind, tgname AS name, tgrelid AS relation FROM pg_catalog.pg_trigger
  WHERE NOT tgisinternal AND tgparentid = 0
  UNION ALL SELECT 'policy', polname, polrelid FROM pg_catalog.pg_policy
) o JOIN pg_catalog.pg_class c ON c.oid = o.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> ALL (%s)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2, 3, 4
"""
# A restore point with a cast of the schemas is refused, and a range type has one of its own.
_CASTS = """
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, 0) FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_type t ON d.refclassid = 'pg_catalog.pg_type'::regclass AND t.oid = d.refobjid
LEFT JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.refobjid
JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(t.typnamespace, p.pronamespace)
WHERE d.classid = 'pg_catalog.pg_cast'::regclass AND d.deptype <> 'i' AND n.nspname = ANY (%s)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                  WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype IN ('e', 'i'))
ORDER BY 1
"""
_LOOSENED = frozenset({"check constraint", "domain constraint", "domain", "table"})


def refuse(
    connection: Connection,
    builder: Builder,
    compared: Iterable[ObjectFacts],
    every: Iterable[Placed],
    schemas: Collection[str],
    postponed: Collection[Check],
) -> None:
    """Raise CodeActed if code changed what commands of the restore point made, or ``compared``, the definitions that
    were compared with it, or if it created what that comparison does not include. ``every``: the commands of the
    restore point; ``postponed``: the checks that were made NOT VALID since. The login of ``builder`` must have
    ended."""
    casts = [name for (name,) in connection.execute(_CASTS, [list(schemas)])]
    lines = [f"{each}: created by code while it was restored" for each in (*casts, *_added(connection, every, schemas))]
    if builder.definitions is not None:
        lines += builder.definitions.changed(connection)
        builder.definitions = None  # owners and grants follow, which write the catalogue's rows again
    lines += _changed(compared, read_objects(connection), schemas, loosened=bool(postponed))
    lines = list(dict.fromkeys(lines))
    if lines:
        raise CodeActed(
            "cannot use the rewritten definitions: code in the restore point created or changed "
            f"{counted(len(lines), 'object')}" + "".join(f"\n  {visible(each)}" for each in lines[:SHOWN]),
            hint="Choose another restore point, and find out who created that code.",
        )


def _added(connection: Connection, every: Iterable[Placed], schemas: Collection[str]) -> Iterator[str]:
    created = set()
    for each in every:
        if each.schema in schemas:
            continue
        if each.command.kind is Kind.TRIGGER:
            created.add(("trigger", each.schema, each.node.relation.relname, each.node.trigname))
        elif each.command.kind is Kind.POLICY:
            created.add(("policy", each.schema, each.node.table.relname, each.node.policy_name))
    for row in connection.execute(_OUTSIDE, [list(schemas)]).fetchall():
        if row not in created:
            kind, schema, table, name = row
            yield f"{kind} {quoted(name)} on {Relation(schema, table)}"


def _changed(
    compared: Iterable[ObjectFacts], found: Iterable[ObjectFacts], schemas: Collection[str], *, loosened: bool
) -> Iterator[str]:
    before, after = ({(each.kind, each.identity): each.digest for each in side} for side in (compared, found))
    for key in sorted(before.keys() | after.keys()):
        kind, identity = key
        by_us = loosened and kind in _LOOSENED and key in before and key in after
        if before.get(key) != after.get(key) and not by_us and schema_of_object(kind, identity) in schemas:
            yield f"{kind} {identity}: changed by code while it was restored"
