"""A file of roles (``pg_dumpall --roles-only``, ``supabase db dump --role-only``): checked, but never run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastgood.dump.files.parts import PartText
from lastgood.dump.hints import ANOTHER
from lastgood.dump.lexer.lexer import Lexer
from lastgood.dump.lexer.repair import repaired
from lastgood.dump.lexer.tokens import Comment, CopyStart, MetaCommand, Noise, Statement
from lastgood.dump.rulings import rule
from lastgood.dump.signs.text_state import SkippedNoise
from lastgood.dump.statements import Command, Kind, Verdict, understand_psql
from lastgood.errors import BadPoint, Corrupt, Incomplete, Unsafe

_GLOBAL = frozenset({Kind.ROLE, Kind.TABLESPACE, Kind.PARAMETER, Kind.DATABASE})
_COMPLETE = b"-- PostgreSQL database cluster dump complete"


def role_commands(source: PartText, notes: list[str]) -> Iterator[Command]:
    """The commands that create or change roles, each with the verdict SKIP and the names of its ``roles``.

    Raises Incomplete when the usual end of such a file is missing, Unsafe or BadPoint for other commands.
    """
    complete = False
    noise = SkippedNoise()
    for token in Lexer(repaired(source.chunks(), notes)).tokens():
        match token:
            case Comment():
                complete = complete or token.text.rstrip() == _COMPLETE
            case Noise():
                noise.add(token, ended=complete)
            case MetaCommand():
                command = understand_psql(token)
                if command.verdict is Verdict.REFUSE:
                    raise _unsafe(command)
            case CopyStart():
                raise _no_role(token)
            case Statement():
                command = rule(token)
                complete = re.fullmatch(rb"(?i)reset\s+all", token.text) is not None
                if command.verdict is Verdict.REFUSE:
                    raise noise.within(token) or _unsafe(command)
                if command.verdict is Verdict.SKIP and command.kind in _GLOBAL:
                    yield command
                elif command.kind is not Kind.SETTING:
                    raise _no_role(token)
    notes += noise.notes()
    if not complete:
        raise Incomplete(
            'cannot use the dump: it ends without "RESET ALL" and without the footer that pg_dumpall writes',
            hint="The file is truncated, or pg_dumpall was interrupted: choose another restore point.",
        )


def _unsafe(command: Command) -> Unsafe:
    statement = command.statement
    return Unsafe(
        f"cannot restore the dump: line {statement.line} {command.reason}",
        hint=ANOTHER,
        line=statement.line,
        offset=statement.offset,
    )


def _no_role(token: Statement | CopyStart) -> BadPoint:
    return Corrupt(
        f"cannot use the dump: line {token.line} does not create a role, but the file begins as a file of roles",
        hint="Move all commands except those for roles into another file.",
        line=token.line,
        offset=token.offset,
    )
