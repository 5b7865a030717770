"""The texts that a damaged dump still has: of an archive each section by itself, and the rows behind damaged ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lastgood.dump.file_set import FileSet
from lastgood.dump.formats import DumpSource
from lastgood.dump.parts import Text
from lastgood.errors import BadPoint, Corrupt

_DATA = b"\n-- Data for Name: "
Note = Callable[[BadPoint], None]


@dataclass(frozen=True, slots=True)
class _Text:
    make: Callable[[], Iterator[bytes]]

    def chunks(self) -> Iterator[bytes]:
        return self.make()


def texts(source: DumpSource, note: Note) -> Iterator[Text]:
    """Each is to be read to its end before the next one is asked for; where one ends early, ``note`` is told why.

    The section of an archive that holds the rows is given in as many texts as it has damaged tables, and one more.
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
        # Cut compressed data makes pg_restore complain, too: the first error is the cause.
        damage.append(error)
    if damage:
        note(damage[0])


def _rows(source: DumpSource, note: Note) -> Iterator[Text]:
    """The rows, table after table. pg_restore ends at the first that is damaged: it is asked again for those behind."""
    entries = b"".join(_noted(source, ["--list"], lambda error: None)).splitlines(keepends=True)
    with tempfile.TemporaryDirectory(prefix="lastgood-") as folder:
        wanted = Path(folder) / "list"
        while entries:
            wanted.write_bytes(b"".join(entries))
            counted = _Counted(lambda told: _noted(source, ["--section=data", f"--use-list={wanted}"], told), note)
            yield counted
            # A file that is cut has nothing behind the cut; a folder has the other tables' files.
            go_on = source.kind == "directory" or any(type(error) is Corrupt for error in counted.failed)
            entries = _behind(entries, counted.begun) if counted.failed and go_on else []


class _Counted:
    """A text of rows; ``begun`` is the number of the tables in it so far, ``failed`` what ended it early."""

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


def _behind(entries: list[bytes], number: int) -> list[bytes]:
    """The entries of a table of contents behind the ``number``-th that has data."""
    seen = 0
    for place, entry in enumerate(entries):
        if not entry.startswith(b";") and (b" TABLE DATA " in entry or b" BLOBS " in entry):
            seen += 1
            if seen == number:
                return entries[place + 1 :]
    return []
