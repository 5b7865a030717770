"""Directory archives with a file that is cut off: pg_restore takes many of them for whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from lastgood.dump.archive.directory import check_whole
from lastgood.dump.files.formats import open_dump
from lastgood.errors import BadPoint, Corrupt, Incomplete
from lastgood.facts.of_dump import facts_of_dump
from lastgood.postgres.embedded import EmbeddedServer
from tests.dump.test_formats import CUT_OFF, without_keys
from tests.support.same_database import dump

# Tables and large objects without anything in them, too, and one row that looks like an end.
CONTENT = """
CREATE TABLE public.a (v text); INSERT INTO public.a SELECT md5(i::text) FROM generate_series(1, 30) i;
CREATE TABLE public.b (v text); INSERT INTO public.b VALUES (E'x;\\n\\n\\n'), (''), ('');
CREATE TABLE public.c (v text);
CREATE TABLE public.d (); INSERT INTO public.d DEFAULT VALUES;
SELECT lo_from_bytea(42, 'abcdefghijkl'); SELECT lo_create(43); SELECT lo_create(44);
"""
PLAIN_WAYS = [(), ("-Z0",), ("--inserts",), ("-Z0", "--inserts")]
PACKED_WAYS = [("-Zlz4",), ("-Zzstd",), ("-Zlz4:12", "--inserts"), ("-Zzstd:19",), ("-Zzstd:long",)]
OBJECTS = ("blob_42", "blob_43", "blob_44")
NOT_NAMED = "which is in no list of large objects"
Made = Callable[..., tuple[Path, bytes]]


@pytest.fixture
def make_archive(server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path) -> Made:
    """Makes a directory archive, and the plain dump that it stands for."""
    name = new_database()
    with server.target(name).connect() as connection:
        connection.execute(CONTENT.encode())

    def make(*options: str) -> tuple[Path, bytes]:
        folder = dump(server, name, tmp_path / "archive", "-Fd", *options)
        plain = [option for option in options if not option.startswith("-Z")]
        return folder, dump(server, name, tmp_path / "plain", *plain).read_bytes()

    return make


def text_of(server: EmbeddedServer, folder: Path) -> bytes:
    return without_keys(b"".join(open_dump(folder, pg_restore=lambda _: server.bin / "pg_restore").chunks()))


def cuts_are_found(server: EmbeddedServer, folder: Path, whole: bytes) -> None:
    """Each file cut at every byte is refused, or is a large object without an end marker."""
    check_whole(folder)
    assert text_of(server, folder) == without_keys(whole)
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        unknown = path.name.startswith("blob_") and path.suffix in (".dat", ".lz4", ".zst")
        for cut in range(len(data)):
            path.write_bytes(data[:cut])
            try:
                check_whole(folder)
            except Incomplete as error:
                assert str(error) in (
                    f'cannot read "{folder}": its file "{path.name}" is truncated',
                    *(f'cannot read "{folder}": it has the large object "{name}", {NOT_NAMED}' for name in OBJECTS),
                )
                assert error.hint == CUT_OFF
                continue
            if path.suffix == ".gz":
                # Some are passed to pg_restore, which detects all that are not too short.
                assert cut >= 20
                if cut % 29 == 0:
                    with pytest.raises(BadPoint):
                        text_of(server, folder)
            elif data.startswith(b"INSERT INTO "):
                # Inside a value with empty lines in it: a string is left open.
                with pytest.raises(BadPoint):
                    facts_of_dump(open_dump(folder, pg_restore=lambda _: server.bin / "pg_restore"))
            else:
                assert path.name == "toc.dat" or (unknown and (path.suffix == ".dat" or cut == 0))
        path.write_bytes(data)


@pytest.mark.postgres(15, 16, 17, 18)
@pytest.mark.parametrize("way", PLAIN_WAYS, ids=" ".join)
def test_a_data_file_that_was_cut_is_found(server: EmbeddedServer, make_archive: Made, way: tuple[str, ...]) -> None:
    cuts_are_found(server, *make_archive(*way))


@pytest.mark.postgres(17)
@pytest.mark.parametrize("way", PACKED_WAYS, ids=" ".join)
def test_a_packed_data_file_that_was_cut_is_found(
    server: EmbeddedServer, make_archive: Made, way: tuple[str, ...]
) -> None:
    cuts_are_found(server, *make_archive(*way))


@pytest.mark.postgres(17, 18)  # older versions write one list of them
def test_a_large_object_that_no_list_names_is_found(server: EmbeddedServer, make_archive: Made) -> None:
    folder, _ = make_archive()
    (listed,) = folder.glob("blobs_*.toc")
    lines = listed.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    listed.write_bytes(b"".join(lines[:2]))
    with pytest.raises(Incomplete) as raised:
        text_of(server, folder)
    assert str(raised.value) == (f'cannot read "{folder}": it has the large object "blob_44", {NOT_NAMED}')
    assert raised.value.hint == CUT_OFF


@pytest.mark.parametrize(("name", "what"), [("1.dat.gz", "gzip"), ("1.dat.lz4", "lz4"), ("blob_1.dat.zst", "zstd")])
def test_a_data_file_of_another_kind_is_reported(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_bytes(b"1\tone row of uncompressed data\n\\.\n\n\n")
    with pytest.raises(Corrupt) as raised:
        check_whole(tmp_path)
    assert str(raised.value) == f'cannot read "{tmp_path}": its file "{name}" is not {what} data'
    assert raised.value.hint == "Choose another restore point: lastgood points"


@pytest.mark.parametrize(
    "content", [b"", b"x", b"a" * 1_000_000, os.urandom(300_000)], ids=["0", "1", "same", "random"]
)
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_the_end_of_zstd_data_is_found(tmp_path: Path, content: bytes, checksum: bool, known: bool) -> None:
    packed = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=known).compress(content)
    path = tmp_path / "1.dat.zst"
    path.write_bytes(packed)
    check_whole(tmp_path)
    for cut in {*range(min(len(packed), 40)), *range(0, len(packed), 9973), len(packed) - 1}:
        path.write_bytes(packed[:cut])
        with pytest.raises(Incomplete):
            check_whole(tmp_path)
