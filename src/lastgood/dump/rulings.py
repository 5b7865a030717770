"""The allow-list: for each kind of statement, what it is about and whether a restore may run it.

One handler for each class of PostgreSQL's own syntax tree; a class without a handler is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pglast import parse_sql
from pglast.parser import ParseError

from lastgood.dump import names
from lastgood.dump.names import Relation
from lastgood.dump.statements import (
    Column,
    Command,
    CopyTarget,
    Created,
    Detail,
    EnumType,
    Extension,
    Kind,
    LargeObjectCall,
    SequencePosition,
    Setting,
    TableDefinition,
    Verdict,
)
from lastgood.dump.tokens import CopyStart, Statement

_DATABASE = "names a database; what belongs to the database itself is carried over from the live one"
_ROLE = "names a role of the whole server, which a rollback never changes"
_TABLESPACE = "names a tablespace of the whole server, which a rollback never changes"
_PARAMETER = "names a parameter of the whole server, which a rollback never changes"
_SUBSCRIPTION = "names a subscription, which in a second database would take over the live one's replication slot"
_DROP = "drops something, and a new database has nothing to drop"
_RESET_ALL = "resets the session, which ends anyway"

MISSING_PRIVILEGE = "42501"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
INVALID_VALUE = "22023"
DUPLICATE_SCHEMA = "42P06"

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
_SETTING_STATES = frozenset({UNDEFINED_OBJECT, INVALID_VALUE, MISSING_PRIVILEGE})

_GLOBAL = {
    "OBJECT_DATABASE": (Kind.DATABASE, _DATABASE),
    "OBJECT_ROLE": (Kind.ROLE, _ROLE),
    "OBJECT_TABLESPACE": (Kind.TABLESPACE, _TABLESPACE),
    "OBJECT_PARAMETER_ACL": (Kind.PARAMETER, _PARAMETER),
    "OBJECT_SUBSCRIPTION": (Kind.SUBSCRIPTION, _SUBSCRIPTION),
}

_LOWRITE = re.compile(rb"SELECT pg_catalog\.lowrite\(0, '\\x([0-9a-f]*)'\)\Z")
_UNLINK = re.compile(
    rb"SELECT (?:pg_catalog\.lo_unlink\('\d+'\)"
    rb"|pg_catalog\.lo_unlink\(oid\) FROM pg_catalog\.pg_largeobject_metadata WHERE oid = '\d+'"
    rb"|CASE WHEN EXISTS\(SELECT 1 FROM pg_catalog\.pg_largeobject WHERE loid = '\d+'\)"
    rb" THEN pg_catalog\.lo_unlink\('\d+'\) END)\Z"
)


class _Ruling:
    """One statement being ruled on: where it stands, and which schema unqualified names mean."""

    def __init__(self, statement: Statement | CopyStart, schema: str) -> None:
        self.statement = statement
        self.schema = schema

    def run(
        self,
        kind: Kind,
        *relations: Relation,
        creates: Iterable[Created] = (),
        roles: Iterable[Any] = (),
        optional: Iterable[str] = (),
        detail: Detail | None = None,
        dummy: bool = False,
    ) -> Command:
        return Command(
            self.statement,
            kind,
            relations=relations,
            creates=tuple(creates),
            roles=_role_names(roles),
            optional_sqlstates=frozenset(optional),
            detail=detail,
            dummy=dummy,
        )

    def skip(self, kind: Kind, reason: str) -> Command:
        return Command(self.statement, kind, Verdict.SKIP, reason)

    def refuse(self, kind: Kind, reason: str) -> Command:
        return Command(self.statement, kind, Verdict.REFUSE, reason)

    def unknown(self, what: str = "") -> Command:
        return self.refuse(Kind.UNKNOWN, f"has {what or self.opening()}, which pg_dump never writes")

    def opening(self) -> str:
        """The statement's first words, as far as they are keywords: never a value."""
        words = re.match(rb"[A-Za-z]+(?:\s+[A-Za-z]+)?", self.statement.text)
        return f'"{b" ".join(words[0].split()).decode()}"' if words else "a statement"

    def relation(self, node: Any) -> Relation:
        return names.of_range_var(node, self.schema)

    def listed(self, parts: Any) -> Relation:
        return names.of_list(parts, self.schema)


