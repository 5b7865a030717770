"""Damaged archives over which pg_restore turns in circles for ever."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lastgood.dump.files import formats
from lastgood.dump.files.formats import open_dump
from lastgood.errors import Corrupt
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.process import run
from lastgood.process.run import ChildFailed
from tests.dump.test_formats import archive
from tests.support.damage import limit


def with_more_in_its_last_block(data: bytes) -> bytes:
    """The last block of compressed data continues after the end."""
    start = data.rindex(b"\x78\x9c")
    (length,) = struct.unpack("<I", data[start - 4 : start])
    end = start + length
    return data[: start - 4] + struct.pack("<I", length + 4) + data[start:end] + b"junk" + data[end:]


@pytest.mark.postgres(15, 16, 17, 18)
def test_an_archive_on_which_pg_restore_hangs_is_corrupt(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "STUCK_SECONDS", 0.5)
    path = tmp_path / "stuck.dump"
    path.write_bytes(with_more_in_its_last_block(archive(server, "custom")))
    with limit(60), pytest.raises(Corrupt) as raised:
        for _ in open_dump(path, pg_restore=lambda _: server.bin / "pg_restore").chunks():
            pass
    assert str(raised.value) == (f'cannot read "{path}": pg_restore made no progress for 0.5 s')
    assert raised.value.hint == "Choose another restore point: lastgood points"


def test_a_program_that_computes_for_ever_is_killed() -> None:
    with (
        limit(60),
        pytest.raises(ChildFailed) as raised,
        run.stream(["sh", "-c", "echo begun; while :; do :; done"], stuck_seconds=0.5) as output,
    ):
        assert b"".join(output) == b"begun\n"
    assert str(raised.value) == "sh exceeded its time limit"


def test_a_program_that_makes_progress_is_not() -> None:
    """However long it computes between what it writes, as long as that is shorter."""
    script = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); echo some text that is long enough to fill a pipe; done"
    with limit(60), run.stream(["sh", "-c", script], stuck_seconds=0.5) as output:
        assert sum(map(len, output)) == 400_000 * 45
