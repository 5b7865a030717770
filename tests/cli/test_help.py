"""Help, and how commands are found and misspelt."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lastgood import __version__, config
from lastgood.cli import application
from lastgood.errors import LastgoodError
from tests.cli.conftest import Lastgood

COMMANDS: dict[str, tuple[int, ...]] = {
    "rollback": (3, 4, 5, 6, 7),
    "recover": (3, 4, 5, 6, 7),
    "undo": (3, 5, 7),
    "salvage": (),
    "salvage plan": (3, 4, 5),
    "salvage apply": (3, 4, 5, 7),
    "salvage undo": (3, 5, 7),
    "status": (3, 5, 7),
    "resume": (3, 4, 5, 6, 7),
    "abort": (3, 5, 7),
    "explain": (3,),
    "runs": (),
    "report": (3, 5),
    "deploy": (3, 4, 5, 6, 7),
    "check": (3, 5),
    "maintenance": (),
    "maintenance on": (3, 5, 7),
    "maintenance off": (3, 7),
    "maintenance status": (),
    "backup": (3, 4, 5),
    "points": (),
    "points list": (),
    "points verify": (3, 4),
    "points pin": (4, 5),
    "points unpin": (3, 4, 5),
    "facts": (3, 4, 5),
    "diff": (3, 4, 5),
    "restore": (3, 4, 5, 7),
    "validate": (3, 5),
    "drill": (3, 4, 5),
    "prune": (3, 5, 7),
    "guide": (3, 4, 5),
    "init": (3, 5),
    "config": (),
    "config check": (),
    "config schema": (),
    "notify": (5,),
}


def test_the_first_screen_lists_every_command(lastgood: Lastgood) -> None:
    outcome = lastgood()
    assert outcome.status == 0
    listed = outcome.out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == [name for name in COMMANDS if " " not in name]
    assert "..." not in listed
    assert lastgood("--help").out == outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_fits_a_terminal_and_ends_with_its_exit_statuses(lastgood: Lastgood, name: str) -> None:
    outcome = lastgood(*name.split(), "--help")
    assert outcome.status == 0
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    head, _, section = outcome.out.partition("  EXIT STATUS\n")
    expected = sorted({0, 1, 2, 130, *COMMANDS[name]})
    assert section == "".join(f"    {status:>3}  {application.MEANINGS[status]}\n" for status in expected)
    for each in config.OPTIONS:
        if each.is_global:
            assert each.flags[0] in head


def test_every_error_has_an_exit_status_that_is_explained() -> None:
    classes = [LastgoodError]
    for each in classes:
        classes += each.__subclasses__()
        assert each.exit_status in application.MEANINGS
    assert len({each.code for each in classes}) == len(classes)


def test_version(lastgood: Lastgood) -> None:
    outcome = lastgood("--version")
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
        (
            ("rolback",),
            "error: cannot run this command: no such command 'rolback'. Did you mean 'rollback', 'backup'?\n",
        ),
        (("status", "--jsn"), "error: cannot run this command: no such option: --jsn (Possible options: --json)\n"),
        (("restore", "x"), "error: cannot run this command: missing option '--into'\n"),
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
        (("facts", "--live"), "error: cannot compare: --live takes exactly one restore point, database or URL\n"),
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
    message = 'error: cannot read the database from --db: missing "=" after "nonsense" in connection info string\n'
    for arguments in (("--db", bad, "status"), ("status", "--db", bad), ("points", "--db", bad, "list")):
        assert lastgood(*arguments).err.startswith(message)
    # The later one wins: it stands nearer to the command.
    assert "from --db" not in lastgood("--db", bad, "status", "--db", "host=/nowhere dbname=x").err
