"""What is said about objects that exist: owners, comments, labels, privileges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lastgood.dump import names
from lastgood.dump.rulings.ruling import (
    DROPS,
    GLOBAL,
    INVALID_VALUE,
    MISSING_PRIVILEGE,
    UNDEFINED_OBJECT,
    Handler,
    Ruling,
)
from lastgood.dump.statements import Command, Kind, Verdict


def _owner(r: Ruling, node: Any) -> Command:
    if node.objectType in GLOBAL:
        return r.skip(*GLOBAL[node.objectType])
    # A failed event trigger has no owner to change.
    optional = [MISSING_PRIVILEGE, *([UNDEFINED_OBJECT] if node.objectType == "OBJECT_EVENT_TRIGGER" else [])]
    return r.run(Kind.OWNER, roles=(node.newowner,), optional=optional)


def _comment(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    optional = {
        "OBJECT_EXTENSION": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
        "OBJECT_EVENT_TRIGGER": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
    }.get(node.objtype, ())
    return r.run(Kind.COMMENT, optional=optional)


def _security_label(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    return r.run(Kind.SECURITY_LABEL, optional=(INVALID_VALUE, UNDEFINED_OBJECT, MISSING_PRIVILEGE))


def _grant(r: Ruling, node: Any) -> Command:
    if node.objtype in GLOBAL:
        return r.skip(*GLOBAL[node.objtype])
    return _privileges(r, Kind.GRANT, node, [node.grantor])


def _default_privileges(r: Ruling, node: Any) -> Command:
    named = [role for o in node.options or () if o.defname == "roles" for role in o.arg]
    return _privileges(r, Kind.DEFAULT_PRIVILEGES, node.action, named, optional=(MISSING_PRIVILEGE,))


def _privileges(r: Ruling, kind: Kind, node: Any, named: Iterable[Any], *, optional: Iterable[str] = ()) -> Command:
    """A GRANT, or a REVOKE. A role that does not exist has no privileges to lose; the server refuses all the same, and
    what the statement revokes from others would be lost, so that rule holds for a single grantee only."""
    grantees = node.grantees or ()
    if not node.is_grant and len(grantees) == 1:
        return r.run(kind, roles=named, revoked_from=grantees, optional=(*optional, UNDEFINED_OBJECT))
    return r.run(kind, roles=(*named, *grantees), optional=optional)


_RELATIONS = frozenset({"OBJECT_FOREIGN_TABLE", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_TABLE", "OBJECT_VIEW"})


def _drop(r: Ruling, node: Any) -> Command:
    if node.tag != "DropStmt" or node.removeType not in _RELATIONS:
        return r.skip(Kind.DROP, DROPS)
    relations = [names.of_list(parts, r.path.schema_of(parts[-1].sval)) for parts in node.objects]
    return Command(r.statement, Kind.DROP, Verdict.SKIP, DROPS, relations=tuple(relations))


def _plain(kind: Kind) -> Handler:
    return lambda r, node: r.run(kind)


HANDLERS: dict[str, Handler] = {
    "AlterDefaultPrivilegesStmt": _default_privileges,
    "AlterObjectDependsStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterOpFamilyStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterOwnerStmt": _owner,
    "AlterStatsStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterTSConfigurationStmt": _plain(Kind.TABLE_PROPERTY),
    "CommentStmt": _comment,
    "DropStmt": _drop,
    "DropUserMappingStmt": _drop,
    "GrantStmt": _grant,
    "SecLabelStmt": _security_label,
}
