"""Rows that are chosen one by one at a terminal, by their keys in a plan file, and by the audit table."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.cli import main
from lastgood.command.salvage.choose import Chooser, chosen
from lastgood.errors import Interrupted
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.salvage.listing import ListedTable, Listing
from lastgood.salvage.plan import Chosen
from lastgood.screen.screen import Screen
from tests.cli.conftest import SRC, Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
from tests.conftest import USUAL, Servers
from tests.salvage.sides import BASE, LIVE, THEIRS, everywhere, inside, salvaged
from tests.salvage.test_salvage import sums
from tests.support.terminal import WIDTH, Terminal

NAME = "choices"
# The audit trigger of PostgreSQL's wiki keeps the row before the change; here as jsonb, without the extension hstore.
SCHEMA = """
CREATE TABLE contacts (id int PRIMARY KEY, name text, settings jsonb);
CREATE TABLE lines (deal int, line int, what text, PRIMARY KEY (deal, line));
CREATE TABLE notes (what text);
CREATE SCHEMA audit;
CREATE TABLE audit.logged_actions (event_id serial PRIMARY KEY, schema_name text, table_name text,
                                   session_user_name text, transaction_id bigint, row_data jsonb,
                                   action_tstamp_tx timestamptz);
INSERT INTO contacts SELECT i, 'name ' || i, '{"theme": 1, "lang": 1}' FROM generate_series(1, 40) i;
INSERT INTO lines SELECT i, j, 'line' FROM generate_series(1, 3) i, generate_series(1, 3) j;
"""
LATER = """
ALTER TABLE contacts ADD score int; UPDATE contacts SET name = 'lost' WHERE id BETWEEN 11 AND 19;
"""
USERS = """
INSERT INTO contacts SELECT i, 'new ' || i, '{}' FROM generate_series(41, 60) i;
UPDATE contacts SET settings = '{"theme": 2, "lang": 2}' WHERE id IN (1, 2); DELETE FROM contacts WHERE id = 30;
INSERT INTO lines VALUES (7, 1, 'a'), (7, 2, E'b\\x1b[31m'), (8, 1, 'c'); INSERT INTO notes VALUES ('x');
INSERT INTO audit.logged_actions
  (schema_name, table_name, session_user_name, transaction_id, row_data, action_tstamp_tx)
SELECT a, b, c, d, e::jsonb, timestamptz '2026-01-01 12:00Z' + (d - 900) * interval '1 hour' FROM (VALUES
  ('public', 'contacts', 'kim', 900, '{"id": 41, "name": "new 41"}'),
  ('public', 'contacts', 'kim', 904, '{"id": 30}'),
  ('public', 'contacts', 'kim', 901, '{"id": 1}'), ('public', 'contacts', 'lou', 902, '{"id": 42}'),
  ('other', 'contacts', 'kim', 903, '{"id": 43}'),
  ('public', 'lines', 'kim', 900, '{"deal": 7, "line": 2}')) v (a, b, c, d, e);
"""
SINCE = """UPDATE contacts SET settings = '{"theme": 3, "lang": 1}' WHERE id = 1;
UPDATE contacts SET settings = '{"theme": 1, "lang": 1, "zone": 1}' WHERE id = 2;"""


@pytest.fixture(scope="module")
def rolled_back(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a live database that was rolled back. The tests only read it."""
    server: EmbeddedServer = servers.get(USUAL)
    folder = tmp_path_factory.mktemp("choices")
    environment = {
        "LASTGOOD_DB": server.url(NAME),
        "LASTGOOD_STORE": str(folder / "backups"),
        "LASTGOOD_STATE": str(folder / "state"),
    }

    def execute(database: str, statement: str) -> None:
        with server.target(database).connect() as connection:
            connection.execute("SET search_path = public")
            connection.execute(statement.encode())

    execute("postgres", f"CREATE DATABASE {NAME} TEMPLATE template0")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        execute(NAME, SCHEMA)
        assert main(["backup", "--quiet"]) == 0
        execute(NAME, LATER)
        execute(NAME, USERS)
        assert main(["rollback", "--yes", "--quiet"]) == 0
    execute(NAME, SINCE)
    yield environment
    with server.target("postgres").connect() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{NAME}%"]):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def call(rolled_back: dict[str, str], lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> Lastgood:
    for name, value in rolled_back.items():
        monkeypatch.setenv(name, value)
    return lastgood


