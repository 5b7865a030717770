"""Harmless commands that other programs write into their exports and pg_dump never writes.

A command is harmless if it only affects rows and definitions of its own database, through functions of the server that
do nothing else. Such a file is no restore point; when it is loaded for inspection, these commands run. Function names
are then qualified, so that no function of the file with the same name is called.
"""

from __future__ import annotations

from typing import Any

from lastgood.dump.names import Relation
from lastgood.dump.rulings.ruling import Handler, Ruling
from lastgood.dump.rulings.tree import Node, within
from lastgood.dump.statements import Command, Created, Kind

_FUNCTION_NAMES = """
    abs array_agg array_append array_cat array_fill array_position array_remove array_to_string avg btrim ceil ceiling
    char_length chr clock_timestamp concat concat_ws convert_from convert_to count currval date date_part date_trunc
    decode encode exp extract floor format gen_random_uuid generate_series greatest initcap int4 int8 isfinite
    json_agg json_array_elements json_array_elements_text json_build_array json_build_object json_object json_object_agg
    jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_build_array jsonb_build_object jsonb_object jsonb_set
    lastval least left length localtimestamp lower lpad ltrim make_date make_interval make_time make_timestamp
    make_timestamptz max md5 min mod nextval now numeric nullif overlay pg_get_serial_sequence point polygon position
    power quote_ident quote_literal random regexp_replace regexp_split_to_array repeat replace reverse right round
    row_number rpad rtrim set_bit setseed setval sha256 sign split_part sqrt statement_timestamp string_agg
    string_to_array strpos substr substring sum text timezone to_char to_date to_hex to_json to_jsonb to_number
    to_timestamp to_tsquery to_tsvector transaction_timestamp translate trim trunc unnest upper uuid
"""
_OPERATOR_SIGNS = "= <> != < > <= >= + - * / % || -> ->> #> #>> ~~ ~~* !~~ !~~* ~ ~* !~ @> <@ ^ & | ? BETWEEN IN"
ONLY_COMPUTE = frozenset(_FUNCTION_NAMES.split())
"""Functions of the server that only compute, or advance a sequence."""
_OPERATORS = frozenset(_OPERATOR_SIGNS.split())
_SERVERS_OWN = frozenset({"pg_catalog", "information_schema", "pg_toast"})
_GEOMETRY = frozenset({"addgeometrycolumn", "dropgeometrycolumn", "populate_geometry_columns", "updategeometrysrid"})
# Clauses that write elsewhere, or hold locks.
_SIDE_EFFECTS = frozenset({"CurrentOfExpr", "IntoClause", "LockingClause", "intoClause"})


def harmless(node: Node) -> bool:
    """Whether a query or a change of rows only affects the rows that it names."""
    for tag, fields in within(node):
        if tag in _SIDE_EFFECTS:
            return False
        if tag == "FuncCall":
            *schema, name = (part["String"].get("sval", "") for part in fields["funcname"])
            if schema not in ([], ["pg_catalog"]) or name not in ONLY_COMPUTE:
                return False
        elif tag == "A_Expr":
            operator = [part["String"].get("sval", "") for part in fields.get("name", ())]
            if operator and (len(operator) > 1 or operator[0].upper() not in _OPERATORS):
                return False
        elif "relname" in fields:
            name, schema_name = fields["relname"], fields.get("schemaname", "")
            if schema_name in _SERVERS_OWN or (not schema_name and name.startswith("pg_")):
                return False
    return True


def with_schemas(r: Ruling, node: Node) -> bytes:
    """The statement's text, with each unqualified function qualified as the server's own."""
    text = r.statement.text.decode(r.encoding).encode()
    places = sorted(
        (
            fields.get("location", 0)
            for tag, fields in within(node)
            if tag == "FuncCall" and len(fields["funcname"]) == 1
        ),
        reverse=True,
    )
    for place in places:
        text = text[:place] + b"pg_catalog." + text[place:]
    return text.decode().encode(r.encoding)


def other_select(r: Ruling, node: Any, call: Any) -> Command:
    """A SELECT that pg_dump does not write: a computed position of a sequence, or a query without a use of its
    result."""
    if call is not None and (found := geometry(r, call)) is not None:
        return found
    if not harmless(node):
        return r.unknown('a "SELECT"')
    reason = 'has a "SELECT", which pg_dump never writes'
    called = {fields["funcname"][-1]["String"]["sval"] for tag, fields in within(node) if tag == "FuncCall"}
    if "setval" in called:
        return r.foreign(Kind.SEQUENCE_POSITION, reason, text=with_schemas(r, node))
    return r.foreign(Kind.QUERY, reason, runs=False)


