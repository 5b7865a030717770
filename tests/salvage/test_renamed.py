"""Tables and columns that a migration renamed, created or dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lastgood.errors import Refused
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.salvage import images, tables, undo
from lastgood.salvage.plan import Chosen
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
from tests.salvage.sides import LIVE, THEIRS, everywhere, inside, planned, salvaged
from tests.salvage.test_salvage import Live, sums

SCHEMA = """
CREATE TABLE contacts (id int PRIMARY KEY, email text, phone text, n int, old text);
CREATE TABLE people (id int PRIMARY KEY, name text);
CREATE TABLE gone (id bigint);
INSERT INTO contacts SELECT i, 'mail ' || i, 'phone ' || i, i, 'old' FROM generate_series(1, 50) i;
INSERT INTO people SELECT i, 'name ' || i FROM generate_series(1, 50) i;
INSERT INTO gone VALUES (1);
"""
MIGRATION = """
ALTER TABLE contacts RENAME email TO mail; ALTER TABLE contacts RENAME phone TO tel;
ALTER TABLE contacts ADD score int DEFAULT 3; ALTER TABLE people RENAME TO persons; DROP TABLE gone;
CREATE TABLE fresh (id int); CREATE TABLE again (id int PRIMARY KEY, a text);
"""
LATER = """
UPDATE contacts SET mail = 'right', old = 'new' WHERE id = 7; INSERT INTO contacts VALUES (51, 'new', 'new', 51);
UPDATE persons SET name = 'new' WHERE id = 3; INSERT INTO fresh VALUES (1); INSERT INTO again VALUES (1, 'x'), (2, 'y');
"""
NOTES = [
    "public.fresh: 1 row not brought back: only the kept database has this table; if it was renamed: --renamed "
    "public.fresh=TABLE",
    "public.gone: 1 row in the restore point; the kept database has no such table, so nothing is brought back",
    "public.persons: 50 rows not brought back: only the kept database has this table; if it was renamed: --renamed "
    "public.persons=public.people",
    'public.contacts: column "mail": its values in 2 rows are not brought back: only the kept database has it; if it '
    "was renamed: --renamed public.contacts.mail=email",
    'public.contacts: column "tel": its values in 2 rows are not brought back: only the kept database has it; if it '
    "was renamed: --renamed public.contacts.tel=phone",
    'public.contacts: column "score": its values in 2 rows are not brought back: only the kept database has it',
    'public.contacts: column "old": its values are not brought back: the live database lacks it',
    "public.contacts: only the live database has the column email, phone; new rows get its default",
]
RENAMED = ("public.persons=people", "contacts.mail=email", "public.contacts.tel=phone")
ROWS: list[tuple[str, list[tuple[Any, ...]]]] = [
    (
        "SELECT * FROM contacts WHERE id IN (7, 8, 51) ORDER BY id",
        [(7, "right", "phone 7", 7), (8, "mail 8", "phone 8", 8), (51, "new", "new", 51)],
    ),
    ("SELECT * FROM people WHERE id IN (3, 4) ORDER BY id", [(3, "new"), (4, "name 4")]),
    ("SELECT * FROM again ORDER BY id", [(1, "ours"), (2, "y")]),
]


@pytest.mark.parametrize("in_place", [False, True])
def test_rows_of_renamed_tables_and_columns_come_back(
    in_place: bool,
    server: EmbeddedServer,
    new_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    lastgood: Lastgood,
    tmp_path: Path,
) -> None:
    live = Live(server, new_database("crm"))
    monkeypatch.setenv("LASTGOOD_DB", server.url(live.name))
    live.execute(SCHEMA)
    assert lastgood("backup").status == 0
    live.execute(MIGRATION)
    live.execute(LATER)
    assert lastgood("rollback", "--yes", *(["--in-place"] if in_place else [])).status == 0
    # The corrected migration ran again.
    live.execute("ALTER TABLE contacts DROP old")
    live.execute("CREATE TABLE again (id int PRIMARY KEY, a text); INSERT INTO again VALUES (1, 'ours')")

    out = lastgood("salvage").out
    shown = out.partition("Notes\n")[2].partition("\n\n")[0]
    kind = "kept schemas" if in_place else "kept database"
    assert [" ".join(each.split()) for each in shown.split("  - ")[1:]] == [
        each.replace("kept database", kind) for each in NOTES
    ]
    plan = lastgood("salvage", "plan").out
    assert '# If it was renamed, add: "public.contacts.mail=email"\n' in plan
    file = tmp_path / "salvage.toml"
    names = ", ".join(f'"{each}"' for each in RENAMED)
    file.write_text(plan.replace("renamed = []", f"renamed = [{names}]").replace("tables = [", 'tables = ["people",'))
    found = sums(lastgood("salvage", "apply", str(file), "--yes", "--json").document)
    assert found == {
        ("contacts", "insert", "insert", ""): 1,
        ("contacts", "update", "update", ""): 1,
        ("people", "update", "update", ""): 1,
        ("again", "insert", "insert", ""): 1,
        ("again", "insert", None, "insert_exists"): 1,
    }
    for query, rows in ROWS:
        assert live.rows(query) == rows
    assert lastgood("salvage", "undo", "--yes").status == 0
    hint = "Name what was renamed, and its old name: --renamed NEW=OLD, or --renamed TABLE.NEW=OLD for a column."
    for given, why, then in (
        ("public.none=people", 'it has no table "public.none"', hint),
        ("public.persons=again", 'it has both "public.persons" and "public.again"', hint),
        ("contacts.none=email", 'its table "public.contacts" has no column "none"', hint),
        ("contacts.mail=n", 'its table "public.contacts" has both "mail" and "n"', hint),
    ):
        outcome = lastgood("salvage", "--renamed", given, "--quiet")
        assert outcome.status == 2
        message, state, following = outcome.err.splitlines()
        assert message.startswith("error: cannot use the new names in ")
        assert message.endswith(f": {why}")
        assert (state, following) == ("state: Nothing was changed.", f"next:  {then}")
    outcome = lastgood("salvage", "--renamed", "contacts.mail=none", "--quiet")
    assert outcome.err == (
        'error: cannot use --renamed "contacts.mail=none": the live database has no such table or column "none"\n'
        "state: Nothing was changed.\n"
        "next:  Examples: --renamed public.people=public.contacts for a table, --renamed public.contacts.mail=email "
        "for a column.\n"
    )


def test_a_row_that_differs_only_in_a_column_that_the_live_database_lacks_is_no_change(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    target = server.target("postgres")
    everywhere(
        target,
        "CREATE TABLE p (id int PRIMARY KEY, a text, b text); INSERT INTO p VALUES (1, 'a', 'b'), (2, 'a', 'b');"
        "CREATE TABLE bare (a text, b text); INSERT INTO bare VALUES ('a', '1')",
    )
    inside(target, THEIRS, "UPDATE p SET b = 'new' WHERE id = 1; UPDATE p SET a = 'new', b = 'new' WHERE id = 2")
    inside(target, THEIRS, "INSERT INTO bare VALUES ('a', '2')")
    inside(target, LIVE, "ALTER TABLE p DROP b; ALTER TABLE bare DROP b")
    with planned(target, tmp_path, Chosen()) as ready:
        found = {(each.name, one.kind, one.action): one.rows for each in ready.plan.tables for one in each.sums}
        lost = [(each.name, each.column, each.rows, each.live, each.base) for each in ready.plan.left_columns]
    assert found == {("p", "update", "update"): 1, ("bare", "insert", "insert"): 1}
    assert lost == [("bare", "b", None, False, True), ("p", "b", None, False, True)]


def test_an_undo_needs_the_columns_of_the_tables_that_were_written_to(server: EmbeddedServer, tmp_path: Path) -> None:
    target = server.target("postgres")
    everywhere(
        target,
        "CREATE TABLE parent (id int PRIMARY KEY, a text); INSERT INTO parent VALUES (1, 'a');"
        "CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent)",
    )
    inside(target, THEIRS, "UPDATE parent SET a = 'new'; INSERT INTO child VALUES (1, 1)")
    salvaged(target, tmp_path, "run", Chosen(tables=("live.child",)))
    inside(target, LIVE, "ALTER TABLE parent RENAME a TO b")
    recorded = images.read(tmp_path, "run")
    assert [each.name for each in recorded.tables] == ["child"]
    inside(target, LIVE, "ALTER TABLE child RENAME parent TO parent_id")
    with target.connect() as connection, pytest.raises(Refused) as error:
        undo.backwards(tmp_path, recorded, recorded.tables[0], tables.read(connection), 1)
    assert str(error.value) == 'cannot undo the salvage "run": the columns of table "live.child" changed'
    assert error.value.hint == "Correct these rows with SQL."
