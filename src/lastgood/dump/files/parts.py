"""A dump in several files: the purpose of each, and its name in errors and notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lastgood.dump.entries import Entry
from lastgood.dump.names import shown
from lastgood.dump.statements import POST_DATA, Command, Kind, Setting, Verdict
from lastgood.errors import BadPoint


class PartText(Protocol):
    """Plain SQL, from the beginning at each call of ``chunks``."""

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class PartFile:
    """A file of a set. ``is_roles``: it creates roles, which are checked but never created."""

    name: str
    is_roles: bool
    source: PartText


@runtime_checkable
class Parted(Protocol):
    """A source of several files, to be read in sequence. Lines and offsets count in each file."""

    @property
    def parts(self) -> Sequence[PartFile]: ...


@contextmanager
def naming(name: str, notes: list[str]) -> Iterator[None]:
    """Put the file's name into errors and new ``notes`` of the block."""
    before = len(notes)
    try:
        yield
    except BadPoint as error:
        error.message = re.sub(r"^(cannot \w+) the (?:dump|file):", rf'\1 "{_escaped(name)}":', error.message)
        error.args = (error.message,)
        raise
    finally:
        notes[before:] = [f"{shown(name)}: {text}" for text in notes[before:]]


def _escaped(name: str) -> str:
    return shown(name).replace("\\", "\\\\")


def rows_first(
    entries: Iterator[Entry], held: list[Command], *, alone: bool, of_pg_dump: Callable[[], bool]
) -> Iterator[Entry]:
    """The entries of a text, without those that must come after all rows, of this or of another file: keys, indexes,
    triggers, and everything after them. These are added to ``held``. ``alone``: no other text follows. ``of_pg_dump``:
    whether pg_dump wrote the current text; the order of other programs is kept.
    """
    behind: list[Command] = []
    settings: dict[str, Command] = {}
    others = not alone
    for entry in entries:
        if isinstance(entry, Command) and isinstance(entry.detail, Setting) and not behind:
            settings[entry.detail.name] = entry
        late = isinstance(entry, Command) and entry.verdict is Verdict.RUN and entry.kind in POST_DATA
        if isinstance(entry, Command) and (behind or (late and of_pg_dump())):
            if entry.kind is Kind.TABLE:
                # pg_dump creates all tables before the first key; the order of other programs is kept.
                yield from behind
                behind.clear()
                yield entry
            else:
                behind.append(entry)
        else:
            others = others or bool(behind)
            yield entry
    if others and behind:
        # The held commands need these settings, and run after another text has changed them.
        held += settings.values()
    held += behind
