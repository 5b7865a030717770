"""The facts of a dump: equal in all its forms, and equal to those of the database it was made from."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from xxhash import xxh3_128_hexdigest, xxh3_128_intdigest

from lastgood.context import Context
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Incomplete, Interrupted, Unsafe
from lastgood.events import Event, Progress
from lastgood.facts import DigestRules, Facts, MigrationFacts, SequenceFacts, TableFacts
from lastgood.facts.compare import compare
from lastgood.facts.digest import RowsDigest, large_object_line, split_lines
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import facts_of_dump
from lastgood.postgres.embedded import EmbeddedServer
from tests.support.real_dumps import NAME, Text, dumped, run

ALL = pytest.mark.postgres(15, 16, 17, 18)

HEAD = b"""--
-- PostgreSQL database dump
--

-- Dumped from database version 17.2
-- Dumped by pg_dump version 18.1

SET client_encoding = 'UTF8';

"""
FOOT = b"""
--
-- PostgreSQL database dump complete
--

"""


def read(text: bytes) -> tuple[Facts, DumpSummary]:
    return facts_of_dump(Text(HEAD + text + FOOT))


def table(facts: Facts, name: str) -> TableFacts:
    (found,) = [one for one in facts.tables if f"{one.schema_name}.{one.name}" == name]
    return found


def digest_of(*lines: bytes) -> str:
    return f"{sum(map(xxh3_128_intdigest, lines)) % 2**128:032x}"


@ALL
@pytest.mark.parametrize(
    "options",
    [
        ("--clean", "--if-exists"),
        ("--create",),
        ("--inserts",),
        ("--column-inserts",),
        ("--rows-per-insert=5",),
        ("--no-owner", "--no-acl"),
        ("--verbose",),
        ("-Fc",),
        ("-Ft",),
    ],
    ids=" ".join,
)
def test_every_form_of_dump_gives_the_same_facts(server: EmbeddedServer, options: tuple[str, ...]) -> None:
    expected, _ = facts_of_dump(Text(dumped(server)))
    found, _ = facts_of_dump(Text(dumped(server, options)))
    assert found.database == (NAME if "--create" in options else None)
    assert found.model_copy(update={"database": None}) == expected


@ALL
def test_a_cluster_dump_gives_the_facts_of_the_database_chosen(server: EmbeddedServer) -> None:
    found, _ = facts_of_dump(Text(dumped(server, program="pg_dumpall")), database=NAME)
    assert found.model_copy(update={"database": None}) == facts_of_dump(Text(dumped(server)))[0]


@ALL
@pytest.mark.parametrize("options", [(), ("--inserts",), ("-Fc",)], ids=["copy", "inserts", "custom"])
def test_a_dumps_facts_are_those_of_its_database(server: EmbeddedServer, options: tuple[str, ...]) -> None:
    expected, _ = facts_of_dump(Text(dumped(server, options)), time_zone="UTC")
    with server.target(NAME).connect(autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = facts_of_database(connection)
    assert expected.tables == found.tables
    assert expected.sequences == found.sequences
    assert expected.large_objects == found.large_objects
    assert expected.large_objects.count == 2
    assert expected.extensions == found.extensions
    assert {(one.kind, one.identity) for one in expected.objects} == {(one.kind, one.identity) for one in found.objects}
    comparison = compare(expected, found)
    assert all(one.equal for one in comparison.tables) and len(comparison.tables) == 20
    assert comparison.exact and comparison.differences == ()


def test_one_changed_character_changes_the_digest(server: EmbeddedServer) -> None:
    text = dumped(server)
    assert text.count(b"1\tp\n") > 0
    one, other = facts_of_dump(Text(text))[0], facts_of_dump(Text(text.replace(b"1\tp\n", b"1\tq\n")))[0]
    changed = [a.name for a, b in zip(one.tables, other.tables, strict=True) if a != b]
    assert changed and all(a.rows == b.rows for a, b in zip(one.tables, other.tables, strict=True))


def test_what_the_digest_is() -> None:
    facts, _ = read(
        b"CREATE TABLE public.t (a integer, b text);\n"
        b"COPY public.t (a, b) FROM stdin;\n2\ttwo\n1\tone\n\\.\n"
        b"COPY public.t (a, b) FROM stdin;\n3\t\\N\n\\.\n"
    )
    assert facts.tables == (
        TableFacts(
            schema_name="public",
            name="t",
            columns=("a", "b"),
            rows=3,
            digest=digest_of(b"1\tone", b"2\ttwo", b"3\t\\N"),
            zoned=False,
        ),
    )
    assert facts.rules == DigestRules(time_zone=None, server_major=17)
    assert (facts.origin, facts.server_version) == ("dump", "17.2")


@pytest.mark.parametrize("width", [1, 40, 3000])
def test_lines_are_split_at_lf_only(width: int) -> None:
    chance = random.Random(width)
    lines = [bytes(chance.choices(b"ab\t\r\x0b\x0c\x85\xe2\x80\xa8\\", k=chance.randint(0, width))) for _ in range(500)]
    for first in (b"", b"x" * width):
        batch = b"".join(line + b"\n" for line in (first, *lines))
        assert split_lines(batch) == [first, *lines]
    assert split_lines(b"") == []
    assert split_lines(b"\n" * 3) == [b""] * 3


def test_line_ends_are_not_part_of_the_digest() -> None:
    one, other = RowsDigest(), RowsDigest()
    one.add(b"a\nb\n")
    other.add(b"b\r\na\r\n")
    assert one == other and one.hexdigest() == digest_of(b"a", b"b") and one.rows == 2


def test_newest_time_stamps() -> None:
    facts, _ = read(
        b"CREATE TABLE public.t (made timestamp with time zone, id integer, day date, at timestamp without time zone,\n"
        b"  name text, days date[]);\n"
        b"COPY public.t (made, id, day, at, name, days) FROM stdin;\n"
        b"2024-01-01 00:00:00+00\t1\t-infinity\t2024-02-02 10:00:00\t2999-01-01\t{2999-01-01}\n"
        b"2024-01-01 00:00:00.5+00\t2\t0044-03-15 BC\t\\N\tx\t\\N\n"
        b"\\N\t3\t2023-12-31\tinfinity\tx\t\\N\n"
        b"infinity\t4\t\\N\t2024-02-02 10:00:00.1\tx\t\\N\n"
        b"\\.\n"
        b"CREATE TABLE public.u (id integer, last date);\n"
        b"COPY public.u (id, last) FROM stdin;\n1\t\\N\n2\t2020-02-02\n3\tinfinity\n\\.\n"
        b"COPY public.u (id, last) FROM stdin;\n1\t2019-02-02\n\\.\n"
        b"CREATE TABLE public.v (last date);\n"
        b"COPY public.v (last) FROM stdin;\n\\N\n\\.\n"
        b"CREATE TABLE public.w (last date);\n"
        b"COPY public.w (last) FROM stdin;\n0044-03-15 BC\n0100-01-01 BC\n\\.\n"
    )
    assert table(facts, "public.t").newest == {
        "made": "2024-01-01 00:00:00.5+00",
        "day": "2023-12-31",
        "at": "2024-02-02 10:00:00.1",
    }
    assert table(facts, "public.t").zoned
    assert table(facts, "public.u").newest == {"last": "2020-02-02"} and not table(facts, "public.u").zoned
    assert table(facts, "public.v").newest == {}
    assert table(facts, "public.w").newest == {"last": "0044-03-15 BC"}


def test_time_zones_hide_in_types() -> None:
    facts, _ = read(
        b"CREATE TYPE s.mood AS ENUM ('a');\n"
        b"CREATE TYPE s.inner_ AS (m s.mood, t timestamp with time zone);\n"
        b"CREATE TYPE s.plain AS (m s.mood, t text);\n"
        + b"".join(
            b"CREATE TABLE s.t%d (c %s);\nCOPY s.t%d (c) FROM stdin;\n\\.\n" % (number, kind, number)
            for number, kind in enumerate(
                [b"s.mood[]", b"s.plain", b"s.inner_", b"tstzrange", b"s.elsewhere", b"jsonb", b"timestamptz(3)[]"]
            )
        )
    )
    assert [one.zoned for one in facts.tables] == [False, False, True, True, True, False, True]


def test_rows_that_are_not_plain_values_have_no_digest() -> None:
    text = (
        b"CREATE TABLE public.t (a integer, b text);\n"
        b"INSERT INTO public.t VALUES (1, 'x');\n"
        b"INSERT INTO public.t VALUES (2, 'y'::text);\n"
    )
    found = table(read(text)[0], "public.t")
    assert (found.digest, found.why_no_digest) == (None, "some of its INSERTs contain expressions")
    found = table(read(b"INSERT INTO public.t VALUES (1, 'x');\n")[0], "public.t")
    assert (found.rows, found.digest, found.why_no_digest) == (1, None, "the dump does not name its columns")
    text = b"INSERT INTO public.t (a) VALUES (1);\nINSERT INTO public.t (a, b) VALUES (1, 'x');\n"
    found = table(read(text)[0], "public.t")
    assert (found.rows, found.why_no_digest) == (2, "its rows are given with different columns")


def test_sequences_and_large_objects() -> None:
    facts, summary = read(
        b"SELECT pg_catalog.setval('s.q', 5, true);\nSELECT pg_catalog.setval('s.p', 7, false);\n"
        b"SELECT pg_catalog.lo_create('12');\nSELECT pg_catalog.lo_create('7');\n"
        b"BEGIN;\nSELECT pg_catalog.lo_open('12', 131072);\nSELECT pg_catalog.lowrite(0, '\\x6162');\n"
        b"SELECT pg_catalog.lowrite(0, '\\x63');\nSELECT pg_catalog.lo_close(0);\nCOMMIT;\n"
    )
    assert facts.sequences == (
        SequenceFacts(schema_name="s", name="p", last_value=7, is_called=False),
        SequenceFacts(schema_name="s", name="q", last_value=5, is_called=True),
    )
    expected = RowsDigest()
    expected.add(large_object_line(7, xxh3_128_hexdigest(b"")))
    expected.add(large_object_line(12, xxh3_128_hexdigest(b"abc")))
    assert (facts.large_objects.count, facts.large_objects.digest) == (2, expected.hexdigest())
    assert summary.large_objects == 2


def test_extensions() -> None:
    facts, summary = read(
        b"CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;\nCREATE EXTENSION IF NOT EXISTS citext;\n"
    )
    assert [(one.name, one.version) for one in facts.extensions] == [("citext", None)]
    assert set(summary.extensions) == {"plpgsql", "citext"}


@pytest.mark.parametrize(
    ("schema", "name", "rows", "expected"),
    [
        (
            "supabase_migrations",
            "schema_migrations (version text, statements text[], name text)",
            ["2024\t\\N\tb", "2025\t{}\ta\\tb", "2023\t{}\tc"],
            ("Supabase", "2025", 3),
        ),
        ("public", "schema_migrations (version bigint, dirty boolean)", ["9\tf", "10\tf"], ("golang-migrate", "10", 2)),
        ("public", "schema_migrations (version character varying)", ["9", "10"], ("schema_migrations", "10", 2)),
        (
            "crm",
            "django_migrations (id bigint, app character varying, name character varying)",
            ["9\ta\t0009_x", "10\tb\t0001_y"],
            ("Django", "0001_y", 2),
        ),
        (
            "public",
            "flyway_schema_history (installed_rank integer, version text, success boolean)",
            ["1\t1.0\tt", "2\t2.0\tt", "3\t3.0\tf"],
            ("Flyway", "2.0", 2),
        ),
        ("public", "alembic_version (version_num text)", ["ae1027a6acf"], ("Alembic", "ae1027a6acf", 1)),
        (
            "public",
            "_prisma_migrations (id text, migration_name text, rolled_back_at timestamptz)",
            ["x\t2024_a\t\\N", "y\t2025_b\t2025-01-01"],
            ("Prisma", "2024_a", 1),
        ),
        (
            "sqitch",
            "changes (change text, committed_at timestamptz)",
            ["a\t2024-01-02", "b\t2024-01-01"],
            ("Sqitch", "a", 2),
        ),
        ("public", "alembic_version (version_num text)", [], ("Alembic", None, 0)),
    ],
)
def test_migration_versions(schema: str, name: str, rows: list[str], expected: tuple[str, str | None, int]) -> None:
    table_name, _, declared = name.partition(" ")
    columns = ", ".join(part.split()[0] for part in declared.strip("()").split(", "))
    body = "".join(row + "\n" for row in rows)
    text = f"CREATE TABLE {schema}.{name};\nCOPY {schema}.{table_name} ({columns}) FROM stdin;\n{body}\\.\n"
    tool, version, applied = expected
    facts, _ = read(text.encode())
    assert facts.migration == MigrationFacts(
        tool=tool, table=f"{schema}.{table_name}", version=version, applied=applied
    )


def test_a_platforms_own_migrations_are_not_the_applications() -> None:
    def made(schema: str) -> bytes:
        name = f"{schema}.schema_migrations"
        return f"CREATE TABLE {name} (version text);\nCOPY {name} (version) FROM stdin;\n{schema}\n\\.\n".encode()

    assert read(made("auth") + made("realtime"))[0].migration is None
    facts, _ = read(made("auth") + made("crm") + made("public") + made("supabase_migrations"))
    assert facts.migration is not None and facts.migration.version == "supabase_migrations"
    assert read(b"CREATE TABLE public.changes (change text, committed_at date);\n")[0].migration is None


def test_objects_are_counted_once() -> None:
    facts, _ = read(
        b"CREATE SCHEMA public;\nCREATE SCHEMA s;\nCREATE TYPE s.x;\nCREATE TYPE s.x (INPUT = a, OUTPUT = b);\n"
        b"CREATE VIEW s.v AS SELECT NULL::integer AS a;\nCREATE OR REPLACE VIEW s.v AS SELECT 1 AS a;\n"
        b"CREATE TABLE s.par (a integer);\nCREATE TABLE s.chi (b integer) INHERITS (s.par);\n"
    )
    assert facts.object_counts == {"column": 3, "schema": 1, "table": 2, "type": 1, "view": 1}
    assert [one.identity for one in facts.objects if one.kind == "column"] == ["s.chi.a", "s.chi.b", "s.par.a"]


def test_what_is_unfit_raises() -> None:
    with pytest.raises(Unsafe):
        read(b"\\! true\n")
    with pytest.raises(Incomplete):
        facts_of_dump(Text(HEAD))


def test_progress_and_cancelling() -> None:
    rows = b"".join(b"%d\n" % number for number in range(300_000))
    text = b"CREATE TABLE public.t (a integer);\nCOPY public.t (a) FROM stdin;\n" + rows + b"\\.\n"
    events: list[Event] = []
    facts_of_dump(Text(HEAD + text + FOOT), context=Context(events.append), stage="prove")
    steps = [event for event in events if isinstance(event, Progress)]
    assert len(steps) > 3 and {step.stage for step in steps} == {"prove"} and {step.unit for step in steps} == {"bytes"}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].rows == 300_000 and steps[-1].detail == "public.t"
    with pytest.raises(Interrupted) as caught:
        facts_of_dump(Text(HEAD + text + FOOT), context=Context(cancelled=lambda: True))
    assert str(caught.value) == "cannot continue reading the dump: interrupted"


@ALL
def test_what_a_restored_dump_contains(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    """The facts hold for what psql makes of the dump, too."""
    name = new_database("rich_copy")
    text = dumped(server, ["--inserts"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump.sql"
        path.write_bytes(text)
        target, _ = server.target(name).child()
        run(server, "psql", "-v", "ON_ERROR_STOP=1", "-qd", target, "-o", "/dev/null", "-f", path)
    expected, _ = facts_of_dump(Text(text), time_zone="UTC")
    with server.target(name).connect(autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = facts_of_database(connection, like=expected)
    assert expected.tables == found.tables and expected.large_objects == found.large_objects
    assert expected.sequences == found.sequences
