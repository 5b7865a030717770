"""Definitions as pg_dump writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lastgood.dump.reader import read
from lastgood.dump.rulings.tree import parse
from lastgood.dump.statements import Command, ForeignKeyDefinition, Kind
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed, Interrupted
from lastgood.in_place.definitions.sorting import object_class
from lastgood.load.repairs.repair import OWNERS, PRIVILEGES
from lastgood.postgres.server import Target
from lastgood.process import run

ATTRIBUTES = OWNERS | PRIVILEGES | {Kind.COMMENT, Kind.SECURITY_LABEL}


def dumped(program: Path, target: Target, schemas: Iterable[str], cancelled: Callable[[], bool]) -> bytes:
    """The definitions of schemas, as pg_dump writes them. Raises Failed, Interrupted."""
    conninfo, environment = target.child()
    arguments: list[str | Path] = [
        program,
        "--schema-only",
        "--encoding=UTF8",
        "--no-password",
        "--no-publications",
        "--no-subscriptions",
        # A name in double quotes is no pattern.
        *(f'--schema="{schema.replace(chr(34), chr(34) * 2)}"' for schema in schemas),
        f"--dbname={conninfo}",
    ]
    try:
        return run.run(
            arguments, environment={**environment, "PGAPPNAME": "lastgood pg_dump"}, cancelled=cancelled
        ).output
    except run.ChildFailed as error:
        if cancelled():
            raise Interrupted("interrupted while the definitions were read") from error
        raise Failed(
            f"cannot read the definitions of the staging schemas: {error}",
            hint="Fix the cause, then run the command again.",
        ) from error


@dataclass(frozen=True, slots=True)
class Text:
    """A dump in memory, as a source for the reader."""

    text: bytes

    def chunks(self) -> Iterator[bytes]:
        """The text."""
        yield self.text


def definitions_in(text: bytes) -> DumpSummary:
    """The summary of pg_dump's output, with its script. Raises BadPoint if it has a command that no restore may run."""
    reading = read(Text(text))
    for _ in reading.summary.script.recording(reading):
        pass
    return reading.summary


def left_to_the_swap(command: Command, staging: Collection[str], *, keys: bool = True) -> bool:
    """Whether a command of the rewritten text is for a schema itself or, with ``keys``, a foreign key to a table
    outside: these are not part of the build."""
    if isinstance(command.detail, ForeignKeyDefinition):
        return keys and command.detail.references.schema not in staging
    if command.kind is Kind.SCHEMA or command.kind is Kind.DEFAULT_PRIVILEGES:
        return True
    if command.kind in ATTRIBUTES:
        return object_class(parse(command.statement.text.decode())[0]) == "OBJECT_SCHEMA"
    return False
