"""Parts of extensions in a manifest that anyone could have written: which of them could run code as the operator.

The operator restores them, because members of extensions belong to the operator. What is only read as a definition may
come from any manifest. The rest must be equal in the live database, unless the manifest is signed or the code is
trusted. A definition whose expressions are executed at once may call nothing that the restore point created.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, LiteralString

from lastgood.config.signing import Signing
from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rulings import rule
from lastgood.dump.rulings.foreign import harmless
from lastgood.dump.rulings.ruling import GLOBAL
from lastgood.dump.rulings.tree import only, within
from lastgood.dump.statements import Kind, Verdict
from lastgood.members import MOST_SHOWN, Deviation, MemberSurvey
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection
from lastgood.text.units import listed

# Definitions without expressions, on objects that are not the server's.
_PLAIN = frozenset({
    "AlterEnumStmt", "AlterOwnerStmt", "AlterSeqStmt", "AlterTSConfigurationStmt", "CommentStmt", "CreateSchemaStmt",
    "CreateSeqStmt",
})  # fmt: skip
_OF_FUNCTIONS = frozenset({"cost", "parallel", "rows", "strict", "volatility"})
_OF_TABLES = frozenset({
    "AT_AddColumn", "AT_AddConstraint", "AT_ColumnDefault", "AT_DisableRowSecurity", "AT_DropNotNull",
    "AT_EnableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity", "AT_ReplicaIdentity", "AT_SetCompression",
    "AT_SetNotNull", "AT_SetOptions", "AT_SetRelOptions", "AT_SetStatistics", "AT_SetStorage",
})  # fmt: skip
_DROPS = frozenset({"AT_DropColumn", "AT_DropConstraint", "AT_DropNotNull"})
# Executed by the command itself: expressions of rows, of indexes, and those of partitions and constraints.
_EXECUTES = frozenset({"AlterDomainStmt", "AlterTableStmt", "CreateStmt", "IndexStmt"})


def withheld(survey: MemberSurvey, known: Collection[Deviation]) -> tuple[Deviation, ...]:
    """The parts of a manifest that could run code, and are not among those ``known``."""
    return tuple(each for each in survey.departures if not is_inert(each) and each not in known)


def without_commands(survey: MemberSurvey, parts: Collection[Deviation]) -> MemberSurvey:
    """The survey in which these parts cannot be restored."""
    departures = tuple(
        each.model_copy(update={"commands": (), "removal": ()}) if each in parts else each for each in survey.departures
    )
    return survey.model_copy(update={"departures": departures})


def is_inert(departure: Deviation) -> bool:
    """Whether restoring a part runs no code, and leaves no code behind that has the rights of its owner."""
    return all(map(_is_inert, departure.commands)) and all(map(_removes, departure.removal))


def why(parts: Collection[Deviation], extension: str) -> str:
    """The reason why those of an extension are withheld, in words."""
    named = listed([each.named for each in parts if each.extension == extension], MOST_SHOWN)
    return (
        f'no dump holds the changes to extension "{extension}", and the manifest that has them is not signed: they '
        f"could run code with your rights: {named}"
    )


def others(survey: MemberSurvey, parts: Collection[Deviation]) -> tuple[Deviation, ...]:
    """The changes of a survey without these, which may have lost their commands."""
    gone = {(each.extension, each.kind, each.identity) for each in parts}
    return tuple(each for each in survey.departures if (each.extension, each.kind, each.identity) not in gone)


def is_strict(trusted: str) -> bool:
    """Whether a manifest could gain something: there is no reason to trust code, and manifests need no signature."""
    return not trusted and (Signing.key_file is None or bool(Signing.trusted))


def _is_inert(command: str) -> bool:
    node = only(command)
    if node is None:
        return False
    if node.tag == "AlterFunctionStmt":
        names = [part.sval for part in node.func.objname]
        return _is_others(names) and all(_changes_no_rights(each) for each in node.actions or ())
    ruled = rule(Statement(command.encode(), 0, 0))
    if ruled.verdict not in (Verdict.RUN, Verdict.FOREIGN):
        return False
    if ruled.kind is Kind.SEQUENCE_POSITION:
        return ruled.verdict is Verdict.RUN
    if node.tag == "AlterTableStmt":
        return not ruled.code and harmless(node) and all(each.subtype in _OF_TABLES for each in node.cmds)
    if node.tag in ("IndexStmt", "CreateStatsStmt"):
        return not ruled.code and harmless(node)
    if node.tag == "CreateStmt":
        return not (node.tableElts or node.inhRelations or node.partspec or node.partbound or node.ofTypename)
    return node.tag in _PLAIN


def _is_others(names: list[str]) -> bool:
    return len(names) == 2 and not names[0].startswith("pg_") and names[0] != "information_schema"


def _changes_no_rights(action: Any) -> bool:
    if action.defname in _OF_FUNCTIONS:
        return True
    if action.defname in ("leakproof", "security"):
        return not action.arg.boolval
    return bool(action.defname == "set" and action.arg.kind == "VAR_RESET_ALL")


def _removes(command: str) -> bool:
    node = only(command)
    if node is None:
        return False
    if node.tag == "AlterExtensionContentsStmt":
        return bool(node.action == -1)
    if node.tag == "DropStmt":
        return node.removeType not in GLOBAL and node.behavior == "DROP_RESTRICT"
    if node.tag == "AlterTableStmt" and all(each.subtype in _DROPS for each in node.cmds):
        return True
    return _is_inert(command)


def executes_others(connection: Connection, command: str) -> bool:
    """Whether the server would execute functions for a command that neither it nor an extension has."""
    node = only(command)
    if node is None:
        return True
    if node.tag not in _EXECUTES:
        return False
    called, types, references = set(), set(), set()
    for tag, fields in within(node):
        parts = fields.get("funcname") if tag == "FuncCall" else fields.get("name") if tag == "A_Expr" else None
        if parts:
            called.add(parts[-1].get("String", {}).get("sval", ""))
        if tag == "typeName":
            types.add((fields.get("names") or [{}])[-1].get("String", {}).get("sval", ""))
        if other := fields.get("pktable"):
            # The rows of the other table are looked up by a query.
            references.add((other.get("schemaname", ""), other["relname"]))
    if references and not references.isdisjoint(not_to_query(connection)):
        return True
    return connection.execute(_OTHERS, [list(called), list(called), list(types)]).fetchone() is not None


_OTHERS: LiteralString = """
WITH object (classid, oid) AS (
  SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid FROM pg_catalog.pg_proc WHERE proname = ANY (%s)
  UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, oid FROM pg_catalog.pg_operator
            WHERE oprname = ANY (%s)
  UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid FROM pg_catalog.pg_type WHERE typname = ANY (%s)
)
SELECT FROM object o WHERE o.oid >= 16384 AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e')
LIMIT 1
"""
