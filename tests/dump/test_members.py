"""The rows of each table of an archive, read alone: the same as in pg_restore's output, or an error."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard

from lastgood.dump.archive.members import ArchiveMember, members
from lastgood.dump.entries import Rows, RowsStart
from lastgood.dump.files.formats import DumpSource, open_dump
from lastgood.dump.reader import read
from lastgood.errors import BadPoint, Corrupt, Incomplete
from lastgood.postgres.embedded import EmbeddedServer
from tests.support import real_dumps
from tests.support.real_dumps import run

ALL = pytest.mark.postgres(15, 16, 17, 18)
NAME = "member src"
KINDS = {"custom": "c", "directory": "d", "tar": "t"}
ANOTHER = "Choose another restore point: lastgood points"
CUT_OFF = "The file is truncated, or pg_dump was interrupted: choose another restore point."
SMALL = ("--schema=small",)
TABLES = r"""SET search_path = public;
CREATE TABLE dots (line text);
INSERT INTO dots VALUES ('\.');
CREATE TABLE more_dots (a text, b text);
INSERT INTO more_dots VALUES ('\.', E'\\.\n\\.'), (NULL, ''), (E'\n', E'.\\');
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE no_columns_no_rows ();
CREATE TABLE empty (id int PRIMARY KEY);
CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int);
INSERT INTO computed (a, c) VALUES (1, 3);
CREATE SCHEMA "Odd ""s";
CREATE TABLE "Odd ""s"."a
b; COPY" ("x ""y" int, "(z)" text);
INSERT INTO "Odd ""s"."a
b; COPY" VALUES (1, 'one');
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted SELECT generate_series(0, 19);
CREATE TABLE long_row (id int, text text);
INSERT INTO long_row SELECT 1, repeat('abcdefgh', 100000);
INSERT INTO long_row SELECT 2, string_agg(md5(n::text), '') FROM generate_series(1, 20000) n;
CREATE TABLE many_rows AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 30000) n;
SELECT lo_from_bytea(0, 'a large object'), lo_from_bytea(0, '\\.'), lo_from_bytea(0, '');
CREATE SCHEMA small;
CREATE TABLE small.a AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 40) n;
CREATE TABLE small.b (id int);
CREATE TABLE small.c (id int);
INSERT INTO small.c VALUES (10);
CREATE TABLE small.d AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 40) n;
"""


def archive(server: EmbeddedServer, kind: str, compression: str, *options: str, name: str = NAME) -> Path:
    """An archive by the server's own pg_dump, made once. Not to be written to."""
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchone() is None:
            connection.execute('CREATE DATABASE "member src" TEMPLATE template0')
            with server.target(NAME).connect() as inside:
                inside.execute(TABLES.encode())
    path = server.folder / re.sub(r"\W", "_", f"{name}.{kind}.{compression}.{options}")
    if not path.exists():
        run(server, "pg_dump", "-d", server.target(name).child()[0], f"-F{KINDS[kind]}", "-f", path, *options,
            *([f"-Z{compression}"] if kind != "tar" else []))  # fmt: skip
    return path


def opened(server: EmbeddedServer, path: Path) -> DumpSource:
    return open_dump(path, pg_restore=lambda _: server.bin / "pg_restore")


def found(source: DumpSource) -> tuple[ArchiveMember, ...]:
    there = members(source)
    assert there is not None
    return there


def contents(path: Path) -> list[tuple[bytes, bytes]]:
    """COPY command and rows of each member; only BadPoint may be raised."""
    return [(member.copy, b"".join(member.blocks())) for member in found(open_dump(path))]


def as_restored(source: DumpSource) -> list[tuple[bytes, bytes]]:
    """The same from what pg_restore gives."""
    sections: list[tuple[bytes, list[bytes]]] = []
    for entry in read(source):
        if isinstance(entry, RowsStart):
            sections.append((entry.copy, []))
        elif isinstance(entry, Rows):
            sections[-1][1].append(entry.data)
    return [(copy, b"".join(data)) for copy, data in sections]


def compressions(server: EmbeddedServer, kind: str) -> list[str]:
    """Those that the pg_dump of this server can write."""
    if kind == "tar":
        return [""]
    if server.major == 15:
        return ["0", "1", "9"]
    known = ["none", "gzip", "gzip:1", "lz4", "zstd", "zstd:long"]
    made: list[str | Path] = [server.bin / "pg_dump", "-Fc", "-d", "host=/nonexistent"]
    output = {z: subprocess.run([*made, f"-Z{z}"], capture_output=True, text=True).stderr for z in known}
    return [z for z in known if "compression" not in output[z]]


