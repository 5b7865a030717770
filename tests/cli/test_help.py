"""Help, and how commands are found and misspelt."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from lastgood import __version__, config
from lastgood.cli import application, examples
from lastgood.cli.commands import ALSO_CALLED, MODULES
from lastgood.cli.commands import COMMANDS as TABLE
from lastgood.errors import LastgoodError
from tests.cli.conftest import Lastgood

COMMANDS: dict[str, tuple[int, ...]] = {
    "rollback": (3, 4, 5, 6, 7),
    "recover": (3, 4, 5, 6, 7),
    "undo": (3, 5, 7),
    "salvage": (3, 4, 5),
    "salvage plan": (3, 4, 5),
    "salvage choose": (3, 4, 5),
    "salvage apply": (3, 4, 5, 7),
    "salvage undo": (3, 5, 7),
    "status": (3, 5, 7),
    "resume": (3, 4, 5, 6, 7),
    "abort": (3, 5, 7),
    "explain": (3,),
    "maintenance": (),
    "maintenance on": (3, 5, 7),
    "maintenance off": (3, 7),
    "maintenance status": (),
    "restore": (3, 4, 5, 7),
    "backup": (3, 4, 5),
    "check": (3, 5),
    "deploy": (3, 4, 5, 6, 7),
    "validate": (3, 5),
    "drill": (3, 4, 5),
    "guide": (3, 4, 5),
    "points": (),
    "points list": (),
    "points verify": (3, 4),
    "points pin": (4, 5),
    "points unpin": (3, 4, 5),
    "facts": (3, 4, 5),
    "diff": (3, 4, 5),
    "runs": (),
    "report": (3, 5),
    "help": (),
    "init": (3, 5),
    "config": (),
    "config check": (),
    "config example": (),
    "config schema": (),
    "notify": (5,),
    "prune": (3, 5, 7),
}


def test_the_first_screen_lists_every_command_in_its_group(lastgood: Lastgood) -> None:
    outcome = lastgood()
    assert outcome.status == 0
    listed = [
        (title, line.split()[0])
        for title in ("Emergency", "Before a release", "Look", "Set up")
        for line in outcome.out.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
    ]
    assert listed == [(each.group, each.name) for each in TABLE]
    assert [name for _, name in listed] == [name for name in COMMANDS if " " not in name]
    assert "..." not in outcome.out.partition("Emergency:")[2]
    assert lastgood("--help").out == outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_fits_a_terminal_and_ends_with_examples_and_exit_statuses(lastgood: Lastgood, name: str) -> None:
    outcome = lastgood(*name.split(), "--help")
    assert outcome.status == 0
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    head, _, section = outcome.out.partition("  EXAMPLES\n")
    shown, _, statuses = section.partition("\n\n  EXIT STATUS\n")
    assert shown == "\n".join(f"  {line}" for line in examples.section(name))
    *others, last = sorted({0, 1, 2, 130, *COMMANDS[name]})
    listed = ", ".join(map(str, others))
    assert statuses == f"    {listed} or {last}; their meanings: lastgood help exit-status\n"
    for each in config.OPTIONS:
        if each.is_global:
            assert each.flags[0] in head
    assert lastgood("help", *name.split()).out == outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_are_calls_of_it(name: str) -> None:
    assert len(examples.EXAMPLES[name]) == 3
    for arguments, _ in examples.EXAMPLES[name]:
        words = shlex.split(re.split(r" >>? ", arguments)[0])
        assert words[: len(name.split())] == name.split() or words == name.split()[:1]
        context: Any = typer.main.get_command(application.app).make_context("lastgood", ["status"])
        found: Any = typer.main.get_command(application.app)
        while words and hasattr(found, "get_command") and not words[0].startswith("-"):
            found = found.get_command(context, words.pop(0))
        found.make_context(name, words, parent=context)


def test_the_exit_statuses_are_in_one_place(lastgood: Lastgood) -> None:
    assert lastgood("help", "exit-status").out == "".join(
        f"{status:>3}  {meaning}\n" for status, meaning in sorted(application.MEANINGS.items())
    )


def test_a_mistyped_command_leads_to_the_nearest(lastgood: Lastgood) -> None:
    assert lastgood("rolback").err.endswith("next:  Run: lastgood rollback; `lastgood --help` lists all commands.\n")
    assert lastgood("points", "verfy").err.endswith(
        "next:  Run: lastgood points verify; `lastgood points --help` lists all commands.\n"
    )


def test_help_of_an_unknown_command(lastgood: Lastgood) -> None:
    outcome = lastgood("help", "rolback")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        'error: cannot show help: no such command "rolback"\n'
        "state: Nothing was read or changed.\n"
        "next:  Did you mean rollback? `lastgood help` lists the commands.\n"
    )


@pytest.mark.parametrize(("word", "meant"), ALSO_CALLED.items())
def test_words_of_other_tools_lead_to_the_command(lastgood: Lastgood, word: str, meant: str) -> None:
    outcome = lastgood(word, "x")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        f'error: cannot run this command: no such command "{word}"\n'
        "state: Nothing was read or changed.\n"
        f"next:  Run: lastgood {meant}; `lastgood --help` lists all commands.\n"
    )
    assert word not in MODULES
    assert meant.partition(" ")[0] in (*MODULES, "--version")


def test_every_error_has_an_exit_status_that_is_explained() -> None:
    classes = [LastgoodError]
    for each in classes:
        classes += each.__subclasses__()
        assert each.exit_status in application.MEANINGS
    assert len({each.code for each in classes}) == len(classes)


def test_version(lastgood: Lastgood) -> None:
    for option in ("--version", "-V"):
        outcome = lastgood(option)
        assert (outcome.status, outcome.out) == (0, f"lastgood {__version__}\n")


@pytest.mark.parametrize("module", ["lastgood", "lastgood.cli"])
def test_it_runs_as_a_module(module: str, child_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, env=child_environment, check=True
    )
    assert done.stdout == f"lastgood {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rolback",), 'error: cannot run this command: no such command "rolback"\n'),
        (("status", "--jsn"), 'error: cannot run this command: no such option "--jsn"\n'),
        (("restore", "x"), 'error: cannot run this command: missing option "--into"\n'),
        (("rollback", "--fence", "later"), 'error: cannot use --fence: it must be "now" or "at-swap"\n'),
        (
            ("rollback", "x", "--latest"),
            "error: cannot choose a restore point: POINT and --latest contradict each other\n",
        ),
        (("rollback", "--before", "yesterday"), 'error: cannot read the time "yesterday": not in ISO 8601\n'),
        (
            ("prune", "--older-than", "3 moons"),
            'error: cannot parse age "3 moons": it must be a number of hours, days or weeks\n',
        ),
        (("facts", "--live"), "error: cannot compare: --live compares A with the live database; do not give B\n"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_message(
    lastgood: Lastgood, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    outcome = lastgood(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(message)
    assert "state: Nothing was read or changed.\n" in outcome.err
    assert "next:  " in outcome.err


def test_global_options_stand_before_and_after_the_command(lastgood: Lastgood) -> None:
    bad = "nonsense"
    message = "error: cannot parse the connection string from --db: it is neither a URL nor a list of key=value\n"
    for arguments in (("--db", bad, "status"), ("status", "--db", bad), ("points", "--db", bad, "list")):
        assert lastgood(*arguments).err.startswith(message)
    # The later one wins: it stands nearer to the command.
    assert "from --db" not in lastgood("--db", bad, "status", "--db", "host=/nowhere dbname=x").err
