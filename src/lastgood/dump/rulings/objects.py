"""All other objects that can be created, from schemas to event triggers."""

from __future__ import annotations

import re
from typing import Any

from lastgood.dump import names
from lastgood.dump.rulings.ruling import (
    DROPS,
    DUPLICATE_OBJECT,
    DUPLICATE_SCHEMA,
    MISSING_PRIVILEGE,
    UNDEFINED_OBJECT,
    Handler,
    Ruling,
)
from lastgood.dump.rulings.tree import parse
from lastgood.dump.statements import ColumnDefinition, Command, Created, EnumType, Extension, Kind, TableDefinition


def _schema(r: Ruling, node: Any) -> Command:
    if node.schemaElts or node.schemaname is None:
        return r.unknown()
    if names.is_system_schema(node.schemaname):
        return r.of_system(Kind.SCHEMA, node.schemaname)
    optional = (DUPLICATE_SCHEMA,) if node.schemaname == "public" else ()
    created = Created(Kind.SCHEMA, names.quoted(node.schemaname))
    return r.run(Kind.SCHEMA, creates=[created], roles=(node.authrole,), optional=optional)


# Up to version 9.0, pg_dump wrote CREATE LANGUAGE for this language, which every database now has.
_IN_EVERY_DATABASE = "plpgsql"
_LANGUAGE = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TRUSTED\s+)?(?:PROCEDURAL\s+)?LANGUAGE\b", re.IGNORECASE)


def _extension(r: Ruling, node: Any) -> Command:
    options = {option.defname: option.arg for option in node.options or ()}
    if options.keys() - {"schema", "new_version"}:
        return r.unknown('a "CREATE EXTENSION … CASCADE"')
    schema = options["schema"].sval if "schema" in options else None
    version = options["new_version"].sval if "new_version" in options else None
    as_language = bool(_LANGUAGE.match(r.statement.text))
    if as_language and node.extname == _IN_EVERY_DATABASE:
        return r.run(Kind.LANGUAGE, optional=(DUPLICATE_OBJECT, MISSING_PRIVILEGE))
    detail = Extension(node.extname, schema, version, as_language)
    return r.run(Kind.EXTENSION, creates=[Created(Kind.EXTENSION, names.quoted(node.extname))], detail=detail)


def _language(r: Ruling, node: Any) -> Command:
    if node.plname == _IN_EVERY_DATABASE:
        return r.run(Kind.LANGUAGE, optional=(DUPLICATE_OBJECT, MISSING_PRIVILEGE))
    return r.run(Kind.LANGUAGE, creates=[Created(Kind.LANGUAGE, names.quoted(node.plname))])


# Functions in these languages are machine code: with wrong types or names they read the server's memory or files.
_MACHINE_CODE = frozenset({"c", "internal"})


def _function(r: Ruling, node: Any) -> Command:
    kind = Kind.PROCEDURE if node.is_procedure else Kind.FUNCTION
    for option in node.options or ():
        if option.defname == "language" and option.arg.sval.lower() in _MACHINE_CODE:
            return r.refuse(
                kind,
                f'creates a {kind} in the language "{option.arg.sval.lower()}" outside an extension, '
                "which could do anything on the server",
            )
    r.object_named(node.funcname)
    writes = r.written_by(node.sql_body) if node.sql_body is not None else ()
    created = Created(kind, names.function_identity(node.funcname, node.parameters, r.schema))
    return r.run(kind, creates=[created], writes=writes)


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


def _define(r: Ruling, node: Any) -> Command:
    kind = _DEFINES[node.kind]
    if kind is Kind.AGGREGATE:
        r.object_named(node.defnames)
        parameters = node.args[0] if node.args and isinstance(node.args[0], tuple) else None
        identity = names.function_identity(node.defnames, parameters, r.schema)
    elif kind is Kind.OPERATOR:
        sides = {option.defname: option.arg for option in node.definition or ()}
        types = [names.type_identity(sides[side]) if side in sides else "NONE" for side in ("leftarg", "rightarg")]
        r.object_named(node.defnames)
        parts = [part.sval for part in node.defnames]
        schema = parts[0] if len(parts) > 1 else r.schema
        identity = f"{names.quoted(schema) + '.' if schema else ''}{parts[-1]}({','.join(types)})"
    else:
        identity = str(r.object_named(node.defnames))
    return r.run(kind, creates=[Created(kind, identity)])


def _composite(r: Ruling, node: Any) -> Command:
    relation = r.created(node.typevar)
    columns = tuple(ColumnDefinition(c.colname, names.type_identity(c.typeName)) for c in node.coldeflist or ())
    definition = TableDefinition(relation, columns, carries_rows=False)
    return r.run(Kind.TYPE, creates=[Created(Kind.TYPE, str(relation))], detail=definition)


def _enum(r: Ruling, node: Any) -> Command:
    enum = r.object_named(node.typeName)
    return r.run(Kind.TYPE, creates=[Created(Kind.TYPE, str(enum))], detail=EnumType(enum))


