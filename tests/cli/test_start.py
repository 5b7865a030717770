"""What a start loads: help and completion no command's logic, and `status` no more than a look at the server takes.

Each is looked at in a fresh interpreter. ``make bench`` measures the processor time (bench/start.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest
import typer

from lastgood.cli.application import app
from lastgood.cli.commands import COMMANDS, MODULES
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.test_help import COMMANDS as WITH_SUBCOMMANDS

# What takes long to load. typer itself is the only large package of a start.
HEAVY = frozenset({"apprise", "asyncio", "httpx", "markdown_it", "pglast", "psycopg", "pydantic", "rich"})
# The kit of commands, and the ground that it stands on.
KIT = {
    "lastgood",
    "lastgood.__main__",
    "lastgood.cli",
    "lastgood.cli.application",
    "lastgood.cli.call",
    "lastgood.cli.commands",
    "lastgood.cli.examples",
    "lastgood.config",
    "lastgood.config.options",
    "lastgood.errors",
    "lastgood.fault",
    "lastgood.process",
    "lastgood.process.interrupts",
}
# What declarations of commands need besides: parameters and how they are completed, and light helpers.
OF_DECLARATIONS = {
    "lastgood.cli.complete",
    "lastgood.cli.lengths",
    "lastgood.cli.operands",
    "lastgood.cli.parameters",
    "lastgood.config.source",
    "lastgood.config.values",
    "lastgood.context",
    "lastgood.events",
    "lastgood.journal",
    "lastgood.journal.caller",
    "lastgood.journal.recording",
    "lastgood.journal.run_names",
    "lastgood.process.durable",
    "lastgood.process.guard",
    "lastgood.process.guarded",
    "lastgood.process.run",
    "lastgood.process.spool",
    "lastgood.text",
    "lastgood.text.address",
    "lastgood.text.redact",
    "lastgood.text.units",
}
PROGRAM = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    sys.argv = ["lastgood", *sys.argv[1:]]
    try:
        from lastgood.__main__ import main
        main()
    except SystemExit:
        pass
print(*sys.modules)
"""


def loaded(arguments: Iterable[str], environment: dict[str, str], **more: str) -> tuple[set[str], set[str]]:
    """Our modules, and the heavy packages, that one call loads."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        env={**environment, **more},
        check=True,
    )
    names = done.stdout.split()
    return {each for each in names if each.partition(".")[0] == "lastgood"}, set(HEAVY & set(names))


def completing(*words: str, shell: str = "bash") -> dict[str, str]:
    """The environment in which a shell asks what may stand for the last of the words."""
    line = " ".join(("lastgood", *words))
    if shell == "bash":
        return {"_LASTGOOD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    return {
        "_LASTGOOD_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], []], ids=["version", "help", "nothing"])
def test_the_first_screen_loads_the_kit_alone(arguments: list[str], child_environment: dict[str, str]) -> None:
    assert loaded(arguments, child_environment) == (KIT, set())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_a_command_loads_the_kit_alone(shell: str, child_environment: dict[str, str]) -> None:
    assert loaded([], child_environment, **completing("ro", shell=shell)) == (KIT, set())


@pytest.mark.parametrize("name", WITH_SUBCOMMANDS)
def test_the_help_and_completion_of_a_command_load_its_declaration_alone(
    name: str, child_environment: dict[str, str]
) -> None:
    words = name.split()
    module = MODULES[words[0]]
    allowed = {*KIT, *OF_DECLARATIONS, "lastgood.command", module.rpartition(".")[0], module}
    for arguments, more in (([*words, "--help"], {}), ([], completing(*words, "")), ([], completing(*words, "--"))):
        ours, heavy = loaded(arguments, child_environment, **more)
        assert (ours - allowed, heavy) == (set(), set())


def test_status_loads_no_more_than_a_look_at_the_server_takes(
    server: EmbeddedServer, database: str, child_environment: dict[str, str]
) -> None:
    ours, heavy = loaded(["status"], child_environment, LASTGOOD_DB=server.url(database))
    assert heavy == {"asyncio", "psycopg", "pydantic", "rich"}
    assert {each for each in ours if each.startswith("lastgood.command.")} == {
        "lastgood.command.report",
        "lastgood.command.report.inquiry",
        "lastgood.command.report.post_mortems",
        "lastgood.command.status",
        "lastgood.command.status.command",
        "lastgood.command.status.show",
    }
    rooms = {each.split(".")[1] for each in ours if "." in each}
    assert rooms.isdisjoint(
        {"damaged", "dump", "facts", "loss", "members", "notifications", "points", "rollback", "run", "undo"}
    )
    assert "lastgood.plan.plan" not in ours


def test_garbage_is_collected_once_a_command_works(child_environment: dict[str, str]) -> None:
    program = f"import gc\n{PROGRAM}print(gc.isenabled(), gc.get_freeze_count() > 0)"
    for arguments, ends in ((["config", "check"], "True True"), (["--help"], "False False")):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            env=child_environment,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == ends


def test_the_table_of_commands_agrees_with_their_help() -> None:
    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    assert list(found) == [each.name for each in COMMANDS]
    for each in COMMANDS:
        assert found[each.name].name == each.name
        assert found[each.name].short_help == each.summary
        assert (found[each.name].help or "").startswith(f"{each.summary}.")
