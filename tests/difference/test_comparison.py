"""A database against the restore points of its earlier state, of every kind, and against other databases."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.context import Context
from lastgood.difference import Comparison, DatabaseSide, PointSide, Side, TableDifference, compared
from lastgood.difference.tally import Tally
from lastgood.errors import Interrupted
from lastgood.points import point_at
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support.same_database import dump
from tests.support.waiting import until

BEFORE = r"""
CREATE TABLE keyed (id int PRIMARY KEY, note text, "t" text, k int, src text);
INSERT INTO keyed SELECT i, 'nöte ' || i, E'tab\tand\nline\\', i, NULL FROM generate_series(1, 100) i;
CREATE TABLE pair (a text COLLATE "C", b int, v text, UNIQUE (a, b));
ALTER TABLE pair ALTER a SET NOT NULL, ALTER b SET NOT NULL;
INSERT INTO pair SELECT 'key ' || i % 10, i, 'v' FROM generate_series(1, 50) i;
CREATE TABLE keyless (v text);
INSERT INTO keyless VALUES ('once'), ('twice'), ('twice'), (NULL), (E'\\N'), ('');
CREATE TABLE same (id int PRIMARY KEY, at timestamptz, doubled int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO same SELECT i, '2026-01-01 00:00+02' FROM generate_series(1, 1000) i;
CREATE TABLE gone (id int PRIMARY KEY);
INSERT INTO gone VALUES (1), (2);
CREATE TABLE wider (id int PRIMARY KEY, amount int, renamed text);
INSERT INTO wider SELECT i, i, 'x' FROM generate_series(1, 10) i;
CREATE TABLE empty (id int);
CREATE TABLE days (day date, v int) PARTITION BY RANGE (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
INSERT INTO days VALUES ('2026-01-01', 1), ('2026-01-01', 2);
CREATE TABLE big (id int PRIMARY KEY, v text);
INSERT INTO big VALUES (1, repeat('x', 5000000)), (2, repeat('y', 5000000)), (3, 'small');
CREATE TABLE moved (id int PRIMARY KEY, v text);
INSERT INTO moved SELECT i, 'value ' || i FROM generate_series(1, 3000) i;
CREATE TABLE turned (id int PRIMARY KEY, v text, b bytea);
INSERT INTO turned SELECT i, 'v' || i, decode(md5(i::text), 'hex') FROM generate_series(1, 300) i;
CREATE TABLE twins (v text, k int);
INSERT INTO twins SELECT 'v' || i % 7, i % 5 FROM generate_series(1, 3000) i;
"""
AFTER = r"""
UPDATE keyed SET note = note || '!' WHERE id <= 40;
DELETE FROM keyed WHERE id > 80;
INSERT INTO keyed SELECT i, 'new', E'\\N', NULL, '' FROM generate_series(101, 120) i;
UPDATE pair SET v = 'w' WHERE b = 7;
DELETE FROM keyless WHERE v = 'once';
INSERT INTO keyless VALUES ('twice'), (NULL), ('');
DROP TABLE gone;
CREATE TABLE came (id int PRIMARY KEY, v text);
INSERT INTO came VALUES (1, NULL);
ALTER TABLE wider ALTER amount TYPE bigint, ADD extra int;
ALTER TABLE wider RENAME renamed TO other_name;
UPDATE wider SET amount = 0 WHERE id = 3;
CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
INSERT INTO days VALUES ('2026-01-02', 3);
UPDATE big SET v = v || 'z' WHERE id = 2;
UPDATE moved SET v = v WHERE id % 3 = 0;
UPDATE moved SET v = 'value ' || 3000 - id WHERE id IN (1000, 2000);
DELETE FROM moved WHERE id BETWEEN 1200 AND 1300;
INSERT INTO moved SELECT i, 'value ' || i FROM generate_series(1290, 1300) i;
ALTER TABLE turned RENAME TO turning;
CREATE TABLE turned (b bytea, v text, id int PRIMARY KEY);
INSERT INTO turned SELECT b, CASE WHEN id = 7 THEN 'seven' ELSE v END, id FROM turning ORDER BY id < 250;
DROP TABLE turning;
DELETE FROM twins WHERE ctid IN (SELECT ctid FROM twins WHERE v = 'v3' AND k = 2 LIMIT 5);
UPDATE twins SET k = k WHERE v = 'v1';
INSERT INTO twins VALUES ('v4', 1), ('v4', 1), ('v7', 1);
"""
EXPECTED = {
    "big": ("different", 0, 0, 1),
    "came": ("only b", 0, 1, 0),
    "days": ("different", 0, 1, None),
    "empty": ("equal", 0, 0, 0),
    "gone": ("only a", 2, 0, 0),
    "keyed": ("different", 20, 20, 40),
    "keyless": ("different", 1, 3, None),
    "moved": ("different", 90, 0, 2),
    "pair": ("different", 0, 0, 1),
    "same": ("equal", 0, 0, 0),
    "turned": ("different", 0, 0, 1),
    "twins": ("different", 5, 3, None),
    "wider": ("different", 0, 0, 1),
}
OTHER_SIDE = {"only a": "only b", "only b": "only a"}
OPTIONS = {
    "plain": ["-Fp"],
    "latin1": ["-E", "LATIN1"],
    "gzip": ["-Fp", "-Z", "6"],
    "custom": ["-Fc"],
    "directory": ["-Fd"],
    "tar": ["-Ft"],
    "inserts": ["--rows-per-insert=100"],
}
KINDS = ("plain", "latin1", "gzip", "custom", "directory", "tar", "inserts", "ours", "database")


def counts(found: Comparison) -> dict[str, tuple[str, int | None, int | None, int | None]]:
    """State and numbers by table. Where both are equal, rows without a key count as unchanged."""
    return {
        each.name: (
            each.state,
            each.only_a,
            each.only_b,
            each.changed or (0 if each.state == "equal" else each.changed),
        )
        for each in found.tables
    }


def by_name(found: Comparison, name: str) -> TableDifference:
    return next(each for each in found.tables if each.name == name)


def rows(found: Comparison, name: str) -> list[dict[str, Any]]:
    return [row for batch in found.rows(by_name(found, name)) for row in batch.to_pylist()]


@pytest.fixture
def sides(server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, store: Path) -> Callable[..., Any]:
    """Makes both sides: the state before, of some kind, and the live database."""

    def make(kind: str) -> tuple[Side, DatabaseSide]:
        live = server.target(new_database("live"))
        fill(live, BEFORE)
        before = side_before(server, live, kind, new_database, tmp_path, store)
        fill(live, AFTER)
        return before, DatabaseSide(live, "live")

    return make


def fill(target: Target, statements: str) -> None:
    with target.connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute("SET TimeZone = 'Europe/Berlin'")
        connection.execute(statements.encode())


def side_before(
    server: EmbeddedServer,
    live: Target,
    kind: str,
    new_database: Callable[..., str],
    folder: Path,
    store: Path,
) -> Side:
    if kind == "database":
        twin = server.target(new_database("twin"))
        fill(twin, BEFORE)
        return DatabaseSide(twin, "twin")
    if kind == "ours":
        point = take(live, store)
        return PointSide(point, point.path.name)
    found = point_at(dump(server, live.dbname, folder / f"before-{kind}.sql", *OPTIONS[kind]))
    assert found is not None
    return PointSide(found, kind)


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_counted_exactly_against_every_kind(sides: Callable[..., Any], kind: str) -> None:
    with compared(*sides(kind)) as found:
        assert counts(found) == EXPECTED
        assert not found.equal


@pytest.mark.parametrize("kind", ["plain", "ours", "inserts", "database"])
def test_the_rows_that_differ(sides: Callable[..., Any], kind: str) -> None:
    with compared(*sides(kind), keep=True) as found:
        assert counts(found) == EXPECTED
        keyed = rows(found, "keyed")
        assert [len([row for row in keyed if row["change"] == each]) for each in ("only_a", "only_b", "changed")] == [
            20,
            20,
            40,
        ]
        assert keyed[0] == {
            "change": "changed",
            "key": ["1"],
            "a": ["1", "nöte 1", "tab\tand\nline\\", "1", None],
            "b": ["1", "nöte 1!", "tab\tand\nline\\", "1", None],
            "columns": ["note"],
        }
        assert keyed[-1]["b"] == ["120", "new", "\\N", None, ""]
        assert [row["key"] for row in rows(found, "pair")] == [["key 7", "7"]]
        multiset = sorted((row["change"], str((row["a"] or row["b"])[0])) for row in rows(found, "keyless"))
        assert multiset == [("only_a", "once"), ("only_b", ""), ("only_b", "None"), ("only_b", "twice")]
        lines = b"".join(found.lines(by_name(found, "keyed"), "only_b", "b"))
        assert lines.startswith(b"101\tnew\t\\\\N\t\\N\t\n")
        assert lines.count(b"\n") == 20
        assert b"".join(found.lines(by_name(found, "days"), "only_b", "b")) == b"2026-01-02\t3\n"
        assert b"".join(found.lines(by_name(found, "came"), "only_b", "b")) == b"1\t\\N\n"
        (big,) = rows(found, "big")
        assert (len(big["a"][1]), len(big["b"][1])) == (5000000, 5000001)
        assert rows(found, "same") == []


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_each_side_may_be_a_restore_point(
    sides: Callable[..., Any], kind: str, server: EmbeddedServer, tmp_path: Path
) -> None:
    before, live = sides(kind)
    with compared(live, before) as found:
        assert counts(found) == {
            name: (OTHER_SIDE.get(state, state), only_b, only_a, changed)
            for name, (state, only_a, only_b, changed) in EXPECTED.items()
        }
    point = point_at(dump(server, live.target.dbname, tmp_path / "after.sql", *OPTIONS[kind]))
    assert point is not None
    with compared(before, PointSide(point, "after"), keep=True) as found:
        assert counts(found) == EXPECTED
        assert [row["key"] for row in rows(found, "turned")] == [["7"]]
        assert len(b"".join(found.copies(by_name(found, "twins"), "b")).splitlines()) == 3000 // 35 * 2 + 4 - 5 + 1


def test_rows_in_another_order_are_equal(server: EmbeddedServer, new_database: Callable[..., str], store: Path) -> None:
    live = server.target(new_database("live"))
    fill(live, "CREATE TABLE x (id int PRIMARY KEY, v text); INSERT INTO x SELECT i, 'v' FROM generate_series(1, 99) i")
    text = "CREATE TABLE y (id int PRIMARY KEY, v text); INSERT INTO y SELECT i, 'v' FROM generate_series(1, 90000) i"
    fill(live, text)
    side = PointSide(take(live, store), "before")
    for statement in ("SELECT 1", "UPDATE x SET v = v WHERE id = 50; UPDATE y SET v = v WHERE id % 10000 = 50"):
        fill(live, statement)
        for level, by in (("digest", "digest"), ("count", "digest" if statement == "SELECT 1" else "count")):
            with compared(side, DatabaseSide(live, "live"), level=level) as found:  # type: ignore[arg-type]  # a level
                assert [(each.state, each.level, each.rows_a, each.rows_b) for each in found.tables] == [
                    ("equal", by, 99, 99),
                    ("equal", by, 90000, 90000),
                ]


def test_columns_of_one_side_are_named_and_proposed_as_renames(sides: Callable[..., Any]) -> None:
    with compared(*sides("plain")) as found:
        wider = by_name(found, "wider")
    assert (wider.columns, wider.columns_a, wider.columns_b) == (
        ("id", "amount"),
        ("renamed",),
        ("other_name", "extra"),
    )
    assert [(each.column, each.a, each.b) for each in wider.types] == [("amount", "integer", "bigint")]
    assert [(each.a, each.b, each.why) for each in wider.renames] == [("renamed", "other_name", "same definition")]


def test_nothing_is_left_of_the_temporary_files(sides: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with compared(*sides("database"), keep=True, folder=folder):
        assert [*folder.iterdir()]
    assert [*folder.iterdir()] == []


def test_time_stamps_of_an_unknown_zone_are_not_compared(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    live = server.target(new_database("live"))
    fill(live, "CREATE TABLE spans (span tstzrange); INSERT INTO spans VALUES ('[2026-01-01 00:00+00,)')")
    before = point_at(dump(server, live.dbname, tmp_path / "before.sql"))
    assert before is not None
    with compared(PointSide(before, "before"), DatabaseSide(live, "live")) as found:
        (spans,) = found.tables
    assert (spans.state, spans.why) == ("not compared", "the time zone of the time stamps is unknown")
    assert not found.equal


def database(server: EmbeddedServer, new_database: Callable[..., str], statements: str) -> Target:
    target = server.target(new_database("side"))
    fill(target, statements)
    return target


def test_a_renamed_table_is_proposed_and_not_assumed(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    text = "CREATE TABLE {} (id int PRIMARY KEY, v text); INSERT INTO {} SELECT i, 'x' FROM generate_series(1, {}) i"
    a = database(server, new_database, text.format("old_name", "old_name", 9))
    b = database(server, new_database, text.format("new_name", "new_name", 9))
    c = database(server, new_database, text.format("new_name", "new_name", 8))
    for other, why in ((b, "same content"), (c, "same definition")):
        with compared(DatabaseSide(a, "a"), DatabaseSide(other, "b")) as found:
            assert {name: each[0] for name, each in counts(found).items()} == {
                "old_name": "only a",
                "new_name": "only b",
            }
            assert [(each.a, each.b, each.why) for each in found.renames] == [
                ("public.old_name", "public.new_name", why)
            ]


def test_a_key_that_is_not_unique_on_the_other_side_is_not_used(
    server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    a = database(
        server, new_database, "CREATE TABLE x (id int PRIMARY KEY, v int); INSERT INTO x VALUES (1, 1), (2, 2)"
    )
    b = database(server, new_database, "CREATE TABLE x (id int, v int); INSERT INTO x VALUES (1, 1), (1, 1), (2, 3)")
    with compared(DatabaseSide(a, "a"), DatabaseSide(b, "b"), keep=True) as found:
        (x,) = found.tables
        assert (x.only_a, x.only_b, x.changed, x.key) == (1, 2, None, ())
        assert x.why == "duplicate key (id); compared by whole rows"
        assert sorted((row["change"], row["a"] or row["b"]) for row in rows(found, "x")) == [
            ("only_a", ["2", "2"]),
            ("only_b", ["1", "1"]),
            ("only_b", ["2", "3"]),
        ]


def test_equal_rows_do_not_hide_that_a_key_identifies_none(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    """A unique key with NULLs, and one that is unique in each partition only."""
    table = "CREATE TABLE x (id int UNIQUE, v text); INSERT INTO x VALUES (NULL, 'same'), (1, 'one'), (NULL, '{}')"
    part = (
        "CREATE TABLE p{0} PARTITION OF p FOR VALUES IN ({0});"
        "ALTER TABLE p{0} ALTER id SET NOT NULL, ADD UNIQUE (id); INSERT INTO p VALUES ({0}, 1);"
    )
    parts = "CREATE TABLE p (day int, id int) PARTITION BY LIST (day);" + part.format(1)
    sides: list[Side] = []
    for text in (f"{table.format('a')}; {parts}", f"{table.format('b')}; {parts} {part.format(2)}"):
        target = database(server, new_database, text)
        point = point_at(dump(server, target.dbname, tmp_path / f"{target.dbname}.sql"))
        assert point is not None
        sides.append(PointSide(point, "point"))
    with compared(*sides) as found:
        assert counts(found) == {"p": ("different", 0, 1, None), "x": ("different", 1, 1, None)}
        assert {each.name: (each.key, each.why) for each in found.tables} == {
            "p": (
                (),
                "duplicate key (id); compared by whole rows; the partitions differ; compared as one table",
            ),
            "x": ((), "duplicate key (id); compared by whole rows"),
        }


def test_kept_schemas_are_compared_under_their_live_names(
    server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    target = database(
        server,
        new_database,
        "CREATE TABLE x (id int PRIMARY KEY, v int); INSERT INTO x VALUES (1, 1), (2, 2);"
        "CREATE SCHEMA kept; CREATE TABLE kept.x (v int, id int PRIMARY KEY); INSERT INTO kept.x VALUES (1, 1), (7, 2)",
    )
    here = DatabaseSide(target, "kept", {"kept": "public"})
    with compared(here, DatabaseSide(target, "live", {"public": "public"}), keep=True) as found:
        assert counts(found) == {"x": ("different", 0, 0, 1)}
        assert rows(found, "x") == [
            {"change": "changed", "key": ["2"], "a": ["7", "2"], "b": ["2", "2"], "columns": ["v"]}
        ]


def test_what_there_is_no_time_for_is_named(sides: Callable[..., Any]) -> None:
    with compared(*sides("ours"), seconds=0) as found:
        states = {each.name: (each.state, each.why) for each in found.tables}
    assert states["keyed"] == ("not compared", "time limit of 0 ms reached")
    assert states["came"] == ("only b", "")
    assert not found.equal


def test_a_locked_table_is_named(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    target = database(server, new_database, "CREATE TABLE free (id int); CREATE TABLE locked (id int)")
    with target.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE public.locked IN ACCESS EXCLUSIVE MODE")
        side = DatabaseSide(target, "side")
        with compared(side, side) as found:
            assert {each.name: (each.state, each.why) for each in found.tables} == {
                "free": ("equal", ""),
                "locked": ("not compared", "another session has locked it"),
            }


def test_an_interrupt_ends_it_at_once_and_leaves_nothing(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path
) -> None:
    target = database(
        server, new_database, "CREATE TABLE x AS SELECT i, repeat('x', 100) v FROM generate_series(1, 300000) i"
    )
    side = DatabaseSide(target, "side")
    seen: list[object] = []
    context = Context(emit=seen.append, cancelled=lambda: bool(seen))
    with (
        pytest.raises(Interrupted, match=r"^cannot continue the comparison: interrupted$"),
        compared(side, side, folder=tmp_path, context=context),
    ):
        pass
    assert [*tmp_path.iterdir()] == []
    with target.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lastgood difference' AND datname = %s"
        until(lambda: connection.execute(query, [target.dbname]).fetchone() == (0,))


def test_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f"lastgood-difference-{ended.pid}-x").mkdir()
    (tmp_path / f"lastgood-difference-{os.getpid()}-x").mkdir()
    with Tally(tmp_path) as tally, tally.session():
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"lastgood-difference-{os.getpid()}-x"]


def test_a_table_that_the_role_cannot_read_is_named(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    target = database(server, new_database, "CREATE TABLE free (id int); CREATE TABLE secret (id int)")
    role = f"reader_{target.dbname}"
    with target.connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON public.free TO {role}".encode())
    side = DatabaseSide(server.target(target.dbname, user=role), "side")
    try:
        with compared(side, side) as found:
            assert {each.name: (each.state, each.why) for each in found.tables} == {
                "free": ("equal", ""),
                "secret": ("not compared", "permission denied for table secret"),
            }
    finally:
        with target.connect() as connection:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


@pytest.mark.parametrize(("encoding", "why"), [("SQL_ASCII", ": 0xff"), ("UTF8", "")])
def test_rows_of_invalid_text_are_not_compared(
    encoding: str, why: str, server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    """Databases that stored bytes without verifying them; the other tables are compared."""
    sides = []
    for number in range(2):
        target = server.target(new_database())
        with server.target("postgres").connect() as connection:
            name = sql.Identifier(target.dbname)
            connection.execute(sql.SQL("DROP DATABASE {}").format(name))
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(name, encoding)
            )
        with target.connect() as connection:
            connection.execute("SET search_path = public; SET client_encoding = 'SQL_ASCII'")
            connection.execute("CREATE TABLE bad (id int PRIMARY KEY, v text)")
            connection.execute("CREATE TABLE keyed (v text PRIMARY KEY)")
            connection.execute("CREATE TABLE good AS SELECT %s::int AS id", [number])
            for table, row in (("bad", b"%d\ta\xffz\n" % number), ("keyed", b"a\xff%d\n" % number)):
                with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(row)
        sides.append(DatabaseSide(target, f"side {number}"))
    with compared(*sides, keep=True) as found:
        assert {each.name: (each.state, each.why) for each in found.tables} == {
            "bad": ("not compared", f'invalid byte sequence for encoding "UTF8"{why}'),
            "keyed": ("not compared", f'invalid byte sequence for encoding "UTF8"{why}'),
            "good": ("different", ""),
        }
        assert not found.equal
        assert [sum(batch.num_rows for batch in found.rows(each)) for each in found.tables] == [0, 2, 0]
