"""Commands that the server allows only to superusers, and that a superuser can run for the builder without harm.

Each defines something whose use runs with the rights of its user, and that cannot make the server read memory as a
value of another type. All others need the operator's trust.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from lastgood.dump import names
from lastgood.dump.rulings.code import PROGRAM, WITHOUT_PASSWORD
from lastgood.dump.rulings.tables import STORED
from lastgood.dump.rulings.tree import Node, only, within
from lastgood.dump.script import Item, ScriptStep, State
from lastgood.dump.statements import Command, Extension, Kind, Setting, Verdict
from lastgood.facts import LanguageFacts
from lastgood.load import servers
from lastgood.postgres.roles.type_code import running_code
from lastgood.postgres.server import Connection

_ROUTINES = frozenset({Kind.FUNCTION, Kind.PROCEDURE})
# In indexes of these methods the server itself matches the types of operators and functions.
_METHODS = frozenset({"btree", "hash"})
_OPERATOR, _FUNCTION, _STORAGE = 1, 2, 3


def harmless(connection: Connection, command: Command) -> bool:
    """Whether the operator may run a command for the builder."""
    if command.kind not in (*_ROUTINES, Kind.CAST, Kind.OPERATOR_CLASS, Kind.OPERATOR_FAMILY, Kind.TYPE, *_WRAPPERS):
        return False
    node = only(command.statement.text)
    if node is None:
        return False
    match node.tag:
        case "CreateFunctionStmt":
            return not _reads_expressions(node) and _is_plain(node)
        case "CreateCastStmt":
            return bool(node.inout) or (node.func is not None and not servers.casts(connection, node))
        case "CreateOpFamilyStmt":
            return True
        case "CreateOpClassStmt":
            own = names.type_identity(node.datatype)
            return (
                node.amname in _METHODS
                and not servers.sorts(connection, node)
                and all(_matches(connection, node.amname, own, each) for each in node.items)
            )
        case "AlterOpFamilyStmt":
            return (
                node.amname in _METHODS
                and not servers.family(connection, node)
                and all(_matches(connection, node.amname, "", each) for each in node.items)
            )
        case "DefineStmt":
            return node.kind == "OBJECT_TYPE" and not node.definition  # a name alone
        case "CreateFdwStmt":
            return not node.func_options  # no handler that reads, no validator that runs here
    return False


_WRAPPERS = (Kind.FOREIGN_DATA_WRAPPER,)
# Languages whose functions do nothing with more rights than those of their role, and that run none of their text when
# it is only checked, as PL/Perl runs BEGIN blocks.
_LANGUAGES = frozenset({"sql", "plpgsql"})
_NOT_TRUSTED = frozenset({"plperlu", "plpython2u", "plpython3u", "plpythonu", "plr", "plsh", "pltclu"})
# What only a superuser may create, always or unless it is harmless.
_SUPERUSERS = frozenset({Kind.ACCESS_METHOD, Kind.LANGUAGE, Kind.TEXT_SEARCH_PARSER, Kind.TEXT_SEARCH_TEMPLATE,
                         Kind.TRANSFORM})  # fmt: skip
_NEED_TRUST = frozenset({PROGRAM, WITHOUT_PASSWORD})
_SOMETIMES = frozenset({Kind.FOREIGN_DATA_WRAPPER, Kind.OPERATOR_CLASS, Kind.OPERATOR_FAMILY})


def beyond(connection: Connection, items: Iterable[Item], languages: Iterable[LanguageFacts]) -> list[Command]:
    """The commands of a script for objects that neither a role without rights can create, nor a superuser for it
    without harm, as far as their text shows it. ``languages``: those that are no extension."""
    made = {each.name: each for each in languages}
    return [
        item.command
        for item in items
        if isinstance(item, ScriptStep)
        and item.command.verdict is Verdict.RUN
        and _is_beyond(connection, item.command, made)
    ]


def _is_beyond(connection: Connection, command: Command, languages: Mapping[str, LanguageFacts]) -> bool:
    if isinstance(command.detail, Extension):
        language = languages.get(command.detail.name) if command.detail.as_language else None
        # With another handler, code in a language that is called trusted could do anything.
        return language is not None and (language.trusted, *_functions(language)) != _LIKE_PLPGSQL
    if command.kind in _SUPERUSERS or not _NEED_TRUST.isdisjoint(command.code):
        return bool(command.creates)
    if command.kind in _SOMETIMES:
        return (bool(command.creates) or command.kind is Kind.OPERATOR_FAMILY) and not harmless(connection, command)
    if command.kind in _ROUTINES:
        lower = command.statement.text.lower()
        if not any(each.encode() in lower for each in (*_NOT_TRUSTED, "support")):
            return False
    elif command.kind not in (Kind.AGGREGATE, Kind.TYPE, Kind.CAST):
        return False
    node = only(command.statement.text)
    if node is None:
        return False
    match node.tag:
        case "CreateFunctionStmt":
            return _language(node) in _NOT_TRUSTED or _has_support(node)
        case "CreateCastStmt":
            return not node.inout and (node.func is None or servers.casts(connection, node))
        case "DefineStmt" if node.kind == "OBJECT_TYPE":
            return bool(node.definition)
        case "DefineStmt" if node.kind == "OBJECT_AGGREGATE":
            states = [each.arg for each in node.definition or () if each.defname in ("stype", "mstype")]
            return any(state is not None and names.type_identity(state) == "internal" for state in states)
    return False


_LIKE_PLPGSQL = (True, ("pg_catalog", "plpgsql_call_handler"), ("pg_catalog", "plpgsql_inline_handler"),
                 ("pg_catalog", "plpgsql_validator"))  # fmt: skip


def _functions(language: LanguageFacts) -> Iterator[tuple[str, str] | None]:
    yield from (language.handler, language.inline, language.validator)


# Definitions that the server only reads when they are created: it executes no function, but reads constants.
_READ_ONLY: Mapping[Kind, str] = {
    Kind.DEFAULT: "AlterTableStmt",
    Kind.DOMAIN: "CreateDomainStmt",
    Kind.FUNCTION: "CreateFunctionStmt",
    Kind.INDEX: "IndexStmt",
    Kind.MATERIALIZED_VIEW: "CreateTableAsStmt",
    Kind.POLICY: "CreatePolicyStmt",
    Kind.PROCEDURE: "CreateFunctionStmt",
    Kind.STATISTICS: "CreateStatsStmt",
    Kind.TABLE: "CreateStmt",
    Kind.TRIGGER: "CreateTrigStmt",
    Kind.TYPE: "CompositeTypeStmt",
    Kind.VIEW: "ViewStmt",
}


def reads_no_code(connection: Connection, command: Command, schemas: Collection[str]) -> bool:
    """Whether the server runs no code of ``schemas`` when it creates an object. The text must be the server's own, in
    which each constant has its type: pg_dump's output from a server of this version."""
    if command.kind not in _READ_ONLY:
        return False
    node = only(command.statement.text)
    if node is None:
        return False
    if node.tag != _READ_ONLY[command.kind] or (node.tag == "CreateFunctionStmt" and not _is_plain(node)):
        return False
    if any(name[0] in schemas for part in _simplified(node) for name in _named(part)):
        return False
    own, others = set(), set()
    for tag, fields in within(node):
        if tag == "TypeCast":
            schema, name = _qualified(fields["typeName"].get("names"))
            if schema in schemas:
                own.add((schema, name))
            elif schema not in ("", "pg_catalog"):
                others.add((schema, name, "arrayBounds" in fields["typeName"]))
    # Code of the restore point cannot change the types of others, but their owners may have given them checks.
    return not running_code(connection, others) and all(_is_enumeration(connection, each) for each in sorted(own))