def insert(r: Ruling, node: Any, relation: Relation, reason: str) -> Command:
    """An INSERT with computed values, or with those of a query."""
    if not harmless(node):
        return r.refuse(Kind.INSERT, reason)
    return r.foreign(Kind.INSERT, reason, relation, text=with_schemas(r, node))


def change(r: Ruling, node: Any) -> Command:
    """UPDATE and DELETE."""
    if not harmless(node):
        return r.unknown()
    return r.foreign(Kind.CHANGE, "", r.relation(node.relation), text=with_schemas(r, node))


def _truncate(r: Ruling, node: Any) -> Command:
    return r.foreign(Kind.CHANGE, "", *map(r.relation, node.relations)) if harmless(node) else r.unknown()


def table_of_query(r: Ruling, node: Any) -> Command:
    """CREATE TABLE … AS."""
    relation = r.created(node.into.rel)
    # Its IntoClause creates the table: only the query is checked.
    if node.query.tag != "SelectStmt" or not harmless(node.query) or relation.schema in _SERVERS_OWN:
        return r.unknown()
    created = [Created(Kind.TABLE, str(relation))]
    return r.foreign(Kind.CHANGE, "", relation, text=with_schemas(r, node), creates=created)


def alter(r: Ruling, *relations: Relation) -> Command:
    """ALTER TABLE of an existing table."""
    return r.foreign(Kind.CHANGE, "", *relations)


def recomputes(r: Ruling, relation: Relation, command: Any) -> Command:
    """An ALTER TABLE that computes values of existing rows: a new column, another type."""
    return alter(r, relation) if harmless(command) else r.unknown()


def _rename(r: Ruling, node: Any) -> Command:
    if node.relation is None:
        return r.unknown()
    before = r.relation(node.relation)
    if node.renameType in ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW"):
        return r.foreign(Kind.CHANGE, "", before, detail=Relation(before.schema, node.newname))
    return alter(r, before)


def _move(r: Ruling, node: Any) -> Command:
    if node.relation is None:
        return r.unknown()
    r.record_schema(node.newschema)
    before = r.relation(node.relation)
    return r.foreign(Kind.CHANGE, "", before, detail=Relation(node.newschema, before.name))


def _code(r: Ruling, node: Any) -> Command:
    return r.refuse(Kind.CODE, f"has {r.opening()}, which pg_dump never writes")


def _without_effect(r: Ruling, node: Any) -> Command:
    return r.foreign(Kind.QUERY, runs=False)


def _definition(r: Ruling, node: Any) -> Command:
    return r.foreign(Kind.DEFINITION)


def _alter_function(r: Ruling, node: Any) -> Command:
    *schema, _ = (part.sval for part in node.func.objname)
    # An unqualified name may refer to the server's own function.
    return _definition(r, node) if schema and schema[0] not in _SERVERS_OWN else r.unknown()


def geometry(r: Ruling, call: Any) -> Command | None:
    """A function of PostGIS that adds a column, as shp2pgsql and ogr2ogr call it; None for any other call."""
    *schema, name = (part.sval for part in call.funcname)
    if name not in _GEOMETRY or schema not in ([], ["public"]):
        return None
    if any(argument.tag != "A_Const" for argument in call.args or ()):
        return None
    return r.foreign(Kind.EXTENSION_CALL, 'has a "SELECT", which pg_dump never writes', detail=Relation("", name))


HANDLERS: dict[str, Handler] = {
    "AlterEnumStmt": _definition,
    "AlterFunctionStmt": _alter_function,
    "AlterPolicyStmt": _definition,
    "AlterObjectSchemaStmt": _move,
    "CallStmt": _code,
    "CheckPointStmt": _without_effect,
    "ConstraintsSetStmt": _without_effect,
    "DeleteStmt": change,
    "DoStmt": _code,
    "ExplainStmt": _without_effect,
    "ListenStmt": _without_effect,
    "LockStmt": _without_effect,
    "MergeStmt": change,
    "NotifyStmt": _without_effect,
    "RenameStmt": _rename,
    "TruncateStmt": _truncate,
    "UnlistenStmt": _without_effect,
    "VariableShowStmt": _without_effect,
}
