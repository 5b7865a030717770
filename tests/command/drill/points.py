"""Twenty restore points of one small database, in every form that there is; three of them are damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import lz4.frame
import zstandard

from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer

# Name → what is wrong with it, as the verdict calls it.
DAMAGED = {
    "cut.sql": "incomplete",
    "flipped.dump": "corrupt",
    "missing_member": "incomplete",
}


def fill(server: EmbeddedServer, database: str, store: Path) -> None:
    """Create them."""
    for form in ("plain", "custom", "directory"):
        take(server.target(database), store, label=form, form=form)
    _foreign(server, database, store)
    plain = (store / "plain.sql").read_bytes()
    (store / "gzip.sql.gz").write_bytes(gzip.compress(plain))
    (store / "zstd.sql.zst").write_bytes(zstandard.compress(plain))
    (store / "lz4.sql.lz4").write_bytes(lz4.frame.compress(plain))
    (store / "xz.sql.xz").write_bytes(lzma.compress(plain))
    (store / "custom.dump.gz").write_bytes(gzip.compress((store / "custom.dump").read_bytes()))
    (store / "bzip2.sql.bz2").write_bytes(bz2.compress(plain))
    (store / "tar.tar.xz").write_bytes(lzma.compress((store / "tar.tar").read_bytes()))
    _damage(store)


def _foreign(server: EmbeddedServer, database: str, store: Path) -> None:
    for name, options in {
        "plain.sql": (),
        "inserts.sql": ("--rows-per-insert=10",),
        "clean.sql": ("--clean", "--if-exists", "--no-owner", "--no-acl"),
        "custom.dump": ("-Fc",),
        "custom_uncompressed.dump": ("-Fc", "-Z0"),
        "folder": ("-Fd",),
        "tar.tar": ("-Ft",),
    }.items():
        arguments: list[str | Path] = [server.bin / "pg_dump", *options, f"--file={store / name}", server.url(database)]
        subprocess.run(arguments, check=True, env={**os.environ, "PGTZ": "UTC"})


def _damage(store: Path) -> None:
    plain = (store / "plain.sql").read_bytes()
    (store / "cut.sql").write_bytes(plain[: len(plain) * 7 // 10])
    packed = bytearray((store / "custom.dump").read_bytes())
    packed[-len(packed) // 3] ^= 0x10
    (store / "flipped.dump").write_bytes(packed)
    shutil.copytree(store / "folder", store / "missing_member")
    largest = max((store / "missing_member").glob("*.dat.gz"), key=lambda file: file.stat().st_size)
    largest.unlink()
