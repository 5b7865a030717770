"""Random tables and changes, against an independent count: EXCEPT ALL over the text of rows, on the server itself.

Both a dump of the state before and a copy of it in another schema are compared with the state after."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from lastgood.difference import Comparison, DatabaseSide, PointSide, Side, TableDifference, compared
from lastgood.points import point_at
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection, Target
from tests.support.same_database import dump

# Type → values as SQL. The text of many depends on settings, or is no key of its own under the type's equality.
VALUES = {
    "integer": ("0", "-1", "7", "2147483647"),
    "bigint": ("1", "9223372036854775807", "-5"),
    "numeric": ("1.0", "1.00", "'NaN'", "'Infinity'", "12345678901234567890.5"),
    "double precision": ("0.1", "'NaN'", "'-Infinity'", "1e300", "0.30000000000000004", "'-0'"),
    "text": ("''", r"E'\\N'", r"E'a\tb\nc\\'", "'ä€𝄞'", "repeat('x', 1500000)", "'NULL'", r"E'\r\n'", r"E'\\t'"),
    'text COLLATE "folded"': ("'a'", "'A'", "'ä'", "'Ä'", "''"),
    "bytea": (r"'\x00ff'", "''", r"'\x5c78'", r"'\xc328'"),
    "timestamptz": ("'2026-03-29 01:30+00'", "'infinity'", "'-infinity'", "'0044-03-15 BC'"),
    "date": ("'2026-02-01'", "'infinity'", "'9999-12-31'"),
    "interval": ("'1 day'", "'24 hours'", "'-3 mon 2 days 01:02:03.4'"),
    "boolean": ("true", "false"),
    "jsonb": ("""'{"a": [1, null]}'""", "'null'", r"""'"\\u0001"'"""),
    "json": ("""'{"a":1}'""", """'{"a" : 1}'""", "'null'"),
    "integer[]": ("'{}'", "'{1,NULL}'", "'[0:1]={1,2}'"),
    "text[]": (r"""'{"a,b",NULL,"NULL","\\\\"}'""", "'{}'"),
    "pair": ("ROW(1, 'x')", "ROW(NULL, '')", "ROW(NULL, NULL)"),
    "int4range": ("'[1,5)'", "'empty'", "'(,)'"),
    "tstzrange": ("'[2026-01-01 00:00+00,)'", "'empty'"),
    "mood": ("'sad'", "'so so'"),
    "character(3)": ("'a'", "'ab '"),
    "inet": ("'10.0.0.1/8'", "'::1'"),
    "bit varying": ("B''", "B'0101'"),
}
KEY_TYPES = ("integer", "bigint", "numeric", "text", 'text COLLATE "folded"', "bytea", "timestamptz", "mood", "date")
NAMES = ("t", "src", "k", "h", "side", "line", "block", "a", "b", "change", 'Weird "na\'me"', "ключ")
# Texts that differ only in case are equal; the build of one of the servers has no ICU.
FOLDED = """CREATE COLLATION public.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"""
ZONE = "Asia/Kathmandu"
WORLD = """
CREATE TYPE public.pair AS (x int, y text);
-- From its time stamp, the time zone of a dump is recognized.
CREATE TABLE public.clock AS SELECT '2026-01-01 00:00+00'::timestamptz AS at;
CREATE TYPE public.mood AS ENUM ('sad', 'so so');
"""


@dataclass(frozen=True)
class Example:
    """A table, its rows, and what happens to them. ``key``: the number of key columns, which come first."""

    types: tuple[str, ...]
    key: int
    primary: bool
    rows: tuple[tuple[int, ...], ...]
    deleted: int
    updated: tuple[tuple[int, int, int], ...]
    added: tuple[tuple[int, ...], ...]
    ddl: str

    @property
    def names(self) -> tuple[str, ...]:
        return NAMES[: len(self.types)]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    key = draw(st.sampled_from([0, 1, 1, 2, 3]))
    types = [draw(st.sampled_from(KEY_TYPES)) for _ in range(key)]
    types += [draw(st.sampled_from([*VALUES])) for _ in range(draw(st.integers(0 if key else 1, 4)))]
    row = st.tuples(*(st.integers(-1 if place >= key else 0, 8) for place in range(len(types))))
    return Example(
        tuple(types),
        key,
        draw(st.booleans()),
        tuple(draw(st.lists(row, max_size=25))),
        draw(st.integers(0, 6)),
        tuple(
            draw(
                st.lists(st.tuples(st.integers(0, 20), st.integers(0, len(types) - 1), st.integers(-1, 8)), max_size=6)
            )
        ),
        tuple(draw(st.lists(row, max_size=8))),
        draw(st.sampled_from(["", "", "add", "drop", "type", "unkeyed"])),
    )


def value(kind: str, place: int) -> str:
    return "NULL" if place < 0 else VALUES[kind][place % len(VALUES[kind])]


def run(connection: Connection, text: str) -> None:
    """A statement that may be refused: a key that is there already, or too long."""
    refused = (psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
    with contextlib.suppress(*refused), connection.transaction():
        connection.execute(text.encode())


def quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def build(connection: Connection, example: Example, name: str = "x") -> None:
    """The table before."""
    columns = [f"{quoted(name)} {kind}" for name, kind in zip(example.names, example.types, strict=True)]
    key = ", ".join(quoted(name) for name in example.names[: example.key])
    if example.key:
        columns = [f"{text} NOT NULL" if place < example.key else text for place, text in enumerate(columns)]
        columns.append(f"PRIMARY KEY ({key})" if example.primary else f"UNIQUE ({key})")
    run(connection, f"CREATE TABLE public.{name} ({', '.join(columns)})")
    insert(connection, example, example.rows, name)


def insert(connection: Connection, example: Example, rows: Sequence[Sequence[int]], name: str = "x") -> None:
    for row in rows:
        values = ", ".join(value(kind, place) for kind, place in zip(example.types, row, strict=True))
        run(connection, f"INSERT INTO public.{name} VALUES ({values})")


def change(connection: Connection, example: Example, name: str = "x") -> None:
    """From the state before to the state after."""
    table = f"public.{name}"
    for row, column, place in example.updated:
        text = value(example.types[column], place)
        nth = f"(SELECT ctid FROM {table} ORDER BY ctid LIMIT 1 OFFSET {row})"
        run(connection, f"UPDATE {table} SET {quoted(example.names[column])} = {text} WHERE ctid = {nth}")
    run(connection, f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} LIMIT {example.deleted})")
    insert(connection, example, example.added, name)
    last = quoted(example.names[-1])
    if example.ddl == "add":
        run(connection, f"ALTER TABLE {table} ADD COLUMN more int DEFAULT 1")
    elif example.ddl == "drop" and len(example.types) > max(example.key, 1):
        run(connection, f"ALTER TABLE {table} DROP COLUMN {last}")
    elif example.ddl == "type" and example.types[-1] == "integer":
        run(connection, f"ALTER TABLE {table} ALTER COLUMN {last} TYPE bigint")
    elif example.ddl == "unkeyed" and example.key:
        run(connection, f"ALTER TABLE {table} DROP CONSTRAINT {constraint(connection, table)}")


def constraint(connection: Connection, table: str) -> str:
    """The name of the table's key."""
    row = connection.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('p', 'u')", [table]
    ).fetchone()
    assert row is not None
    return quoted(row[0])


