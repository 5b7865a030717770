"""Dumps of all formats and compressions, made by real servers, whole and damaged; and files that are no dumps."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from lastgood.dump.files import recognize
from lastgood.dump.files.decompress import decompressed
from lastgood.dump.files.formats import DumpSource, open_dump
from lastgood.dump.files.recognize import Archive
from lastgood.dump.lexer.lexer import tokens
from lastgood.dump.lexer.tokens import CopyEnd
from lastgood.errors import BadPoint, Corrupt, Incomplete, Refused
from lastgood.postgres.embedded import EmbeddedServer, programs
from tests.support.real_dumps import NAME, dumped, make_database, run

ALL = pytest.mark.postgres(15, 16, 17, 18)
ARCHIVES = {"custom": "c", "directory": "d", "tar": "t"}
VERSIONS = {15: (1, 14, 0), 16: (1, 15, 0), 17: (1, 16, 0), 18: (1, 16, 0)}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lambda data: bytes(lz4.frame.compress(data, content_checksum=True)),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
COMPRESSED = [name for name in COMPRESS if name]
CUT_OFF = "The file is truncated, or pg_dump was interrupted: choose another restore point."
TEXT = b"--\n-- PostgreSQL database dump\n--\n\nCOPY t FROM stdin;\n" + b"1\tsome text\n" * 50_000 + b"\\.\n"

_archives: dict[tuple[str, str], bytes] = {}


def newest(version: tuple[int, int, int]) -> Path:
    """The pg_restore of the newest server, which reads every version."""
    folder = programs(18)
    assert folder is not None
    return folder / "pg_restore"


def archive(server: EmbeddedServer, kind: str) -> bytes:
    """A custom or tar archive of the rich database, by the server's own pg_dump; made once."""
    key = (str(server.folder), kind)
    if key not in _archives:
        path = server.folder / f"rich.{kind}"
        dump(server, kind, path)
        _archives[key] = path.read_bytes()
    return _archives[key]


def dump(server: EmbeddedServer, kind: str, path: Path, *options: str) -> None:
    make_database(server)
    run(server, "pg_dump", "-d", server.target(NAME).child()[0], f"-F{ARCHIVES[kind]}", "-f", path, *options)


def written(folder: Path, data: bytes, name: str = "dump") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def text_of(source: DumpSource) -> bytes:
    return b"".join(source.chunks())


def without_keys(text: bytes) -> bytes:
    return re.sub(rb"(?m)^\\(?:un)?restrict \w+$", b"", text)


def error_of(path: Path) -> BadPoint:
    """What opening and reading the whole raises."""
    with pytest.raises(BadPoint) as caught:
        text_of(open_dump(path, pg_restore=newest))
    return caught.value


# Real dumps -------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("compression", COMPRESS)
def test_a_plain_dump_comes_out_as_it_was_written(server: EmbeddedServer, tmp_path: Path, compression: str) -> None:
    text = dumped(server)
    data = COMPRESS[compression](text)
    source = open_dump(written(tmp_path, data, "lies.tar"))
    assert (source.kind, source.compression, source.archive_version) == ("plain", compression, None)
    assert (source.archive_compression, source.size, source.position) == ("", len(data), 0)
    for _ in range(2):
        assert text_of(source) == text
        assert source.position == len(data)
    assert source.notes == ()
    assert source.sha256() == hashlib.sha256(data).hexdigest()


@ALL
@pytest.mark.parametrize("kind", ["custom", "tar"])
@pytest.mark.parametrize("compression", COMPRESS)
def test_an_archive_comes_out_as_pg_dump_would_write_it_plain(
    server: EmbeddedServer, tmp_path: Path, kind: str, compression: str
) -> None:
    data = COMPRESS[compression](archive(server, kind))
    asked = []

    def own(version: tuple[int, int, int]) -> Path:
        asked.append(version)
        return server.bin / "pg_restore"

    source = open_dump(written(tmp_path, data, "lies.sql"), pg_restore=own)
    assert (source.kind, source.compression, source.size) == (kind, compression, len(data))
    assert source.archive_version == VERSIONS[server.major]
    assert source.archive_compression == ("gzip" if kind == "custom" else "")
    assert asked == []
    for _ in range(2):
        assert without_keys(text_of(source)) == without_keys(dumped(server))
        assert source.position == source.size
    assert asked == [VERSIONS[server.major]] * 2
    assert source.sha256() == hashlib.sha256(data).hexdigest()


