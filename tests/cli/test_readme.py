"""The README's commands do what it says: each one is run, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tour() -> list[str]:
    """The commands of the tour, without their comments."""
    (block,) = [
        block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "lastgood" in block.split("#")[0]
    ]
    return [line.partition("#")[0].strip() for line in block.splitlines()]


def test_the_tour(lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path) -> None:
    commands = tour()
    assert len(commands) > 5
    for line in commands:
        program, *arguments = shlex.split(line)
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.err}"
        assert outcome.out
        if arguments[0] == "backup":
            with server.target(database).connect() as connection:
                connection.execute("DELETE FROM public.deals")
        if arguments[0] in ("rollback", "undo") and "--yes" in arguments:
            with server.target(database).connect() as connection:
                (deals,) = connection.execute("SELECT count(*) FROM public.deals").fetchone() or (None,)
            assert deals == (2 if arguments[0] == "rollback" else 0)


@pytest.mark.parametrize(
    "command",
    [
        "lastgood rollback",
        "lastgood rollback --dry-run",
        "lastgood recover --dry-run",
        "lastgood status",
        "lastgood undo",
    ],
)
def test_the_commands_of_an_emergency_are_commands(lastgood: Lastgood, command: str) -> None:
    assert re.search(rf"^{command} {{3,}}\w", README, re.MULTILINE)
    assert lastgood(*shlex.split(command)[1:], "--help").status == 0


def test_its_two_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/glossary.md",
        "docs/restoring.md",
        "docs/recovering.md",
        "docs/kinds-of-dumps.md",
        "docs/pgbouncer.md",
        "docs/configuration.md",
        "docs/explaining.md",
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link
