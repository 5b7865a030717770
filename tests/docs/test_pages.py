"""Every command block of the documentation does what its page describes: each command is run, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood.config import file
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.docs.page import ROOT, Block, blocks, unlike
from tests.docs.shell import Shell
from tests.docs.stage import Here, Stage, cleared
from tests.docs.stages import STAGES

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
BLOCKS = {page: blocks(page) for page in PAGES}
# Pages whose commands a test of their own runs, since they need more than a folder and a database.
ELSEWHERE = {"docs/drills.md": "tests/mission/test_row_17_drill.py"}
WITH_COMMANDS = [page for page in PAGES if page not in ELSEWHERE and any(block.commands() for block in BLOCKS[page])]
LANGUAGES = {"sh", "cron", "text", "toml", "ini", "yaml", "sql", "json", "crontab"}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_each_command_of_the_page(
    page: str,
    lastgood: Lastgood,
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    shell = Shell(lastgood, monkeypatch, server.bin, tmp_path / "shell")
    stage = STAGES.get(page, Stage)(Here(server, lastgood, shell, tmp_path, monkeypatch, request))
    with cleared(stage):
        stage.prepare()
        printed = ""
        for block in BLOCKS[page]:
            if block.title and not block.not_run:
                write(block, stage)
            commands = [each for each in block.commands() if not each.text.startswith(tuple(stage.not_run))]
            if commands:
                printed = ""
            for command in commands:
                stage.before(command)
                outcome = shell.run(command)
                assert outcome.status == command.status, f"{command.place}: {command.text}\n{outcome.out}{outcome.err}"
                stage.after(command, outcome)
                printed += outcome.out + outcome.err
            if block.language == "text" and not block.title and not block.not_run:
                assert unlike(block.text, printed) == "", f"{block} is not what the commands print:\n{printed}"
        stage.finish()


def write(block: Block, stage: Stage) -> None:
    """Makes the file that a page shows; one of the system's own, below the folder of the test."""
    path = Path(block.title.lstrip("/")).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(stage.content(block), encoding="utf-8")


def test_every_block_has_a_language() -> None:
    """In one of these languages: otherwise it may be a command that is never run. A ``text`` block must be printed."""
    odd = [
        str(block)
        for page in PAGES
        for block in BLOCKS[page]
        if not page.startswith("docs/reference/") and not block.not_run and block.language not in LANGUAGES
    ]
    assert odd == []


def test_what_is_not_run_and_why() -> None:
    reasons = {f"{block.page}: {block.not_run}" for page in PAGES for block in BLOCKS[page] if block.not_run}
    reasons |= {f"{page}: {why}" for page, stage in STAGES.items() for why in stage.not_run.values()}
    assert reasons == {
        "docs/ci.md: it would install lastgood over the one that is tested",
        "docs/install.md: it needs a container engine and the network",
        "docs/install.md: it would change the shell of the test",
        "docs/install.md: it would install lastgood over the one that is tested",
        "docs/install.md: the trial of the package does it, with every Python of the machine",
        "docs/rds.md: needs an instance of Amazon's",
        "docs/self-hosted.md: the block above made these roles",
        "docs/self-hosted.md: it would change the machine of the test",
        "docs/tutorial.md: it would start a shell in that of the test",
        "docs/tutorial.md: it ends the reader's own shell",
        "README.md: the demo and the tests have tests of their own",
        "README.md: they ask before they do anything; the tour runs each of them",
    }


def test_pages_that_are_run_elsewhere_are() -> None:
    for page, module in ELSEWHERE.items():
        assert Path(page).stem in (ROOT / module).read_text(encoding="utf-8"), page


def test_each_stage_is_of_a_page() -> None:
    assert set(STAGES) <= set(WITH_COMMANDS)


@pytest.mark.parametrize(
    "block",
    [each for page in PAGES for each in BLOCKS[page] if each.language == "toml" and "pyproject" not in each.title],
    ids=str,
)
def test_each_configuration_is_right(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "lastgood.toml"
    path.write_text(block.text, encoding="utf-8")
    assert file.read(path).problems == ()
