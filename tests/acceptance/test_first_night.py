"""The first night: a deployment broke the data, its automatic rollback failed, and the operator is new to lastgood.

They know the program's name and type what the screen tells them, so that the screen is what is tested: two commands
bring the data back. The folder is that of the old procedure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo import migration, naive
from lastgood.postgres.embedded import EmbeddedServer
from tests.conftest import OURS, USUAL, require
from tests.mission.emergencies import restore_killed_half_way
from tests.support.terminal import HEIGHT, WIDTH, Terminal
from tests.traps.stage import Stage

LIVE = "crm"
OPERATOR, PASSWORD = "operator", "geheim"


@pytest.fixture
def strict() -> Iterator[EmbeddedServer]:
    """A server that asks the operator for a password, whatever the database."""
    require(USUAL)
    with EmbeddedServer(USUAL, settings=OURS) as server:
        with server.target("postgres").connect() as connection:
            connection.execute(f"CREATE ROLE {OPERATOR} LOGIN SUPERUSER PASSWORD '{PASSWORD}'".encode())
        (rules,) = server.folder.rglob("pg_hba.conf")
        rules.write_text(f"local all {OPERATOR} scram-sha-256\n{rules.read_text()}")
        with server.target("postgres").connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def night(strict: EmbeddedServer, tmp_path: Path) -> Stage:
    """The CRM, its backup in ``project/backups/migrations``, and a migration that failed half-way."""
    with strict.target("postgres").connect() as connection:
        connection.execute(f"CREATE DATABASE {LIVE} TEMPLATE template0".encode())
    stage = Stage.made(strict, LIVE, tmp_path / "project" / "backups" / "migrations", tmp_path / "state")
    with stage.target.connect() as connection:
        migration.apply(connection, until="a third of the opportunities deleted")
    # What the procedure's own script makes before its rollback: a dump of the broken state, the newest of all.
    naive.backup(strict.bin, stage.url, stage.backups / "emergency_20260112_094500.sql")
    return stage


def killed(stage: Stage) -> None:
    restore_killed_half_way(stage)


def reported_as_complete(stage: Stage) -> None:
    outcome = naive.restore(stage.server.bin, stage.url, stage.dump)
    assert outcome.status == 0 and outcome.errors


@pytest.mark.parametrize(
    ("automatic_rollback", "with_password"), [(killed, False), (reported_as_complete, True)], ids=["killed", "pgpass"]
)
def test_two_commands_bring_the_data_back(
    night: Stage, tmp_path: Path, automatic_rollback: Callable[[Stage], None], with_password: bool
) -> None:
    automatic_rollback(night)
    assert night.before.content != night.now().content
    operator = Operator(night, tmp_path, with_password)

    (command,) = re.findall(r"In an emergency: `lastgood ([^`]+)`", operator.types(""))
    second = operator.begins(command)

    # The right proposal is the first, and it is marked; the newer dump of the broken state is not proposed.
    proposal = second.until_question()
    assert any(re.match(rf" *\* 1 .*{night.dump.name}", line) for line in proposal), proposal
    assert f"  First: roll back to {night.dump.name}" in proposal
    assert any(line.startswith("  left out: emergency_20260112_094500.sql (") for line in proposal), proposal
    assert "Enter to continue with 1:" in proposal[-2]
    second.type("")
    # What is about to happen stands on the screen, together with the question.
    question = second.until_question()
    (decision,) = [place for place, line in enumerate(question) if line.startswith("Goes back ")]
    assert "loses 800 rows" in question[decision]
    (expected,) = re.findall(r"type (?:the name of the database, )?(\S+):$", question[-2])
    second.type(expected)

    assert second.end() == 0, second.transcript
    assert second.widest <= WIDTH
    ended = second.transcript[-HEIGHT:]
    assert f'Done: "{LIVE}" was rolled back to {night.dump.name}.' in ended
    assert ended[-1].startswith("To undo it: lastgood undo ")
    assert night.before.content == night.now().content


class Operator:
    """Sits in the folder of the project. The deployment's environment names the database, but has no password."""

    def __init__(self, stage: Stage, home: Path, with_password: bool) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD_"))}
        url = stage.url.replace("postgres@", f"{OPERATOR}@") if with_password else stage.url
        self._folder = home / "project"
        self._environment = {
            **inherited,
            "HOME": str(home),
            "DATABASE_URL": url,
            "LASTGOOD_STATE": str(home / "state"),
        }
        if with_password:
            # As it is often written: for the one database of the application.
            passwords = home / ".pgpass"
            passwords.write_text(f"*:*:{LIVE}:{OPERATOR}:{PASSWORD}\n")
            passwords.chmod(0o600)

    def begins(self, command: str) -> Terminal:
        """Type ``lastgood COMMAND``."""
        return Terminal(*command.split(), environment=self._environment, folder=self._folder)

    def types(self, command: str) -> str:
        """Run a command that asks nothing, and return what stands on the screen then."""
        terminal = self.begins(command)
        assert terminal.end() == 0
        assert terminal.widest <= WIDTH
        assert len(terminal.transcript) <= HEIGHT, "it scrolled"
        return "\n".join(terminal.screen)
