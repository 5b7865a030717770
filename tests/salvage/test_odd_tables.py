"""Tables with unusual names, columns and kinds: each is salvaged, or named, and none stops the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from string import Template

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
from tests.salvage.test_salvage import Live, sums

NAMES = (
    "50% off", "100%s", "%(since)s", 'say "hi"', "it's", "a\nb", "tab\tx", "dots.in.name", "emoji 🦊", "x" * 63,
    "[a] b", "select", "back\\slash", "{brace}", "$1", "semi;colon--",
)  # fmt: skip
BEFORE = """
CREATE TABLE {n} (id int PRIMARY KEY, {c} text);
INSERT INTO {n} SELECT i, 'old ' || i FROM generate_series(1, 20) i
"""
MIGRATION = "UPDATE {n} SET {c} = 'lost ' || id WHERE id > 3"
LATER = "UPDATE {n} SET {c} = 'user' WHERE id IN (2, 5); INSERT INTO {n} VALUES (100, 'new')"
KINDS = """
CREATE TYPE mood AS ENUM ('good'); CREATE TYPE pair AS (id int, a text); CREATE DOMAIN dom AS int CHECK (VALUE > 0);
CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES;
CREATE TABLE computed (g int GENERATED ALWAYS AS (1) STORED); INSERT INTO computed DEFAULT VALUES;
CREATE TABLE moods (id int PRIMARY KEY, m mood); INSERT INTO moods VALUES (1, 'good');
CREATE TABLE part (id int, r int, a text, PRIMARY KEY (r, id)) PARTITION BY LIST (r);
CREATE TABLE part1 (a text, r int NOT NULL, id int NOT NULL);
ALTER TABLE part ATTACH PARTITION part1 FOR VALUES IN (1);
CREATE TABLE part2 (junk int, id int NOT NULL, a text, r int NOT NULL); ALTER TABLE part2 DROP junk;
ALTER TABLE part ATTACH PARTITION part2 FOR VALUES IN (2); INSERT INTO part VALUES (1, 1, 'a'), (2, 2, 'b');
CREATE TABLE parent (id int PRIMARY KEY, a text); CREATE TABLE child (b text, PRIMARY KEY (id)) INHERITS (parent);
INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 'b');
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, a text); INSERT INTO unlogged VALUES (1, 'x');
CREATE TABLE typed OF pair (PRIMARY KEY (id)); INSERT INTO typed VALUES (1, 'x');
CREATE TABLE doms (id dom PRIMARY KEY, a dom[], c pair, d pair[]);
INSERT INTO doms VALUES (1, '{1,2}', (1, 'x'), ARRAY[(1, 'x')::pair]);
CREATE TABLE jsons (k jsonb PRIMARY KEY, j json); INSERT INTO jsons VALUES ('{"a": 1}', '{"a":1}');
CREATE FOREIGN DATA WRAPPER fdw; CREATE SERVER far FOREIGN DATA WRAPPER fdw;
CREATE FOREIGN TABLE far (a text) SERVER far;
"""
WRITTEN = """
INSERT INTO empty DEFAULT VALUES; INSERT INTO computed DEFAULT VALUES; INSERT INTO moods VALUES (2, 'new'), (3, 'good');
INSERT INTO part VALUES (3, 2, 'n'); UPDATE part SET a = 'user' WHERE r = 2; INSERT INTO parent VALUES (3, 'p');
UPDATE child SET b = 'user'; INSERT INTO unlogged VALUES (2, 'y'); INSERT INTO typed VALUES (2, 'y');
INSERT INTO doms VALUES (2, '{3}', (2, 'y'), NULL); UPDATE jsons SET j = '{"a":2}';
"""
NOTES = [
    "public.computed: cannot be salvaged, and is left out: no column with stored values exists in all databases",
    "public.empty: cannot be salvaged, and is left out: no column with stored values exists in all databases",
    "public.moods: cannot be salvaged, and is left out: a value does not fit a column of the live database: invalid "
    'input value for enum public.mood: "new"',
]


def named(statement: str, name: str) -> str:
    column = sql.Identifier(name[:50] + " c")
    return sql.SQL(statement).format(n=sql.Identifier(name), c=column).as_string()


def test_odd_tables_are_salvaged_or_named(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> None:
    live = Live(server, new_database("crm"))
    monkeypatch.setenv("LASTGOOD_DB", server.url(live.name))
    live.execute(KINDS)
    for name in NAMES:
        live.execute(named(BEFORE, name))
    assert lastgood("backup").status == 0
    live.execute("ALTER TYPE mood ADD VALUE 'new'")
    for name in NAMES:
        live.execute(named(MIGRATION, name))
        live.execute(named(LATER, name))
    live.execute(WRITTEN)
    kept = lastgood("rollback", "--yes", "--json").document["kept"]

    rows = lastgood(
        "diff", kept, "--rows", "--table", "empty", "--table", "computed", "--output", "out", "--format", "csv"
    )
    assert rows.out.partition("\n\n")[2] == (
        "public.computed\n"
        "  row  change     values\n"
        "       only in A  (no columns)\n"
        "\n"
        "public.empty\n"
        "  row  change     values\n"
        "       only in A  (no columns)\n"
        "  Written: out/public.computed.csv, out/public.empty.csv\n"
    )
    shown = lastgood("salvage").out.partition("Notes\n")[2].partition("\n\n")[0]
    # The migration is one of the recognised transactions: ALTER TYPE is none.
    assert [" ".join(each.split()) for each in shown.split("  - ")[1:]] == NOTES
    Path("salvage.toml").write_text(lastgood("salvage", "plan").out)
    found = sums(lastgood("salvage", "apply", "salvage.toml", "--yes", "--json").document)
    expected: dict[tuple[str, str, str | None, str], int] = {
        ("part", "insert", "insert", ""): 1,
        ("part", "update", "update", ""): 1,
        ("parent", "insert", "insert", ""): 1,
        ("child", "update", "update", ""): 1,
        ("unlogged", "insert", "insert", ""): 1,
        ("typed", "insert", "insert", ""): 1,
        ("doms", "insert", "insert", ""): 1,
        ("jsons", "update", "update", ""): 1,
    }
    for name in NAMES:
        expected[name, "insert", "insert", ""] = 1
        expected[name, "update", "update", ""] = 2
        expected[name, "update", None, "migration"] = 16
    assert found == expected
    for name in NAMES:
        assert live.rows(named("SELECT {c} FROM {n} WHERE id IN (2, 5, 6, 100) ORDER BY id", name)) == [
            ("user",),
            ("user",),
            ("old 6",),
            ("new",),
        ]
    assert lastgood("salvage", "undo", "--yes").status == 0
    shown = lastgood("salvage", "--exclude", "moods", "--exclude", "empty", "--exclude", "computed").out
    assert "Notes" not in shown
    outcome = lastgood("salvage", "--exclude", "moods", "plan")
    assert outcome.err == (
        'error: cannot use these options before "plan"\n'
        "state: Nothing was read or changed.\n"
        "next:  Give them after it: lastgood salvage plan --help shows its options\n"
    )


def test_hundreds_of_columns_are_merged(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> None:
    """Each cell of the merged row once took the expressions of the whole row, in each place: gigabytes."""
    live = Live(server, new_database("crm"))
    monkeypatch.setenv("LASTGOOD_DB", server.url(live.name))
    columns = ", ".join(f"c{number} int" for number in range(500))
    live.execute(Template("CREATE TABLE wide (id int PRIMARY KEY, $columns)").substitute(columns=columns))
    live.execute("INSERT INTO wide (id, c0, c499) VALUES (1, 1, 1)")
    assert lastgood("backup").status == 0
    live.execute("UPDATE wide SET c499 = 2; INSERT INTO wide (id) VALUES (2)")
    assert lastgood("rollback", "--yes").status == 0
    live.execute("UPDATE wide SET c0 = 3")
    assert lastgood("salvage", "apply", "--yes").status == 0
    assert live.rows("SELECT id, c0, c499 FROM wide ORDER BY id") == [(1, 3, 2), (2, None, None)]