def _simplified(node: Node) -> Iterator[Any]:
    """The parts of a definition whose expressions the server simplifies, which executes immutable functions: also those
    of casts that code has created, which no text names."""
    if node.tag == "IndexStmt":
        yield node
    for tag, fields in within(node):
        if tag == "partspec" or (tag == "Constraint" and fields.get("contype") == "CONSTR_GENERATED"):
            yield fields


def _named(part: Any) -> Iterator[tuple[str, str]]:
    """The operators, functions and types of constants in a part of a syntax tree."""
    for tag, fields in within(part):
        if tag in ("A_Expr", "FuncCall", "TypeCast"):
            parts = fields["typeName"].get("names") if tag == "TypeCast" else fields.get("funcname", fields.get("name"))
            yield _qualified(parts)


def _qualified(parts: Any) -> tuple[str, str]:
    names = [part.get("String", {}).get("sval", "") for part in parts or ()]
    return (names[-2] if len(names) > 1 else "", names[-1] if names else "")


def _is_enumeration(connection: Connection, type_: tuple[str, str]) -> bool:
    """Whether a type is an enumeration, whose constants run no code when they are read. It belongs to this role then:
    code that runs at the same time could replace it otherwise."""
    if connection.execute(_ENUM, type_).fetchone() is None:
        return False
    try:
        connection.execute(sql.SQL("ALTER TYPE {} OWNER TO CURRENT_USER").format(sql.Identifier(*type_)))
    except psycopg.Error:
        return False
    return (
        connection.execute(_ENUM + " AND t.typowner = current_user::pg_catalog.regrole", type_).fetchone() is not None
    )


