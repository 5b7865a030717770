"""Passwords never reach what people read: every way of writing one, and libpq's own habit of cutting it in two."""

from __future__ import annotations

import pytest

from lastgood.text import redact
from lastgood.text.redact import Scrubber, needs_encoding, written_passwords

URLS = {
    "postgresql://u:geheim@host/db": (False, ["geheim"]),
    "postgres://u:p%40ss%2Fwort@host:5432/db": (False, ["p%40ss%2Fwort"]),
    "postgresql://u:p@ss@host/db": (True, ["p@ss"]),
    "postgresql://u:pa/ss@host/db": (True, ["pa/ss"]),
    "postgresql://u:12/34@host/db": (True, ["12/34"]),
    "postgresql://u:pa?ss@host/db": (True, ["pa?ss"]),
    "postgresql://u:100%@host/db": (True, ["100%"]),
    "postgresql://u:a:b@host/db": (False, ["a:b"]),
    "postgresql://u:p@ss:w/o%rd?x@host/db": (True, ["p@ss:w/o%rd?x"]),
    "postgresql://u:p@ss?x@host/db": (True, ["p@ss?x"]),
    "postgresql://u:pw12@h1:5432,h2/db?application_name=me@home": (False, ["pw12"]),
    "postgresql://u:pw12@/db?host=/tmp": (False, ["pw12"]),
    "postgresql://u:pw12@[::1]:5432/db": (False, ["pw12"]),
    "postgresql://u@/db?host=/tmp&password=geheim": (False, ["geheim"]),
    "postgresql://u@host/db": (False, []),
    "postgresql://host:5432/db?user=me@example.org": (False, []),
    "postgresql://h1:5432,h2:5433/db": (False, []),
    "postgresql:///db": (False, []),
    "host=x password='a b' dbname=y": (False, ["a b"]),
    "host=x dbname=y": (False, []),
    "": (False, []),
}


@pytest.mark.parametrize("text", URLS)
def test_passwords_are_found_as_they_are_written(text: str) -> None:
    assert (needs_encoding(text), written_passwords(text)) == URLS[text]


@pytest.mark.parametrize("text", [text for text, (_, passwords) in URLS.items() if passwords])
def test_no_password_survives_in_a_message(text: str) -> None:
    scrub = Scrubber()
    output = scrub(f"cannot connect to {text}: refused")
    for password in written_passwords(text):
        assert password not in output
    assert "***" in output
    assert output.startswith("cannot connect to ")


def test_a_password_is_hidden_where_nothing_marks_it_and_in_every_form() -> None:
    scrub = Scrubber()
    scrub.learn_from("postgresql://u:p%40ss%2Fwort@host/db", {})
    assert scrub("server said p@ss/wort, p%40ss%2Fwort") == "server said ***, ***"


def test_the_pieces_that_libpq_makes_of_a_bad_url_are_hidden() -> None:
    scrub = Scrubber()
    scrub.learn_from("postgresql://u:first@second/third@host/db", {})
    assert scrub('could not translate host name "second" to address') == (
        'could not translate host name "***" to address'
    )
    assert "third" not in scrub('database "third@host/db" does not exist')


def test_the_password_of_the_environment_is_hidden() -> None:
    scrub = Scrubber()
    scrub.learn_from("", {"PGPASSWORD": "hunter22"})
    assert scrub("hunter22 was used") == "*** was used"


def test_a_password_that_is_a_name_too_does_not_blank_out_the_name() -> None:
    scrub = Scrubber()
    scrub.learn_from("postgresql://postgres:postgres@host/postgres", {}, public=["postgres"])
    assert scrub('database "postgres" at postgresql://postgres:postgres@host/postgres') == (
        'database "postgres" at postgresql://postgres:***@host/postgres'
    )


def test_a_short_password_is_hidden_in_its_place_only() -> None:
    scrub = Scrubber()
    scrub.learn_from("postgresql://u:a@host/data", {})
    assert scrub("data at postgresql://u:a@host/data") == "data at postgresql://u:***@host/data"


def test_a_password_in_a_command_of_sql_is_hidden() -> None:
    scrub = Scrubber()
    output = "STATEMENT:  ALTER ROLE app LOGIN PASSWORD 'it''s secret' VALID UNTIL 'infinity'"
    assert scrub(output) == "STATEMENT:  ALTER ROLE app LOGIN PASSWORD '***' VALID UNTIL 'infinity'"
    assert scrub("CREATE ROLE app PASSWORD 'cut o") == "CREATE ROLE app PASSWORD '***'"
    assert scrub('password authentication failed for user "app"') == 'password authentication failed for user "app"'


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["lastgood", "rollback", "--yes"], "lastgood rollback --yes"),
        (["lastgood", "--db", "postgresql://a:b@h/d"], "lastgood --db 'postgresql://a:***@h/d'"),
        (["lastgood", "deploy", "--", "env", "PGPASSWORD=x y", "run"], "lastgood deploy -- env PGPASSWORD=*** run"),
        (
            ["migrate", "--password", "x", "--token=y", "--api-key", "z", "up"],
            "migrate --password *** --token=*** --api-key *** up",
        ),
        (["migrate", "--password", "--force", "DB_SECRET_KEY=k"], "migrate --password --force DB_SECRET_KEY=***"),
        (["psql", "--no-password", "crm", "-c", "SELECT"], "psql --no-password crm -c SELECT"),
        (["a b", "tokenize", "--compass", "north"], "'a b' tokenize --compass north"),
    ],
)
def test_a_command_line_is_shown_without_secrets(words: list[str], shown: str) -> None:
    assert redact.command_line(words, Scrubber()) == shown


@pytest.mark.parametrize(
    ("words", "shown", "secrets"),
    [
        (["curl", "-u", "bob:hunter22", "https://x"], "curl -u bob:*** https://x", ["hunter22"]),
        (["curl", "-H", "Authorization: Bearer tok12345"], "curl -H 'Authorization: Bearer ***'", ["tok12345"]),
        (["curl", "https://h/p?token=abcde&x=1"], "curl 'https://h/p?token=***&x=1'", ["abcde"]),
        (
            ["curl", "https://hooks.slack.com/services/T/B/x1"],
            "curl 'https://hooks.slack.com/services/***'",
            ["T/B/x1"],
        ),
        (["git", "push", "https://tok12345@h/r"], "git push 'https://***@h/r'", ["tok12345"]),
        (["sh", "-c", "PGPASSWORD=abcde psql -c x"], "sh -c 'PGPASSWORD=*** psql -c x'", ["abcde"]),
        (["sh", "-c", "fly --access-token abcde stop"], "sh -c 'fly --access-token *** stop'", ["abcde"]),
        (["az", "--password", "abcde"], "az --password ***", ["abcde"]),
        (["systemctl", "stop", "crm"], "systemctl stop crm", []),
    ],
)
def test_secrets_of_commands(words: list[str], shown: str, secrets: list[str]) -> None:
    assert redact.command_line(words, Scrubber()) == shown
    assert set(redact.secrets_of(words)) == set(secrets)


def test_secrets_within_tables() -> None:
    tables = {"hooks": {"stop": ("platform", "--token=abcde", "stop")}, "health": {"url": "https://h/?api_key=fghij"}}
    assert set(redact.secrets_within(tables)) == {"abcde", "fghij"}
