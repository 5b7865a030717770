"""Reading what is left: of a whole dump everything, of damaged ones whatever is sound, and never a crash."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from lastgood.dump.entries import Entry, Rows, RowsEnd, RowsStart
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.readable import ReadableReading
from lastgood.dump.reader import read
from lastgood.dump.statements import Command
from lastgood.postgres.embedded import EmbeddedServer
from tests.support.real_dumps import Text, dumped

DAMAGES = 10_000 if os.environ.get("LASTGOOD_FUZZ") == "long" else 25
PIECES = (b"'", b'"', b"$$", b"(", b"\\", b"/*", b"\n\\.\n", b"COPY x FROM stdin;\n", b"pg_dump: x\n", b"\xef\xbb\xbf")


def reading_of(folder: Path, text: bytes) -> tuple[list[Entry], ReadableReading]:
    path = folder / "dump.sql"
    path.write_bytes(text)
    reading = ReadableReading(DumpSource(path, "plain", "", None, None))
    return list(reading), reading


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("option", ["", "--inserts", "--create"])
def test_a_whole_dump_is_read_as_it_always_is(server: EmbeddedServer, tmp_path: Path, option: str) -> None:
    text = dumped(server, [option] if option else [])
    entries, reading = reading_of(tmp_path, text)
    assert entries == list(read(Text(text)))
    assert (reading.damage, reading.commands, reading.tables) == ([], [], {})


def damaged(text: bytes, chance: random.Random) -> bytes:
    """The text with one to three things done to it that disks, networks and people do."""
    changed = bytearray(text)
    for _ in range(chance.choice([1, 1, 2, 3])):
        at, size = chance.randrange(len(changed)), chance.choice([1, 1, 3, 40, 4096])
        other = chance.randrange(len(changed))
        match chance.randrange(7):
            case 0:
                del changed[at : at + size]
            case 1:
                changed[at : at + size] = bytes(size)
            case 2:
                changed[at : at + size] = chance.randbytes(size)
            case 3:
                changed[at:at] = chance.choice(PIECES)
            case 4:
                del changed[max(at, 1) :]
            case 5:
                changed[at:at] = changed[other : other + size]
            case 6:
                changed[at] = chance.randrange(256)
        changed = changed or bytearray(b"-")
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_fuzz_of_damaged_dumps(server: EmbeddedServer, tmp_path: Path, seed: int) -> None:
    text = dumped(server, ["--inserts"] if seed % 2 else [])
    chance = random.Random(seed)
    for _ in range(DAMAGES):
        entries, _ = reading_of(tmp_path, damaged(text, chance))
        start: RowsStart | None = None
        for entry in entries:
            match entry:
                case RowsStart():
                    assert start is None
                    start = entry
                case Rows():
                    assert start is not None
                    lines = entry.data.split(b"\n")
                    assert lines.pop() == b"" and len(lines) == entry.rows
                    if start.columns:
                        assert {line.count(b"\t") for line in lines} <= {len(start.columns) - 1}
                case RowsEnd():
                    assert start is not None
                    start = None
                case Command():
                    assert start is None
        assert start is None
