"""Settings of the session, transactions, and the functions that pg_dump calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lastgood.dump import names, patterns, system
from lastgood.dump.names import Relation
from lastgood.dump.rulings.ruling import (
    INVALID_VALUE,
    MISSING_PRIVILEGE,
    NAMES_DATABASE,
    RESETS,
    UNDEFINED_FUNCTION,
    UNDEFINED_OBJECT,
    Handler,
    Ruling,
)
from lastgood.dump.statements import Command, Kind, LargeObjectCall, SequencePosition, Setting

_SETTINGS = frozenset(
    {
        "check_function_bodies",
        "client_encoding",
        "client_min_messages",
        "default_table_access_method",
        "default_tablespace",
        "escape_string_warning",
        "row_security",
        "search_path",
        "standard_conforming_strings",
        "xmloption",
    }
)
# What another server version may not know, and what a restore can do without.
_OPTIONAL_SETTINGS = frozenset(
    {
        "default_toast_compression",
        "default_transaction_read_only",
        "default_with_oids",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "lock_timeout",
        "session_replication_role",
        "statement_timeout",
        "transaction_timeout",
    }
)
_DATABASES = Relation(system.PG_CATALOG, "pg_database")
_SETTING_STATES = frozenset({UNDEFINED_OBJECT, INVALID_VALUE, MISSING_PRIVILEGE})


def _constant(node: Any) -> str | None:
    """A literal's text, casts of it left out; None when it is anything else (or NULL)."""
    while node.tag == "TypeCast":
        node = node.arg
    if node.tag != "A_Const" or node.isnull:
        return None
    if node.sval is not None:
        return str(node.sval.sval or "")
    if node.ival is not None:
        return str(node.ival.ival or 0)
    if node.boolval is not None:
        return "true" if node.boolval.boolval else "false"
    return str(node.fval.fval) if node.fval is not None else str(node.bsval.bsval)


def _set(r: Ruling, node: Any) -> Command:
    how = node.kind
    if how == "VAR_RESET_ALL":
        return r.skip(Kind.SETTING, RESETS)
    if node.is_local or how not in ("VAR_SET_VALUE", "VAR_SET_DEFAULT", "VAR_RESET"):
        return r.unknown()
    name = node.name
    value = None
    texts: list[str | None] = []
    if how == "VAR_SET_VALUE":
        texts = [_constant(arg) for arg in node.args or ()]
        value = ", ".join(text or "" for text in texts)
    if name == "standard_conforming_strings" and patterns.CONFORMING.match(r.statement.text) is None:
        return r.unknown()  # the lexer must understand it, too
    if name == "session_authorization":
        roles = (value,) if value else ()
        return Command(r.statement, Kind.SESSION_AUTHORIZATION, roles=roles, detail=Setting(name, value))
    if name == "role":  # pg_restore --role
        roles = (value,) if value not in (None, "none") else ()
        return Command(r.statement, Kind.SETTING, roles=roles, detail=Setting(name, value))
    if name == "default_with_oids" and value not in (None, "false", "off"):
        return r.refuse(Kind.SETTING, "makes tables with OIDs, which no supported server has")
    if name.endswith("_timeout") and value not in (None, "0"):
        return r.skip(Kind.SETTING, "limits how long a command may take; a restore takes as long as it takes")
    if name == "default_transaction_read_only" and value not in (None, "off", "false"):
        return r.skip(Kind.SETTING, "makes the session read-only, and nothing could be restored")
    if name in _OPTIONAL_SETTINGS:
        return r.run(Kind.SETTING, optional=_SETTING_STATES, detail=Setting(name, value))
    if name == "search_path" and _names_system_schema([text or "" for text in texts] if value is not None else []):
        return _unusual_path(r)
    if name in _SETTINGS:
        optional = _SETTING_STATES if name in ("row_security", "xmloption") else ()
        return r.run(Kind.SETTING, optional=optional, detail=Setting(name, value))
    return r.refuse(Kind.SETTING, f'sets "{name}", which pg_dump never does')


def _names_system_schema(path: list[str]) -> bool:
    """Whether a search path names a schema of PostgreSQL's other than pg_catalog, as old versions of pg_dump do."""
    return any(system.is_system_schema(schema) and schema != system.PG_CATALOG for schema in path)


def _unusual_path(r: Ruling) -> Command:
    return r.refuse(Kind.SETTING, "puts a schema that belongs to PostgreSQL itself into the search path")


