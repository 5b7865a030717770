"""Restore of damaged dumps: every known kind of damage, and exactly the remaining rows."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from psycopg import sql

from lastgood.damaged.restore import DamagedReport, DamagedTable, restore_readable
from lastgood.errors import BadPoint, Refused
from lastgood.points.dump_point import take
from lastgood.postgres import database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support.real_dumps import run

ENDS = pytest.mark.postgres(15, 18)
ROWS = 30_000
CONTENT = """
CREATE TABLE public.a_first (id int PRIMARY KEY, t text NOT NULL);
INSERT INTO public.a_first SELECT i, md5(i::text) FROM generate_series(1, 30000) i;
CREATE TABLE public.b_second (id int PRIMARY KEY, first int REFERENCES public.a_first, t text);
INSERT INTO public.b_second SELECT i, i, md5((i * 7)::text) FROM generate_series(1, 30000) i;
CREATE TABLE public.c_third (id int PRIMARY KEY, t text);
INSERT INTO public.c_third SELECT i, md5((i * 3)::text) FROM generate_series(1, 1000) i;
CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS $$ SELECT count(*)::int FROM public.c_third $$;
CREATE VIEW public.v AS SELECT t FROM public.c_third;
"""


@dataclass
class Stage:
    """A live database with three tables, and a plain dump of it."""

    server: EmbeddedServer
    live: Target
    store: Path
    text: bytes
    into: str

    def dump(self, name: str, *options: str) -> Path:
        path = self.store / name
        connection, _ = self.live.child()
        subprocess.run([self.server.bin / "pg_dump", "-d", connection, "-f", path, *options], check=True)
        return path

    def restored(
        self, data: bytes | None = None, name: str = "damaged.sql"
    ) -> tuple[DamagedReport, dict[str, DamagedTable]]:
        """Load the readable part, and check that the report matches each table's real content."""
        if data is not None:
            (self.store / name).write_bytes(data)
        report = restore_readable(self.live, self.store, [name], self.into)
        tables = {table.name: table for table in report.tables}
        with self.server.target(self.into).connect() as connection:
            for table in report.tables:
                here = connection.execute("SELECT to_regclass(%s)", [f"public.{table.name}"]).fetchone()
                assert here is not None
                count = 0
                if here[0] is not None:
                    row = connection.execute(
                        sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table.name))
                    ).fetchone()
                    assert row is not None
                    count = row[0]
                assert table.rows == count, table
        with database.connect_maintenance(self.live, self.live.dbname) as maintenance:
            made = database.describe(maintenance, self.into)
            assert made.comment is not None
            assert made.comment.endswith(f"readable part of the damaged {name}; not complete, not verified")
            database.drop(maintenance, made.name, made.oid)
        return report, tables


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path) -> Stage:
    name = new_database("damaged")
    live = server.target(name)
    with live.connect() as connection:
        connection.execute(CONTENT.encode())
    stage = Stage(server, live, store, b"", f"{name}_left")
    stage.text = stage.dump("whole.sql").read_bytes()
    return stage


def line_of(text: bytes, needle: bytes) -> int:
    return text[: text.index(needle)].count(b"\n") + 1


def row(text: bytes, table: str, number: int) -> bytes:
    """The row of that id, with the line ends around it."""
    start = text.index(b"COPY public." + table.encode())
    at = text.index(b"\n%d\t" % number, start)
    return text[at : text.index(b"\n", at + 1) + 1]


@ENDS
def test_a_valid_dump_is_reported_as_whole(stage: Stage) -> None:
    report, tables = stage.restored(stage.text)
    assert report.complete
    assert (report.status, report.damage, report.commands) == ("partial", (), ())
    assert {name: (table.state, table.rows) for name, table in tables.items()} == {
        "a_first": ("whole", ROWS),
        "b_second": ("whole", ROWS),
        "c_third": ("whole", 1000),
    }


@ENDS
def test_a_cut_plain_dump(stage: Stage) -> None:
    at = stage.text.index(b"\n20000\t", stage.text.index(b"COPY public.b_second")) + 3
    report, tables = stage.restored(stage.text[:at])
    assert not report.complete
    line = line_of(stage.text, b"COPY public.b_second")
    offset = stage.text.index(b"COPY public.b_second")
    assert report.damage[0] == (
        "cannot read the dump: it ends inside the rows of COPY public.b_second, which began at line "
        f"{line} (byte {offset})"
    )
    assert {name: (table.state, table.rows, table.why) for name, table in tables.items()} == {
        "a_first": ("whole", ROWS, ""),
        "b_second": ("partial", 19_999, "the dump ends within its rows"),
        "c_third": ("missing", 0, "none of its rows could be read"),
    }


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd", "lz4"])
@pytest.mark.parametrize("way", ["cut", "changed"])
def test_damaged_compressed_data_is_read_up_to_the_damage(stage: Stage, compression: str, way: str) -> None:
    compress: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda data: gzip.compress(data, 6, mtime=0),
        "bzip2": lambda data: bz2.compress(data, 1),
        "xz": lambda data: lzma.compress(data, preset=0),
        "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
        "lz4": lambda data: bytes(lz4.frame.compress(data, block_checksum=True, content_checksum=True)),
    }
    data = bytearray(compress[compression](stage.text))
    at = len(data) * 2 // 3
    if way == "cut":
        del data[at:]
    else:
        data[at : at + 8] = b"\xff" * 8
    report, tables = stage.restored(bytes(data))
    assert len(report.damage) >= 1
    # A byte that was changed need not make the data unreadable at once, and then its rows are odd.
    read = sum(table.rows for table in tables.values())
    assert 0.5 * 2 * ROWS < read < 2 * ROWS + 1000, report.damage
    assert tables["a_first"].state == "whole"
    if way == "cut":
        assert f"unexpected end of {compression} data" in report.damage[0]


