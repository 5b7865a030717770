"""Attributes of existing objects: owners, comments, labels, privileges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lastgood.dump import names
from lastgood.dump.names import Relation
from lastgood.dump.rulings.ruling import (
    DROPS,
    GLOBAL,
    INVALID_VALUE,
    MARK,
    MARKS_RUN,
    MISSING_PRIVILEGE,
    UNDEFINED_OBJECT,
    Handler,
    Ruling,
)
from lastgood.dump.statements import Command, Kind, Verdict

# Objects whose names are lists that begin with an access method, or end with a part of the object.
_BEHIND_METHOD = frozenset({"OBJECT_OPCLASS", "OBJECT_OPFAMILY"})
_OF_RELATION = frozenset(
    {"OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_DOMCONSTRAINT"}
)
_RELATIONS = frozenset({"OBJECT_FOREIGN_TABLE", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_TABLE", "OBJECT_VIEW"})
_FUNCTIONS = frozenset({"OBJECT_AGGREGATE", "OBJECT_FUNCTION", "OBJECT_OPERATOR", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"})
# Casts and transforms have no name of their own: the types are only mentioned.
_WITHOUT_NAME = frozenset({"OBJECT_CAST", "OBJECT_TRANSFORM"})


def _note(r: Ruling, kind: str, node: Any) -> None:
    """Record the object of a statement: ``node`` as the parser represents it for this ``kind``."""
    if node is None or kind in _WITHOUT_NAME:
        return
    if isinstance(node, tuple):
        parts = node[1:] if kind in _BEHIND_METHOD else node
        if kind in _OF_RELATION:
            parts = parts[:-1]
        if len(parts) == 1 and parts[0].tag == "TypeName":
            parts = parts[0].names
        if len(parts) == 1 and kind in _RELATIONS | _OF_RELATION | {"OBJECT_INDEX"}:
            r.record(Relation(r.path.schema_of(parts[0].sval), parts[0].sval))
        elif parts:
            r.object_named(parts)
    elif node.tag == "RangeVar":
        r.relation(node)
    elif node.tag == "ObjectWithArgs":
        found = r.object_named(node.objname)
        if not found.schema:  # an empty search path has only the server's own
            r.record(Relation(names.PG_CATALOG, found.name))
    elif node.tag == "TypeName":
        r.object_named(node.names)
    elif node.tag == "String" and kind == "OBJECT_SCHEMA":
        r.record_schema(node.sval)


def _owner(r: Ruling, node: Any) -> Command:
    if node.objectType in GLOBAL:
        return r.skip(*GLOBAL[node.objectType])
    _note(r, node.objectType, node.relation or node.object)
    if not r.schema and node.objectType in _FUNCTIONS and len(node.object.objname) == 1:
        # With an empty search path only pg_catalog is left, which has only the server's own functions.
        r.record(Relation(names.PG_CATALOG, node.object.objname[0].sval))
    # An event trigger or a publication that was not created has no owner to change.
    uncreated = node.objectType in ("OBJECT_EVENT_TRIGGER", "OBJECT_PUBLICATION")
    optional = [MISSING_PRIVILEGE, *([UNDEFINED_OBJECT] if uncreated else [])]
    return r.run(Kind.OWNER, roles=(node.newowner,), optional=optional)


def _comment(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    _note(r, node.objtype, node.object)
    if node.objtype == "OBJECT_SCHEMA" and (node.comment or "")[1:].startswith(MARK):
        return r.skip(Kind.COMMENT, MARKS_RUN)
    optional = {
        "OBJECT_EXTENSION": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
        "OBJECT_EVENT_TRIGGER": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
        "OBJECT_PUBLICATION": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
    }.get(node.objtype, ())
    return r.run(Kind.COMMENT, optional=optional)


def _security_label(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    _note(r, node.objtype, node.object)
    return r.run(Kind.SECURITY_LABEL, optional=(INVALID_VALUE, UNDEFINED_OBJECT, MISSING_PRIVILEGE))


def _grant(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    for each in node.objects or ():
        if not _is_changed_privilege(node, each):
            _note(r, "OBJECT_SCHEMA" if node.targtype == "ACL_TARGET_ALL_IN_SCHEMA" else node.objtype, each)
    return _privileges(r, Kind.GRANT, node, [node.grantor])


def _is_changed_privilege(grant: Any, granted_on: Any) -> bool:
    """Whether it is about a single object of pg_catalog: pg_dump writes changed privileges on these."""
    if grant.targtype != "ACL_TARGET_OBJECT":
        return False
    if isinstance(granted_on, tuple):
        return _in_catalogue(granted_on)
    match granted_on.tag:
        case "String":
            return bool(granted_on.sval == names.PG_CATALOG)
        case "RangeVar":
            return (granted_on.schemaname or names.PG_CATALOG) == names.PG_CATALOG
        case "ObjectWithArgs":
            return _in_catalogue(granted_on.objname)
        case "TypeName":
            return _in_catalogue(granted_on.names)
    return True


def _in_catalogue(parts: Any) -> bool:
    return len(parts) == 1 or bool(parts[-2].sval == names.PG_CATALOG)


def _default_privileges(r: Ruling, node: Any) -> Command:
    named = [role for o in node.options or () if o.defname == "roles" for role in o.arg]
    return _privileges(r, Kind.DEFAULT_PRIVILEGES, node.action, named, optional=(MISSING_PRIVILEGE,))


def _privileges(r: Ruling, kind: Kind, node: Any, named: Iterable[Any], *, optional: Iterable[str] = ()) -> Command:
    """A GRANT, or a REVOKE. REVOKE from a missing role has no effect, but the server refuses it. With several grantees,
    the revocations from the others would be lost, so the error is only ignored for a single grantee."""
    grantees = node.grantees or ()
    if not node.is_grant and len(grantees) == 1:
        return r.run(kind, roles=named, revoked_from=grantees, optional=(*optional, UNDEFINED_OBJECT))
    return r.run(kind, roles=(*named, *grantees), optional=optional)


def _drop(r: Ruling, node: Any) -> Command:
    if node.tag != "DropStmt" or node.removeType not in _RELATIONS:
        return r.skip(Kind.DROP, DROPS)
    relations = [names.of_list(parts, r.path.schema_of(parts[-1].sval)) for parts in node.objects]
    return Command(r.statement, Kind.DROP, Verdict.SKIP, DROPS, relations=tuple(relations))


def _property(attribute: str) -> Handler:
    """A handler for changes to the object that ``attribute`` of the syntax tree names."""

    def handle(r: Ruling, node: Any) -> Command:
        r.object_named(getattr(node, attribute))
        return r.run(Kind.TABLE_PROPERTY)

    return handle


def _operator_family(r: Ruling, node: Any) -> Command:
    family = r.object_named(node.opfamilyname)
    if not family.schema:  # an empty search path has only the server's own
        r.record(Relation(names.PG_CATALOG, family.name))
    return r.run(Kind.OPERATOR_FAMILY)


def _depends(r: Ruling, node: Any) -> Command:
    _note(r, node.objectType, node.relation or node.object)
    return r.run(Kind.TABLE_PROPERTY)


HANDLERS: dict[str, Handler] = {
    "AlterDefaultPrivilegesStmt": _default_privileges,
    "AlterObjectDependsStmt": _depends,
    "AlterOpFamilyStmt": _operator_family,
    "AlterOwnerStmt": _owner,
    "AlterStatsStmt": _property("defnames"),
    "AlterTSConfigurationStmt": _property("cfgname"),
    "CommentStmt": _comment,
    "DropStmt": _drop,
    "DropUserMappingStmt": _drop,
    "GrantStmt": _grant,
    "SecLabelStmt": _security_label,
}
