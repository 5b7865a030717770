"""The readable texts of a damaged dump: each section of an archive by itself, and the rows after damaged ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lastgood.dump.files.file_set import FileSet
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.files.parts import PartText
from lastgood.errors import BadPoint, Corrupt

_DATA = b"\n-- Data for Name: "
Note = Callable[[BadPoint], None]


@dataclass(frozen=True, slots=True)
class _Text:
    make: Callable[[], Iterator[bytes]]

    def chunks(self) -> Iterator[bytes]:
        return self.make()


def texts(source: DumpSource, note: Note) -> Iterator[PartText]:
    """The texts of a dump. Read each to its end before requesting the next one; ``note`` gets the reason if one ends
    early.

    The data section of an archive is split into several texts: one up to each damaged table, and one for the rest.
    """
    if isinstance(source, FileSet):
        for part in source.parts:
            if not part.is_roles:
                yield from texts(next(each for each in source.sources if each is part.source), note)
    elif source.kind == "plain":
        yield _Text(lambda: _noted(source, [], note))
    else:
        yield _Text(lambda: _noted(source, ["--section=pre-data"], note))
        yield from _rows(source, note)
        yield _Text(lambda: _noted(source, ["--section=post-data"], note))


def _noted(source: DumpSource, options: list[str], note: Note) -> Iterator[bytes]:
    damage: list[BadPoint] = []
    try:
        yield from source.chunks(*options, damage=damage)
    except BadPoint as error:
        # Truncated compressed data makes pg_restore fail, too: the first error is the cause.
        damage.append(error)
    if damage:
        note(damage[0])


def _rows(source: DumpSource, note: Note) -> Iterator[PartText]:
    """The rows, table by table. pg_restore stops at the first damaged table, so it is run again for the tables after
    it."""
    entries = b"".join(_noted(source, ["--list"], lambda error: None)).splitlines(keepends=True)
    with tempfile.TemporaryDirectory(prefix="lastgood-") as folder:
        list_file = Path(folder) / "list"
        while entries:
            list_file.write_bytes(b"".join(entries))
            text = _RowsText(lambda report: _noted(source, ["--section=data", f"--use-list={list_file}"], report), note)
            yield text
            # A truncated file has nothing more; a folder has the other tables' files.
            has_more = source.kind == "directory" or any(type(error) is Corrupt for error in text.failed)
            entries = _after(entries, text.begun) if text.failed and has_more else []


class _RowsText:
    """A text of rows; ``begun``: the number of tables so far; ``failed``: the errors that ended it early."""

    def __init__(self, make: Callable[[Note], Iterator[bytes]], note: Note) -> None:
        self._make = make
        self._note = note
        self.begun = 0
        self.failed: list[BadPoint] = []

    def chunks(self) -> Iterator[bytes]:
        tail = b"\n"
        for chunk in self._make(self._fail):
            text = tail + chunk
            self.begun += text.count(_DATA)
            tail = text[-len(_DATA) + 1 :]
            yield chunk

    def _fail(self, error: BadPoint) -> None:
        self.failed.append(error)
        self._note(error)


def _after(entries: list[bytes], number: int) -> list[bytes]:
    """The entries of a table of contents after the ``number``-th entry with data."""
    count = 0
    for place, entry in enumerate(entries):
        if not entry.startswith(b";") and (b" TABLE DATA " in entry or b" BLOBS " in entry):
            count += 1
            if count == number:
                return entries[place + 1 :]
    return []