@ENDS
def test_odd_rows_are_left_out_and_named(stage: Stage) -> None:
    text = stage.text
    changes = {
        500: (b"\t", b"\t\t", "has 3 values instead of 2"),
        600: (b"\t", b" ", "has 1 value instead of 2"),
        700: (b"\t", b"\t\xff\xfe", "is not valid UTF8"),
        800: (b"\t", b"\t\0\0", "holds NUL bytes"),
        900: (b"\t", b"\tx\ry", "has a bare carriage return"),
        1000: (b"1000\t", b"x1000\t", 'invalid input syntax for type integer: "x1000"'),
        1100: (b"\t", b"\t\\N", ""),
    }
    lines = {}
    for number, (old, new, why) in changes.items():
        before = row(text, "a_first", number)
        assert text.count(before) == 1
        after = before.replace(old, new, 1) if number != 1100 else b"\n1100\t\\N\n"
        lines[line_of(text, before) + 1] = (
            why or 'null value in column "t" of relation "a_first" violates not-null constraint'
        )
        text = text.replace(before, after)
    report, tables = stage.restored(text)
    table = tables["a_first"]
    assert (table.state, table.rows, table.left_out) == ("partial", ROWS - 7, 7)
    assert {missing.line: missing.why for missing in table.first} == lines
    assert tables["b_second"].state == "whole"
    # Rows that reference the lost rows lack their match.
    assert report.not_valid == ("foreign key b_second_first_fkey on public.b_second",)
    assert report.damage == ("it has NUL bytes, which no dump contains",)


@ENDS
def test_a_lost_end_of_rows_does_not_take_the_rest(stage: Stage) -> None:
    start = stage.text.index(b"COPY public.b_second")
    end = stage.text.index(b"\n\\.\n", start)
    _, tables = stage.restored(stage.text[:end] + stage.text[end + 3 :])
    assert {name: table.rows for name, table in tables.items()} == {"a_first": ROWS, "b_second": ROWS, "c_third": 1000}
    assert (tables["b_second"].state, tables["b_second"].why) == ("partial", "the end of its rows is damaged")
    assert tables["c_third"].state == "whole"


@ENDS
@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (b"CREATE VIEW public.v AS", b"CREATE VIEW public.v AS ' ", "view v"),
        (b"CREATE FUNCTION public.f() RETURNS", b'CREATE FUNCTION public.f() "RETURNS', "function f()"),
        (b"AS $$ SELECT", b"AS $x SELECT", "function f()"),
        (b"CREATE VIEW", b"CREATE ( VIEW", "view v"),
        (b"CREATE VIEW", b"CREATE \\ VIEW", "view v"),
        (b"CREATE VIEW", b"CREATE \0\0 VIEW", "view v"),
    ],
)
def test_a_damaged_command_takes_only_itself(stage: Stage, old: bytes, new: bytes, lost: str) -> None:
    assert stage.text.count(old) == 1
    report, tables = stage.restored(stage.text.replace(old, new))
    assert {name: (table.state, table.rows) for name, table in tables.items()} == {
        "a_first": ("whole", ROWS),
        "b_second": ("whole", ROWS),
        "c_third": ("whole", 1000),
    }
    assert not report.complete
    assert report.damage or any(command.what == lost for command in report.commands), report


