"""Settings of the session, transactions, and the functions that pg_dump calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lastgood.dump import names
from lastgood.dump.lexer import patterns
from lastgood.dump.names import Relation
from lastgood.dump.rulings.foreign import change, other_select
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
from lastgood.dump.search_path import system_schema_in
from lastgood.dump.statements import Command, Kind, LargeObjectCall, SequencePosition, Setting, Verdict

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
# Settings that other server versions may lack, and that a restore does not need.
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
# Settings of other programs for the format of values and texts.
_FORMAT_SETTINGS = frozenset(
    {"backslash_quote", "bytea_output", "datestyle", "extra_float_digits", "intervalstyle", "timezone"}
)
# Settings of servers that are not PostgreSQL, which would refuse them.
_OTHER_SERVERS = re.compile(
    r"(?:gp|yb|ysql|edb|crdb)_\w+|optimizer|default_with_rowids|behavior_compat_options|enable_dump_trigger_definer"
    r"|foreign_key_checks|unique_checks|sql_mode\Z"
)
_DATABASES = Relation(names.PG_CATALOG, "pg_database")
_SETTING_STATES = frozenset({UNDEFINED_OBJECT, INVALID_VALUE, MISSING_PRIVILEGE})


# Types of the server that pg_dump names without their schema.
_TYPES = frozenset({"name", "oid", "regclass", "text"})


def _constant(node: Any, *, own_types: bool = False) -> str | None:
    """A literal's text, without casts; None for anything else, for NULL, and for a cast to a type that may be the
    dump's: its checks would run. ``own_types``: an unqualified name may be such a type."""
    while node.tag == "TypeCast":
        parts = [part.sval for part in node.typeName.names]
        if parts[:-1] != [names.PG_CATALOG] and (own_types or len(parts) > 1 or parts[0] not in _TYPES):
            return None
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
    kind = node.kind
    if kind == "VAR_RESET_ALL":
        return r.skip(Kind.SETTING, RESETS)
    if kind not in ("VAR_SET_VALUE", "VAR_SET_DEFAULT", "VAR_RESET"):
        return r.unknown()
    value = None
    if kind == "VAR_SET_VALUE":
        texts = [_constant(arg) or "" for arg in node.args or ()]
        # A list of names, as one text in the format of set_config.
        value = ", ".join(names.quoted(text) if text and node.name == "search_path" else text for text in texts)
    if node.name == "standard_conforming_strings" and patterns.CONFORMING.match(r.statement.text) is None:
        return r.unknown()  # the lexer has to recognize it, too
    return _setting(r, node.name, value, local=bool(node.is_local))


# Settings are sent again in each session, together and in another order: what a backslash means may have changed.
_AMBIGUOUS = re.compile(rb"\\|--|/\*")


def _unambiguous(name: str, value: str | None) -> bytes:
    """The command that sets a value, equal in any state of the session."""
    if value is None:
        return f"RESET {names.quoted(name)}".encode()
    text = "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value)
    match name:
        case "session_authorization":
            return f"SET SESSION AUTHORIZATION E'{text}'".encode()
        case "role":
            return f"SET ROLE E'{text}'".encode()
    return f"SELECT pg_catalog.set_config('{name}', E'{text}', false)".encode()


def _setting(r: Ruling, name: str, value: str | None, *, local: bool = False) -> Command:
    """Rule on a setting in any notation."""
    detail = Setting(name, value, local)
    if _AMBIGUOUS.search(r.statement.text):
        r.statement = replace(r.statement, text=_unambiguous(name, value))
    if name == "session_authorization":
        roles = (value,) if value else ()
        return Command(r.statement, Kind.SESSION_AUTHORIZATION, roles=roles, detail=detail)
    if name == "role":  # pg_restore --role
        roles = (value,) if value not in (None, "none") else ()
        return Command(r.statement, Kind.SETTING, roles=roles, detail=detail)
    if name == "default_with_oids" and value not in (None, "false", "off"):
        return r.foreign(Kind.SETTING, "creates tables with OIDs, which no supported server has", runs=False)
    if name.endswith("_timeout") and value not in (None, "0"):
        return r.skip(Kind.SETTING, "limits the duration of commands, which a restore must not do")
    if name == "default_transaction_read_only" and value not in (None, "off", "false"):
        return r.skip(Kind.SETTING, "makes the session read-only, which would prevent the restore")
    if name in _OPTIONAL_SETTINGS:
        return r.run(Kind.SETTING, optional=_SETTING_STATES, detail=detail)
    if name == "search_path" and (schema := system_schema_in(value)):
        return r.refuse(
            Kind.SETTING,
            f'has the schema "{names.shown(schema)}", which belongs to PostgreSQL itself, in its search path',
        )
    if name in _SETTINGS:
        optional = _SETTING_STATES if name in ("row_security", "xmloption") else ()
        return r.run(Kind.SETTING, optional=optional, detail=detail)
    reason = f'sets "{name}", which pg_dump never does'
    if name.lower() in _FORMAT_SETTINGS:
        return r.foreign(Kind.SETTING, reason, optional=_SETTING_STATES, detail=detail)
    if _OTHER_SERVERS.match(name.lower()):
        return r.foreign(Kind.SETTING, reason, runs=False)
    return r.refuse(Kind.SETTING, reason)


