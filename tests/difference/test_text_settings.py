"""Settings of a database that change the text of its rows, and bytes without an encoding: backups and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.difference import DatabaseSide, PointSide, compared, of_point
from lastgood.points import point_at
from lastgood.points.dump_point import take
from lastgood.points.point import RestorePoint
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from lastgood.process import run
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
from tests.support.same_database import dump

SETTINGS = {
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "intervalstyle": "iso_8601",
    "datestyle": "SQL, DMY",
    "timezone": "Asia/Kathmandu",
    "xmlbinary": "hex",
    "xmloption": "document",
    "lc_monetary": "C.utf8",
}
ROWS = r"""
CREATE TABLE public.t (id int PRIMARY KEY, b bytea, m money, i interval, f float8, d date, ts timestamptz);
INSERT INTO public.t VALUES (1, '\x00ff5c78', 1234.5, '1 day 2 hours', 0.1, '2025-01-02', '2025-01-01'),
  (2, 'abc', 2, '1 year', 1e-10, 'infinity', '2020-01-01'), (3, '', NULL, NULL, 'NaN', NULL, '-infinity');
CREATE TABLE public.u (b bytea); INSERT INTO public.u VALUES (NULL), (''), ('\x5c78');
"""


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    """A database with rows of types whose text depends on settings, and unusual settings."""
    target = server.target(new_database())
    with target.connect() as connection:
        connection.execute(ROWS.encode())
        for name, value in SETTINGS.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            setting = sql.SQL(name)
            connection.execute(statement.format(sql.Identifier(target.dbname), setting, sql.Literal(value)))
    return target


@pytest.mark.postgres(15, 18)
def test_text_settings_of_a_database_change_neither_its_backup_nor_a_comparison(
    target: Target, server: EmbeddedServer, lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", server.url(target.dbname))
    own = take(target, Path("backups"))
    assert rb"\\x00ff5c78" in own.path.read_bytes()
    run.run([server.bin / "pg_dump", "--file=foreign.sql", server.url(target.dbname)])
    assert rb"\\000\\377\\\\x" in Path("foreign.sql").read_bytes()
    for point in (str(own.path), "foreign.sql"):
        for level in ("digest", "count"):
            found = lastgood("diff", point, "--level", level)
            assert (found.status, found.out) == (0, f"Equal: {point} and the live database, 2 tables, 6 rows.\n")
    between = lastgood("diff", str(own.path), "foreign.sql")
    assert (between.status, between.out) == (
        3,
        f"Not all tables were compared: {own.path} (A) and foreign.sql (B)\n"
        "  not compared: public.t: bytea is written in the formats hex and escape\n"
        "  not compared: public.u: bytea is written in the formats hex and escape\n",
    )
    assert lastgood("rollback", "foreign.sql", "--yes", "--quiet").status == 0


@pytest.fixture
def any_bytes(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    """A SQL_ASCII database with text in Latin-1."""
    target = server.target(new_database())
    with server.target("postgres").connect() as connection:
        name = sql.Identifier(target.dbname)
        connection.execute(sql.SQL("DROP DATABASE {}").format(name))
        create = "CREATE DATABASE {} TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'"
        connection.execute(sql.SQL(create).format(name))
    with target.connect() as connection:
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        connection.execute(b"CREATE TABLE public.t (a text); INSERT INTO public.t VALUES ('\xe9t\xe9'), ('\xc3\xa9')")
        connection.execute("CREATE TABLE public.ok (id int PRIMARY KEY, a text); INSERT INTO public.ok VALUES (1, 'x')")
    return target


def test_a_database_without_an_encoding_is_backed_up_and_restored_with_its_bytes(
    any_bytes: Target, server: EmbeddedServer, lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTGOOD_DB", server.url(any_bytes.dbname))
    point: RestorePoint = take(any_bytes, Path("backups"))
    assert b"\xe9t\xe9\n\xc3\xa9\n" in point.path.read_bytes()
    found = lastgood("diff", str(point.path), "--level", "digest")
    assert (found.status, found.out) == (0, f"Equal: {point.path} and the live database, 2 tables, 3 rows.\n")
    with any_bytes.connect() as connection:
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        connection.execute(b"DELETE FROM public.t; INSERT INTO public.t VALUES ('\xff'); UPDATE public.ok SET a = 'y'")
    found = lastgood("diff", str(point.path), "--rows")
    assert (found.status, found.out) == (
        3,
        f"1 of 2 tables differs: {point.path} (A) and the live database (B)\n"
        "  table      rows in A  rows in B  only in A  only in B  changed\n"
        "  public.ok          1          1          0          0        1\n"
        '  not compared: public.t: invalid byte sequence for encoding "UTF8": 0xff\n'
        "\n"
        "public.ok\n"
        "  row  change   values\n"
        "  1    changed  a: x → y\n",
    )
    assert lastgood("rollback", "--yes", "--quiet").status == 0
    with any_bytes.connect() as connection:
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        with connection.cursor().copy("COPY public.t TO STDOUT") as copy:
            assert b"".join(bytes(block) for block in copy) == b"\xe9t\xe9\n\xc3\xa9\n"
    notes = lastgood("salvage").out.partition("Notes\n")[2].partition("\n\n")[0]
    assert notes == (
        "  - rows of a migration cannot be identified, so they are brought back too\n"
        '  - not compared: public.t: invalid byte sequence for encoding "UTF8": 0xff'
    )


def test_a_table_that_cannot_be_compared_does_not_stop_those_that_follow(
    any_bytes: Target, server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed dump has one sequence: rows that a failure leaves unread are in the way of the next tables."""
    with any_bytes.connect() as connection:
        connection.execute("INSERT INTO public.t SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        connection.execute("CREATE TABLE public.zz AS SELECT i FROM generate_series(1, 3000) i")
    point = point_at(dump(server, any_bytes.dbname, tmp_path / "before.sql", "-Z1"))
    assert point is not None
    monkeypatch.setattr(of_point, "BLOCK", 1 << 12)
    with compared(PointSide(point, "before"), DatabaseSide(any_bytes, "live")) as found:
        assert {each.name: (each.state, each.why) for each in found.tables} == {
            "ok": ("equal", ""),
            "t": ("not compared", 'invalid byte sequence for encoding "UTF8": 0xe9 0x74 0xe9'),
            "zz": ("equal", ""),
        }
