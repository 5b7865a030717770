"""What needs a real terminal or a real signal: consent, Ctrl+C, colours, completion. lastgood runs as a child."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import __version__
from lastgood.cli import main
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command
from tests.support import forked_cli

PATIENCE = 30.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A child on a pseudo-terminal of 80 columns, and what it showed. ``cold``: Python is started for it."""

    def __init__(self, *arguments: str, environment: dict[str, str], cold: bool = False) -> None:
        self._master, slave = pty.openpty()
        environment = {**environment, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
        self.process: forked_cli.Process | subprocess.Popen[bytes]
        if cold:
            self.process = subprocess.Popen(
                command(*arguments), stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
            )
        else:
            self.process = forked_cli.Process(*arguments, environment=environment, terminal=slave, session=True)
        os.close(slave)
        self.raw = ""

    def read_until(self, text: str) -> None:
        """Read until ``text`` is shown, or the child has exited. Fails after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        ready = select.poll()
        ready.register(self._master, select.POLLIN)
        while text not in self.shown:
            if not ready.poll(1000 * max(0.0, deadline - time.monotonic())):
                self.process.kill()
                pytest.fail(f"{text!r} was not shown: {self.shown}")
            try:
                self.raw += os.read(self._master, 65536).decode()
            except OSError:  # the child closed its end
                return

    def type(self, line: str) -> None:
        os.write(self._master, (line + "\n").encode())

    def end(self) -> int:
        """Read to the end and return the exit status."""
        self.read_until("\0never shown")
        os.close(self._master)
        return self.process.wait(PATIENCE)

    @property
    def shown(self) -> str:
        """What was shown, without colours and cursor movements."""
        return ESCAPES.sub("", self.raw).replace("\r\n", "\n")


@pytest.fixture
def broken(lastgood: Lastgood, server: EmbeddedServer, database: str) -> str:
    """A restore point of the live database, whose deals were deleted afterwards."""
    name: str = lastgood("backup", "--json").document["point"]["name"]
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    return name


def deals(server: EmbeddedServer, database: str) -> int:
    with server.target(database).connect() as connection:
        row = connection.execute("SELECT count(*) FROM public.deals").fetchone()
    assert row is not None
    return int(row[0])


def test_a_rollback_asks_for_the_name_of_the_database(
    server: EmbeddedServer, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    terminal = Terminal("rollback", environment=child_environment, cold=True)
    terminal.read_until(f" {database}:\n> ")
    assert "Nothing was changed yet." in terminal.shown
    terminal.type("yes")
    assert terminal.end() == 3
    assert f'error: cannot continue: "{database}" was not typed\n' in terminal.shown
    assert deals(server, database) == 0

    terminal = Terminal("rollback", environment=child_environment)
    terminal.read_until("\n> ")
    terminal.type(database)
    assert terminal.end() == 0
    assert f'Done: "{database}" was rolled back to {broken}.' in terminal.shown
    assert deals(server, database) == 2
    # What ended stays on the screen, and no line is wider than it.
    assert "done    switch the names" in terminal.shown
    assert max(len(line) for line in terminal.shown.split("\n") if "\r" not in line) <= 80


def test_colours_on_a_terminal_unless_forbidden(database: str, child_environment: dict[str, str]) -> None:
    coloured = Terminal("status", environment=child_environment)
    assert coloured.end() == 0
    assert "\x1b[1m" in coloured.raw
    for arguments, extra in ((("status", "--no-color"), {}), (("status",), {"NO_COLOR": "1"})):
        plain = Terminal(*arguments, environment={**child_environment, **extra})
        assert plain.end() == 0
        assert "\x1b[3" not in plain.raw
        # The server itself writes a little to a database now and then: its size is no part of this.
        without_size = [re.sub(r"\d+\.\d MB", "", one.shown) for one in (plain, coloured)]
        assert without_size[0] == without_size[1]


def test_ctrl_c_at_the_question_is_130(
    server: EmbeddedServer, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    terminal = Terminal("rollback", environment=child_environment)
    terminal.read_until("\n> ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "error: interrupted\n" in terminal.shown
    assert deals(server, database) == 0


def test_end_of_input_at_the_question_is_130(database: str, broken: str, child_environment: dict[str, str]) -> None:
    terminal = Terminal("rollback", environment=child_environment)
    terminal.read_until("\n> ")
    terminal.type("\x04")
    assert terminal.end() in (3, 130)


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_a_backup_that_is_interrupted_leaves_nothing(
    database: str, child_environment: dict[str, str], how: str
) -> None:
    environment = {**child_environment, "LASTGOOD_FAULT": f"emergency.after_dump:{how}"}
    done = forked_cli.run("backup", "--json", environment=environment)
    assert done.returncode == 130, done.stderr
    assert '"code": "interrupted"' in done.stdout
    assert "stopping; press Ctrl+C again to stop at once" in done.stderr
    assert list(Path("backups").iterdir()) == []


def test_a_second_ctrl_c_stops_at_once(
    server: EmbeddedServer, database: str, child_environment: dict[str, str]
) -> None:
    with server.target(database).connect(autocommit=False) as blocker:
        # The backup waits for this lock, so that it can't look at the first signal.
        blocker.execute("LOCK TABLE public.deals IN ACCESS EXCLUSIVE MODE")
        terminal = Terminal("backup", environment=child_environment)
        _wait_for_lock(server, database)
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("caution stopping; press Ctrl+C again to stop at once\n")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    assert "error: interrupted" in terminal.shown
    assert list(Path("backups").iterdir()) == []


def _wait_for_lock(server: EmbeddedServer, database: str) -> None:
    deadline = time.monotonic() + PATIENCE
    with server.target("postgres").connect() as watcher:
        while time.monotonic() < deadline:
            row = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'", [database]
            ).fetchone()
            if row is not None and row[0]:
                return
    pytest.fail("nothing waits for the lock")


def test_a_rollback_that_is_interrupted_walks_back(
    server: EmbeddedServer, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    environment = {**child_environment, "LASTGOOD_FAULT": "build.after_load:interrupt"}
    process = forked_cli.run("rollback", "--yes", environment=environment)
    assert process.returncode == 130, process.stderr
    assert process.stderr.endswith(
        f'error: interrupted: the changes of the run were reverted\nstate: "{database}" was not touched and is open.\n'
    )
    assert deals(server, database) == 0


class Complete:
    """What bash would be offered for the last of some words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._set = monkeypatch.setenv
        self._said = capsys.readouterr

    def __call__(self, *words: str) -> list[str]:
        self._set("_LASTGOOD_COMPLETE", "complete_bash")
        self._set("COMP_WORDS", " ".join(("lastgood", *words)))
        self._set("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            main([])
        output = self._said()
        assert output.err == ""
        return output.out.split()


def test_completion_offers_commands_points_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    complete = Complete(monkeypatch, capsys)
    assert complete("roll") == ["rollback"]
    assert "--dry-run" in complete("rollback", "--d")
    assert complete("rollback", "") == []
    store = tmp_path / "backups"
    store.mkdir()
    for name in ("crm_1.sql", "crm_1.sql.lastgood.json", "crm_2.dump", ".crm_3.sql.partial"):
        (store / name).write_text("")
    assert complete("rollback", "") == ["crm_2.dump", "crm_1.sql"]
    assert complete("points", "verify", "crm_1") == ["crm_1.sql"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.sql").write_text("")
    assert complete("--store", str(elsewhere), "rollback", "") == ["other.sql"]
    runs = tmp_path / "state" / "runs"
    runs.mkdir(parents=True)
    for name in ("20251104-143000-00000001.jsonl", "20251105-143000-00000002.jsonl", "notes.txt"):
        (runs / name).write_text("")
    assert complete("report", "") == ["20251105-143000-00000002", "20251104-143000-00000001"]
    assert complete("resume", "20251104") == ["20251104-143000-00000001"]


BARE = f"""\
lastgood {__version__}: Roll a PostgreSQL database back to its last good state.

Emergency:
  rollback     Roll the live database back to a restore point
  recover      Diagnose the emergency and roll back
  undo         Undo a completed rollback: switch back to the kept database
  salvage      Bring back rows written after the restore point
  status       Show the state of the live database and of unfinished runs
  resume       Continue an unfinished rollback
  abort        Give up an unfinished run and remove what it was building
  explain      Explain an error, a log or a run: cause, data, next command
  maintenance  Stop the application, or start it again
  restore      Restore into a new database and prove the result

Before a release: backup, check, deploy, validate, drill, guide
Look:             points, facts, diff, runs, report, help
Set up:           init, config, notify, prune

Start with `lastgood init`, then `lastgood backup`.
In an emergency: `lastgood recover`. It asks before it changes anything.
All commands and options: lastgood --help
"""


def test_the_bare_name_shows_what_is_wrong_and_the_next_command(
    server: EmbeddedServer, database: str, child_environment: dict[str, str], lastgood: Lastgood
) -> None:
    def bare() -> tuple[str, int]:
        terminal = Terminal(environment=child_environment)
        status = terminal.end()
        return terminal.shown, status

    assert bare()[0] == BARE  # nothing needs attention
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
    shown, status = bare()
    assert shown.startswith(f'"{database}" is CLOSED to new connections: ')
    # The state takes a second line where the database has a long name.
    assert "Next: lastgood recover --dry-run" in shown.splitlines()[1:3]
    assert status == 0
    # A script gets help, whatever the state is.
    assert lastgood().out.startswith("Usage: lastgood ")


def test_the_bare_name_without_a_database_shows_help(child_environment: dict[str, str]) -> None:
    terminal = Terminal(environment=child_environment)
    assert (terminal.end(), terminal.shown) == (0, BARE)
    assert len(BARE.splitlines()) < 24
    assert max(map(len, BARE.splitlines())) <= 80


def test_the_bare_name_reports_an_unreachable_server(child_environment: dict[str, str]) -> None:
    Path("lastgood.toml").write_text('db = "postgresql://postgres@%2Fnowhere/crm"\n')
    terminal = Terminal(environment=child_environment)
    assert terminal.end() == 5
    assert terminal.shown.startswith('error: cannot reach the server of "crm"')
    assert "\nnext:  " in terminal.shown
