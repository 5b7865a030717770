"""The commands and the configuration of docs/validating.md do what it says, and its table has every kind of rule."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import crm
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.procedure.validate import KINDS
from tests.cli.conftest import Lastgood
from tests.cli.page import blocks, commands

PAGE = (Path(__file__).parents[2] / "docs" / "validating.md").read_text(encoding="utf-8")


def test_each_command_of_the_page(
    lastgood: Lastgood,
    server: EmbeddedServer,
    new_database: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = new_database("crm")
    with server.target(name).connect() as connection:
        crm.create(connection, 0.02)
        connection.execute(
            "CREATE TABLE public.comments (id int PRIMARY KEY, commentable_type text, commentable_id bigint)"
        )
        connection.execute("INSERT INTO public.comments VALUES (1, 'Contact', 1), (2, 'Deal', 1)")
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    (configuration,) = blocks("validating", "toml")
    (tmp_path / "lastgood.toml").write_text(configuration, encoding="utf-8")
    (block,) = blocks("validating", "sh")
    lines = commands(block)
    assert len(lines) == 6
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.out} {outcome.err}"
    found = lastgood("validate", "--full", "--json").document
    own = {each["name"]: each["outcome"] for each in found["rules"] if each["kind"] in ("own", "polymorphic")}
    assert len(own) == configuration.count("[[validate.rules]]") + configuration.count("[[validate.polymorphic]]")
    assert set(own.values()) <= {"PASS", "WARN"}
    assert found["quality"] > 85
    # Another database of the same server.
    other = lastgood("validate", "--database", name, "--db", server.url("postgres"), "--only", "check", "--json")
    assert other.document["database"] == name


def test_the_table_has_every_kind_of_rule() -> None:
    for kind in KINDS:
        modes = "both" if len(kind.modes) == 2 else f"--{kind.modes[0]}"
        assert f"| `{kind.name}` | {kind.what} | {modes} | {kind.severity} |\n" in PAGE
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len([line for line in rows if line.count("|") == 5]) == len(KINDS)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--quick", "--full"),
            "error: cannot validate: --quick and --full contradict each other\n",
            "Use --quick after a deployment, --full before the database goes into service.",
        ),
        (
            ("--time-limit", "soon"),
            'error: cannot read the time "soon": write a length of time like 30s, 5min or 24h\n',
            "Write it like 30s, 5min or 1h.",
        ),
    ],
)
def test_wrong_usage(
    lastgood: Lastgood, arguments: tuple[str, ...], message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = lastgood("validate", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == f"{message}state: Nothing was looked at or changed.\nnext:  {hint}\n"