@ALL
def test_a_directory_archive_comes_out_as_pg_dump_would_write_it_plain(server: EmbeddedServer, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    dump(server, "directory", folder)
    source = open_dump(folder, pg_restore=lambda _: server.bin / "pg_restore")
    assert (source.kind, source.compression) == ("directory", "")
    assert (source.archive_version, source.archive_compression) == (VERSIONS[server.major], "gzip")
    assert source.size == sum(file.stat().st_size for file in folder.iterdir())
    assert without_keys(text_of(source)) == without_keys(dumped(server))
    assert source.position == source.size
    lines = sorted((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in folder.iterdir())
    assert source.sha256() == hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in lines).encode()).hexdigest()
    assert error_of(folder / "toc.dat").message == (
        f'cannot use "{folder / "toc.dat"}": it is only the table of contents of a directory archive'
    )


@ALL
@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_uncompressed_archive_is_known_as_such(server: EmbeddedServer, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "dump"
    dump(server, kind, path, "-Z0")
    source = open_dump(path, pg_restore=newest)
    assert (source.kind, source.archive_compression) == (kind, "")
    assert sum(isinstance(token, CopyEnd) for token in tokens(source.chunks())) > 5


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"PGDMP\x01\x0e\x00\x04\x08\x01\x01\x01\x00\x00\x00\x00", Archive("custom", (1, 14, 0), "gzip")),
        (b"PGDMP\x01\x0e\x00\x04\x08\x01\x00\x00\x00\x00\x00\x00", Archive("custom", (1, 14, 0), "")),
        (b"PGDMP\x01\x0f\x00\x04\x08\x03\x03\x00\x00\x00\x00\x00", Archive("directory", (1, 15, 0), "zstd")),
        (b"PGDMP\x01\x10\x00\x04\x08\x01\x02\x00\x00\x00\x00\x00", Archive("custom", (1, 16, 0), "lz4")),
        (b"PGDMP\x01\x11\x00\x04\x08\x01\x01\x00\x00\x00\x00\x00", Archive("custom", (1, 17, 0), "gzip")),
        (b"PGDMP\x01\x10\x00\x04\x08\x09\x02\x00\x00\x00\x00\x00", None),
        (b"PGDMP\x01\x10\x00\x04", None),
    ],
)
def test_the_header_of_an_archive_is_read(head: bytes, expected: Archive | None) -> None:
    assert recognize.archive(head) == expected


