"""What is said about objects that exist: owners, comments, labels, privileges."""

from __future__ import annotations

from typing import Any

from lastgood.dump import names, system
from lastgood.dump.names import Relation
from lastgood.dump.rulings.ruling import (
    DROPS,
    GLOBAL,
    INVALID_VALUE,
    MISSING_PRIVILEGE,
    UNDEFINED_OBJECT,
    Handler,
    Ruling,
)
from lastgood.dump.statements import Command, Kind

# Whose names are lists that begin with an access method, or end with what belongs to the object.
_BEHIND_METHOD = frozenset({"OBJECT_OPCLASS", "OBJECT_OPFAMILY"})
_OF_RELATION = frozenset(
    {"OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_DOMCONSTRAINT"}
)
_RELATIONS = frozenset(
    {
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_INDEX",
        "OBJECT_MATVIEW",
        "OBJECT_SEQUENCE",
        "OBJECT_TABLE",
        "OBJECT_VIEW",
        *_OF_RELATION,
    }
)
_FUNCTIONS = frozenset({"OBJECT_AGGREGATE", "OBJECT_FUNCTION", "OBJECT_OPERATOR", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"})
# Casts and transforms have no name of their own: the types are only mentioned.
_WITHOUT_NAME = frozenset({"OBJECT_CAST", "OBJECT_TRANSFORM"})


def _note(r: Ruling, kind: str, node: Any) -> None:
    """Takes note of the object that a statement is about: ``node`` as the parser gives it for this ``kind``."""
    if node is None or kind in _WITHOUT_NAME:
        return
    if isinstance(node, tuple):
        parts = node[1:] if kind in _BEHIND_METHOD else node
        if kind in _OF_RELATION:
            parts = parts[:-1]
        if len(parts) == 1 and parts[0].tag == "TypeName":
            parts = parts[0].names
        if len(parts) == 1 and kind in _RELATIONS:
            r.named(Relation(system.schema_of(parts[0].sval, r.schema), parts[0].sval))
        elif parts:
            r.listed(parts)
    elif node.tag == "RangeVar":
        r.relation(node)
    elif node.tag == "ObjectWithArgs":
        r.listed(node.objname)
    elif node.tag == "TypeName":
        r.listed(node.names)
    elif node.tag == "String" and kind == "OBJECT_SCHEMA":
        r.schema_named(node.sval)


def _owner(r: Ruling, node: Any) -> Command:
    if node.objectType in GLOBAL:
        return r.skip(*GLOBAL[node.objectType])
    _note(r, node.objectType, node.relation or node.object)
    if not r.schema and node.objectType in _FUNCTIONS and len(node.object.objname) == 1:
        # An empty search path leaves pg_catalog, whose functions belong to nobody else.
        r.named(Relation(system.PG_CATALOG, node.object.objname[0].sval))
    # A failed event trigger has no owner to change.
    optional = [MISSING_PRIVILEGE, *([UNDEFINED_OBJECT] if node.objectType == "OBJECT_EVENT_TRIGGER" else [])]
    return r.run(Kind.OWNER, roles=(node.newowner,), optional=optional)


def _comment(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    _note(r, node.objtype, node.object)
    optional = {
        "OBJECT_EXTENSION": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
        "OBJECT_EVENT_TRIGGER": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
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
    return r.run(Kind.GRANT, roles=(*(node.grantees or ()), node.grantor))


def _is_changed_privilege(grant: Any, granted_on: Any) -> bool:
    """Whether it is about one object of pg_catalog: pg_dump writes privileges on these where they were changed."""
    if grant.targtype != "ACL_TARGET_OBJECT":
        return False
    if isinstance(granted_on, tuple):
        return _in_catalogue(granted_on)
    match granted_on.tag:
        case "String":
            return bool(granted_on.sval == system.PG_CATALOG)
        case "RangeVar":
            return names.of_range_var(granted_on, "").schema == system.PG_CATALOG
        case "ObjectWithArgs":
            return _in_catalogue(granted_on.objname)
        case "TypeName":
            return _in_catalogue(granted_on.names)
    return True


def _in_catalogue(parts: Any) -> bool:
    return len(parts) == 1 or bool(parts[-2].sval == system.PG_CATALOG)


def _default_privileges(r: Ruling, node: Any) -> Command:
    named = [role for o in node.options or () if o.defname == "roles" for role in o.arg]
    return r.run(Kind.DEFAULT_PRIVILEGES, roles=(*named, *(node.action.grantees or ())), optional=(MISSING_PRIVILEGE,))


def _drop(r: Ruling, node: Any) -> Command:
    return r.skip(Kind.DROP, DROPS)


def _property(attribute: str) -> Handler:
    """A handler for what is changed about the object that ``attribute`` of the syntax tree names."""

    def handle(r: Ruling, node: Any) -> Command:
        r.listed(getattr(node, attribute))
        return r.run(Kind.TABLE_PROPERTY)

    return handle


def _depends(r: Ruling, node: Any) -> Command:
    _note(r, node.objectType, node.relation or node.object)
    return r.run(Kind.TABLE_PROPERTY)


HANDLERS: dict[str, Handler] = {
    "AlterDefaultPrivilegesStmt": _default_privileges,
    "AlterObjectDependsStmt": _depends,
    "AlterOpFamilyStmt": _property("opfamilyname"),
    "AlterOwnerStmt": _owner,
    "AlterStatsStmt": _property("defnames"),
    "AlterTSConfigurationStmt": _property("cfgname"),
    "CommentStmt": _comment,
    "DropStmt": _drop,
    "DropUserMappingStmt": _drop,
    "GrantStmt": _grant,
    "SecLabelStmt": _security_label,
}