# Whole archives -----------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_members_are_what_pg_restore_gives(server: EmbeddedServer, kind: str) -> None:
    for compression in compressions(server, kind):
        source = opened(server, archive(server, kind, compression))
        restored = as_restored(source)
        assert contents(source.path) == restored, compression
        assert (rb"COPY public.dots (line) FROM stdin", b"\\\\.\n") in restored
        assert (rb"COPY public.no_columns  FROM stdin", b"\n\n") in restored
        assert (rb"COPY public.empty (id) FROM stdin", b"") in restored
        assert sum(member.size for member in found(source)) <= source.size
        assert len(restored) == 15


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_members_of_the_rich_database_are_what_pg_restore_gives(server: EmbeddedServer, kind: str) -> None:
    real_dumps.make_database(server)
    for options in ((), ("--load-via-partition-root",), ("--data-only", "--disable-triggers")):
        source = opened(server, archive(server, kind, "1", *options, name=real_dumps.NAME))
        assert contents(source.path) == as_restored(source), options


@pytest.mark.postgres(18)
def test_the_newest_pg_dump_of_each_compression_was_tried(server: EmbeddedServer) -> None:
    assert "gzip" in compressions(server, "custom")


@ALL
def test_a_directory_written_by_several_jobs_is_read(server: EmbeddedServer) -> None:
    source = opened(server, archive(server, "directory", "1", "--jobs=3"))
    assert contents(source.path) == as_restored(source)


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_tables_are_found(server: EmbeddedServer, kind: str, tmp_path: Path) -> None:
    name = "member many"
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute('CREATE DATABASE "member many" TEMPLATE template0')
            with server.target(name).connect() as inside:
                inside.execute("""DO $$ BEGIN FOR n IN 1..2000 LOOP
                    EXECUTE format('CREATE TABLE public.t%s AS SELECT %s AS id', n, n); END LOOP; END $$""")
    there = found(opened(server, archive(server, kind, "1", name=name)))
    assert {member.copy: b"".join(member.blocks()) for member in there} == {
        b"COPY public.t%d (id) FROM stdin" % n: b"%d\n" % n for n in range(1, 2001)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_in_portions_and_may_be_read_by_several_threads(server: EmbeddedServer, kind: str) -> None:
    there = found(opened(server, archive(server, kind, "1")))
    alone = [b"".join(member.blocks()) for member in there]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda member: b"".join(member.blocks()), there * 4)) == alone * 4
    for member in there:
        lengths = [len(block) for block in member.blocks()]
        assert all(0 < length <= 1 << 19 for length in lengths)
        assert len(lengths) <= 2 + sum(lengths) // 100_000


@pytest.mark.postgres(18)
def test_a_directory_compressed_afterwards_is_read(server: EmbeddedServer, tmp_path: Path) -> None:
    whole = archive(server, "directory", "none")
    folder = shutil.copytree(whole, tmp_path / "dump")
    for at, file in enumerate(sorted(folder.glob("[0-9]*.dat"))):
        data = file.read_bytes()
        half = len(data) // 2
        if at % 3:
            file.unlink()
        if at % 3 == 1:
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(data[:half]) + gzip.compress(data[half:]))
        elif at % 3 == 2:
            (folder / f"{file.name}.zst").write_bytes(zstandard.compress(data[:half]) + zstandard.compress(data[half:]))
    assert contents(folder) == contents(whole)


# Not available ------------------------------------------------------------------------------------------------------


def test_there_are_no_members_where_the_rows_can_not_be_found(server: EmbeddedServer, tmp_path: Path) -> None:
    target = server.target(NAME).child()[0]
    custom = archive(server, "custom", "1").read_bytes()
    piped = subprocess.run([server.bin / "pg_dump", "-Fc", "-d", target], capture_output=True, check=True).stdout
    for data in (piped, gzip.compress(custom), b"PGDMP\x01\x11" + custom[7:], b"PGDMP\x01\x0d" + custom[7:]):
        path = tmp_path / "dump"
        path.write_bytes(data)
        assert members(open_dump(path)) is None
    (tmp_path / "dump").write_bytes(b"--\n-- PostgreSQL database dump\n--\n")
    assert members(open_dump(tmp_path / "dump")) is None
    for kind in KINDS:
        assert members(open_dump(archive(server, kind, "1", "--inserts"))) is None
        assert members(open_dump(archive(server, kind, "1", "--schema-only"))) == ()


