"""Range types, which only a superuser can move: their constructor functions belong to the bootstrap superuser.

For other roles they stay where they are, and the tables on both sides of an exchange use the same type. So it must
equal the restore point's, and use nothing that goes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lastgood.postgres.access.securables import ObjectName
from lastgood.postgres.server import Connection

_RANGES = """
SELECT n.nspname, t.typname, t.oid::int8, m.oid::int8, t.typarray::int8, m.typarray::int8,
       ARRAY(SELECT d.objid::int8 FROM pg_depend d
             WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'i'
               AND d.refobjid IN (t.oid, m.oid)),
       concat_ws(' ', r.rngsubtype::regtype, r.rngcollation::regcollation,
                 (SELECT pg_describe_object('pg_opclass'::regclass, r.rngsubopc, 0)),
                 r.rngcanonical::regproc, r.rngsubdiff::regproc, m.oid::regtype),
       concat_ws(' ', pg_get_userbyid(t.typowner), (SELECT string_agg(a::text, ' ' ORDER BY a::text)
                       FROM unnest(coalesce(t.typacl, acldefault('T', t.typowner))) a),
                 obj_description(t.oid, 'pg_type')),
       (SELECT min(pg_describe_object(d.refclassid, d.refobjid, 0)) FROM pg_depend d
        LEFT JOIN pg_type ut ON d.refclassid = 'pg_type'::regclass AND ut.oid = d.refobjid
        LEFT JOIN pg_proc up ON d.refclassid = 'pg_proc'::regclass AND up.oid = d.refobjid
        LEFT JOIN pg_opclass uo ON d.refclassid = 'pg_opclass'::regclass AND uo.oid = d.refobjid
        LEFT JOIN pg_collation uc ON d.refclassid = 'pg_collation'::regclass AND uc.oid = d.refobjid
        JOIN pg_namespace un ON un.oid = coalesce(ut.typnamespace, up.pronamespace, uo.opcnamespace, uc.collnamespace)
        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND un.nspname = ANY (%(schemas)s)
          AND NOT EXISTS (SELECT FROM pg_depend e
                          WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'))
FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN pg_type m ON m.oid = r.rngmultitypid
WHERE n.nspname = ANY (%(schemas)s)
  AND NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class RangeType:
    """A range type with its multirange type. ``types`` and ``routines``: the OIDs of all that belongs to it.
    ``definition`` and ``privileges`` are comparable between databases; ``uses``: an object of the schemas that it is
    made of, empty if there is none."""

    name: ObjectName
    types: frozenset[int]
    routines: frozenset[int]
    definition: str
    privileges: str
    uses: str


def ranges(connection: Connection, schemas: Iterable[str]) -> list[RangeType]:
    """The range types of the schemas, without those of extensions."""
    return [
        RangeType(
            ObjectName("type", (row[0], row[1])), frozenset(row[2:6]), frozenset(row[6]), row[7], row[8], row[9] or ""
        )
        for row in connection.execute(_RANGES, {"schemas": list(schemas)})
    ]


def staying(connection: Connection, schemas: Iterable[str]) -> list[RangeType]:
    """The range types that this role cannot move; none for a superuser."""
    return [] if connection.info.parameter_status("is_superuser") == "on" else ranges(connection, schemas)


def belonging(found: Iterable[RangeType]) -> dict[str, frozenset[int]]:
    """Catalogue → the OIDs of all that belongs to these range types."""
    every = list(found)
    return {
        "pg_type": frozenset(oid for each in every for oid in each.types),
        "pg_proc": frozenset(oid for each in every for oid in each.routines),
    }


def immovable(found: Iterable[RangeType]) -> list[str]:
    """Those that can neither be moved nor stay, in words."""
    return [
        f"range {each.name} cannot be moved, since its constructor functions belong to the bootstrap superuser, and "
        f"cannot stay, since {each.uses} is rolled back"
        for each in found
        if each.uses
    ]


def differences(
    point: Iterable[RangeType], live: Iterable[RangeType], *, privileges: bool
) -> tuple[list[str], list[str]]:
    """The obstacles to keeping the live range types instead of the restore point's, and the differences that would
    remain, both in words. ``privileges``: whether the restore point has owners and privileges."""
    here = {each.name: each for each in live}
    prevents, remains = [], []
    for each in point:
        present = here.pop(each.name, None)
        if present is None:
            prevents.append(f"the live database lacks range {each.name}, which only a superuser can put into place")
        elif present.definition != each.definition:
            prevents.append(f"range {each.name} differs from the live one, which only a superuser can move")
        elif privileges and present.privileges != each.privileges:
            remains.append(f"range {each.name} keeps its present owner, privileges and comment")
    remains += [f"range {name} was created since the restore point, and stays" for name in here]
    return prevents, remains