# Cut and damaged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSED)
def test_compressed_data_cut_anywhere_is_incomplete(tmp_path: Path, compression: str) -> None:
    data = COMPRESS[compression](TEXT)
    path = tmp_path / "dump.sql"
    for cut in [*range(1, 40), len(data) // 3, len(data) // 2, *range(len(data) - 40, len(data))]:
        path.write_bytes(data[:cut])
        error = error_of(path)
        assert type(error) is Incomplete
        assert error.message in (
            f'cannot read "{path}": unexpected end of {compression} data after {cut} bytes',
            f'cannot use "{path}": it ends after {cut} bytes',
        )
        assert error.hint == CUT_OFF


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_cut_second_member_is_incomplete(tmp_path: Path, compression: str) -> None:
    member = COMPRESS[compression](TEXT)
    path = tmp_path / "dump.sql"
    for cut in (1, 3, 8, len(member) // 2, len(member) - 1):
        path.write_bytes(member + member[:cut])
        assert type(error_of(path)) is Incomplete


@pytest.mark.parametrize("compression", ["gzip", "lz4", "xz", "bzip2"])
def test_a_changed_byte_in_compressed_data_is_found(tmp_path: Path, compression: str) -> None:
    data = bytearray(COMPRESS[compression](os.urandom(300_000).hex().encode()))
    data[len(data) // 2] ^= 0x10
    path = written(tmp_path, bytes(data), "dump.sql")
    error = error_of(path)
    assert type(error) is Corrupt
    assert re.fullmatch(
        rf'cannot read "{re.escape(str(path))}": its {compression} data is damaged before byte \d+ of the file: .+',
        error.message,
    )
    assert error.hint == "Choose another restore point: lastgood points"


def test_a_changed_checksum_of_gzip_and_zstd_is_found(tmp_path: Path) -> None:
    zipped = bytearray(gzip.compress(TEXT, mtime=0))
    zipped[-8] ^= 1
    framed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(TEXT))
    framed[-1] ^= 1
    for data in (zipped, framed):
        assert type(error_of(written(tmp_path, bytes(data)))) is Corrupt


@pytest.mark.parametrize("compression", COMPRESSED)
def test_members_behind_one_another_are_one_text(tmp_path: Path, compression: str) -> None:
    compress = COMPRESS[compression]
    path = written(tmp_path, compress(TEXT) + compress(b"") + compress(TEXT))
    source = open_dump(path)
    assert text_of(source) == TEXT * 2
    assert source.notes == ()


@pytest.mark.parametrize("compression", COMPRESSED)
def test_what_follows_compressed_data_is_left_out_with_a_note(tmp_path: Path, compression: str) -> None:
    data = COMPRESS[compression](TEXT)
    source = open_dump(written(tmp_path, data + b"garbage" * 100_000))
    for _ in range(2):
        assert text_of(source) == TEXT
        assert source.notes == (
            f"700000 bytes after the end of the {compression} data are not part of it and were left out",
        )
    padded = open_dump(written(tmp_path, data + bytes(1_000_000)))
    assert text_of(padded) == TEXT
    assert padded.notes == ()


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_frames_to_be_skipped_are_skipped(tmp_path: Path, compression: str) -> None:
    skipped = b"\x5e\x2a\x4d\x18" + struct.pack("<I", 5) + b"12345"
    frame = COMPRESS[compression](TEXT)
    source = open_dump(written(tmp_path, skipped * 2 + frame + skipped + frame))
    assert source.compression == compression
    assert text_of(source) == TEXT * 2


@pytest.mark.parametrize("compression", COMPRESSED)
def test_content_much_larger_than_the_file_comes_a_little_at_a_time(compression: str) -> None:
    size = 40_000_000
    pieces = decompressed(io.BytesIO(COMPRESS[compression](bytes(size))), compression, "x", pytest.fail)  # type: ignore[arg-type]  # a name of COMPRESS
    lengths = [len(piece) for piece in pieces]
    assert sum(lengths) == size
    assert max(lengths) <= 1 << 22


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("kind", ["custom", "tar"])
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_cut_archive_is_incomplete(server: EmbeddedServer, tmp_path: Path, kind: str, compression: str) -> None:
    # A tar in which pg_restore would wait for ever for the rest of a member, with every version so far.
    whole = archive(server, kind)
    for cut in (9, 300, 600, 5000, len(whole) // 2, len(whole) * 9 // 10):
        path = written(tmp_path, COMPRESS[compression](whole[:cut]))
        error = error_of(path)
        assert type(error) is Incomplete, error
        assert error.hint == CUT_OFF
    if kind == "tar":
        assert re.fullmatch(
            rf'cannot read "{re.escape(str(path))}": the tar archive ends inside its member "\S+"', error.message
        )
    else:
        assert error.message == (
            f'cannot read "{path}": pg_restore failed: could not read from input file: end of file'
        )


@pytest.mark.parametrize("kind", ["custom", "tar"])
def test_an_archive_in_cut_compressed_data_is_incomplete(server: EmbeddedServer, tmp_path: Path, kind: str) -> None:
    whole = gzip.compress(archive(server, kind), mtime=0)
    for cut in (len(whole) // 2, len(whole) - 4):
        path = written(tmp_path, whole[:cut])
        assert error_of(path).message == (f'cannot read "{path}": unexpected end of gzip data after {cut} bytes')


def test_a_directory_archive_without_one_of_its_files_is_incomplete(server: EmbeddedServer, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    dump(server, "directory", folder)
    gone = max(folder.glob("*.dat.gz"), key=lambda file: file.stat().st_size)
    gone.unlink()
    error = error_of(folder)
    assert type(error) is Incomplete
    assert error.message == (
        f'cannot read "{folder}": pg_restore failed: could not open input file "{folder}/{gone.stem}": '
        "No such file or directory"
    )


def test_a_damaged_archive_is_corrupt(server: EmbeddedServer, tmp_path: Path) -> None:
    data = bytearray(archive(server, "custom"))
    at = data.rindex(b"\x78\x9c") + 2  # where the last zlib data begins
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path = written(tmp_path, bytes(data))
    error = error_of(path)
    assert type(error) is Corrupt
    assert error.message.startswith(f'cannot read "{path}": pg_restore failed: could not uncompress data: ')
    assert error.hint == "Choose another restore point: lastgood points"


@pytest.mark.postgres(17, 18)  # the archive of an older version has too few line ends to tell
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_an_archive_damaged_by_a_terminal_is_recognised(
    server: EmbeddedServer, tmp_path: Path, compression: str
) -> None:
    data = COMPRESS[compression](archive(server, "custom"))
    error = error_of(written(tmp_path, data.replace(b"\n", b"\r\n")))
    assert type(error) is Corrupt
    assert error.hint == (
        "Every LF in the file follows a CR: it went through a terminal or a transfer in text mode. "
        'Make it again without "docker exec -t", or remove each CR before an LF in a copy.'
    )


# pg_restore -------------------------------------------------------------------------------------------------------


def test_an_archive_without_a_pg_restore_can_be_opened_but_not_read(server: EmbeddedServer, tmp_path: Path) -> None:
    path = written(tmp_path, archive(server, "custom"))
    source = open_dump(path)
    assert source.kind == "custom"
    with pytest.raises(Refused) as caught:
        text_of(source)
    assert caught.value.message == (f'cannot read "{path}": it is an archive, and pg_restore is not available')
    missing = tmp_path / "pg_restore"
    with pytest.raises(Refused) as caught:
        text_of(open_dump(path, pg_restore=lambda _: missing))
    assert caught.value.message == f'cannot run "{missing}": no such file or directory'


@pytest.mark.postgres(18)
def test_an_archive_that_is_too_new_for_pg_restore(server: EmbeddedServer, tmp_path: Path) -> None:
    path = written(tmp_path, archive(server, "custom"))
    folder = programs(15)
    assert folder is not None
    with pytest.raises(BadPoint) as caught:
        text_of(open_dump(path, pg_restore=lambda _: folder / "pg_restore"))
    assert caught.value.message == f'cannot read "{path}": pg_restore failed: unsupported version (1.16) in file header'
    assert caught.value.hint == "Install the client programs of the PostgreSQL version that made the dump."


@pytest.mark.parametrize("kind", ["custom", "tar"])
@pytest.mark.parametrize("compression", ["", "zstd"])
def test_leaving_early_leaves_nothing_behind(
    server: EmbeddedServer, tmp_path: Path, kind: str, compression: str
) -> None:
    source = open_dump(written(tmp_path, COMPRESS[compression](archive(server, kind))), pg_restore=newest)
    before = len(list(Path("/proc/self/fd").iterdir()))
    chunks = source.chunks()
    next(chunks)
    close = getattr(chunks, "close")  # noqa: B009  # chunks() promises an iterator; it is a generator
    close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert 0 < source.position <= source.size


# Not a dump -------------------------------------------------------------------------------------------------------


def tar_with(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


UTF16 = "UTF-16 text, as PowerShell's > writes it"
ICONV = 'Convert a copy with "iconv -f UTF-16 -t UTF-8".'
ANOTHER = "Choose another restore point: lastgood points"
STORE = "Download the dump again: this may be a store's error message."
FOREIGN = [
    (b"\n<!DOCTYPE html>\n<html>", "it is a web page, not a dump", "this may be a login or error page."),
    (b"<HTML><body>403", "it is a web page, not a dump", "this may be a login or error page."),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied', "it is an XML document, not a dump", STORE),
    (b'{"message": "not found"}', "it is a JSON document, not a dump", STORE),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "it is a picture, not a dump", ANOTHER),
    (b"%PDF-1.7", "it is a PDF document, not a dump", ANOTHER),
    (b"PK\x03\x04\x14\0", "it is a zip file, not a dump", 'Extract the dump with "unzip" and use that.'),
    (
        b"\x02\x21\x4c\x18\x64",
        "it is lz4 data in the legacy format, not a dump",
        'Decompress it with "lz4 -d" and use the result.',
    ),
    (b"SQLite format 3\0", "it is an SQLite database, not a dump", ANOTHER),
    (b"-- MySQL dump 10.13\n", "it is a dump of MySQL or MariaDB, not of PostgreSQL", ANOTHER),
    (b"age-encryption.org/v1\n", "it is encrypted with age, not a dump", "Decrypt it first."),
    (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer", 'Run "git lfs pull" in its folder.'),
    ("\ufeff-- PostgreSQL".encode("utf-16-le"), f"it is {UTF16}, not a dump", ICONV),
    ("\ufeff-- PostgreSQL".encode("utf-16-be"), f"it is {UTF16}, not a dump", ICONV),
    ("-- PostgreSQL".encode("utf-16-le"), f"it is {UTF16}, not a dump", ICONV),
    (
        bytes(5000),
        "it is nothing but NUL bytes, not a dump",
        "Choose another restore point: its content was never written, or is lost",
    ),
    (bytes(range(256)), "it is binary data of an unknown kind, not a dump", ANOTHER),
    (
        gzip.compress(b"<html>", mtime=0),
        "it is gzip data of a web page, not a dump",
        "this may be a login or error page.",
    ),
    (
        gzip.compress(bz2.compress(TEXT), mtime=0),
        "it is compressed twice, with bzip2 and then with gzip",
        "Decompress it once",
    ),
    (tar_with("dump/", "dump/toc.dat"), "it is a tar file that pg_dump did not write", "It seems to hold a directory"),
    (tar_with("backup_label", "base"), "it is a tar file that pg_dump did not write", "It seems to be a physical"),
    (
        gzip.compress(tar_with("a.sql"), mtime=0),
        "it is gzip data of a tar file that pg_dump did not write",
        "unpack it with tar",
    ),
]


@pytest.mark.parametrize(("data", "what", "hint"), FOREIGN, ids=[what for _, what, _ in FOREIGN])
def test_a_file_that_is_no_dump_is_named(tmp_path: Path, data: bytes, what: str, hint: str) -> None:
    path = written(tmp_path, data, "backup.sql")
    with pytest.raises(BadPoint) as caught:
        open_dump(path)
    assert caught.value.message.startswith(f'cannot use "{path}": {what}')
    assert hint in caught.value.hint


def test_nothing_at_all(tmp_path: Path) -> None:
    empty = written(tmp_path, b"")
    for path, message in [
        (empty, f'cannot use "{empty}": it is empty'),
        (tmp_path / "none", f'cannot find "{tmp_path / "none"}": there is no such file'),
        (tmp_path, f'cannot use "{tmp_path}": it is a folder without a toc.dat, so not a directory archive of pg_dump'),
        (Path("/dev/null"), 'cannot use "/dev/null": it is neither a file nor a folder'),
        (empty / "x", f'cannot read "{empty / "x"}": not a directory'),
    ]:
        with pytest.raises(BadPoint) as caught:
            open_dump(path)
        assert caught.value.message == message
    for compression in COMPRESSED:
        path = written(tmp_path, COMPRESS[compression](b""), f"x.{compression}")
        with pytest.raises(Incomplete) as incomplete:
            open_dump(path)
        assert incomplete.value.message == f'cannot use "{path}": the {compression} data is empty'
    (tmp_path / "toc.dat").write_bytes(b"no")
    with pytest.raises(Corrupt) as corrupt:
        open_dump(tmp_path)
    assert corrupt.value.message == (f'cannot read "{tmp_path}": its toc.dat is not a table of contents of pg_dump')


def test_a_file_that_is_gone_when_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT)
    source = open_dump(path)
    path.unlink()
    for read in (source.fingerprint, source.sha256, lambda: text_of(source)):
        with pytest.raises(BadPoint) as caught:
            read()
        assert caught.value.message == f'cannot find "{path}": there is no such file'


def test_a_file_that_changed_has_another_fingerprint(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT)
    source = open_dump(path)
    before = source.fingerprint()
    assert source.fingerprint() == before
    assert [(name, size) for name, size, _, _ in before] == [("dump", len(TEXT))]
    other = written(tmp_path, TEXT[:-1] + b" ", "other")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)
    assert source.fingerprint() != before


def test_the_position_grows_with_the_reading(tmp_path: Path) -> None:
    source = open_dump(written(tmp_path, gzip.compress(os.urandom(3_000_000).hex().encode(), mtime=0)))
    positions = [source.position for _ in source.chunks()]
    assert positions == sorted(positions)
    assert 0 < positions[0] < positions[-1] <= source.size
