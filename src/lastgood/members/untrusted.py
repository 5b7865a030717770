"""What the commands that restore parts of extensions could do.

The operator runs them, since extensions belong to it. Their text comes from a manifest that anyone may have written, or
from definitions that users changed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pglast.parser import ParseError

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rulings import rule
from lastgood.dump.rulings.code import (
    CHECK,
    DOMAIN,
    EXPRESSION,
    GENERATED,
    INDEX,
    PARTITION,
    STATISTICS,
    constructs,
    reads_constants,
)
from lastgood.dump.rulings.tree import Node, parse, within
from lastgood.dump.statements import Kind
from lastgood.members import Deviation, MemberSurvey

# Those that ``lastgood.members.parts`` writes.
_WRITTEN = frozenset({
    "AlterDomainStmt", "AlterEnumStmt", "AlterExtensionContentsStmt", "AlterFunctionStmt", "AlterOwnerStmt",
    "AlterPublicationStmt", "AlterSeqStmt", "AlterTSConfigurationStmt", "AlterTSDictionaryStmt", "AlterTableStmt",
    "CommentStmt", "CreateFunctionStmt", "CreatePolicyStmt", "CreateSchemaStmt", "CreateSeqStmt", "CreateStatsStmt",
    "CreateStmt", "CreateTrigStmt", "DropStmt", "IndexStmt", "RuleStmt", "ViewStmt",
})  # fmt: skip
_NATIVE = frozenset({"c", "internal"})
_EVALUATED = frozenset({CHECK, DOMAIN, EXPRESSION, GENERATED, INDEX, PARTITION, STATISTICS})
# They give code the rights of the extension's owner, or the extension to another owner.
_DEFINING = frozenset({
    "AlterExtensionContentsStmt", "AlterFunctionStmt", "AlterOwnerStmt", "CreateFunctionStmt", "RuleStmt", "ViewStmt",
})  # fmt: skip


def is_written(command: str) -> bool:
    """Whether lastgood writes commands of this kind."""
    if _is_position(command):
        return True
    nodes = _parsed(command)
    if len(nodes) != 1 or nodes[0].tag not in _WRITTEN:
        return False
    options = nodes[0].options if nodes[0].tag == "CreateFunctionStmt" else ()
    return not any(each.defname == "language" and each.arg.sval.lower() in _NATIVE for each in options)


def evaluates(command: str, coded: Collection[tuple[str, str]] = ()) -> bool:
    """Whether the server may run code when it executes a command; ``coded``: tables whose definitions call
    functions."""
    if _is_position(command):
        return False
    return any(
        not _EVALUATED.isdisjoint(constructs(node))
        or reads_constants(_expressions(node))
        or any((fields.get("schemaname", ""), fields.get("relname")) in coded for _, fields in within(node))
        for node in _parsed(command)
    )


def _expressions(node: Node) -> Any:
    """The parts of a statement that the server may read as expressions; not the values of settings."""
    if node.tag == "CreateFunctionStmt":
        return node.parameters, node.sql_body
    return () if node.tag == "AlterFunctionStmt" else node


def accepted(survey: MemberSurvey, live: MemberSurvey, *, proved: bool = False, trusted: bool = False) -> MemberSurvey:
    """The survey of a restore point, without the commands that the operator must not run: those that run code, and
    definitions that neither a signature proves (``proved``) nor the ``live`` database has, too. ``trusted``: the
    operator trusts all code."""
    if trusted:
        return survey
    known = frozenset(live.departures)
    return survey.model_copy(
        update={
            "departures": tuple(
                each if _is_acceptable(each, proved or each in known) else _without_commands(each)
                for each in survey.departures
            )
        }
    )


def _is_acceptable(departure: Deviation, known: bool) -> bool:
    commands = (*departure.commands, *departure.removal)
    if not all(map(is_written, commands)):
        return True  # refused with the command, when it is to run
    return not any(map(evaluates, commands)) and (known or not any(map(_defines, commands)))


def _without_commands(departure: Deviation) -> Deviation:
    return departure.model_copy(update={"commands": (), "removal": ()})


def _defines(command: str) -> bool:
    return any(
        node.tag in _DEFINING
        or (node.tag == "AlterTableStmt" and any(each.subtype == "AT_ChangeOwner" for each in node.cmds))
        for node in _parsed(command)
    )


def _is_position(command: str) -> bool:
    return rule(Statement(command.encode(), 0, 0)).kind is Kind.SEQUENCE_POSITION


def _parsed(command: str) -> tuple[Node, ...]:
    try:
        return parse(command)
    except (ParseError, RecursionError):
        return ()
