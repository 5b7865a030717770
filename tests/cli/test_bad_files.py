"""One bad file in a store never stops work with the others: each command continues and reports its error."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lastgood.facts.of_dump import facts_of_dump
from lastgood.points import verdict
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.support.damage import damages
from tests.support.same_database import dump

TIMES = """
CREATE TABLE public.t (id text, at timestamptz, x text, y text);
INSERT INTO public.t SELECT i, now(), 'x', 'y' FROM generate_series(1, 300) i;
"""
PLAIN = """
CREATE TABLE public.t (id text, x text);
INSERT INTO public.t SELECT i, 'x' FROM generate_series(1, 300) i;
"""
GOOD = "good.sql"


@pytest.fixture
def app(server: EmbeddedServer, new_database: Callable[..., str]) -> Callable[[str], str]:
    def make(statements: str) -> str:
        name = new_database("bad")
        with server.target(name).connect() as connection:
            connection.execute(statements.encode())
        return name

    return make


def with_odd_rows(text: bytes) -> bytes:
    """Row 57 lost all values but the first, row 60 has as many more: their sum is right."""
    lines = text.split(b"\n")
    (short,) = [number for number, line in enumerate(lines) if line.startswith(b"57\t")]
    (long,) = [number for number, line in enumerate(lines) if line.startswith(b"60\t")]
    more = lines[short].count(b"\t")
    lines[short] = b"57"
    lines[long] += b"\tp" * more
    return b"\n".join(lines)


def with_an_odd_row(data: bytes) -> bytes:
    """With the length of rows in the table of contents: a tab of one row becomes part of a value."""
    found = re.search(rb"(?<!\d)57\t[^\n]*", data)
    assert found is not None
    return data[: found.start()] + found[0].replace(b"\t", b"_") + data[found.end() :]


@pytest.mark.parametrize("statements", [TIMES, PLAIN], ids=["with time stamps", "without"])
@pytest.mark.parametrize("form", ["plain", "custom", "directory", "tar"])
def test_a_record_with_too_few_values_and_one_with_too_many(
    server: EmbeddedServer, app: Callable[[str], str], lastgood: Lastgood, store: Path, statements: str, form: str
) -> None:
    name = app(statements)
    path = dump(server, name, store / "bad", f"--format={form}", *(["--compress=0"] if form != "tar" else []))
    file = path
    if form == "directory":
        (file,) = [each for each in path.iterdir() if each.name != "toc.dat"]
    whole = file.read_bytes()
    file.write_bytes(with_odd_rows(whole) if form in ("plain", "directory") else with_an_odd_row(whole))
    base = ("--db", server.url(name), "--store", str(store))
    for command in (
        ["points", "verify", str(path)],
        ["facts", str(path)],
        ["rollback", str(path), "--dry-run"],
        ["restore", str(path), "--into", f"{name}_copy"],
    ):
        found = lastgood(*base, *command)
        assert found.status == 4, (command, found.err)
        assert "defect" not in found.err + found.out
        output = " ".join((found.err + found.out).split())
        assert ("a row of public.t, has 1 value instead of" in output) or command[0] == "restore", output
        assert "public.t" in output
    assert "corrupt: " in lastgood(*base, "points", "verify", str(path)).out
    assert lastgood(*base, "recover", "--dry-run", "--thorough").status in (0, 3, 4)


def odd_entries(folder: Path, text: bytes) -> Iterator[Any]:
    """What people, disks and other programs put into a folder of backups. Each stays until the next is asked for."""
    (folder / "folder.sql").mkdir()
    yield (folder / "folder.sql").rmdir
    (folder / "directory.dump").mkdir()
    (folder / "directory.dump" / "toc.dat").write_bytes(b"PGDMP\x01\x10\x00\x04\x08\x03" + bytes(40))
    yield partial(shutil.rmtree, folder / "directory.dump")
    os.mkfifo(folder / "fifo.sql")
    yield (folder / "fifo.sql").unlink
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        here = Path.cwd()
        os.chdir(folder)  # its name may be no longer than 107 bytes
        listening.bind("socket.sql")
        os.chdir(here)
        yield (folder / "socket.sql").unlink
    (folder / "gone.sql").symlink_to(folder / "nowhere.sql")
    yield (folder / "gone.sql").unlink
    (folder / "loop.sql").symlink_to(folder / "loop.sql")
    yield (folder / "loop.sql").unlink
    others = {
        "empty.sql": b"",
        "zeros.sql": bytes(8192),
        "zeros.dump": bytes(8192),
        "noise.sql": random.Random(1).randbytes(20_000),
        "noise.dump": b"PGDMP" + random.Random(2).randbytes(20_000),
        "newer.dump": b"PGDMP\x01\x63\x00\x04\x08\x01" + bytes(200),
        "gzip.sql.gz": b"\x1f\x8b\x08\x00" + random.Random(3).randbytes(500),
        "zstd.sql.zst": b"\x28\xb5\x2f\xfd" + random.Random(4).randbytes(500),
        "page.sql": b"<!doctype html><html></html>",
        "picture.dump": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "utf16.sql": text.decode().encode("utf-16"),
        "deep.sql": text.replace(b"\n\nSET client", b"\n\nSELECT " + b"(" * 20_000 + b";\nSET client", 1),
        "rows.sql": with_odd_rows(text),
        "twice.sql": text + text,
        "half.sql": text[: len(text) // 2],
        "globals.sql": b"-- PostgreSQL database cluster dump\n\n-- PostgreSQL database cluster dump complete\n--\n",
        "a\nb.sql": text[:300],
        "x.sql.lastgood.json": b"{}",
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
        yield (folder / name).unlink
    for number, (_, damage) in enumerate(damages(len(text), 10, 7)):
        (folder / f"damaged_{number}.sql").write_bytes(damage(text))
        yield (folder / f"damaged_{number}.sql").unlink
    with tarfile.open(folder / "other.tar", "w") as tar:
        tar.add(folder / GOOD, "inside.sql")
    yield (folder / "other.tar").unlink


def test_bad_files_do_not_stop_other_work(
    server: EmbeddedServer, app: Callable[[str], str], lastgood: Lastgood, store: Path
) -> None:
    name = app(TIMES)
    text = dump(server, name, store / GOOD).read_bytes()
    os.utime(store / GOOD, (1_700_000_000, 1_700_000_000))  # older than all others
    base = ("--db", server.url(name), "--store", str(store))
    for remove in odd_entries(store, text):
        there = sorted(path.name for path in store.iterdir() if path.name != GOOD)
        verified = lastgood(*base, "points", "verify", "--json")
        assert verified.status in (0, 4), (there, verified.out)
        states = {point["name"]: point["verdict"] for point in verified.document["points"]}
        assert states[GOOD] == "valid", there
        for command in (["points"], ["status"], ["check"], ["prune", "--older-than", "1d", "--dry-run"]):
            found = lastgood(*base, *command)
            assert found.status in (0, 2, 3), (there, command, found.err)
            assert "defect" not in found.err, (there, command, found.err)
        plan = lastgood(*base, "rollback", "--latest", "--dry-run", "--json")
        assert plan.status in (0, 3), (there, plan.out)
        assert plan.document["point"]["path"].startswith(str(store))
        remove()
    assert lastgood(*base, "recover", "--dry-run").status in (0, 3)


def test_a_defect_met_in_one_file_is_the_verdict_on_that_file(
    server: EmbeddedServer,
    app: Callable[[str], str],
    lastgood: Lastgood,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = app(PLAIN)
    dump(server, name, store / GOOD)
    dump(server, name, store / "odd.sql")
    whole = facts_of_dump

    def facts(source: Any, **options: Any) -> Any:
        if source.path.name == "odd.sql":
            raise IndexError("list index out of range")
        return whole(source, **options)

    monkeypatch.setattr(verdict, "facts_of_dump", facts)
    base = ("--db", server.url(name), "--store", str(store))
    found = lastgood(*base, "points", "verify", "--json")
    assert found.status == 4
    odd, good = sorted(
        (SimpleNamespace(**point) for point in found.document["points"]), key=lambda point: point.name, reverse=True
    )
    assert (good.name, good.verdict) == (GOOD, "valid")
    assert (odd.name, odd.verdict) == ("odd.sql", "unusable")
    assert odd.message.startswith(
        f'cannot read "{store}/odd.sql": a defect in lastgood (IndexError in test_bad_files.py'
    )
    assert odd.hint == "Report it with this message, and choose another restore point: lastgood points"
    plan = lastgood(*base, "rollback", "--latest", "--dry-run", "--json")
    assert plan.status == 0
    assert plan.document["point"]["path"] == str(store / GOOD)