def planned(call: Lastgood, *arguments: str) -> dict[tuple[str, str, str | None, str], int]:
    return sums(call("salvage", "apply", "--dry-run", "--json", *arguments).document)


def test_rows_are_ticked_at_a_terminal(call: Lastgood, tmp_path: Path) -> None:
    (tmp_path / "lastgood.toml").write_text('[diff]\nmasked = ["contacts.name"]\n')
    terminal = Terminal("salvage", "choose", environment={**os.environ, "PYTHONPATH": str(SRC)}, folder=tmp_path)
    assert until(terminal)[1:] == [
        "    1 [x] audit.logged_actions  6 of 6 rows",
        "    2 [+] public.contacts       20 of 32 rows",
        "    3 [x] public.lines          3 of 3 rows",
        "    4 [x] public.notes          1 of 1 row; no key: together or not at all",
        "",
        "1 3-5, all, none: tick or clear · rows 1: the rows of table 1",
        "done: write the plan file · quit: end without it",
    ]
    for words, problem in (
        ("9", 'cannot read "9": type numbers from 1 to 4, ranges such as 1-3, or a word above'),
        ("2 x", 'cannot read "x": type numbers from 1 to 4, ranges such as 1-3, or a word above'),
        ("rows 4", "public.notes has no key: its rows are taken together"),
        ("rows 5", 'there is no table "5"'),
    ):
        terminal.type(words)
        assert until(terminal)[-1] == problem
    terminal.type("1, 4")
    assert until(terminal)[1] == "    1 [ ] audit.logged_actions  0 of 6 rows"
    terminal.type("rows 3")
    assert until(terminal)[1:3] == ["    1 [x] insert 7, 1  what a", "    2 [x] insert 7, 2  what b\\x1b[31m"]
    terminal.type("2")
    until(terminal)
    terminal.type("back")
    until(terminal)
    terminal.type("rows 2")
    page = until(terminal)
    assert page[0] == "public.contacts · rows: 1-16 of 32, 20 ticked · key: id"
    assert page[1].startswith('    1 [-] update 1 (update_origin_differs)  settings {"lang": 1, "theme": 1} → ')
    assert page[3] == "    3 [ ] update 11 (written by the migration)  name ••• → •••"
    assert page[12].startswith("   12 [ ] delete 30 (deleted after the restore point)  name •••, settings {")
    assert page[13] == "   13 [x] insert 41  name •••, settings {}"
    terminal.type("1")
    assert until(terminal)[-1] == "this row cannot be chosen: see the reason behind it"
    for words in ("3 12", "next", "none", "17-18", "all", "13-15"):
        terminal.type(words)
        page = until(terminal)
    assert page[0] == "public.contacts · rows: 17-32 of 32, 27 ticked · key: id"
    terminal.type("4-11")
    assert until(terminal)[0] == "public.contacts · rows: 17-32 of 32, 19 ticked · key: id"
    terminal.type("done")
    assert terminal.end() == 0
    assert terminal.widest <= WIDTH
    assert terminal.screen[-3:] == [
        '"salvage.toml" has 21 rows of 2 tables.',
        "",
        "To see what will be done: lastgood salvage apply salvage.toml --dry-run",
    ]
    file = tmp_path / "salvage.toml"
    found = tomllib.loads(file.read_text())
    assert found["tables"] == ["public.contacts", "public.lines"]
    assert found["rows"] == {"public.contacts": ["11", "30", *(str(each) for each in range(44, 61))]}
    assert found["without_rows"] == {"public.lines": [["7", "2"]]}
    assert {key: rows for key, rows in planned(call, str(file)).items() if key[2]} == {
        ("contacts", "insert", "insert", ""): 17,
        ("contacts", "update", "update", ""): 1,
        ("contacts", "delete", "delete", ""): 1,
        ("lines", "insert", "insert", ""): 2,
    }