_ENUM: LiteralString = """
SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = %s AND t.typname = %s AND t.typtype = 'e'
"""


# Handed over if the builder may not run them: on objects of extensions, say. Code can pretend such a refusal.
_HANDED_IF_DENIED = frozenset({Kind.POLICY, Kind.PUBLICATION, Kind.TABLE_PROPERTY, Kind.TRIGGER})


def evaluates_nothing(command: Command, state: State) -> bool:
    """Whether a command can be handed over that the builder was refused. Its expressions must name nothing of the
    restore point, because the server evaluates constants of its types when it reads them. ``state``: the dump's
    settings."""
    if command.kind is Kind.COMMENT:
        return True
    if command.kind not in _HANDED_IF_DENIED or _has_path(state):
        return False
    node = only(command.statement.text)
    if node is None:
        return False
    if node.tag == "AlterTableStmt" and not all(each.subtype in STORED for each in node.cmds):
        return False
    return not _names_its_own(node)


def _names_its_own(node: Node) -> bool:
    """Whether expressions in a statement may name functions, operators or types other than PostgreSQL's own, or hold
    constants whose type the server chooses."""
    texts = casts = 0
    for tag, fields in within(node):
        if tag == "TypeCast":
            if not _of_server(fields.get("typeName", {}).get("names")):
                return True
            casts += "sval" in fields.get("arg", {}).get("A_Const", {})
        if tag == "FuncCall" and not _of_server(fields.get("funcname")):
            return True
        if tag == "A_Expr" and len(fields.get("name", ())) > 1 and not _of_server(fields["name"]):
            return True
        texts += tag == "A_Const" and "sval" in fields
    return texts > casts


def _of_server(parts: Sequence[dict[str, dict[str, str]]] | None) -> bool:
    found = [part.get("String", {}).get("sval", "") for part in parts or ()]
    return len(found) == 1 or found[:1] == [names.PG_CATALOG]


def _has_path(state: State) -> bool:
    """Whether unqualified names may be the restore point's: dumps since 10.3 set an empty search path."""
    return any(
        name == "search_path" and isinstance(each.detail, Setting) and each.detail.value != "" for name, each in state
    )


def _language(node: Node) -> str:
    return next((str(each.arg.sval) for each in node.options or () if each.defname == "language"), "sql")


def _is_plain(node: Node) -> bool:
    """Whether a routine runs with the rights of its role only, and has no function of the server's planner."""
    return _language(node) in _LANGUAGES and not _has_support(node)


def _has_support(node: Node) -> bool:
    return any(each.defname == "support" for each in node.options or ())


def _reads_expressions(node: Node) -> bool:
    """Whether the server reads expressions when it creates a routine: defaults of parameters, a body in SQL. To read
    a constant of a composite type can run the check of a domain in it."""
    if node.sql_body:
        return True
    return any(fields.get("defexpr") for _, fields in within(node.parameters or ()))


def _matches(connection: Connection, method: str, own: str, item: Any) -> bool:
    """Whether an item of an operator class has the types that its functions expect."""
    if item.itemtype == _OPERATOR:
        return not item.order_family
    if item.itemtype == _STORAGE:
        return True  # the server refuses a type other than the class's; pg_dump writes it for an empty class
    if item.itemtype != _FUNCTION:
        return False
    arguments = [names.type_identity(each) for each in item.name.objargs or ()]
    types = [names.type_identity(each) for each in item.class_args or ()]
    left, right = (types * 2)[:2] if types else (own, own)
    if connection.execute(_SERVERS_OWN, [method, item.number, *_function(item), left, right]).fetchone() is not None:
        return True
    expected = {("btree", 1): [left, right], ("hash", 1): [left], ("hash", 2): [left, "bigint"]}
    return bool(left) and arguments == expected.get((method, item.number))


