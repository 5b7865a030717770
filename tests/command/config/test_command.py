"""`lastgood config`: what is right, what is wrong, the schema, and the page that explains the file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lastgood.config.settings import resolve
from tests.cli.conftest import Lastgood
from tests.docs.page import blocks

EXAMPLE = next(block.text for block in blocks("docs/configuration.md") if block.title)
STATE = "state: Nothing was read or changed.\n"


def test_the_example_of_the_page_is_right(lastgood: Lastgood) -> None:
    Path("lastgood.toml").write_text(EXAMPLE)
    outcome = lastgood("config", "check")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f'"{Path.cwd() / "lastgood.toml"}" is valid.\n')
    _, _, after = outcome.out.partition("\nTables: ")
    assert after.startswith(
        "[hooks], [pgbouncer], [health], [watch], [check], [validate], [recover], [notifications], [retention], "
        "[loss], [drill]\n\nNotification targets\n"
    )
    tables = resolve({}, {}, Path.cwd()).tables
    assert tables.hooks.smoke == ("npm", "run", "smoke")
    assert tables.watch is not None and tables.watch.sentry is not None
    assert (tables.watch.length, tables.watch.sentry.project) == (600.0, "crm")
    assert [rule.severity for rule in tables.validation.rules] == ["blocker", "warning"]
    assert tables.recover.audit is not None


def test_the_document(lastgood: Lastgood) -> None:
    Path("lastgood.toml").write_text(EXAMPLE)
    document = lastgood("config", "check", "--json").document
    assert document["file"] == str(Path.cwd() / "lastgood.toml")
    assert document["options"]["fence"] == {"value": "at-swap", "from": document["file"]}
    assert document["tables"]["hooks"]["time_limit"] == 120.0


def test_without_a_subcommand_the_file_in_effect_is_checked(lastgood: Lastgood) -> None:
    Path("lastgood.toml").write_text(EXAMPLE)
    bare, named = lastgood("config"), lastgood("config", "check")
    assert (bare.status, bare.out, bare.err) == (named.status, named.out, named.err)
    assert bare.status == 0


def test_the_example_fits_the_schema_and_a_wrong_one_does_not(lastgood: Lastgood) -> None:
    schema = json.loads(lastgood("config", "schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    fits = jsonschema.Draft202012Validator(schema)
    found: dict[str, Any] = tomllib.loads(EXAMPLE)
    assert list(fits.iter_errors(found)) == []

    def wrong(**changes: Any) -> list[str]:
        return [error.message for error in fits.iter_errors({**found, **changes})]

    assert wrong(stor="x") == ["Additional properties are not allowed ('stor' was unexpected)"]
    assert wrong(fence="later") == ["'later' is not one of ['now', 'at-swap']"]
    assert wrong(hooks={"stopp": ["x"]}) == ["Additional properties are not allowed ('stopp' was unexpected)"]
    assert len(wrong(hooks={"stop": "systemctl stop crm"})) == 1
    assert len(wrong(watch={"length": "soon"})) == 1
    assert len(wrong(health={"status": 200})) == 1
    assert wrong(validate={"rules": [{"name": "a"}]}) == ["'query' is a required property"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "stor = 'x'\n",
            'error: cannot read "other.toml": unknown key "stor"\n' + STATE + 'next:  Did you mean "store"?\n',
        ),
        (
            "[hooks]\nstop = 'systemctl stop crm'\n",
            'error: cannot use "hooks.stop" in "other.toml": it must be a list: ["…", "…"]\n'
            + STATE
            + "next:  See the allowed values in docs/reference/configuration.md.\n",
        ),
        (
            "[[validate.rules]]\nname = 'a'\n",
            'error: cannot use "other.toml": "validate.rules[1].query" is missing\n'
            + STATE
            + "next:  See the keys of each table in docs/reference/configuration.md.\n",
        ),
        (
            "fence = 'later'\n",
            'error: cannot use "fence" in "other.toml": it must be "now" or "at-swap"\n'
            + STATE
            + "next:  See the allowed values in docs/reference/configuration.md.\n",
        ),
        (
            "db = 'postgresql://app:geheim@db/crm'\n",
            'error: cannot use "other.toml": its "db" contains a password\n'
            + STATE
            + "next:  Remove the password from the file and put it in ~/.pgpass or the variable PGPASSWORD.\n",
        ),
        (
            "[hooks\n",
            "error: cannot read \"other.toml\": Expected ']' at the end of a table declaration (at line 1, column 7)\n"
            + STATE
            + "next:  Correct the file, or write a new one: lastgood init --force\n",
        ),
        (
            "fence = 'later'\n[hook]\n[check]\nmax_age = 'long'\n",
            'error: cannot use "other.toml": it has 3 errors\n' + STATE + "next:  Fix each of them:\n"
            '       "hook": unknown key (Did you mean '
            '"hooks"?)\n'
            '       "check.max_age": write a duration '
            "like 30s, 5min or 24h\n"
            '       "fence": it must be "now" or '
            '"at-swap"\n',
        ),
    ],
)
def test_what_is_wrong_ends_with_2(lastgood: Lastgood, text: str, expected: str) -> None:
    Path("other.toml").write_text(text)
    outcome = lastgood("config", "check", "other.toml")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == expected


def test_a_file_that_is_not_there(lastgood: Lastgood) -> None:
    outcome = lastgood("config", "check", "none.toml", "--json")
    assert outcome.status == 2
    assert outcome.document["error"] == {
        "code": "usage",
        "message": 'cannot read "none.toml": no such file',
        "hint": "Name an existing file, or write one: lastgood init",
        "state": "Nothing was read or changed.",
        "exit_status": 2,
    }