def until(terminal: Terminal) -> list[str]:
    """The last list on the screen, from its title to the line before the prompt."""
    *lines, _ = terminal.until_question()
    return lines[max(place for place, line in enumerate(lines) if " · tables: " in line or " · rows: " in line) :]


def test_a_choice_that_ends_early_writes_nothing() -> None:
    def at_its_end() -> str:
        raise EOFError

    with Listing(16, lambda *_: frozenset()) as listing:
        listing.tables.append(ListedTable(("public", "notes"), (), b"\1\1", b"\1\1", bytearray(b"\1\1"), []))
        assert not Chooser(Screen(), listing, iter(["1", "1", "quit"]).__next__, "Rows").ask()
        with pytest.raises(Interrupted) as caught:
            Chooser(Screen(), listing, at_its_end, "Rows").ask()
        assert (caught.value.message, caught.value.state) == ("interrupted", "Nothing was written.")
        assert chosen(listing, Chosen(exclude=("log",))) == Chosen(tables=("public.notes",))


def test_a_choice_needs_a_terminal_and_a_new_file(call: Lastgood, tmp_path: Path) -> None:
    outcome = call("salvage", "choose")
    assert (outcome.status, outcome.err) == (
        3,
        "error: cannot choose rows: this needs a terminal\n"
        "state: Nothing was changed.\n"
        "next:  To choose without one: lastgood salvage plan > salvage.toml, then edit it.\n",
    )
    Path("salvage.toml").touch()
    outcome = call("salvage", "choose")
    assert (outcome.status, outcome.err) == (
        2,
        'error: cannot write "salvage.toml": it exists\n'
        "state: Nothing was changed.\n"
        "next:  Name another file: lastgood salvage choose FILE\n",
    )


def test_rows_are_named_by_their_keys(call: Lastgood) -> None:
    for line, problem in (
        ("none = [1]", 'cannot choose rows of table "none": the live database has no such table'),
        ("notes = [1]", 'cannot choose rows of table "notes": it has no key'),
        ("lines = [[7, 1], 7]", 'cannot choose rows of table "lines": "7" is no value of its key (deal, line)'),
        (
            'contacts = ["41", "041"]',
            'cannot choose row "041" of table "public.contacts": it did not change after the restore point',
        ),
    ):
        for table in ("rows", "without_rows"):
            Path("salvage.toml").write_text(f"[{table}]\n{line}\n")
            outcome = call("salvage", "apply", "salvage.toml", "--dry-run", "--quiet")
            assert (outcome.status, outcome.err) == (
                2,
                f"error: {problem}\n"
                "state: Nothing was changed.\n"
                "next:  To choose among the rows that changed: lastgood salvage choose\n",
            )
    Path("salvage.toml").write_text('tables = ["contacts", "lines"]\n[rows]\ncontacts = [41, "12"]\nlines = []\n')
    assert {key: rows for key, rows in planned(call, "salvage.toml").items() if key[2]} == {
        ("contacts", "insert", "insert", ""): 1,
        ("contacts", "update", "update", ""): 1,
    }


def test_a_plan_file_takes_no_table_that_was_not_chosen(call: Lastgood) -> None:
    text = call("salvage", "plan", "--table", "contacts", "--by-user", "kim").out
    assert '  # "audit.logged_actions",  # nothing; left out: 6 not chosen\n' in text
    assert tomllib.loads(text)["tables"] == ["public.contacts"]
    none = call("salvage", "plan", "--by-user", "nobody", "--exclude", "contacts").out
    assert "# tables = [\n" in none
    Path("salvage.toml").write_text(none)
    assert call("salvage", "apply", "salvage.toml", "--dry-run", "--json").document["chosen"]["tables"] == []


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (("--by-user", "kim"), {("contacts", "insert", "insert", ""): 1, ("lines", "insert", "insert", ""): 1}),
        (("--by-user", "lou", "--by-user", "nobody"), {("contacts", "insert", "insert", ""): 1}),
        (("--by-transaction", "901", "--by-user", "lou"), {}),
        (
            ("--by-user", "kim", "--by-user", "lou", "--since", "2026-01-01T14:00Z", "--until", "2026-01-01T14:01Z"),
            {("contacts", "insert", "insert", ""): 1},
        ),
        (
            ("--by-transaction", "901", "--on", "update_origin_differs=theirs"),
            {("contacts", "update", "update", ""): 1},
        ),
    ],
)
def test_rows_are_chosen_by_the_audit_table(call: Lastgood, option: tuple[str, ...], expected: Any) -> None:
    found = planned(call, *option)
    assert {key: rows for key, rows in found.items() if key[2]} == expected
    assert found["logged_actions", "insert", None, "not chosen"] == 6
    # Of the deleted rows, the plan counts those of the choice.
    assert found.get(("contacts", "delete", None, "deletion"), 0) == (option == ("--by-user", "kim"))