def _function(item: Any) -> tuple[str, str]:
    parts = [part.sval for part in item.name.objname]
    arguments = ",".join(names.type_identity(each) for each in item.name.objargs or ())
    return (parts[-1], arguments) if parts[:-1] in ([], ["pg_catalog"]) else ("", "")


# A function that one of PostgreSQL's own operator classes uses in the same place.
_SERVERS_OWN = """
SELECT FROM pg_catalog.pg_amproc a
JOIN pg_catalog.pg_opfamily f ON f.oid = a.amprocfamily JOIN pg_catalog.pg_am m ON m.oid = f.opfmethod
JOIN pg_catalog.pg_proc p ON p.oid = a.amproc
WHERE a.oid < 16384 AND m.amname = %s AND a.amprocnum = %s AND p.proname = %s
  AND (SELECT coalesce(pg_catalog.string_agg(pg_catalog.format_type(t, NULL), ',' ORDER BY n), '')
       FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY u (t, n)) = %s
  AND pg_catalog.format_type(a.amproclefttype, NULL) = %s AND pg_catalog.format_type(a.amprocrighttype, NULL) = %s
"""


def given(connection: Connection, role: str) -> Iterator[sql.SQL]:
    """The statements that give what this transaction created to the role, as far as it may own it."""
    for (text,) in connection.execute(_JUST_MADE, [role] * 7).fetchall():
        yield sql.SQL(text)


_JUST_MADE = """
WITH mine AS (SELECT pg_catalog.pg_current_xact_id()::pg_catalog.xid AS x)
SELECT pg_catalog.format('ALTER ROUTINE %%s OWNER TO %%I', p.oid::pg_catalog.regprocedure, %s::text)
FROM pg_catalog.pg_proc p, mine WHERE p.xmin = x
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %%s OWNER TO %%I', c.oid::pg_catalog.regclass, %s::text)
FROM pg_catalog.pg_class c, mine WHERE c.xmin = x AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND pg_catalog.pg_get_userbyid(c.relowner) = current_user
UNION ALL
SELECT pg_catalog.format('ALTER TYPE %%s OWNER TO %%I', t.oid::pg_catalog.regtype, %s::text)
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid, mine
WHERE t.xmin = x AND t.typelem = 0
  AND (t.typtype IN ('b', 'c', 'd', 'e', 'r') OR NOT t.typisdefined) AND (c.oid IS NULL OR c.relkind = 'c')
  AND pg_catalog.pg_get_userbyid(t.typowner) = current_user
UNION ALL
SELECT pg_catalog.format('ALTER STATISTICS %%I.%%I OWNER TO %%I', n.nspname, s.stxname, r.role)
FROM mine, (SELECT %s::text AS role) r, pg_catalog.pg_statistic_ext s
JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
WHERE s.xmin = x AND pg_catalog.pg_get_userbyid(s.stxowner) = current_user
UNION ALL
SELECT pg_catalog.format('ALTER OPERATOR CLASS %%I.%%I USING %%I OWNER TO %%I', n.nspname, c.opcname, m.amname,
                         %s::text)
FROM mine, pg_catalog.pg_opclass c JOIN pg_catalog.pg_namespace n ON n.oid = c.opcnamespace
JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod WHERE c.xmin = x
UNION ALL
SELECT pg_catalog.format('ALTER OPERATOR FAMILY %%I.%%I USING %%I OWNER TO %%I', n.nspname, f.opfname, m.amname,
                         %s::text)
FROM mine, pg_catalog.pg_opfamily f JOIN pg_catalog.pg_namespace n ON n.oid = f.opfnamespace
JOIN pg_catalog.pg_am m ON m.oid = f.opfmethod WHERE f.xmin = x
UNION ALL
SELECT pg_catalog.format('GRANT USAGE ON FOREIGN DATA WRAPPER %%I TO %%I', w.fdwname, %s::text)
FROM mine, pg_catalog.pg_foreign_data_wrapper w WHERE w.xmin = x
"""
