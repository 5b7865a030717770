r"""Damaged dumps of every format and compression: refused, or read exactly. Never a wrong success, a hang or a crash.

The guarantees depend on the checks in a file, so there are four:

- cut anywhere: refused, unless all that is missing follows the footer (blank lines, ``\unrestrict``, padding);
- data with checksums (gzip, xz, bzip2, zstd as its own program writes it): refused, or the very same text;
- rows of a plain dump: refused, or the facts of the table differ (there is no checksum to detect more);
- with a manifest: never valid, whatever the damage; and the error is always one of ours.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import pytest
import zstandard
from psycopg import sql

from lastgood.dump.files.formats import DumpSource, open_dump
from lastgood.errors import BadPoint, LastgoodError
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import facts_of_dump
from lastgood.points.dump_point import take
from lastgood.points.manifest import Manifest
from lastgood.points.point import RestorePoint, pg_restore_for
from lastgood.points.store import point_at
from lastgood.points.verdict import verify
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.support.damage import Damage, Hangs, cuts, damages, limit, replaced
from tests.support.same_database import dump

LONG = os.environ.get("LASTGOOD_FUZZ") == "long"
SECONDS = 20.0
SMALL = Path(__file__).parent.parent / "fixtures" / "each_byte.sql"
FORMS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "inserts": ("--inserts",),
    "custom": ("--format=custom",),
    "uncompressed": ("--format=custom", "--compress=0"),
    "tar": ("--format=tar",),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "two gzip members": lambda data: gzip.compress(data[:2000], 1, mtime=0) + gzip.compress(data[2000:], 1, mtime=0),
    "zstd": zstandard.ZstdCompressor(level=1, write_checksum=True).compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
ARCHIVES = ("custom", "uncompressed", "tar")
FOOTER = b"-- PostgreSQL database dump complete"
_KEY = re.compile(rb"(?m)^(\\(?:un)?restrict) \w+$")
_made: dict[str, Path] = {}


@pytest.fixture
def small_dump(server: EmbeddedServer) -> Callable[[str], Path]:
    """Makes a dump of the small database in one of the forms, once; ``directory`` gives a folder."""

    def make(form: str) -> Path:
        if form not in _made:
            with server.target("postgres").connect() as connection:
                if connection.execute("SELECT FROM pg_database WHERE datname = 'small'").fetchone() is None:
                    connection.execute("CREATE DATABASE small TEMPLATE template0")
                    with server.target("small").connect() as inside:
                        inside.execute(SMALL.read_bytes())
            options = ("--format=directory",) if form == "directory" else FORMS[form]
            _made[form] = dump(server, "small", server.folder / f"small.{form}", *options)
        return _made[form]

    return make


class Recorded:
    """A dump that keeps the text that it gave."""

    def __init__(self, source: DumpSource) -> None:
        self._source = source
        self.text = b""

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._source.chunks():
            self.text += chunk
            yield chunk


@dataclass(frozen=True)
class Reading:
    """A dump that was read to its end."""

    text: bytes
    facts: Facts


def read(path: Path) -> Reading:
    """Raises BadPoint."""
    source = Recorded(open_dump(path, pg_restore=pg_restore_for))
    facts, _ = facts_of_dump(source, time_zone="UTC")
    return Reading(_KEY.sub(rb"\1", source.text), facts)


def outcome(path: Path, damage: Damage) -> Reading | BadPoint:
    """What reading the damaged dump gives; anything but a reading or an error of ours fails."""
    try:
        with limit(SECONDS):
            return read(path)
    except BadPoint as error:
        assert error.message and error.exit_status == 4
        return error
    except Hangs:
        raise
    except Exception as error:
        raise AssertionError(f"{damage[0]}: {type(error).__name__}: {error}") from error


def damaged(folder: Path, data: bytes, damage: Damage) -> Path:
    path = folder / "damaged"
    path.write_bytes(damage[1](data))
    return path


def cut_cases(length: int) -> list[Damage]:
    return cuts(length, length if LONG else 40)


def other_cases(length: int, form: str) -> list[Damage]:
    return list(damages(length, 3000 if LONG else 40, crc32(form.encode())))


@pytest.mark.parametrize("form", FORMS)
def test_fuzz_a_dump_cut_anywhere_is_refused(small_dump: Callable[[str], Path], tmp_path: Path, form: str) -> None:
    data = small_dump(form).read_bytes()
    whole = read(small_dump(form))
    for damage in cut_cases(len(data)):
        found = outcome(damaged(tmp_path, data, damage), damage)
        if isinstance(found, Reading):
            assert whole.text.startswith(found.text), damage[0]
            assert len(found.text) >= whole.text.rindex(FOOTER) + len(FOOTER), damage[0]
            assert found.facts == whole.facts, damage[0]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("form", ["plain", "uncompressed"])
def test_fuzz_data_with_checksums_is_refused_or_is_the_same(
    small_dump: Callable[[str], Path], tmp_path: Path, form: str, packing: str
) -> None:
    data = PACKED[packing](small_dump(form).read_bytes())
    whole = read(small_dump(form))
    for damage in [*cut_cases(len(data)), *other_cases(len(data), form + packing)]:
        found = outcome(damaged(tmp_path, data, damage), damage)
        assert isinstance(found, BadPoint) or found == whole, damage[0]


def rows_of(text: bytes) -> list[range]:
    """Where the rows of the COPY blocks lie, without their line ends."""
    found = re.finditer(rb"(?m)^COPY .* FROM stdin;\n((?:(?!\\\.$).*\n)*)\\\.$", text)
    return [range(match.start(1), match.end(1) - 1) for match in found if match.end(1) > match.start(1)]


def test_fuzz_a_changed_row_changes_the_facts_of_its_table_or_is_refused(
    small_dump: Callable[[str], Path], tmp_path: Path
) -> None:
    data = small_dump("plain").read_bytes()
    whole = read(small_dump("plain"))
    places = [at for block in rows_of(data) for at in block]
    assert len(places) > 150
    for at in places[:: 1 if LONG else 5]:
        for damage in _of_one_byte(at):
            path = damaged(tmp_path, data, damage)
            found = outcome(path, damage)
            if isinstance(found, BadPoint) or path.read_bytes() == data:
                continue
            differences = compare(whole.facts, found.facts).differences
            assert {difference.kind for difference in differences} <= {"content", "rows", "newest"}, damage[0]
            assert differences, damage[0]


def _of_one_byte(at: int) -> Iterator[Damage]:
    for by in range(256) if LONG else (0x00, 0x09, 0x0A, 0x0D, 0x2E, 0x31, 0x5C, 0xC3, 0xFF):
        yield replaced(at, bytes([by]))


def noted(path: Path, manifest: Manifest) -> RestorePoint:
    """The dump as a point of our own, with a manifest."""
    source = open_dump(path, pg_restore=pg_restore_for)
    manifest = manifest.model_copy(update={"size": source.size, "sha256": source.sha256()})
    return RestorePoint(path, manifest.made_at, "manifest", manifest.size, manifest)


def never_valid(point: RestorePoint, damage: str) -> None:
    try:
        with limit(SECONDS):
            verdict = verify(point)
    except Hangs:
        raise
    except Exception as error:
        raise AssertionError(f"{damage}: {type(error).__name__}: {error}") from error
    assert not verdict.valid, damage
    assert verdict.message, damage


@pytest.fixture
def manifest(server: EmbeddedServer, small_dump: Callable[[str], Path], store: Path) -> Manifest:
    """The manifest of the small database, for any form of its dump."""
    small_dump("plain")
    made = take(server.target("small"), store).manifest
    assert made is not None
    return made


@pytest.mark.parametrize("form", FORMS)
def test_fuzz_a_damaged_dump_with_a_manifest_is_never_valid(
    small_dump: Callable[[str], Path], manifest: Manifest, tmp_path: Path, form: str
) -> None:
    data = small_dump(form).read_bytes()
    path = tmp_path / "damaged"
    path.write_bytes(data)
    point = noted(path, manifest)
    assert verify(point).valid
    for what, damage in other_cases(len(data), form):
        path.write_bytes(damage(data))
        if path.read_bytes() != data:
            never_valid(point, what)
    path.write_bytes(data)
    assert verify(point).valid


def test_fuzz_a_damaged_directory_with_a_manifest_is_never_valid(
    small_dump: Callable[[str], Path], manifest: Manifest, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(small_dump("directory"), folder)
    point = noted(folder, manifest)
    assert verify(point).valid
    files = sorted(folder.iterdir())
    for number, file in enumerate(files):
        data = file.read_bytes()
        cases = list(damages(len(data), 400 if LONG else 8, number)) + cuts(len(data), 400 if LONG else 4)[-44::11]
        for what, damage in cases:
            file.write_bytes(damage(data))
            if file.read_bytes() != data:
                never_valid(point, f"{file.name}: {what}")
        file.unlink()
        never_valid(point, f"{file.name} is gone")
        file.write_bytes(files[number - 1].read_bytes())
        never_valid(point, f"{file.name} is {files[number - 1].name}")
        file.write_bytes(data)
    assert verify(point).valid


@pytest.mark.parametrize("form", [*FORMS, *PACKED])
def test_fuzz_a_damaged_foreign_dump_is_looked_at_and_read_or_refused(
    small_dump: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    data = small_dump(form).read_bytes() if form in FORMS else PACKED[form](small_dump("plain").read_bytes())
    for damage in other_cases(len(data), form):
        path = damaged(tmp_path, data, damage)
        outcome(path, damage)
        with limit(SECONDS):
            point_at(path)


@pytest.mark.parametrize("form", ["plain", "inserts", "uncompressed"])
def test_fuzz_the_readable_part_of_a_damaged_dump_is_restored_as_reported_or_not_at_all(
    server: EmbeddedServer, small_dump: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    """Without a manifest the original content is unknown."""
    data = small_dump(form).read_bytes()
    whole = read(small_dump(form))
    tried = 0
    for damage in damages(len(data), 20_000, crc32(form.encode())):
        path = damaged(tmp_path, data, damage)
        found = outcome(path, damage)
        if isinstance(found, BadPoint) or found.text == whole.text:
            continue
        _restored_as_it_says(server, path, found.facts, damage[0])
        tried += 1
        if tried == (200 if LONG else 3):
            break


def _restored_as_it_says(server: EmbeddedServer, path: Path, facts: Facts, damage: str) -> None:
    into = "small_again"
    try:
        with limit(SECONDS):
            restore(server.target("postgres"), path.parent, path.name, into)
        with server.target(into).connect() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            comparison = compare(facts, facts_of_database(connection, like=facts, beyond_like=True))
        assert comparison.exact, (damage, comparison.differences)
    except LastgoodError as error:
        assert error.exit_status in (3, 4, 5), (damage, error)
        with server.target("postgres").connect() as connection:
            there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [into]).fetchone()
        assert there is None, damage
    except (Hangs, AssertionError):
        raise
    except Exception as error:
        raise AssertionError(f"{damage}: {type(error).__name__}: {error}") from error
    finally:
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(into)))
