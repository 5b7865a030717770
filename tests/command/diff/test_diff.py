"""``lastgood diff`` on a small live database, as a whole command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

CHANGES = """
UPDATE public.contacts SET name = 'Bob' WHERE id = 2;
DELETE FROM public.deals WHERE id = 1;
INSERT INTO public.contacts VALUES (4, NULL, '2025-11-04');
"""


def execute(server: EmbeddedServer, database: str, statements: str) -> None:
    with server.target(database).connect() as connection:
        connection.execute(statements.encode())


@pytest.fixture
def changed(lastgood: Lastgood, server: EmbeddedServer, database: str, store: Path) -> str:
    """The name of a restore point, from before some changes."""
    made = lastgood("backup", "--store", str(store), "--json")
    assert made.status == 0, made.err
    execute(server, database, CHANGES)
    return str(store / Path(json.loads(made.out)["point"]["path"]).name)


def test_the_counts_of_a_point_and_the_live_database(lastgood: Lastgood, changed: str) -> None:
    found = lastgood("diff", changed)
    assert found.status == 3
    assert found.out == (
        f"2 of 3 tables differ: {changed} (A) and the live database (B)\n"
        "  table            rows in A  rows in B  only in A  only in B  changed\n"
        "  public.contacts          3          4          0          1        1\n"
        "  public.deals             2          1          1          0        0\n"
        "  1 other table is equal.\n"
    )


def test_the_rows_with_the_columns_that_differ(lastgood: Lastgood, changed: str) -> None:
    found = lastgood("diff", changed, "--rows", "--table", "contacts")
    assert found.status == 3
    assert found.out.partition("\n\n")[2] == (
        "public.contacts\n"
        "  row  change     values\n"
        "  2    changed    name: Bo → Bob\n"
        "  4    only in B  name: NULL; created_at: 2025-11-04 00:00:00+00\n"
    )


def test_one_document_has_the_counts_and_the_rows(lastgood: Lastgood, changed: str) -> None:
    document = json.loads(lastgood("diff", changed, "--live", "--rows", "--first", "1", "--json").out)
    assert (document["a"], document["b"], document["equal"]) == (changed, "the live database", False)
    tables = {
        each["name"]: (each["state"], each["only_a"], each["only_b"], each["changed"]) for each in document["tables"]
    }
    assert tables == {
        "contacts": ("different", 0, 1, 1),
        "deals": ("different", 1, 0, 0),
        "schema_migrations": ("equal", 0, 0, 0),
    }
    assert document["rows"] == [
        {
            "table": "public.contacts",
            "rows": [
                {
                    "change": "changed",
                    "key": ["2"],
                    "a": ["2", "Bo", "2025-11-02 00:00:00+00"],
                    "b": ["2", "Bob", "2025-11-02 00:00:00+00"],
                    "columns": ["name"],
                }
            ],
            "more": 1,
        },
        {
            "table": "public.deals",
            "rows": [{"change": "only_a", "key": ["1"], "a": ["1", "1"], "b": None, "columns": []}],
            "more": 0,
        },
    ]


def test_all_rows_go_to_files_that_only_their_owner_can_read(lastgood: Lastgood, changed: str, tmp_path: Path) -> None:
    folder = tmp_path / "differences"
    found = lastgood("diff", changed, "--format", "csv", "--output", str(folder), "--quiet")
    assert found.status == 3, found.err
    assert (folder / "public.contacts.csv").read_text() == (
        "change,differing,a.id,b.id,a.name,b.name,a.created_at,b.created_at\n"
        "changed,name,2,2,Bo,Bob,2025-11-02 00:00:00+00,2025-11-02 00:00:00+00\n"
        'only_b,"",,4,,,,2025-11-04 00:00:00+00\n'
    )
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    lastgood("diff", changed, "--format", "json", "--output", str(folder))
    assert [json.loads(line) for line in (folder / "public.deals.json").read_text().splitlines()] == [
        {"change": "only_a", "differing": "", "a.id": "1", "b.id": None, "a.contact": "1", "b.contact": None}
    ]


def test_masked_columns_are_never_shown(
    lastgood: Lastgood, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lastgood.toml").write_text('[diff]\nmasked = ["contacts.name", "*.id"]\n')
    found = lastgood("diff", changed, "--rows", "--html", "page.html", "--format", "csv", "--output", "files")
    assert "•••  changed    name: ••• → •••\n" in found.out
    text = found.out + Path("page.html").read_text() + Path("files/public.contacts.csv").read_text()
    assert "Bo" not in text
    assert "•••" in Path("files/public.contacts.csv").read_text()


def test_equal_sides_end_with_0(lastgood: Lastgood, changed: str) -> None:
    found = lastgood("diff", changed, changed)
    assert (found.status, found.out) == (0, f"Equal: {changed} and {changed}, 3 tables, 7 rows.\n")


def test_digests_only_tell_which_tables_differ(lastgood: Lastgood, changed: str) -> None:
    found = lastgood("diff", changed, "--level", "digest")
    assert found.status == 3
    assert found.out == (
        f"2 of 3 tables differ: {changed} (A) and the live database (B)\n"
        "  table            rows in A  rows in B\n"
        "  public.contacts          3          4\n"
        "  public.deals             2          1\n"
        "  The digests differ; to count the rows that differ: --level count\n"
        "  1 other table is equal.\n"
    )


def test_a_kept_database_is_read_and_stays_closed(
    lastgood: Lastgood, changed: str, server: EmbeddedServer, database: str
) -> None:
    done = lastgood("rollback", changed, "--yes", "--json", "--store", str(Path(changed).parent))
    assert done.status == 0, done.err
    kept = json.loads(done.out)["kept"]
    found = lastgood("diff", kept)
    assert found.status == 3
    assert "  public.contacts          4          3          1          0        1\n" in found.out
    with server.target("postgres").connect() as connection:
        query = sql.SQL("SELECT datallowconn FROM pg_database WHERE datname = {}").format(kept)
        assert connection.execute(query).fetchone() == (False,)


def test_another_servers_database_by_its_url(
    lastgood: Lastgood, changed: str, server: EmbeddedServer, database: str
) -> None:
    found = lastgood("diff", server.url(database))
    assert found.status == 0
    assert found.out == "Equal: the database of the URL and the live database, 3 tables, 7 rows.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--live", "x"), "cannot combine B with --live: it compares A with the live database"),
        (("--format", "csv"), "cannot use --format csv without --output: it is the format of files"),
    ],
)
def test_wrong_usage(lastgood: Lastgood, changed: str, arguments: tuple[str, ...], message: str) -> None:
    found = lastgood("diff", changed, *arguments)
    assert found.status == 2
    assert message in found.err


def test_an_unknown_point_is_reported(lastgood: Lastgood, database: str, store: Path) -> None:
    found = lastgood("diff", "nothing.sql", "--store", str(store))
    assert found.status == 4
    assert 'cannot find the restore point "nothing.sql"' in found.err


def test_a_file_that_cannot_be_written(lastgood: Lastgood, changed: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = lastgood("diff", changed, "--format", "csv", "--output", str(tmp_path / "file" / "below"))
    assert found.status == 5
    assert f'cannot write "{tmp_path}/file/below/public.contacts.csv": not a directory' in found.err


def test_a_pattern_that_matches_no_table_is_wrong_usage(lastgood: Lastgood, changed: str) -> None:
    for others in ((), ("--table", "contacts")):
        found = lastgood("diff", changed, "--quiet", *others, "--table", "contcts")
        assert (found.status, found.out) == (2, "")
        assert found.err == (
            'error: cannot compare: no table matches "contcts"\n'
            "state: Nothing was changed.\n"
            "next:  Names are case-sensitive, with or without the schema, and may have * and ?.\n"
        )