Rows = Counter[tuple[str | None, ...]]


def texts(table: str, columns: Sequence[str]) -> str:
    """A query for the rows of a table, as the text that output functions give."""
    shown = ", ".join(
        f'CASE WHEN {quoted(c)}::text IS NOT NULL THEN concat({quoted(c)}) COLLATE "C" END' for c in columns
    )
    return f"SELECT {shown} FROM {table}"


def oracle(connection: Connection, columns: Sequence[str], zone: str) -> tuple[Rows, Rows]:
    """The rows that only one side has, as multisets, with time stamps in a zone."""
    connection.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    before, after = (texts(table, columns) for table in ("before.x", "public.x"))
    found = []
    for query in (f"{before} EXCEPT ALL {after}", f"{after} EXCEPT ALL {before}"):
        found.append(Counter(tuple(row) for row in connection.execute(query.encode())))
    return found[0], found[1]


def judge(found: Comparison, expected: tuple[Rows, Rows], columns: Sequence[str]) -> None:
    (table,) = found.tables
    here, there = expected
    assert table.columns == tuple(columns), table
    assert (table.state == "equal") == (not here and not there), table
    rows = [row for batch in found.rows(table) for row in batch.to_pylist()]
    assert Counter(tuple(row["a"]) for row in rows if row["a"] is not None) == here
    assert Counter(tuple(row["b"]) for row in rows if row["b"] is not None) == there
    by_change = Counter(row["change"] for row in rows)
    assert (table.only_a, table.only_b, table.changed or 0) == tuple(
        by_change[each] for each in ("only_a", "only_b", "changed")
    )
    if table.key:
        judge_keyed(table, rows, here, there)
    for change, side, wanted in (("only_a", "a", here), ("only_b", "b", there)):
        lines = b"".join(found.lines(table, change, side))  # type: ignore[arg-type]  # a change and a side
        assert lines.count(b"\n") == by_change[change]
        if not table.key:
            assert lines.count(b"\n") == wanted.total()


