"""Definitions for types and operator families of the server itself, which would act in queries over its catalogue.

A cast between two types of the server, or a default operator class for one, has no schema: every expression that needs
it uses it, whatever the search path is. Queries of an operator over the catalogue would run its function.
"""

from __future__ import annotations

from typing import Any

from lastgood.dump import names
from lastgood.dump.rulings.code import computes_only
from lastgood.dump.rulings.tree import Node
from lastgood.postgres.server import Connection

_TYPE = "SELECT FROM pg_catalog.pg_type WHERE typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND typname = %s"
_FAMILY = """
SELECT FROM pg_catalog.pg_opfamily f JOIN pg_catalog.pg_am m ON m.oid = f.opfmethod
WHERE f.opfnamespace = 'pg_catalog'::pg_catalog.regnamespace AND f.opfname = %s AND m.amname = %s
"""


def casts(connection: Connection, node: Node) -> bool:
    """Whether a cast with a function is between types of the server, and the function does more than compute."""
    between = _is_type(connection, node.sourcetype) and _is_type(connection, node.targettype)
    return between and not computes_only([part.sval for part in node.func.objname])


def sorts(connection: Connection, node: Node) -> bool:
    """Whether an operator class is the default one of a type of the server, or in a family of the server."""
    if node.isDefault and _is_type(connection, node.datatype):
        return True
    return node.opfamilyname is not None and family(connection, node)


def family(connection: Connection, node: Node) -> bool:
    """Whether an operator family is the server's."""
    *schema, name = (part.sval for part in node.opfamilyname)
    return _is_servers(schema) and connection.execute(_FAMILY, [name, node.amname]).fetchone() is not None


def _is_type(connection: Connection, type_: Any) -> bool:
    *schema, name = (part.sval for part in type_.names)
    return _is_servers(schema) and connection.execute(_TYPE, [name]).fetchone() is not None


def _is_servers(schema: list[str]) -> bool:
    """Without a schema the server's may be meant."""
    return schema in ([], [names.PG_CATALOG])
