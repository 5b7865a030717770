"""The rules in docs/validating.md, and the errors of `lastgood validate` for wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood.command.validate.validate import KINDS
from tests.cli.conftest import Lastgood

PAGE = (Path(__file__).parents[2] / "docs" / "validating.md").read_text(encoding="utf-8")


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
            "error: cannot validate: --quick and --full are mutually exclusive\n",
            "Use --quick after a deployment, --full before the database goes into service.",
        ),
        (
            ("--time-limit", "soon"),
            'error: cannot use --time-limit "soon": write a duration like 30s, 5min or 24h\n',
            "Run the command again with a valid duration, or without --time-limit.",
        ),
    ],
)
def test_wrong_usage(lastgood: Lastgood, arguments: tuple[str, ...], message: str, hint: str) -> None:
    outcome = lastgood("validate", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == f"{message}state: Nothing was read or changed.\nnext:  {hint}\n"