def _domain(r: Ruling, node: Any) -> Command:
    domain = r.object_named(node.domainname)
    created = [Created(Kind.DOMAIN, str(domain))]
    for constraint in node.constraints or ():
        if constraint.contype == "CONSTR_CHECK" and constraint.conname:
            created.append(Created(Kind.DOMAIN_CONSTRAINT, f"{names.quoted(constraint.conname)} on {domain}"))
    return r.run(Kind.DOMAIN, creates=created)


def _alter_domain(r: Ruling, node: Any) -> Command:
    if node.subtype in ("X", b"X"):
        return r.skip(Kind.DROP, DROPS)
    if node.subtype in ("C", b"C") and node.def_.conname:
        identity = f"{names.quoted(node.def_.conname)} on {r.object_named(node.typeName)}"
        return r.run(Kind.DOMAIN_CONSTRAINT, creates=[Created(Kind.DOMAIN_CONSTRAINT, identity)])
    return r.unknown()


def _named(kind: Kind, attribute: str) -> Handler:
    """A handler for objects whose name, of one or more parts, is in ``attribute`` of the syntax tree."""

    def handle(r: Ruling, node: Any) -> Command:
        name = getattr(node, attribute)
        return r.run(
            kind, creates=[Created(kind, names.quoted(name) if isinstance(name, str) else str(r.object_named(name)))]
        )

    return handle


def _operator_class(kind: Kind, attribute: str) -> Handler:
    def handle(r: Ruling, node: Any) -> Command:
        identity = f"{r.object_named(getattr(node, attribute))} using {names.quoted(node.amname)}"
        return r.run(kind, creates=[Created(kind, identity)])

    return handle


def _cast(r: Ruling, node: Any) -> Command:
    identity = f"({names.type_identity(node.sourcetype)} AS {names.type_identity(node.targettype)})"
    return r.run(Kind.CAST, creates=[Created(Kind.CAST, identity)])


def _transform(r: Ruling, node: Any) -> Command:
    identity = f"for {names.type_identity(node.type_name)} language {names.quoted(node.lang)}"
    return r.run(Kind.TRANSFORM, creates=[Created(Kind.TRANSFORM, identity)])


def _user_mapping(r: Ruling, node: Any) -> Command:
    user = names.quoted(node.user.rolename) if node.user.rolename else "public"
    created = Created(Kind.USER_MAPPING, f"{user} on server {names.quoted(node.servername)}")
    return r.run(Kind.USER_MAPPING, creates=[created], roles=(node.user,))


def _publication(r: Ruling, node: Any) -> Command:
    tables = [r.relation(o.pubtable.relation) for o in node.pubobjects or () if o.pubtable is not None]
    created = [Created(Kind.PUBLICATION, names.quoted(node.pubname))]
    return r.run(Kind.PUBLICATION, *tables, creates=created if node.tag == "CreatePublicationStmt" else ())


def publication(command: Command) -> str:
    """The name of the publication that a command creates or alters, as SQL writes it."""
    (node,) = parse(command.statement.text.decode("utf-8", "surrogateescape"))
    return names.quoted(node.pubname)


def _event_trigger(r: Ruling, node: Any) -> Command:
    created = Created(Kind.EVENT_TRIGGER, names.quoted(node.trigname))
    return r.run(Kind.EVENT_TRIGGER, creates=[created], optional=(MISSING_PRIVILEGE,))


def _alter_event_trigger(r: Ruling, node: Any) -> Command:
    return r.run(Kind.EVENT_TRIGGER_STATE, optional=(MISSING_PRIVILEGE, UNDEFINED_OBJECT))


HANDLERS: dict[str, Handler] = {
    "AlterDomainStmt": _alter_domain,
    "AlterEventTrigStmt": _alter_event_trigger,
    "AlterPublicationStmt": _publication,
    "CompositeTypeStmt": _composite,
    "CreateAmStmt": _named(Kind.ACCESS_METHOD, "amname"),
    "CreateCastStmt": _cast,
    "CreateConversionStmt": _named(Kind.CONVERSION, "conversion_name"),
    "CreateDomainStmt": _domain,
    "CreateEnumStmt": _enum,
    "CreateEventTrigStmt": _event_trigger,
    "CreateExtensionStmt": _extension,
    "CreateFdwStmt": _named(Kind.FOREIGN_DATA_WRAPPER, "fdwname"),
    "CreateForeignServerStmt": _named(Kind.SERVER, "servername"),
    "CreateFunctionStmt": _function,
    "CreateOpClassStmt": _operator_class(Kind.OPERATOR_CLASS, "opclassname"),
    "CreateOpFamilyStmt": _operator_class(Kind.OPERATOR_FAMILY, "opfamilyname"),
    "CreatePLangStmt": _language,
    "CreatePublicationStmt": _publication,
    "CreateRangeStmt": _named(Kind.TYPE, "typeName"),
    "CreateSchemaStmt": _schema,
    "CreateTransformStmt": _transform,
    "CreateUserMappingStmt": _user_mapping,
    "DefineStmt": _define,
}