def rule(statement: Statement | CopyStart, *, schema: str = "", encoding: str = "utf-8") -> Command:
    """What ``statement`` is about, and whether a restore may run it.

    ``schema`` is what unqualified names mean (the search path's first), ``encoding`` the Python codec of its bytes.
    Costs about 0.1 ms a statement. Raises UnicodeDecodeError.
    """
    ruling = _Ruling(statement, schema)
    written = _LOWRITE.match(statement.text)
    if written:
        return ruling.run(
            Kind.LARGE_OBJECT, detail=LargeObjectCall("lowrite", None, bytes.fromhex(written[1].decode()))
        )
    if _UNLINK.match(statement.text):
        return ruling.skip(Kind.DROP, _DROP)
    try:
        found = parse_sql(statement.text.decode(encoding))
    except ParseError:
        return ruling.refuse(Kind.UNKNOWN, "has text that is not SQL")
    if len(found) != 1:
        return ruling.refuse(Kind.UNKNOWN, "has text that is not one statement")
    node = found[0].stmt
    handler = _HANDLERS.get(type(node).__name__)
    return handler(ruling, node) if handler else ruling.unknown()


def _role_names(roles: Iterable[Any]) -> tuple[str, ...]:
    return tuple(r.rolename for r in roles if r is not None and r.roletype.name == "ROLESPEC_CSTRING")


def _constant(node: Any) -> str | None:
    """A literal's text, casts of it left out; None when it is anything else (or NULL)."""
    while type(node).__name__ == "TypeCast":
        node = node.arg
    if type(node).__name__ != "A_Const" or node.isnull:
        return None
    value = node.val
    for attribute in ("sval", "ival", "fval", "boolval", "bsval"):
        if hasattr(value, attribute):
            return str(getattr(value, attribute))
    return None


# Settings and the calls that pg_dump makes ---------------------------------------------------------------------


def _set(r: _Ruling, node: Any) -> Command:
    how = node.kind.name
    if how == "VAR_RESET_ALL":
        return r.skip(Kind.SETTING, _RESET_ALL)
    if node.is_local or how not in ("VAR_SET_VALUE", "VAR_SET_DEFAULT", "VAR_RESET"):
        return r.unknown()
    name = node.name
    value = None
    if how == "VAR_SET_VALUE":
        texts = [_constant(arg) for arg in node.args or ()]
        value = ", ".join(text or "" for text in texts)
    if name == "session_authorization":
        roles = (value,) if value else ()
        return Command(r.statement, Kind.SESSION_AUTHORIZATION, roles=roles, detail=Setting(name, value))
    if name == "default_with_oids" and value not in (None, "false", "off"):
        return r.refuse(Kind.SETTING, "makes tables with OIDs, which no supported server has")
    if name in _OPTIONAL_SETTINGS:
        return r.run(Kind.SETTING, optional=_SETTING_STATES, detail=Setting(name, value))
    if name in _SETTINGS:
        optional = _SETTING_STATES if name in ("row_security", "xmloption") else ()
        return r.run(Kind.SETTING, optional=optional, detail=Setting(name, value))
    return r.refuse(Kind.SETTING, f'sets "{name}", which pg_dump never does')


def _select(r: _Ruling, node: Any) -> Command:
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
        fields = getattr(target, "fields", None) or (None,)
        starred = len(fields) == 1 and type(fields[0]).__name__ == "A_Star"
        if len(node.fromClause) != 1 or type(source).__name__ != "RangeFunction" or not starred:
            return None
        if len(source.functions) != 1:
            return None
        target = source.functions[0][0]
    return target if type(target).__name__ == "FuncCall" else None


def _set_config(r: _Ruling, name: str, values: list[str]) -> Command | None:
    if len(values) == 3 and values[0] == "search_path" and values[2] == "False":
        return r.run(Kind.SETTING, detail=Setting("search_path", values[1]))
    return None


def _setval(r: _Ruling, name: str, values: list[str]) -> Command | None:
    sequence = names.parse(values[0], r.schema) if len(values) == 3 else None
    if sequence is None or not re.match(r"-?\d+\Z", values[1]):
        return None
    position = SequencePosition(sequence, int(values[1]), values[2] in ("True", "true", "t"))
    return r.run(Kind.SEQUENCE_POSITION, sequence, detail=position)


