"""``lastgood notify``: the targets, the check of their addresses, and a test message to each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Lastgood
from tests.support.web import Web

FILE = """
[notifications]
time_limit = "5s"
[[notifications.targets]]
name = "team"
url_variable = "TEAM_URL"
on = "failure"
[[notifications.targets]]
name = "pager"
url_file = "pager.url"
kinds = ["rollback"]
"""


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web(lambda path: (200, b"ok", {}))
    yield found
    found.close()


def test_without_targets(lastgood: Lastgood) -> None:
    outcome = lastgood("notify", "--test")
    assert (outcome.status, outcome.out, outcome.err) == (
        0,
        "There are no targets: lastgood.toml has no [[notifications.targets]].\n",
        "",
    )
    outcome = lastgood("notify", "team")
    assert (outcome.status, outcome.err) == (
        2,
        'error: cannot find target "team": lastgood.toml does not define it\n'
        "state: Nothing was sent.\n"
        "next:  Use one of the targets in its [notifications]: none.\n",
    )


def test_what_is_wrong_with_addresses_and_a_test_when_nothing_is(
    lastgood: Lastgood, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lastgood.toml").write_text(FILE)
    (tmp_path / "pager.url").write_text("https://example.org/T0KEN\n")
    (tmp_path / "pager.url").chmod(0o600)
    outcome = lastgood("notify")
    pager = tmp_path / "pager.url"
    assert outcome.status == 2
    assert outcome.out.endswith(
        "Problems\n"
        '  team: variable "TEAM_URL" is not set.\n'
        "    Set TEAM_URL to the address; https://appriseit.com/services/ shows the forms.\n"
        "  pager: Apprise does not support this kind of address.\n"
        "    See the kinds at https://appriseit.com/services/; for your own webhook use json://HOST/PATH, or "
        "jsons://.\n"
    )
    assert "T0KEN" not in outcome.out
    checked = lastgood("config", "check")
    assert checked.status == 0, "the file is right; what is missing is on this machine"
    assert '  team: variable "TEAM_URL" is not set.\n' in checked.out

    here = web.url.replace("http:", "json:")
    monkeypatch.setenv("TEAM_URL", f"{here}/team")
    pager.write_text(f"{here}/pager\n")
    right = lastgood("notify", "--json")
    assert right.status == 0 and web.posted == []
    assert right.document == {
        "format": 1,
        "sent": False,
        "targets": [
            {
                "name": "team",
                "address_in": "variable TEAM_URL",
                "on": ["failure"],
                "kinds": ["rollback", "undo", "deploy", "drill"],
                "address_is_valid": True,
                "problem": "",
                "hint": "",
                "seconds": None,
            },
            {
                "name": "pager",
                "address_in": str(pager),
                "on": ["start", "success", "failure", "undo"],
                "kinds": ["rollback"],
                "address_is_valid": True,
                "problem": "",
                "hint": "",
                "seconds": None,
            },
        ],
    }
    tested = lastgood("notify", "--test", "pager")
    assert tested.status == 0
    ((path, body),) = web.posted
    assert (path, json.loads(body)["title"]) == ("/pager", "test of lastgood notifications")
    assert json.loads(body)["message"].startswith('This is a test: notifications to "pager" work.\n')

    monkeypatch.setenv("TEAM_URL", "json://127.0.0.1:1/T0KEN")
    refused = lastgood("notify", "--test", "team")
    assert refused.status == 5
    assert "  team: A Connection error occurred sending JSON notification to 127.0.0.1.\n" in refused.out


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            'name = "team"',
            '"notifications.targets[1]" in "{file}": give its address by either url_variable or url_file',
        ),
        (
            'name = "team"\nurl_variable = "slack://a/b/c"',
            '"notifications.targets[1].url_variable" in "{file}": it must be the name of a variable, not the address '
            "itself: addresses hold tokens",
        ),
        (
            'name = "slack://a/b/c"\nurl_variable = "X"',
            '"notifications.targets[1].name" in "{file}": it is an address: put it in a variable (url_variable) or a '
            "file (url_file)",
        ),
        (
            'name = "team"\nurl_variable = "X"\non = ["end"]',
            '"notifications.targets[1].on[1]" in "{file}": it must be "start", "success", "failure" or "undo"',
        ),
        (
            'name = "a"\nurl_variable = "X"\n[[notifications.targets]]\nname = "a"\nurl_variable = "Y"',
            '"notifications" in "{file}": two targets are called "a"',
        ),
    ],
)
def test_what_can_not_be_a_target_is_refused(lastgood: Lastgood, tmp_path: Path, target: str, message: str) -> None:
    file = tmp_path / "lastgood.toml"
    file.write_text(f"[[notifications.targets]]\n{target}\n")
    outcome = lastgood("notify", "--json")
    assert outcome.status == 2
    assert outcome.document["error"]["message"] == "cannot use " + message.format(file=file)