# Cut and damaged ----------------------------------------------------------------------------------------------------


def spread(size: int, count: int) -> Iterator[int]:
    """Some ``count`` places in ``size`` bytes, among them the first and the last ones."""
    yield from sorted({*range(min(20, size)), *range(0, size, max(size // count, 1)), *range(max(size - 20, 0), size)})


@ALL
@pytest.mark.parametrize("kind", ["custom", "tar"])
def test_an_archive_cut_anywhere_is_incomplete(server: EmbeddedServer, kind: str, tmp_path: Path) -> None:
    for compression in compressions(server, kind):
        whole = archive(server, kind, compression, *SMALL)
        expected, data = contents(whole), whole.read_bytes()
        path = tmp_path / "dump"
        # A script for people is the last member of a tar; padding stands before it.
        end = data.index(b"restore.sql\0") - 511 if kind == "tar" else len(data)
        for cut in spread(len(data), 150):
            path.write_bytes(data[:cut])
            if cut < (512 if kind == "tar" else 16):
                with suppress(BadPoint):
                    assert members(open_dump(path)) is None
                continue
            try:
                assert contents(path) == expected
                assert cut >= end
            except Incomplete as error:
                assert f'"{path}"' in error.message
                assert error.hint == CUT_OFF


@ALL
def test_a_file_of_a_directory_cut_anywhere_is_incomplete(server: EmbeddedServer, tmp_path: Path) -> None:
    for compression in compressions(server, "directory"):
        folder = tmp_path / f"dump {compression}"
        shutil.copytree(archive(server, "directory", compression, *SMALL), folder)
        for file in folder.iterdir():
            data = file.read_bytes()
            for cut in spread(len(data), 20):
                file.write_bytes(data[:cut])
                with pytest.raises(BadPoint) as caught:
                    contents(folder)
                assert type(caught.value) is Incomplete or (file.name == "toc.dat" and cut < 16)
                assert f'"{folder}' in caught.value.message
            file.write_bytes(data)
        contents(folder)


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_an_error_or_another_content(server: EmbeddedServer, kind: str, tmp_path: Path) -> None:
    for compression in compressions(server, kind):
        path = tmp_path / f"dump {compression}"
        whole = archive(server, kind, compression, *SMALL)
        shutil.copytree(whole, path) if kind == "directory" else shutil.copy(whole, path)
        expected = contents(path)
        # zlib and gzip data end with a checksum.
        rows_are_safe = compression not in ("", "0", "none") and not compression.startswith(("lz4", "zstd"))
        for file in path.iterdir() if kind == "directory" else [path]:
            data = bytearray(file.read_bytes())
            for at in spread(len(data), 200 if kind != "directory" else 40):
                bits = (0x01, 0x80, 0xFF)[at % 3]
                data[at] ^= bits
                file.write_bytes(data)
                try:
                    there = members(open_dump(path))
                    read_again = [(member.copy, b"".join(member.blocks())) for member in there or ()]
                except BadPoint:
                    pass
                else:
                    same = [rows for _, rows in read_again] == [rows for _, rows in expected]
                    assert there is None or (len(there) == len(expected) and (same or not rows_are_safe))
                data[at] ^= bits
            file.write_bytes(data)


# What is wrong, in words --------------------------------------------------------------------------------------------


def error_of(path: Path) -> BadPoint:
    with pytest.raises(BadPoint) as caught:
        contents(path)
    return caught.value


@pytest.mark.postgres(18)
def test_damage_of_a_custom_archive_is_named(server: EmbeddedServer, tmp_path: Path) -> None:
    data = bytearray(archive(server, "custom", "none", *SMALL).read_bytes())
    path = tmp_path / "dump"
    first = data.index(b"\0\x23\0\0\0" + b"1\tc4ca") - 6  # the block of small.a: its kind, the entry, a row of 35 bytes
    entry = struct.unpack_from("<I", data, first + 2)[0]

    def message(at: int, new: bytes) -> str:
        path.write_bytes(data[:at] + new + data[at + len(new) :])
        error = error_of(path)
        assert (type(error), error.hint) in ((Corrupt, ANOTHER), (Incomplete, CUT_OFF))
        return error.message

    start = f'cannot read small.a in "{path}": its data is damaged before byte'
    assert message(first, b"\x03") == f"{start} {first + 6} of the file: there is no data of entry {entry}"
    assert message(first + 2, b"\xff") == f"{start} {first + 6} of the file: there is no data of entry {entry}"
    assert message(first + 6, b"\x01") == f"{start} {first + 11} of the file: a length is negative"
    row = data.index(b"\\.\n\n\n", first)
    assert message(row + 3, b"x") == (
        f'cannot read small.a in "{path}": unexpected data follows the end of its rows, before byte {row + 10} of '
        "the file"
    )
    assert message(row, b"/") == (
        f'cannot read small.a in "{path}": the end of its rows (the line "\\." and two empty lines) is missing before '
        f"byte {row + 10} of the file"
    )
    path.write_bytes(data[:row])
    assert error_of(path).message.startswith(f'cannot read small.b in "{path}": its data begins at byte ')
    path.write_bytes(data[:-3])
    assert error_of(path).message == (
        f'cannot read small.d in "{path}": the file ends at byte {len(data) - 3}, before the end of the rows'
    )


@pytest.mark.postgres(18)
def test_damage_of_compressed_rows_is_named(server: EmbeddedServer, tmp_path: Path) -> None:
    data = bytearray(archive(server, "custom", "gzip", *SMALL).read_bytes())
    path = tmp_path / "dump"
    at = data.index(b"\x78\x9c")
    path.write_bytes(data[: at + 10] + b"\xff\xff\xff\xff" + data[at + 14 :])
    assert re.fullmatch(
        rf'cannot read small.a in "{re.escape(str(path))}": its zlib data is damaged before byte \d+ of the file: .+',
        error_of(path).message,
    )
    path.write_bytes(data[:at] + b"x" * 5 + data[at + 5 :])
    assert type(error_of(path)) is Corrupt


@pytest.mark.postgres(18)
def test_files_of_a_directory_that_are_not_there_are_named(server: EmbeddedServer, tmp_path: Path) -> None:
    folder = shutil.copytree(archive(server, "directory", "gzip", *SMALL), tmp_path / "dump")
    there = found(open_dump(folder))
    file = min(folder.glob("[0-9]*.gz"))
    relation = next(member.relation for member in there if member.size == file.stat().st_size)
    data = file.read_bytes()

    file.write_bytes(data + b"garbage")
    error = error_of(folder)
    assert type(error) is Corrupt
    assert error.message == (
        f'cannot read {relation} in "{file}": other data follows its gzip data, before byte {len(data) + 7} of the file'
    )
    file.write_bytes(data[:-2])
    error = error_of(folder)
    assert type(error) is Incomplete
    assert error.message == (
        f'cannot read {relation} in "{file}": unexpected end of gzip data after {len(data) - 2} bytes'
    )
    file.unlink()
    error = error_of(folder)
    assert type(error) is Incomplete
    assert error.message == (
        f'cannot read {relation} in "{folder}": its file "{file.stem}" is missing, compressed or not'
    )
    assert error.hint == "Fetch the whole folder again, or choose another restore point."
    os.mkfifo(file)
    error = error_of(folder)
    assert type(error) is Corrupt
    assert error.message == f'cannot read {relation} in "{folder}": "{file.name}" is not a file'
    with pytest.raises(BadPoint) as caught:
        for member in there:
            file.unlink(missing_ok=True)
            list(member.blocks())
    assert caught.value.message == f'cannot find "{file}": there is no such file'


def test_damage_of_a_tar_is_named(server: EmbeddedServer, tmp_path: Path) -> None:
    data = archive(server, "tar", "", *SMALL).read_bytes()
    path = tmp_path / "dump"
    header = next(at for at in range(512, len(data), 512) if re.match(rb"[0-9]+\.dat\0", data[at : at + 100]))
    name = data[header : data.index(b"\0", header)].decode()
    path.write_bytes(data[: header + 130] + b"x" + data[header + 131 :])
    error = error_of(path)
    assert (type(error), error.message) == (
        Corrupt,
        f'cannot read "{path}": the header of a member is damaged, at byte {header}',
    )
    path.write_bytes(data[: header + 600])
    error = error_of(path)
    assert (type(error), error.message) == (
        Incomplete,
        f'cannot read "{path}": the tar archive ends inside its member "{name}"',
    )
    path.write_bytes(data[:header])
    error = error_of(path)
    assert (type(error), error.message) == (
        Incomplete,
        f'cannot read small.a in "{path}": the tar archive has no "{name}"',
    )
    there = found(open_dump(archive(server, "tar", "", *SMALL)))
    assert [member.size for member in there if member.relation == "small.c"] == [len(b"10\n\\.\n\n\n")]