def test_the_plan_says_which_options_have_no_effect(call: Lastgood) -> None:
    choice = ("--table", "contacts", "--table", "notes", "--where", "lines: deal = 7", "--since", "2026-01-01")
    numbers = ("--transaction", "5", "--without-transaction", "6")
    plan = call("salvage", "apply", "--dry-run", "--json", *choice, *numbers, "--exclude", "audit.*").document
    assert plan["remarks"] == [
        "--exclude audit.* has no effect: it leaves out none of the tables that --table names",
        "--transaction 5 has no effect: the rows of this transaction are not left out",
        "--without-transaction 6 has no effect: this transaction wrote none of the rows that differ",
        "public.contacts: it has no column with a time stamp, so --since and --until take none of its rows",
        "public.notes: it has no column with a time stamp, so --since and --until take none of its rows",
        "--where has no effect on public.lines: this table is not chosen",
    ]
    (number,) = {each["first"] for each in plan["migrations"] if each["by"] != "--without-transaction"}
    # Its rows are known, even if all are chosen.
    assert call("salvage", "apply", "--dry-run", "--json", "--transaction", str(number)).document["remarks"] == []
    for options, problem, hint in (
        (("--table", "notes", "--exclude", "notes"), "cannot salvage rows: every chosen table is excluded",
         "Leave out --exclude, or choose other tables with --table."),
        (("--transaction", "7", "--without-transaction", "7"),
         "cannot both take and leave out the rows of transaction 7",
         "Leave out --transaction 7 or --without-transaction 7."),
    ):  # fmt: skip
        outcome = call("salvage", "apply", "--dry-run", "--quiet", *options)
        assert (outcome.status, outcome.err) == (
            2,
            f"error: {problem}\nstate: Nothing was changed.\nnext:  {hint}\n",
        )


SEE = "To see a valid plan file: lastgood salvage plan"


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ('[policies]\n"unique_exists" = "theirs"\n', ": policies: unique_exists cannot be theirs: use skip, fail", SEE),
        ('[policies]\ninsert_exist = "skip"\n', ': unknown name "policies.insert_exist"',
         f'Did you mean "insert_exists"? {SEE}'),
        ('table = ["contacts"]\n', ': unknown name "table"', f'Did you mean "tables"? {SEE}'),
        ('tables = "contacts"\n', ': tables: it must be a list: ["…", "…"]', SEE),
        ("tables = []\n", ': "tables" names no table',
         'Name the tables whose rows are wanted, or remove "tables" to take all of them.'),
    ],
)  # fmt: skip
def test_a_wrong_plan_file_is_refused(call: Lastgood, line: str, problem: str, hint: str) -> None:
    Path("salvage.toml").write_text(line)
    outcome = call("salvage", "apply", "salvage.toml", "--dry-run", "--quiet")
    assert (outcome.status, outcome.err) == (
        2,
        f'error: cannot use the plan file "salvage.toml"{problem}\nstate: Nothing was changed.\nnext:  {hint}\n',
    )


def test_a_plan_file_is_as_strict_as_the_options(call: Lastgood) -> None:
    for line, problem in (
        ('since = "tomorrow"\n', 'cannot use since "tomorrow": not a time'),
        ('renamed = ["a"]\n', 'cannot use --renamed "a": the live database has no such table or column ""'),
        (
            'source = "x.sql"\ntransactions = [7]\n',
            "cannot combine --transaction with --from: a restore point does not record which transaction wrote a row",
        ),
    ):
        Path("salvage.toml").write_text(line)
        outcome = call("salvage", "apply", "salvage.toml", "--dry-run", "--quiet")
        assert outcome.status == 2
        assert problem in outcome.err


