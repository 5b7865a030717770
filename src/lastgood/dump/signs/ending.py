"""Check that a dump's text is complete."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lastgood.dump.hints import ANOTHER
from lastgood.dump.lexer.tokens import CopyStart, MetaCommand, Statement
from lastgood.dump.names import shown
from lastgood.dump.signs.text_state import SkippedNoise
from lastgood.dump.statements import Command, Setting
from lastgood.dump.summary import DumpSummary
from lastgood.errors import BadPoint, Corrupt, Foreign, Incomplete, Unsafe

INSPECT = "Load it into a separate database to inspect it: lastgood restore FILE --skip-damaged --into NAME"
_BY_SUPABASE = (
    "it was made by supabase db dump, which leaves out event triggers, comments on extensions, and the schemas that "
    "the platform maintains"
)


class WhichDatabase(BadPoint):
    """The restore point is of a whole cluster, and none of its ``databases`` was selected."""

    code = "which_database"

    def __init__(self, message: str, *, databases: Iterable[str]) -> None:
        super().__init__(message, hint="Name one of them: lastgood restore POINT --into NAME --database DATABASE")
        self.databases = tuple(databases)


def check_end(
    summary: DumpSummary,
    *,
    wanted: str | None,
    foreign: Foreign | None,
    cut_off: bool,
    complete: bool,
    last: Command | None,
    anything: bool,
) -> None:
    """Verify that a text is complete and written by pg_dump. Raises Incomplete, Corrupt, WhichDatabase, or ``foreign``.

    ``wanted`` is the database to restore from a cluster dump; ``cut_off``: a header had no footer; ``complete``: it has
    header and footer (those of the cluster for a cluster dump), or the operator confirmed it; ``last`` is the last
    command of a file of ``supabase db dump``; ``anything``: the text has SQL.
    """
    if summary.cluster:
        if not complete:
            raise Incomplete(
                'cannot use the dump: it ends without the line "-- PostgreSQL database cluster dump complete"',
                hint=ANOTHER,
            )
        _check_choice(summary, wanted)
        if foreign is not None:
            raise foreign
    elif cut_off:
        raise Incomplete(
            'cannot use the dump: it ends without the line "-- PostgreSQL database dump complete"',
            hint=ANOTHER,
        )
    elif foreign is not None:
        raise foreign
    elif not complete:
        if last is not None and resets(last.statement):
            if _BY_SUPABASE not in summary.notes:
                summary.notes.append(_BY_SUPABASE)
            return  # It strips all comments and ends its files with this command.
        if not anything:
            raise Corrupt("cannot use the file: it contains no SQL", hint=ANOTHER)
        raise Incomplete(
            "cannot use the dump: it has neither the header nor the footer that pg_dump writes, so "
            "its completeness is unknown",
            hint="Make the dump with pg_dump and keep its comments.",
        )


def _check_choice(summary: DumpSummary, wanted: str | None) -> None:
    if not summary.databases:
        raise BadPoint(
            "cannot use the dump: it has roles and tablespaces of a whole cluster, but no database",
            hint=ANOTHER,
        )
    listed = ", ".join(f'"{shown(name)}"' for name in summary.databases)
    if wanted is None:
        raise WhichDatabase(
            f"cannot use the dump: it is of a whole cluster, with the databases {listed}", databases=summary.databases
        )
    if wanted not in summary.databases:
        raise WhichDatabase(
            f'cannot use the dump: it is of a whole cluster without the database "{shown(wanted)}", only {listed}',
            databases=summary.databases,
        )


def made_by_supabase_cli(command: Command) -> bool:
    """Whether the command is typical of a file of ``supabase db dump``."""
    return command.detail == Setting("session_replication_role", "replica") or (
        bool(command.creates) and b' IF NOT EXISTS "' in command.statement.text[:80]
    )


def resets(token: Statement | CopyStart | MetaCommand) -> bool:
    """Whether the command is RESET ALL, the last one in a file of ``supabase db dump``."""
    return re.fullmatch(rb"(?i)reset\s+all", token.text) is not None


def refusal(command: Command, seen: SkippedNoise, *, codec: str, entry: str) -> BadPoint:
    """The error for ``command``, whose verdict is REFUSE. ``entry`` names the object in the heading before it."""
    line, offset, text = command.statement.line, command.statement.offset, command.statement.text
    if (mixed := seen.within(command.statement)) is not None:
        return mixed
    if command.not_sql_at is not None:
        before = text.decode(codec)[: command.not_sql_at]
        at = offset + len(before.encode(codec))
        within = f", in the command that begins at line {line}" if "\n" in before else ""
        within += f", in {entry}" if entry else ""
        line += before.count("\n")
        return Corrupt(
            f"cannot read the dump: line {line} (byte {at}) is not SQL{within}",
            hint="The file is damaged there, or other text was written into it. " + ANOTHER,
            line=line,
            offset=at,
        )
    return Unsafe(f"cannot restore the dump: line {line} {command.reason}", hint=ANOTHER, line=line, offset=offset)
