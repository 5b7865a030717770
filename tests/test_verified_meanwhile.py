"""A dump's SHA-256 that is computed while it is loaded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lastgood.dump.files.formats import DumpSource, open_dump
from lastgood.dump.files.row_index import PendingDigest
from lastgood.errors import Corrupt, Failed
from lastgood.load import rebuild
from lastgood.load.rebuild import verified_meanwhile


def source_of(path: Path, *, sha256: str | None = None, size: int | None = None) -> DumpSource:
    """A plain dump, of ``size`` bytes on a disk that need not have them."""
    path.write_bytes(b"--\n-- PostgreSQL database dump\n--\n\n")
    source = open_dump(path)
    owed = PendingDigest(source.sha256() if sha256 is None else sha256, source.fingerprint())
    if size is not None:
        os.truncate(path, size)
    source.skip_rows((), owed)
    return source


def test_a_file_that_is_as_it_was_written(tmp_path: Path) -> None:
    with verified_meanwhile(source_of(tmp_path / "dump.sql"), "dump.sql", lambda: False) as ended:
        assert not ended()


def test_a_file_that_was_changed_is_the_reason_for_a_failure(tmp_path: Path) -> None:
    source = source_of(tmp_path / "dump.sql", sha256="0" * 64)
    with pytest.raises(Corrupt) as caught, verified_meanwhile(source, "dump.sql", lambda: False):
        raise Failed("the load failed")
    assert caught.value.message == 'cannot use "dump.sql": its SHA-256 differs from that in its manifest'


def test_an_interrupted_load_does_not_wait_for_the_rest_of_a_large_file(tmp_path: Path) -> None:
    source = source_of(tmp_path / "dump.sql", size=1 << 40)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), verified_meanwhile(source, "dump.sql", lambda: False):
        raise KeyboardInterrupt
    with pytest.raises(Failed), verified_meanwhile(source, "dump.sql", lambda: True):
        raise Failed("interrupted")
    assert time.monotonic() - began < 30


def test_a_load_that_failed_does_not_wait_for_the_rest_of_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "REASON_WAIT", 0.1)
    source = source_of(tmp_path / "dump.sql", size=1 << 40)
    began = time.monotonic()
    with pytest.raises(Failed) as caught, verified_meanwhile(source, "dump.sql", lambda: False):
        raise Failed("the load failed")
    assert caught.value.message == "the load failed"
    assert time.monotonic() - began < 30