def judge_keyed(table: TableDifference, rows: Sequence[dict[str, Any]], here: Rows, there: Rows) -> None:
    """Rows with the same key are one changed row, with the names of the columns that differ."""
    places = [table.columns.index(name) for name in table.key]
    keys = [{tuple(row[place] for place in places) for row in side} for side in (here, there)]
    assert table.changed == len(keys[0] & keys[1])
    assert table.only_a == len(keys[0] - keys[1])
    assert table.only_b == len(keys[1] - keys[0])
    for row in rows:
        if row["change"] == "changed":
            differing = [n for n, a, b in zip(table.columns, row["a"], row["b"], strict=True) if a != b]
            assert row["columns"] == differing


def make_world(connection: Connection) -> None:
    """The types of the columns."""
    try:
        connection.execute(FOLDED.encode())
    except psycopg.errors.FeatureNotSupported:
        connection.execute('CREATE COLLATION public.folded FROM "C"')
    connection.execute(WORLD.encode())


@pytest.fixture(scope="module")
def shared_database(servers: Any) -> Iterator[Callable[[int], Target]]:
    """A database for all examples, with settings that change the text of values: those that pg_dump pins."""
    made: list[Target] = []

    def make(major: int) -> Target:
        server: EmbeddedServer = servers.get(major)
        target = server.target("postgres")
        with target.connect() as connection:
            connection.execute("DROP DATABASE IF EXISTS random_tables WITH (FORCE)")
            connection.execute("CREATE DATABASE random_tables TEMPLATE template0")
            for setting in (
                "DateStyle = 'German, DMY'",
                "IntervalStyle = 'iso_8601'",
                "extra_float_digits = -10",
                f"TimeZone = '{ZONE}'",
            ):
                connection.execute(f"ALTER DATABASE random_tables SET {setting}".encode())
        with server.target("random_tables").connect() as connection:
            make_world(connection)
        made.append(target)
        return server.target("random_tables")

    yield make
    for target in made:
        with target.connect() as connection:
            connection.execute("DROP DATABASE random_tables WITH (FORCE)")


@pytest.mark.postgres(18, also=(15,))
def test_counts_and_rows_are_those_of_the_server(
    server: EmbeddedServer, shared_database: Callable[[int], Target], tmp_path: Path
) -> None:
    target = shared_database(server.major)
    with target.connect() as connection:

        @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
        @given(example=examples(), form=st.sampled_from(["-Fp", "-Fc", "--rows-per-insert=7"]))
        def check(example: Example, form: str) -> None:
            reset(connection)
            build(connection, example)
            before = point_at(dump(server, "random_tables", tmp_path / "before.sql", form, "-n", "public"))
            assert before is not None
            connection.execute("CREATE TABLE before.x (LIKE public.x INCLUDING ALL)")
            connection.execute("INSERT INTO before.x TABLE public.x")
            change(connection, example)
            columns = common(connection)
            after = DatabaseSide(target, "after", {"public": "public"})
            sides: list[tuple[Side, str]] = [
                (PointSide(before, "dump"), ZONE),
                (DatabaseSide(target, "before", {"before": "public"}), "UTC"),
            ]
            for side, zone in sides:
                expected = oracle(connection, columns, zone)
                with compared(side, after, keep=True, only=lambda relation: relation.name == "x") as found:
                    judge(found, expected, columns)
            (tmp_path / "before.sql").unlink()

        check()


def reset(connection: Connection) -> None:
    pin(connection)
    connection.execute("DROP TABLE IF EXISTS public.x")
    connection.execute("DROP SCHEMA IF EXISTS before CASCADE")
    connection.execute("CREATE SCHEMA before")


def pin(connection: Connection) -> None:
    """The settings under which the texts of both sides are read."""
    for name, value in (
        ("search_path", "public"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "3"),
        ("TimeZone", "UTC"),
    ):
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def common(connection: Connection) -> list[str]:
    """The columns of both sides, in the order of the side before."""
    there = columns_of(connection, "public.x")
    return [name for name in columns_of(connection, "before.x") if name in there]


def columns_of(connection: Connection, table: str) -> list[str]:
    return [
        name
        for (name,) in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
            " ORDER BY attnum",
            [table],
        )
    ]
