"""Users' edits of rows that a migration had changed, in the columns that it had changed: which of them come back."""

from __future__ import annotations

from collections.abc import Callable
from string import Template

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
from tests.salvage.test_salvage import Live, sums

# The UPDATE of each table, and the value that a user writes into row 7.
KINDS: dict[str, tuple[str, str]] = {
    "constant": ("t = 'lost'", "right"),
    "emptied": ("t = NULL", "right"),
    "around": ("t = 'lost-' || id || '!'", "right"),
    "lower": ("t = lower(t)", "Right"),
    "other": ("t = u", "right"),
    "sum": ("n = n + 5", "3.00"),
    "product": ("n = round(n * 1.1, 2)", "3.00"),
    "keys": ("j = j - 'old' || '{\"v\": 2}'", '{"a": 9}'),
    "few": ("t = CASE id % 2 WHEN 0 THEN 'even' ELSE 'odd' END", "right"),
    "unexplained": ("t = md5(t)", "right"),
}
TABLE = Template(
    "CREATE TABLE $name (id int PRIMARY KEY, t text, u text, v text, n numeric(9, 2), j jsonb);"
    "INSERT INTO $name SELECT i, 'Text ' || i, 'other ' || i, 'v', i * 10, "
    "jsonb_build_object('a', i, 'old', i % 2) FROM generate_series(1, 60) i"
)
# The values of rows 7 and 8 before the migration.
OLD = {"t": ("Text 7", "Text 8"), "n": ("70.00", "80.00"), "j": ('{"a": 7, "old": 1}', '{"a": 8, "old": 0}')}
WRITES = (
    Template("UPDATE $name SET $column = '1' WHERE id = 5"),
    Template("UPDATE $name SET $update WHERE id <> 5"),
    Template("UPDATE $name SET $column = '$value' WHERE id = 7"),
    Template("UPDATE $name SET v = 'later' WHERE id = 8"),
)
# A key of a user beside those of the migration.
MINE = "UPDATE keys SET j = j || '{\"mine\": 1}' WHERE id = 9"
ROWS = Template("SELECT $column::text, v FROM $name WHERE id IN (5, 7, 8) ORDER BY id")
UNEXPLAINED = (
    'public.unexplained: column "t": 2 rows written again after the migration, with a value that may be its own or a '
    "user's and is not brought back; to include it: --column public.unexplained.t, or "
)


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def live(
    server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, lastgood: Lastgood
) -> Live:
    """One UPDATE of each table, before and after which users write to it."""
    found = Live(server, new_database("crm"))
    monkeypatch.setenv("LASTGOOD_DB", server.url(found.name))
    for name in KINDS:
        found.execute(TABLE.substitute(name=name))
    assert lastgood("backup").status == 0
    for name, (update, value) in KINDS.items():
        for each in WRITES:
            found.execute(each.substitute(name=name, column=update[0], update=update, value=value))
    found.execute(MINE)
    assert lastgood("rollback", "--yes").status == 0
    return found


def test_the_later_edit_of_a_cell_that_the_migration_changed_comes_back(live: Live, lastgood: Lastgood) -> None:
    shown = unwrapped(lastgood("salvage").out)
    for name in KINDS:
        column = KINDS[name][0][0]
        rows = "3 rows" if name == "keys" else "1 row"
        note = (
            f'public.{name}: column "{column}": {rows} written again after the migration still with its value, which '
            f"is not brought back; to include it: --column public.{name}.{column}"
        )
        assert (note in shown) == (name not in ("few", "unexplained")), (name, shown)
    few = UNEXPLAINED.replace("unexplained", "few").replace("2 rows", "1 row")
    assert few in shown
    assert UNEXPLAINED in shown
    document = lastgood("salvage", "apply", "--yes", "--json").document
    for name, (update, value) in KINDS.items():
        column = update[0]
        found = live.rows(ROWS.substitute(name=name, column=column))
        seventh, eighth = OLD[column]
        first = "1.00" if column == "n" else "1"
        brought = {"unexplained": seventh, "keys": '{"a": 9, "old": 1}'}.get(name, value)
        assert found == [
            (first, "v"),
            (brought, "v"),
            (eighth, "later"),
        ], name
    assert live.rows("SELECT j::text FROM keys WHERE id = 9") == [('{"a": 9, "old": 1, "mine": 1}',)]
    assert sums(document)["unexplained", "update", None, "unknown author"] == 1


def test_cells_of_an_unknown_author_are_taken_by_column_or_transaction(live: Live, lastgood: Lastgood) -> None:
    (table,) = [each for each in lastgood("salvage", "--json").document["tables"] if each["name"] == "unexplained"]
    ((unknown),) = table["unknown"]
    edit, later = unknown["transactions"]
    assert (unknown["column"], unknown["rows"]) == ("t", 2)
    assert table["migrated"] == {}
    dry = ("salvage", "apply", "--dry-run", "--json", "--table", "unexplained")
    for arguments, taken in (
        (("--transaction", str(edit)), 1),
        (("--transaction", str(later)), 1),
        (("--column", "unexplained.t"), 0),
    ):
        (table,) = lastgood(*dry, *arguments).document["tables"]
        assert sum(each["rows"] for each in table["unknown"]) == taken, arguments
    report = lastgood("salvage", "apply", "--yes", "--json", "--table", "unexplained", "--transaction", str(edit))
    assert report.status == 0
    assert live.rows("SELECT t, v FROM unexplained WHERE id IN (7, 8) ORDER BY id") == [
        ("right", "v"),
        ("Text 8", "later"),
    ]


def test_a_column_that_no_table_has_is_refused(live: Live, lastgood: Lastgood) -> None:
    outcome = lastgood("salvage", "apply", "--dry-run", "--quiet", "--column", "few.none")
    assert (outcome.status, outcome.err) == (
        2,
        'error: cannot salvage rows: no table of the live database has the column "few.none"\n'
        "state: Nothing was changed.\n"
        "next:  Names are case-sensitive: TABLE.COLUMN, or SCHEMA.TABLE.COLUMN.\n",
    )
