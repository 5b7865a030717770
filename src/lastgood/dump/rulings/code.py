"""Objects of a dump that can run as code during a restore, counted for the operator.

Functions always count. An expression counts if it calls a function, or uses an operator, other than PostgreSQL's own
that only compute. A materialized view always counts: it is populated with any query. So do the definitions that give
functions of the server another use: an expression that uses an operator or a cast need not name the function.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lastgood.dump import names
from lastgood.dump.rulings.foreign import ONLY_COMPUTE
from lastgood.dump.rulings.tree import Node, within

FUNCTION, CHECK, DEFAULT, GENERATED = "function", "check", "default", "generated column"
INDEX, DOMAIN, PARTITION, STATISTICS = "index", "domain", "partition", "statistics object"
TRIGGER, EVENT_TRIGGER, RULE, POLICY = "trigger", "event trigger", "rule", "policy"
MATERIALIZED_VIEW, CAST, PROGRAM = "materialized view", "cast", "foreign table with a program or file"
# A role that uses it logs in as the server's user of the operating system, where that needs no password.
WITHOUT_PASSWORD = "user mapping without a password"
OPERATOR, OPERATOR_SUPPORT, HANDLER = "operator", "operator class", "handler"
EXPRESSION = "expression"
# Evaluated when the server plans a query on the table, analyzes it, or builds an index.
PLANNED = frozenset({CHECK, GENERATED, INDEX, PARTITION, STATISTICS})

_CODE_STATEMENTS = {
    "AlterOpFamilyStmt": OPERATOR_SUPPORT,
    "CreateAmStmt": HANDLER,
    "CreateCastStmt": CAST,
    "CreateEventTrigStmt": EVENT_TRIGGER,
    "CreateFunctionStmt": FUNCTION,
    "CreateOpClassStmt": OPERATOR_SUPPORT,
    "CreatePolicyStmt": POLICY,
    "CreateTransformStmt": HANDLER,
    "CreateTrigStmt": TRIGGER,
    "RuleStmt": RULE,
}
_DEFINITIONS = {
    "OBJECT_AGGREGATE": FUNCTION,
    "OBJECT_OPERATOR": OPERATOR,
    "OBJECT_TSPARSER": HANDLER,
    "OBJECT_TSTEMPLATE": HANDLER,
}
_CONSTRAINTS = {
    "CONSTR_CHECK": CHECK,
    "CONSTR_DEFAULT": DEFAULT,
    "CONSTR_EXCLUSION": INDEX,
    "CONSTR_GENERATED": GENERATED,
}
_MORE_FUNCTIONS = """
    age array_length array_lower array_ndims array_remove array_replace array_to_json array_upper ascii bit_length
    bool_and bool_or cardinality cbrt chr date_bin decode degrees div factorial family host hostmask isempty
    jsonb_array_length jsonb_path_exists jsonb_path_match jsonb_strip_nulls jsonb_typeof json_array_length json_typeof
    justify_days
    lower_inc lower_inf masklen netmask network normalize num_nonnulls num_nulls octet_length pg_column_size
    quote_nullable radians range_merge regexp_count regexp_like regexp_match regexp_matches scale setweight starts_with
    string_to_table strip to_ascii trim_array trunc ts_rank upper_inc upper_inf width_bucket xmlconcat
"""
_SERVER_SCHEMAS: tuple[list[str], ...] = ([], [names.PG_CATALOG])
_ONLY_COMPUTE = ONLY_COMPUTE | frozenset(_MORE_FUNCTIONS.split())


# Nothing that a restore runs evaluates their expressions. Of SELECT, only calls with constants run.
_STORED = frozenset({"AlterPublicationStmt", "CreatePublicationStmt", "SelectStmt", "ViewStmt"})


def computes_only(function: list[str]) -> bool:
    """Whether a function, with its schema, is one of the server that does nothing but compute."""
    return function[:-1] == [names.PG_CATALOG] and function[-1] in _ONLY_COMPUTE


def constructs(node: Node) -> Iterator[str]:
    """The kind of each object that a statement creates and that can run as code. An expression in a place that is not
    known counts, too."""
    found = list(_constructs(node))
    if not found and node.tag not in _STORED and _runs_code(node):
        found.append(EXPRESSION)
    yield from found


def _constructs(node: Node) -> Iterator[str]:
    if node.tag in _CODE_STATEMENTS:
        yield _CODE_STATEMENTS[node.tag]
        return
    match node.tag:
        case "DefineStmt" if node.kind in _DEFINITIONS:
            yield _DEFINITIONS[node.kind]
        case "CreatePLangStmt" | "CreateFdwStmt" if node.plhandler or node.func_options:
            yield HANDLER
        case "CreateTableAsStmt":
            yield MATERIALIZED_VIEW
        case "CreateStmt":
            yield from _of_table(node)
        case "CreateForeignTableStmt":
            yield from _of_table(node.base)
            if any(option.defname in ("program", "filename") for option in node.options or ()):
                yield PROGRAM
        case "CreateUserMappingStmt" | "AlterUserMappingStmt" if _needs_no_password(node.options or ()):
            yield WITHOUT_PASSWORD
        case "IndexStmt" if _runs_code(node.indexParams, node.whereClause):
            yield INDEX
        case "CreateStatsStmt" if _runs_code(node.exprs):
            yield STATISTICS
        case "CreateDomainStmt" if _runs_code(node.constraints):
            yield DOMAIN
        case "AlterDomainStmt" if _runs_code(node.def_):
            yield DOMAIN
        case "AlterTableStmt":
            for command in node.cmds:
                yield from _of_change(command)


def _needs_no_password(options: Iterable[Any]) -> bool:
    needed = (each.arg.sval.lower() for each in options if each.defname == "password_required" and each.arg is not None)
    return any(each not in ("true", "on", "yes", "1") for each in needed)


def _of_table(table: Any) -> Iterator[str]:
    for element in table.tableElts or ():
        yield from _of_constraints(element.constraints or () if element.tag == "ColumnDef" else (element,))
    yield from _of_constraints(table.constraints or ())
    if _runs_code(table.partspec, table.partbound):
        yield PARTITION


def _of_change(command: Any) -> Iterator[str]:
    if command.subtype == "AT_AddConstraint":
        yield from _of_constraints((command.def_,))
    elif command.subtype == "AT_ColumnDefault" and _runs_code(command.def_):
        yield DEFAULT
    elif command.subtype == "AT_AttachPartition" and _runs_code(command.def_):
        yield PARTITION


def _of_constraints(constraints: Iterable[Any]) -> Iterator[str]:
    for each in constraints:
        kind = _CONSTRAINTS.get(each.contype)
        if kind is not None and _runs_code(each.raw_expr, each.exclusions, each.where_clause):
            yield kind


def _runs_code(*expressions: Any) -> bool:
    """Whether any expression calls a function, or uses an operator, that does not only compute."""
    for tag, fields in within(expressions):
        if tag == "FuncCall":
            *schema, name = (part["String"].get("sval", "") for part in fields["funcname"])
            if schema not in _SERVER_SCHEMAS or name not in _ONLY_COMPUTE:
                return True
        elif (
            tag == "A_Expr"
            and [part["String"].get("sval") for part in fields.get("name", ())][:-1] not in _SERVER_SCHEMAS
        ):
            return True
    return False
