"""Dumps of nearly every kind of object, by every pg_dump, with every option, restored into every server that can take
them: each restore proves itself, or reports why it cannot."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard
from psycopg import sql

from lastgood.errors import Incomplete, LastgoodError, Refused
from lastgood.postgres.embedded import EmbeddedServer, programs
from lastgood.restore import RestoreReport, restore
from tests.conftest import MAJORS, Servers
from tests.support.real_dumps import NAME, make_database

OPTIONS = {
    "plain": [],
    "clean": ["--clean", "--if-exists"],
    "create": ["--create"],
    "create-clean": ["--create", "--clean"],
    "inserts": ["--inserts"],
    "column-inserts": ["--column-inserts"],
    "rows-per-insert": ["--rows-per-insert=3"],
    "no-owner-no-acl": ["--no-owner", "--no-acl"],
    "custom": ["--format=custom"],
    "directory": ["--format=directory"],
    "tar": ["--format=tar"],
}
NEWER = [(dumped, into) for dumped in MAJORS for into in MAJORS if into > dumped]


def server_with_all_kinds(servers: Servers, major: int) -> EmbeddedServer:
    """A server that has the rich database."""
    server = servers.get(major)
    make_database(server)
    return server


def dump(server: EmbeddedServer, major: int, to: Path, *options: str, database: str = NAME) -> Path:
    """A dump of the server's database, by pg_dump of version ``major``."""
    folder = programs(major)
    assert folder is not None
    subprocess.run([str(folder / "pg_dump"), "-d", server.url(database), "-f", str(to), *options], check=True)
    return to


def restored(server: EmbeddedServer, path: Path) -> RestoreReport:
    """The proof of a restore into a new database, which is dropped again."""
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'rich_app'").fetchone() is None:
            connection.execute("CREATE ROLE rich_app")
    try:
        return restore(server.target("postgres"), path.parent, path.name, "rich_again")
    finally:
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS rich_again WITH (FORCE)"))


def whole(report: RestoreReport) -> None:
    assert [table.name for table in report.tables if table.equal is not True] == []
    assert sum(table.rows for table in report.tables) > 40
    assert report.not_compared == ()


@pytest.mark.postgres(15, 18, also=(16, 17))
@pytest.mark.parametrize("option", OPTIONS)
def test_each_form_of_dump_comes_back_whole(server: EmbeddedServer, servers: Servers, store: Path, option: str) -> None:
    server_with_all_kinds(servers, server.major)
    whole(restored(server, dump(server, server.major, store / "rich_20251104_143000", *OPTIONS[option])))


@pytest.mark.parametrize(("dumped", "into"), NEWER)
@pytest.mark.parametrize("option", ["plain", "custom"])
def test_an_older_servers_dump_comes_back_on_a_newer_one(
    servers: Servers, store: Path, dumped: int, into: int, option: str
) -> None:
    source = server_with_all_kinds(servers, dumped)
    whole(restored(servers.get(into), dump(source, dumped, store / "rich.dump", *OPTIONS[option])))


@pytest.mark.parametrize("by", [16, 17, 18])
def test_a_newer_pg_dumps_settings_are_skipped_on_an_older_server(servers: Servers, store: Path, by: int) -> None:
    """pg_dump 17 and newer set transaction_timeout, which a server before 17 does not know."""
    server = server_with_all_kinds(servers, 16)
    report = restored(server, dump(server, by, store / "rich.sql"))
    whole(report)
    skipped = [each.why for each in report.skipped if each.what == "setting"]
    assert skipped == (['unrecognized configuration parameter "transaction_timeout"'] if by > 16 else [])


@pytest.mark.parametrize("compression", ["gzip", "zstd", "gzip of two members", "zstd of two frames"])
def test_compressed_dumps_are_read_as_they_are(servers: Servers, store: Path, compression: str) -> None:
    server = server_with_all_kinds(servers, 18)
    plain = dump(server, 18, store / "plain.sql").read_bytes()
    halves = (plain[: len(plain) // 2], plain[len(plain) // 2 :])
    packed = {
        "gzip": lambda: gzip.compress(plain),
        "zstd": lambda: zstandard.compress(plain),
        "gzip of two members": lambda: b"".join(map(gzip.compress, halves)),
        "zstd of two frames": lambda: b"".join(map(zstandard.compress, halves)),
    }[compression]()
    path = store / "packed.sql"
    path.write_bytes(packed)
    whole(restored(server, path))
    path.write_bytes(packed[:-30])
    with pytest.raises(Incomplete) as raised:
        restored(server, path)
    assert raised.value.exit_status == 4


def test_a_partial_dump_of_one_schema_comes_back_too(servers: Servers, store: Path) -> None:
    server = servers.get(18)
    with server.target("postgres").connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS parts WITH (FORCE)")
        connection.execute("CREATE DATABASE parts TEMPLATE template0")
    with server.target("parts").connect() as connection:
        connection.execute("CREATE TABLE public.t (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO public.t VALUES (1, 'one')")
        connection.execute("CREATE SCHEMA other")
    report = restored(server, dump(server, 18, store / "public.sql", "-n", "public", database="parts"))
    assert [(t.schema_name, t.name, t.rows, t.equal) for t in report.tables] == [("public", "t", 1, True)]


def test_an_unknown_extension_is_not_skipped(servers: Servers, store: Path) -> None:
    server = server_with_all_kinds(servers, 18)
    path = dump(server, 18, store / "rich.sql")
    text = path.read_bytes()
    marker = b"SET default_tablespace = '';"
    assert marker in text
    path.write_bytes(text.replace(marker, b"CREATE EXTENSION nosuch WITH SCHEMA public;\n\n" + marker, 1))
    with pytest.raises(Refused) as raised:
        restored(server, path)
    assert str(raised.value) == (
        'cannot restore "rich.sql": the restore point needs extensions that are not installed on this server: nosuch'
    )
    assert raised.value.state == "Nothing was changed."


def test_a_dump_cut_anywhere_is_refused_before_anything_is_made(servers: Servers, store: Path) -> None:
    server = server_with_all_kinds(servers, 18)
    whole_text = dump(server, 18, store / "whole.sql").read_bytes()
    cut = store / "cut.sql"
    for place in range(7, len(whole_text) - 60, len(whole_text) // 40):
        cut.write_bytes(whole_text[:place])
        with pytest.raises(LastgoodError) as raised:
            restore(server.target("postgres"), store, "cut.sql", "rich_again")
        assert raised.value.exit_status == 4, (place, raised.value)
    with server.target("postgres").connect() as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname = 'rich_again'").fetchone() is None
    shutil.rmtree(store)
