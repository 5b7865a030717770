"""The error for a command that a restore does not run: an attack, damage, or text of another program."""

from __future__ import annotations

from lastgood.dump.hints import ANOTHER
from lastgood.dump.noise import SkippedNoise
from lastgood.dump.statements import Command
from lastgood.errors import BadPoint, Corrupt, Unsafe


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