def _select(r: Ruling, node: Any) -> Command:
    call = _only_call(node)
    if call is not None:
        parts = [part.sval for part in call.funcname]
        name = parts[-1]
        handler = _CALLS.get(name) if parts[:-1] in (["pg_catalog"], []) else None
        own_types = bool(r.path.before_catalogue)
        values = [_constant(argument, own_types=own_types) for argument in call.args or ()]
        plain = not (call.agg_order or call.agg_filter or call.over or call.agg_distinct or call.func_variadic)
        if handler is not None and plain and all(v is not None for v in values):
            command = handler(r, name, [v for v in values if v is not None])
            if command is not None and (parts[:-1] or command.verdict is not Verdict.RUN):
                return command
    return other_select(r, node, call)


def _only_call(node: Any) -> Any:
    """The function call F of ``SELECT F`` or ``SELECT * FROM F``, if the statement has nothing else; otherwise None."""
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
    is_known = len(values) == 3 and values[0].lower() in (_SETTINGS | _OPTIONAL_SETTINGS) - {
        "standard_conforming_strings"
    }
    if not is_known or values[2] not in ("true", "t", "false", "f"):
        return None
    return _setting(r, values[0].lower(), values[1], local=values[2] in ("true", "t"))


def _setval(r: Ruling, name: str, values: list[str]) -> Command | None:
    sequence = r.relation_named(values[0]) if len(values) == 3 else None
    if sequence is None or not re.match(r"-?\d+\Z", values[1]):
        return None
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
    # Its arguments are alternating names and values; 18.0 to 18.6 name the relation so.
    arguments = dict(zip(values[::2], values[1::2], strict=False))
    relations = (
        [Relation(arguments["schemaname"], arguments["relname"])]
        if {"schemaname", "relname"} <= arguments.keys()
        else []
    )
    for relation in relations:
        r.record(relation)
    if "relation" in arguments:
        r.relation_named(arguments["relation"])
    return r.run(Kind.STATISTICS_CALL, *relations, optional=(UNDEFINED_FUNCTION, INVALID_VALUE, MISSING_PRIVILEGE))


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
    if node.kind in ("TRANS_STMT_BEGIN", "TRANS_STMT_START", "TRANS_STMT_COMMIT") and not node.chain:
        return r.run(Kind.TRANSACTION)
    if node.kind in ("TRANS_STMT_SAVEPOINT", "TRANS_STMT_RELEASE"):
        return r.foreign(Kind.QUERY, runs=False)
    return r.unknown()


def _update(r: Ruling, node: Any) -> Command:
    # pg_dumpall --clean: UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = …
    changed = [target.name for target in node.targetList]
    if names.of_range_var(node.relation, names.PG_CATALOG) == _DATABASES and changed == ["datistemplate"]:
        return r.skip(Kind.DATABASE, NAMES_DATABASE)
    return change(r, node)


UPKEEP = re.compile(rb"(?:ANALYZE|CHECKPOINT|CLUSTER|REINDEX|VACUUM)\b", re.IGNORECASE)


def _upkeep(r: Ruling, node: Any) -> Command:
    """A command that changes neither rows nor definitions."""
    return r.skip(Kind.UPKEEP, f"has {r.opening(1)}, which changes no data")


HANDLERS: dict[str, Handler] = {
    "CheckPointStmt": _upkeep,
    "ClusterStmt": _upkeep,
    "ReindexStmt": _upkeep,
    "VacuumStmt": _upkeep,
    "SelectStmt": _select,
    "TransactionStmt": _transaction,
    "UpdateStmt": _update,
    "VariableSetStmt": _set,
}