def _select(r: Ruling, node: Any) -> Command:
    call = _only_call(node)
    if call is None:
        return r.unknown('a "SELECT"')
    parts = [part.sval for part in call.funcname]
    name = parts[-1]
    handler = _CALLS.get(name) if parts[:-1] == ["pg_catalog"] else None
    values = [_constant(argument) for argument in call.args or ()]
    plain = not (call.agg_order or call.agg_filter or call.over or call.agg_distinct or call.func_variadic)
    if handler is None or not plain or any(v is None for v in values):
        return r.unknown('a "SELECT"')
    return handler(r, name, [v for v in values if v is not None]) or r.unknown('a "SELECT"')


def _only_call(node: Any) -> Any:
    """The function call F of ``SELECT F`` or ``SELECT * FROM F``, with nothing else in the statement; else None."""
    others = (
        node.distinctClause, node.intoClause, node.whereClause, node.groupClause, node.havingClause,
        node.windowClause, node.valuesLists, node.sortClause, node.limitOffset, node.limitCount,
        node.lockingClause, node.withClause, node.larg, node.rarg,
    )  # fmt: skip
    if any(others) or len(node.targetList or ()) != 1:
        return None
    target = node.targetList[0].val
    if node.fromClause:
        source = node.fromClause[0]
        fields: tuple[Any, ...] = target.fields or ()
        starred = len(fields) == 1 and fields[0].tag == "A_Star"
        if len(node.fromClause) != 1 or source.tag != "RangeFunction" or not starred:
            return None
        if len(source.functions) != 1:
            return None
        target = source.functions[0][0]
    return target if target.tag == "FuncCall" else None


def _set_config(r: Ruling, name: str, values: list[str]) -> Command | None:
    if len(values) == 3 and values[0] == "search_path" and values[2] == "false":
        if _names_system_schema(names.search_path(values[1])):
            return _unusual_path(r)
        return r.run(Kind.SETTING, detail=Setting("search_path", values[1]))
    return None


def _setval(r: Ruling, name: str, values: list[str]) -> Command | None:
    sequence = names.parse(values[0], r.schema) if len(values) == 3 else None
    if sequence is None or not re.match(r"-?\d+\Z", values[1]):
        return None
    r.named(sequence)
    position = SequencePosition(sequence, int(values[1]), values[2] in ("true", "t"))
    return r.run(Kind.SEQUENCE_POSITION, sequence, detail=position)


def _large_object(r: Ruling, name: str, values: list[str]) -> Command | None:
    if name in ("lo_create", "lo_open"):
        if not values or not values[0].isdigit():
            return None
        return r.run(Kind.LARGE_OBJECT, detail=LargeObjectCall(name, int(values[0])))
    if name == "lo_close" and values == ["0"]:
        return r.run(Kind.LARGE_OBJECT, detail=LargeObjectCall(name))
    if name == "lowrite" and len(values) == 2 and re.fullmatch(r"\\x(?:[0-9A-Fa-f]{2})*", values[1]):
        return r.run(Kind.LARGE_OBJECT, detail=LargeObjectCall(name, None, bytes.fromhex(values[1][2:])))
    return None


def _restore_statistics(r: Ruling, name: str, values: list[str]) -> Command:
    # Its arguments are names and values in turn; 18.0 to 18.6 name the relation so.
    given = dict(zip(values[::2], values[1::2], strict=False))
    named = [Relation(given["schemaname"], given["relname"])] if {"schemaname", "relname"} <= given.keys() else []
    for relation in (*named, names.parse(given.get("relation", ""), r.schema)):
        if relation is not None:
            r.named(relation)
    return r.run(Kind.STATISTICS_CALL, *named, optional=(UNDEFINED_FUNCTION, INVALID_VALUE, MISSING_PRIVILEGE))


_CALLS: dict[str, Callable[[Ruling, str, list[str]], Command | None]] = {
    "set_config": _set_config,
    "setval": _setval,
    "lo_create": _large_object,
    "lo_open": _large_object,
    "lowrite": _large_object,
    "lo_close": _large_object,
    "pg_restore_relation_stats": _restore_statistics,
    "pg_restore_attribute_stats": _restore_statistics,
    "pg_restore_extended_stats": _restore_statistics,
}


def _transaction(r: Ruling, node: Any) -> Command:
    if node.kind in ("TRANS_STMT_BEGIN", "TRANS_STMT_COMMIT") and not node.options and not node.chain:
        return r.run(Kind.TRANSACTION)
    return r.unknown()


def _update(r: Ruling, node: Any) -> Command:
    # pg_dumpall --clean: UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = …
    changed = [target.name for target in node.targetList]
    if names.of_range_var(node.relation, "") == _DATABASES and changed == ["datistemplate"]:
        return r.skip(Kind.DATABASE, NAMES_DATABASE)
    return r.unknown()


HANDLERS: dict[str, Handler] = {
    "SelectStmt": _select,
    "TransactionStmt": _transaction,
    "UpdateStmt": _update,
    "VariableSetStmt": _set,
}