@ENDS
def test_a_destroyed_head(stage: Stage) -> None:
    at = stage.text.index(b"-- Name: a_first; Type: TABLE;")
    for garbage in (bytes(at - 3), b"\x13\x99(x' " * (at // 6)):
        report, tables = stage.restored(garbage[: at - 3] + stage.text[at - 3 :])
        assert {name: table.rows for name, table in tables.items()} == {
            "a_first": ROWS,
            "b_second": ROWS,
            "c_third": 1000,
        }, report


@ENDS
def test_a_table_that_the_server_refuses(stage: Stage) -> None:
    text = stage.text.replace(b"CREATE TABLE public.a_first", b"CREATE TABLE public.other")
    report, tables = stage.restored(text)
    assert (tables["a_first"].state, tables["a_first"].why) == ("missing", 'relation "public.a_first" does not exist')
    assert tables["b_second"].state == "whole"
    assert any(command.why == 'relation "public.a_first" does not exist' for command in report.commands)


@ENDS
@pytest.mark.parametrize("form", ["custom", "tar", "directory"])
def test_a_cut_archive(stage: Stage, form: str) -> None:
    path = stage.dump("damaged.sql", f"--format={form}", *([] if form == "tar" else ["--compress=0"]))
    if form == "directory":
        second = sorted((file for file in path.iterdir() if file.name != "toc.dat"), key=lambda file: file.name)[1]
        second.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: data.index(b"20000\t20000\t") + 3])
    report, tables = stage.restored(None)
    assert report.damage
    assert tables["a_first"].state == "whole"
    if form == "directory":
        assert (tables["b_second"].state, tables["b_second"].rows) == ("missing", 0)
        assert (tables["c_third"].state, tables["c_third"].rows) == ("whole", 1000)
    else:
        assert 19_000 < tables["b_second"].rows < 20_000
        assert tables["b_second"].state == "partial"
        assert tables["c_third"].state == "missing"
    # Objects after the rows are still created.
    assert not any(command.what.startswith("primary key") for command in report.commands)


def test_a_custom_archive_with_one_damaged_table(stage: Stage) -> None:
    path = stage.dump("damaged.sql", "--format=custom", "--compress=6")
    data = bytearray(path.read_bytes())
    places = [at for at in range(len(data)) if data[at : at + 2] == b"\x78\x9c"]
    data[places[0] + 2000 : places[0] + 2040] = b"\xff" * 40
    path.write_bytes(data)
    report, tables = stage.restored(None)
    assert tables["a_first"].state != "whole"
    assert (tables["b_second"].state, tables["b_second"].rows) == ("whole", ROWS)
    assert (tables["c_third"].state, tables["c_third"].rows) == ("whole", 1000)
    assert "pg_restore failed" in report.damage[0]


def test_the_manifest_has_the_expected_rows(stage: Stage) -> None:
    point = take(stage.live, stage.store)
    text = point.path.read_bytes()
    start = text.index(b"COPY public.c_third")
    point.path.write_bytes(text[: text.index(b"\n700\t", start) + 1])
    report, tables = stage.restored(None, point.path.name)
    assert (tables["c_third"].rows, tables["c_third"].expected, tables["c_third"].state) == (699, 1000, "partial")
    assert (tables["a_first"].rows, tables["a_first"].expected, tables["a_first"].state) == (ROWS, ROWS, "whole")
    assert report.damage


def test_never_into_the_live_name_and_nothing_is_left_of_nothing(stage: Stage) -> None:
    with pytest.raises(Refused) as refused:
        restore_readable(stage.live, stage.store, ["whole.sql"], stage.live.dbname)
    assert str(refused.value) == (
        f'cannot restore a damaged dump into "{stage.live.dbname}": that is the name of the live database'
    )
    (stage.store / "nothing.sql").write_bytes(b"\x01\x99 nothing; of it (" * 1000)
    with pytest.raises(BadPoint) as error:
        restore_readable(stage.live, stage.store, ["nothing.sql"], stage.into)
    assert str(error.value).startswith('cannot read any table of "nothing.sql"')
    with database.connect_maintenance(stage.live, stage.live.dbname) as maintenance:
        assert database.find(maintenance, stage.into) is None


def test_files_of_one_dump_and_one_database_of_a_cluster(stage: Stage) -> None:
    stage.dump("schema.sql", "--schema-only")
    data = stage.dump("data.sql", "--data-only")
    text = data.read_bytes()
    data.write_bytes(text[: text.index(b"\n700\t", text.index(b"COPY public.c_third")) + 3])
    report = restore_readable(stage.live, stage.store, ["data.sql", "schema.sql"], stage.into)
    assert {table.name: (table.state, table.rows) for table in report.tables} == {
        "a_first": ("whole", ROWS),
        "b_second": ("whole", ROWS),
        "c_third": ("partial", 699),
    }
    assert report.commands == ()
    with database.connect_maintenance(stage.live, stage.live.dbname) as maintenance:
        made = database.describe(maintenance, stage.into)
        database.drop(maintenance, made.name, made.oid)
        others = [row[0] for row in maintenance.execute("SELECT datname FROM pg_database")]
    connection, _ = stage.live.child()
    path = stage.store / "cluster.sql"
    leave_out = [f"--exclude-database={name}" for name in others if name != stage.live.dbname]
    run(stage.server, "pg_dumpall", "-d", connection, "-f", path, *leave_out)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(BadPoint) as error:
        restore_readable(stage.live, stage.store, ["cluster.sql"], stage.into)
    assert str(error.value) == ("cannot use the dump: it is of a whole cluster, and no database was selected")
    assert error.value.hint == "Select one with --database."
    report = restore_readable(stage.live, stage.store, ["cluster.sql"], stage.into, database_name=stage.live.dbname)
    assert [(table.name, table.state) for table in report.tables] == [
        ("a_first", "whole"),
        ("b_second", "whole"),
        ("c_third", "whole"),
    ]