def test_an_audit_table_is_named_in_the_configuration(call: Lastgood) -> None:
    def written(lines: str) -> tuple[int, str]:
        Path("lastgood.toml").write_text(f"[recover.audit]\n{lines}\n")
        outcome = call("salvage", "apply", "--dry-run", "--by-user", "900", "--quiet")
        return outcome.status, outcome.err.splitlines()[0] if outcome.err else outcome.out

    status, out = written('table = "logged_actions"\nuser_column = "transaction_id"')
    assert status == 0
    assert "  Audit table    audit.logged_actions\n" in out
    assert "  - public.notes: it has no key by which the audit table could name its rows, so none is chosen\n" in out
    assert written('table = "none"') == (
        2,
        'error: cannot choose rows by the audit table "none": the live database has no such table',
    )
    assert written('table = "logged_actions"\nuser_column = "by"') == (
        2,
        'error: cannot choose rows by the audit table "audit.logged_actions": it has no column "by"',
    )
    assert written('table = "contacts"\nrow_columns = ["settings"]') == (
        2,
        'error: cannot choose rows by the audit table "public.contacts": no column has the user',
    )


def test_the_plan_shows_conflicts_by_json_key(call: Lastgood) -> None:
    table = ("--table", "contacts")
    whole = call("salvage", *table).out
    assert "(settings 2); to merge the other columns: --on update_origin_differs=ours; to merge by JSON key: " in whole
    assert "--merge-json public.contacts.settings; such as " in whole
    merged = call("salvage", "apply", "--dry-run", *table, "--merge-json", "contacts.settings").out
    assert "(settings 1 [theme 1]); to merge the other columns: --on update_origin_differs=ours; such as 1\n" in merged
    assert '  - public.contacts: column "settings": JSON objects are merged by key\n' in merged


SUPA_AUDIT = """
CREATE SCHEMA audit;
CREATE TABLE audit.record_version (id bigserial PRIMARY KEY, ts timestamptz, table_schema name, table_name name,
                                   record jsonb, old_record jsonb, auth_uid uuid);
INSERT INTO audit.record_version (ts, table_schema, table_name, record, old_record, auth_uid) VALUES
  ('2026-01-02', 'live', 'people', '{"id": "2026-01-01T00:00:00"}', NULL, '00000000-0000-0000-0000-000000000001'),
  ('2025-12-31', 'live', 'people', '{"id": "2026-01-02T00:00:00"}', NULL, '00000000-0000-0000-0000-000000000001'),
  ('2026-01-02', 'live', 'people', NULL, '{"id": "2026-01-03T00:00:00"}', '00000000-0000-0000-0000-000000000001'),
  ('2026-01-02', 'live', 'people', '{"id": "2026-01-04T00:00:00"}', NULL, '00000000-0000-0000-0000-000000000002')
"""


def test_an_audit_table_that_was_not_exchanged_is_read_in_the_live_database(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    target = server.target("postgres")
    everywhere(target, "CREATE TABLE people (id timestamp PRIMARY KEY, name text)")
    inside(target, THEIRS, "INSERT INTO people SELECT '2026-01-01'::date + i, 'new' FROM generate_series(0, 3) i")
    for schema in (BASE, LIVE):
        inside(target, schema, "INSERT INTO people VALUES ('2026-01-03', 'old')")
    inside(target, THEIRS, "DELETE FROM people WHERE id = '2026-01-03'")
    try:
        inside(target, LIVE, SUPA_AUDIT)
        by = Chosen(by_users=("00000000-0000-0000-0000-000000000001",), deletes=True)
        (summary,) = salvaged(target, tmp_path, "run", by)
    finally:
        inside(target, LIVE, "DROP SCHEMA IF EXISTS audit CASCADE")
    assert {(each.kind, each.action, each.why): each.rows for each in summary.sums} == {
        ("insert", "insert", ""): 1,
        ("insert", None, "not chosen"): 2,
        ("delete", "delete", ""): 1,
    }