def _large_object(r: _Ruling, name: str, values: list[str]) -> Command | None:
    if name in ("lo_create", "lo_open"):
        if not values or not values[0].isdigit():
            return None
        return r.run(Kind.LARGE_OBJECT, detail=LargeObjectCall(name, int(values[0])))
    if name == "lo_close" and values == ["0"]:
        return r.run(Kind.LARGE_OBJECT, detail=LargeObjectCall(name))
    if name == "lowrite" and len(values) == 2 and re.match(r"\\x[0-9A-Fa-f]*\Z", values[1]):
        return r.run(Kind.LARGE_OBJECT, detail=LargeObjectCall(name, None, bytes.fromhex(values[1][2:])))
    return None


def _restore_statistics(r: _Ruling, name: str, values: list[str]) -> Command:
    return r.run(Kind.STATISTICS_CALL, optional=(UNDEFINED_FUNCTION, INVALID_VALUE, MISSING_PRIVILEGE))


_CALLS: dict[str, Callable[[_Ruling, str, list[str]], Command | None]] = {
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


# Rows ----------------------------------------------------------------------------------------------------------


def _copy(r: _Ruling, node: Any) -> Command:
    if node.is_program:
        return r.refuse(Kind.COPY, 'has a "COPY … PROGRAM", which would run a program on the server')
    if not node.is_from:
        return r.refuse(Kind.COPY, 'has a "COPY … TO", which would write outside the database')
    if node.filename is not None:
        return r.refuse(Kind.COPY, 'has a "COPY" from a file, which would read the server\'s own files')
    if node.options or node.whereClause:
        return r.refuse(Kind.COPY, 'has a "COPY" with options, which pg_dump never writes')
    columns = None if node.attlist is None else tuple(c.sval for c in node.attlist)
    relation = r.relation(node.relation)
    return r.run(Kind.COPY, relation, detail=CopyTarget(relation, columns))


_VALUE_NODES = frozenset({"A_Const", "TypeCast", "SetToDefault", "A_ArrayExpr", "RowExpr", "TypeName", "String"})


def _insert(r: _Ruling, node: Any) -> Command:
    source = node.selectStmt
    if node.withClause or node.returningClause or (source is not None and not source.valuesLists):
        return r.refuse(Kind.INSERT, 'has an "INSERT" from a query, which pg_dump never writes')
    for row in source.valuesLists if source is not None else ():
        for value in row:
            if not _is_value(value):
                return r.refuse(Kind.INSERT, 'has an "INSERT" with computed values, which pg_dump never writes')
    relation = r.relation(node.relation)
    return r.run(Kind.INSERT, relation, detail=relation)


def _is_value(node: Any) -> bool:
    kind = type(node).__name__
    if kind == "TypeCast":
        return _is_value(node.arg)
    if kind == "A_ArrayExpr":
        return all(_is_value(element) for element in node.elements or ())
    if kind == "RowExpr":
        return all(_is_value(argument) for argument in node.args or ())
    if kind == "A_Expr":  # a sign: -5
        return node.lexpr is None and _is_value(node.rexpr)
    return kind in _VALUE_NODES


def _transaction(r: _Ruling, node: Any) -> Command:
    if node.kind.name in ("TRANS_STMT_BEGIN", "TRANS_STMT_COMMIT") and not node.options and not node.chain:
        return r.run(Kind.TRANSACTION)
    return r.unknown()


def _update(r: _Ruling, node: Any) -> Command:
    # pg_dumpall --clean: UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = …
    if node.relation.schemaname == "pg_catalog" and node.relation.relname == "pg_database":
        return r.skip(Kind.DATABASE, _DATABASE)
    return r.unknown()


# Tables --------------------------------------------------------------------------------------------------------


def _table(r: _Ruling, node: Any) -> Command:
    foreign = type(node).__name__ == "CreateForeignTableStmt"
    if foreign:
        node = node.base
    relation = r.relation(node.relation)
    if node.relation.relpersistence == "t":
        return r.unknown("a temporary table")
    created = [Created(Kind.FOREIGN_TABLE if foreign else Kind.TABLE, str(relation))]
    columns = []
    others = [relation]
    for element in node.tableElts or ():
        kind = type(element).__name__
        if kind == "ColumnDef":
            constraints = element.constraints or ()
            generated = any(c.contype.name == "CONSTR_GENERATED" for c in constraints)
            if element.typeName is not None:
                columns.append(Column(element.colname, names.type_identity(element.typeName), generated))
        elif kind == "Constraint":
            constraints = (element,)
        else:
            return r.unknown('a "LIKE" in a "CREATE TABLE"')
        for constraint in constraints:
            created.extend(_constraint(constraint, relation))
            if constraint.pktable is not None:
                others.append(r.relation(constraint.pktable))
    inherits = tuple(r.relation(parent) for parent in node.inhRelations or ())
    definition = TableDefinition(
        relation,
        tuple(columns),
        inherits,
        None if node.ofTypename is None else r.listed(node.ofTypename.names),
        partitioned=node.partspec is not None,
        carries_rows=node.partspec is None and not foreign,
        foreign=foreign,
        access_method=node.accessMethod,
    )
    kind_of_table = Kind.FOREIGN_TABLE if foreign else Kind.TABLE
    return r.run(kind_of_table, *others, *inherits, creates=created, detail=definition)


_CONSTRAINTS = {
    "CONSTR_CHECK": Kind.CHECK,
    "CONSTR_PRIMARY": Kind.PRIMARY_KEY,
    "CONSTR_UNIQUE": Kind.UNIQUE,
    "CONSTR_EXCLUSION": Kind.EXCLUSION,
    "CONSTR_FOREIGN": Kind.FOREIGN_KEY,
}


def _constraint(node: Any, relation: Relation) -> Iterable[Created]:
    kind = _CONSTRAINTS.get(node.contype.name)
    if kind is not None and node.conname:
        yield Created(kind, f"{names.quoted(node.conname)} on {relation}")


_DROPS = frozenset(
    {
        "AT_DetachPartition",
        "AT_DisableRowSecurity",
        "AT_DropColumn",
        "AT_DropConstraint",
        "AT_DropExpression",
        "AT_DropIdentity",
        "AT_DropInherit",
    }
)
_PROPERTIES = frozenset(
    {
        "AT_AddOf",
        "AT_AlterColumnGenericOptions",
        "AT_ClusterOn",
        "AT_DisableRule",
        "AT_DisableTrig",
        "AT_DropNotNull",
        "AT_EnableAlwaysRule",
        "AT_EnableAlwaysTrig",
        "AT_EnableReplicaRule",
        "AT_EnableReplicaTrig",
        "AT_EnableRule",
        "AT_EnableTrig",
        "AT_GenericOptions",
        "AT_ReplicaIdentity",
        "AT_SetAccessMethod",
        "AT_SetCompression",
        "AT_SetNotNull",
        "AT_SetOptions",
        "AT_SetRelOptions",
        "AT_SetStatistics",
        "AT_SetStorage",
        "AT_ValidateConstraint",
    }
)


def _alter_table(r: _Ruling, node: Any) -> Command:
    relation = r.relation(node.relation)
    commands = [_alter(r, relation, command) for command in node.cmds]
    first = commands[0]
    if len(commands) == 1 or first.verdict is Verdict.REFUSE:
        return first
    if any(c.verdict is not first.verdict for c in commands):
        return r.unknown()
    return r.run(
        first.kind,
        *dict.fromkeys(other for c in commands for other in c.relations),
        creates=[created for c in commands for created in c.creates],
        detail=first.detail,
    )


def _alter(r: _Ruling, relation: Relation, command: Any) -> Command:
    what = command.subtype.name
    given = command.def_
    if what in _DROPS or (what == "AT_ColumnDefault" and given is None):
        return r.skip(Kind.DROP, _DROP)
    if what == "AT_ColumnDefault":
        return r.run(Kind.DEFAULT, relation)
    if what == "AT_AddConstraint":
        others = (r.relation(given.pktable),) if given.pktable is not None else ()
        kind = _CONSTRAINTS.get(given.contype.name, Kind.NOT_NULL)
        return r.run(kind, relation, *others, creates=_constraint(given, relation))
    if what == "AT_AddIdentity":
        # Its sequence belongs to the column: it is no object of its own.
        return r.run(Kind.IDENTITY, relation)
    if what == "AT_ChangeOwner":
        return r.run(Kind.OWNER, relation, roles=(command.newowner,), optional=(MISSING_PRIVILEGE,))
    if what == "AT_AttachPartition":
        return r.run(Kind.PARTITION, relation, r.relation(given.name))
    if what == "AT_AddInherit":
        return r.run(Kind.INHERITANCE, relation, r.relation(given))
    if what in ("AT_EnableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity"):
        return r.run(Kind.ROW_SECURITY, relation)
    if what in ("AT_DisableTrigAll", "AT_EnableTrigAll"):  # --disable-triggers
        return r.run(Kind.TABLE_PROPERTY, relation, optional=(MISSING_PRIVILEGE,))
    if what in _PROPERTIES:
        return r.run(Kind.TABLE_PROPERTY, relation)
    return r.unknown()


def _view(r: _Ruling, node: Any) -> Command:
    view = r.relation(node.view)
    targets = getattr(node.query, "targetList", None) or ()
    plain = not getattr(node.query, "fromClause", None) and not getattr(node.query, "whereClause", None)
    dummy = plain and bool(targets) and all(_is_null_cast(target.val) for target in targets)
    return r.run(Kind.VIEW, view, creates=[Created(Kind.VIEW, str(view))], dummy=dummy)


def _is_null_cast(node: Any) -> bool:
    while type(node).__name__ in ("TypeCast", "CollateClause"):
        node = node.arg
    return type(node).__name__ == "A_Const" and bool(node.isnull)


def _create_as(r: _Ruling, node: Any) -> Command:
    if node.objtype.name != "OBJECT_MATVIEW":
        return r.unknown()
    view = r.relation(node.into.rel)
    return r.run(Kind.MATERIALIZED_VIEW, view, creates=[Created(Kind.MATERIALIZED_VIEW, str(view))])


def _refresh(r: _Ruling, node: Any) -> Command:
    return r.run(Kind.REFRESH, r.relation(node.relation))


def _index(r: _Ruling, node: Any) -> Command:
    table = r.relation(node.relation)
    if node.concurrent or not node.idxname:
        return r.unknown()
    return r.run(Kind.INDEX, table, creates=[Created(Kind.INDEX, str(Relation(table.schema, node.idxname)))])


def _sequence(r: _Ruling, node: Any) -> Command:
    sequence = r.relation(node.sequence)
    return r.run(Kind.SEQUENCE, sequence, creates=[Created(Kind.SEQUENCE, str(sequence))])


def _alter_sequence(r: _Ruling, node: Any) -> Command:
    return r.run(Kind.TABLE_PROPERTY, r.relation(node.sequence))


def _on_table(kind: Kind, name: str, table: str) -> Callable[[_Ruling, Any], Command]:
    """A handler for what belongs to one table: ``name`` and ``table`` are the syntax tree's attributes."""

    def handle(r: _Ruling, node: Any) -> Command:
        relation = r.relation(getattr(node, table))
        created = Created(kind, f"{names.quoted(getattr(node, name))} on {relation}")
        others = [r.relation(node.constrrel)] if getattr(node, "constrrel", None) is not None else []
        return r.run(kind, relation, *others, creates=[created], roles=getattr(node, "roles", None) or ())

    return handle


def _statistics(r: _Ruling, node: Any) -> Command:
    tables = [r.relation(table) for table in node.relations]
    return r.run(Kind.STATISTICS, *tables, creates=[Created(Kind.STATISTICS, str(r.listed(node.defnames)))])


# Everything else that can be created ---------------------------------------------------------------------------


def _schema(r: _Ruling, node: Any) -> Command:
    if node.schemaElts or node.schemaname is None:
        return r.unknown()
    optional = (DUPLICATE_SCHEMA,) if node.schemaname == "public" else ()
    created = Created(Kind.SCHEMA, names.quoted(node.schemaname))
    return r.run(Kind.SCHEMA, creates=[created], roles=(node.authrole,), optional=optional)


def _extension(r: _Ruling, node: Any) -> Command:
    options = {option.defname: option.arg for option in node.options or ()}
    schema = options["schema"].sval if "schema" in options else None
    version = options["new_version"].sval if "new_version" in options else None
    detail = Extension(node.extname, schema, version)
    return r.run(Kind.EXTENSION, creates=[Created(Kind.EXTENSION, names.quoted(node.extname))], detail=detail)


def _function(r: _Ruling, node: Any) -> Command:
    kind = Kind.PROCEDURE if node.is_procedure else Kind.FUNCTION
    return r.run(kind, creates=[Created(kind, names.function_identity(node.funcname, node.parameters, r.schema))])


_DEFINES = {
    "OBJECT_AGGREGATE": Kind.AGGREGATE,
    "OBJECT_COLLATION": Kind.COLLATION,
    "OBJECT_OPERATOR": Kind.OPERATOR,
    "OBJECT_TSCONFIGURATION": Kind.TEXT_SEARCH_CONFIGURATION,
    "OBJECT_TSDICTIONARY": Kind.TEXT_SEARCH_DICTIONARY,
    "OBJECT_TSPARSER": Kind.TEXT_SEARCH_PARSER,
    "OBJECT_TSTEMPLATE": Kind.TEXT_SEARCH_TEMPLATE,
    "OBJECT_TYPE": Kind.TYPE,
}


def _define(r: _Ruling, node: Any) -> Command:
    kind = _DEFINES[node.kind.name]
    if kind is Kind.AGGREGATE:
        parameters = node.args[0] if node.args and isinstance(node.args[0], tuple) else None
        identity = names.function_identity(node.defnames, parameters, r.schema)
    elif kind is Kind.OPERATOR:
        sides = {option.defname: option.arg for option in node.definition or ()}
        types = [names.type_identity(sides[side]) if side in sides else "-" for side in ("leftarg", "rightarg")]
        parts = [part.sval for part in node.defnames]
        schema = parts[0] if len(parts) > 1 else r.schema
        identity = f"{names.quoted(schema) + '.' if schema else ''}{parts[-1]}({','.join(types)})"
    else:
        identity = str(r.listed(node.defnames))
    return r.run(kind, creates=[Created(kind, identity)])


def _composite(r: _Ruling, node: Any) -> Command:
    relation = r.relation(node.typevar)
    columns = tuple(Column(c.colname, names.type_identity(c.typeName)) for c in node.coldeflist or ())
    definition = TableDefinition(relation, columns, carries_rows=False)
    return r.run(Kind.TYPE, creates=[Created(Kind.TYPE, str(relation))], detail=definition)


def _enum(r: _Ruling, node: Any) -> Command:
    enum = r.listed(node.typeName)
    return r.run(Kind.TYPE, creates=[Created(Kind.TYPE, str(enum))], detail=EnumType(enum))


def _domain(r: _Ruling, node: Any) -> Command:
    domain = r.listed(node.domainname)
    created = [Created(Kind.DOMAIN, str(domain))]
    for constraint in node.constraints or ():
        if constraint.contype.name == "CONSTR_CHECK" and constraint.conname:
            created.append(Created(Kind.DOMAIN_CONSTRAINT, f"{names.quoted(constraint.conname)} on {domain}"))
    return r.run(Kind.DOMAIN, creates=created)


def _alter_domain(r: _Ruling, node: Any) -> Command:
    if node.subtype in ("X", b"X"):
        return r.skip(Kind.DROP, _DROP)
    if node.subtype in ("C", b"C") and node.def_.conname:
        identity = f"{names.quoted(node.def_.conname)} on {r.listed(node.typeName)}"
        return r.run(Kind.DOMAIN_CONSTRAINT, creates=[Created(Kind.DOMAIN_CONSTRAINT, identity)])
    return r.unknown()


def _named(kind: Kind, attribute: str) -> Callable[[_Ruling, Any], Command]:
    """A handler for what is created with a name of one part or several: ``attribute`` of the syntax tree."""

    def handle(r: _Ruling, node: Any) -> Command:
        name = getattr(node, attribute)
        return r.run(
            kind, creates=[Created(kind, names.quoted(name) if isinstance(name, str) else str(r.listed(name)))]
        )

    return handle


def _operator_class(kind: Kind, attribute: str) -> Callable[[_Ruling, Any], Command]:
    def handle(r: _Ruling, node: Any) -> Command:
        identity = f"{r.listed(getattr(node, attribute))} using {names.quoted(node.amname)}"
        return r.run(kind, creates=[Created(kind, identity)])

    return handle


def _cast(r: _Ruling, node: Any) -> Command:
    identity = f"({names.type_identity(node.sourcetype)} AS {names.type_identity(node.targettype)})"
    return r.run(Kind.CAST, creates=[Created(Kind.CAST, identity)])


def _transform(r: _Ruling, node: Any) -> Command:
    identity = f"for {names.type_identity(node.type_name)} language {names.quoted(node.lang)}"
    return r.run(Kind.TRANSFORM, creates=[Created(Kind.TRANSFORM, identity)])


def _user_mapping(r: _Ruling, node: Any) -> Command:
    user = names.quoted(node.user.rolename) if node.user.rolename else "public"
    created = Created(Kind.USER_MAPPING, f"{user} on server {names.quoted(node.servername)}")
    return r.run(Kind.USER_MAPPING, creates=[created], roles=(node.user,))


def _publication(r: _Ruling, node: Any) -> Command:
    tables = [r.relation(o.pubtable.relation) for o in node.pubobjects or () if o.pubtable is not None]
    created = [Created(Kind.PUBLICATION, names.quoted(node.pubname))]
    return r.run(Kind.PUBLICATION, *tables, creates=created if type(node).__name__ == "CreatePublicationStmt" else ())


def _event_trigger(r: _Ruling, node: Any) -> Command:
    created = Created(Kind.EVENT_TRIGGER, names.quoted(node.trigname))
    return r.run(Kind.EVENT_TRIGGER, creates=[created], optional=(MISSING_PRIVILEGE,))


def _alter_event_trigger(r: _Ruling, node: Any) -> Command:
    return r.run(Kind.EVENT_TRIGGER_STATE, optional=(MISSING_PRIVILEGE, UNDEFINED_OBJECT))


# What is said about objects ------------------------------------------------------------------------------------


def _owner(r: _Ruling, node: Any) -> Command:
    if node.objectType.name in _GLOBAL:
        return r.skip(*_GLOBAL[node.objectType.name])
    # A failed event trigger has no owner to change.
    optional = [MISSING_PRIVILEGE, *([UNDEFINED_OBJECT] if node.objectType.name == "OBJECT_EVENT_TRIGGER" else [])]
    return r.run(Kind.OWNER, roles=(node.newowner,), optional=optional)


def _comment(r: _Ruling, node: Any) -> Command:
    if node.objtype.name in _GLOBAL:
        return r.skip(*_GLOBAL[node.objtype.name])
    optional = {
        "OBJECT_EXTENSION": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
        "OBJECT_EVENT_TRIGGER": (MISSING_PRIVILEGE, UNDEFINED_OBJECT),
    }.get(node.objtype.name, ())
    return r.run(Kind.COMMENT, optional=optional)


def _security_label(r: _Ruling, node: Any) -> Command:
    if node.objtype.name in _GLOBAL:
        return r.skip(*_GLOBAL[node.objtype.name])
    return r.run(Kind.SECURITY_LABEL, optional=(INVALID_VALUE, UNDEFINED_OBJECT, MISSING_PRIVILEGE))


def _grant(r: _Ruling, node: Any) -> Command:
    if node.objtype.name in _GLOBAL:
        return r.skip(*_GLOBAL[node.objtype.name])
    return r.run(Kind.GRANT, roles=(*(node.grantees or ()), node.grantor))


def _default_privileges(r: _Ruling, node: Any) -> Command:
    named = [role for o in node.options or () if o.defname == "roles" for role in o.arg]
    return r.run(Kind.DEFAULT_PRIVILEGES, roles=(*named, *(node.action.grantees or ())), optional=(MISSING_PRIVILEGE,))


def _drop(r: _Ruling, node: Any) -> Command:
    return r.skip(Kind.DROP, _DROP)


def _plain(kind: Kind) -> Callable[[_Ruling, Any], Command]:
    return lambda r, node: r.run(kind)


def _skipped(kind: Kind, reason: str) -> Callable[[_Ruling, Any], Command]:
    return lambda r, node: r.skip(kind, reason)


_HANDLERS: dict[str, Callable[[_Ruling, Any], Command]] = {
    "AlterDatabaseRefreshCollStmt": _skipped(Kind.DATABASE, _DATABASE),
    "AlterDatabaseSetStmt": _skipped(Kind.DATABASE, _DATABASE),
    "AlterDatabaseStmt": _skipped(Kind.DATABASE, _DATABASE),
    "AlterDefaultPrivilegesStmt": _default_privileges,
    "AlterDomainStmt": _alter_domain,
    "AlterEventTrigStmt": _alter_event_trigger,
    "AlterObjectDependsStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterOpFamilyStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterOwnerStmt": _owner,
    "AlterPublicationStmt": _publication,
    "AlterRoleSetStmt": _skipped(Kind.ROLE, _ROLE),
    "AlterRoleStmt": _skipped(Kind.ROLE, _ROLE),
    "AlterSeqStmt": _alter_sequence,
    "AlterStatsStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterSubscriptionStmt": _skipped(Kind.SUBSCRIPTION, _SUBSCRIPTION),
    "AlterTSConfigurationStmt": _plain(Kind.TABLE_PROPERTY),
    "AlterTableSpaceOptionsStmt": _skipped(Kind.TABLESPACE, _TABLESPACE),
    "AlterTableStmt": _alter_table,
    "CommentStmt": _comment,
    "CompositeTypeStmt": _composite,
    "CopyStmt": _copy,
    "CreateAmStmt": _named(Kind.ACCESS_METHOD, "amname"),
    "CreateCastStmt": _cast,
    "CreateConversionStmt": _named(Kind.CONVERSION, "conversion_name"),
    "CreateDomainStmt": _domain,
    "CreateEnumStmt": _enum,
    "CreateEventTrigStmt": _event_trigger,
    "CreateExtensionStmt": _extension,
    "CreateFdwStmt": _named(Kind.FOREIGN_DATA_WRAPPER, "fdwname"),
    "CreateForeignServerStmt": _named(Kind.SERVER, "servername"),
    "CreateForeignTableStmt": _table,
    "CreateFunctionStmt": _function,
    "CreateOpClassStmt": _operator_class(Kind.OPERATOR_CLASS, "opclassname"),
    "CreateOpFamilyStmt": _operator_class(Kind.OPERATOR_FAMILY, "opfamilyname"),
    "CreatePLangStmt": _named(Kind.LANGUAGE, "plname"),
    "CreatePolicyStmt": _on_table(Kind.POLICY, "policy_name", "table"),
    "CreatePublicationStmt": _publication,
    "CreateRangeStmt": _named(Kind.TYPE, "typeName"),
    "CreateRoleStmt": _skipped(Kind.ROLE, _ROLE),
    "CreateSchemaStmt": _schema,
    "CreateSeqStmt": _sequence,
    "CreateStatsStmt": _statistics,
    "CreateStmt": _table,
    "CreateSubscriptionStmt": _skipped(Kind.SUBSCRIPTION, _SUBSCRIPTION),
    "CreateTableAsStmt": _create_as,
    "CreateTableSpaceStmt": _skipped(Kind.TABLESPACE, _TABLESPACE),
    "CreateTransformStmt": _transform,
    "CreateTrigStmt": _on_table(Kind.TRIGGER, "trigname", "relation"),
    "CreateUserMappingStmt": _user_mapping,
    "CreatedbStmt": _skipped(Kind.DATABASE, _DATABASE),
    "DefineStmt": _define,
    "DropRoleStmt": _skipped(Kind.ROLE, _ROLE),
    "DropStmt": _drop,
    "DropSubscriptionStmt": _skipped(Kind.SUBSCRIPTION, _SUBSCRIPTION),
    "DropTableSpaceStmt": _skipped(Kind.TABLESPACE, _TABLESPACE),
    "DropUserMappingStmt": _drop,
    "DropdbStmt": _skipped(Kind.DATABASE, _DATABASE),
    "GrantRoleStmt": _skipped(Kind.ROLE, _ROLE),
    "GrantStmt": _grant,
    "IndexStmt": _index,
    "InsertStmt": _insert,
    "RefreshMatViewStmt": _refresh,
    "RuleStmt": _on_table(Kind.RULE, "rulename", "relation"),
    "SecLabelStmt": _security_label,
    "SelectStmt": _select,
    "TransactionStmt": _transaction,
    "UpdateStmt": _update,
    "VariableSetStmt": _set,
    "ViewStmt": _view,
}
