"""Every script of contrib is executed, and every other file read by the rules of the program that it is for."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastgood.config import file
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, Outcome
from tests.command.status.test_metrics import metrics
from tests.docs.page import Command
from tests.docs.shell import Shell
from tests.support.web import Web

CONTRIB = Path(__file__).parents[2] / "contrib"
UNITS = sorted((CONTRIB / "systemd").iterdir())


@pytest.fixture
def shell(
    lastgood: Lastgood, server: EmbeddedServer, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """Runs commands against a small live database, with rules for what is removed."""
    Path("lastgood.toml").write_text("[retention]\nkeep = { daily = 7 }\nkept = { last = 1 }\n")
    return Shell(lastgood, monkeypatch, server.bin, tmp_path / "shell")


@pytest.fixture
def run(shell: Shell) -> Callable[[str], Outcome]:
    """Runs a command of a shell, which may call lastgood."""
    return lambda text: shell.run(Command("contrib", f"true; {text}"))


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web(lambda path: (200, b"OK", {}))
    yield server
    server.close()


def done(run: Callable[[str], Outcome], text: str) -> str:
    outcome = run(text)
    assert outcome.status == 0, outcome.out + outcome.err
    return outcome.out


def test_the_metrics_are_replaced_in_one_step(run: Callable[[str], Outcome], database: str, tmp_path: Path) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()
    script = CONTRIB / "prometheus" / "lastgood-metrics"
    done(run, f"{script} {folder}")
    (written,) = folder.iterdir()
    assert (written.name, written.stat().st_mode & 0o777) == ("lastgood.prom", 0o644)
    assert metrics(written.read_text(), database)["open"] == 1
    before = written.read_text()
    assert run(f"LASTGOOD_DB=postgresql:///nowhere {script} {folder}").status != 0
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("lastgood.prom", before)]


def test_the_alerts_use_metrics_that_exist(lastgood: Lastgood, database: str) -> None:
    for arguments in (("backup",), ("rollback", "--yes")):
        assert lastgood(*arguments, "--quiet").status == 0
    known = {f"lastgood_{name}" for name in metrics(lastgood("status", "--metrics").out, database)}
    (group,) = yaml.safe_load((CONTRIB / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert set(re.findall(r"lastgood_\w+", rule["expr"])) <= known, rule["alert"]
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


@pytest.mark.parametrize(("arguments", "status"), [("backup --quiet", 0), ("restore", 2)])
def test_healthchecks_receive_the_start_and_the_status(
    run: Callable[[str], Outcome], web: Web, arguments: str, status: int
) -> None:
    script = CONTRIB / "healthchecks" / "lastgood-checked"
    assert run(f"HEALTHCHECKS_URL={web.url}/uuid {script} {arguments}").status == status
    assert [path for path, _ in web.asked] == ["/uuid/start", f"/uuid/{status}"]


def test_a_backup_does_not_depend_on_healthchecks(run: Callable[[str], Outcome]) -> None:
    # Port 9 discards: a connection is refused there at once.
    done(run, f"HEALTHCHECKS_URL=http://127.0.0.1:9 {CONTRIB}/healthchecks/lastgood-checked backup --quiet")
    assert list(Path("backups").glob("*.sql"))


def test_slack_is_a_target_of_notifications(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CONTRIB / "slack" / "lastgood.toml").read_text(encoding="utf-8")
    (address,) = re.findall(r"='(slack:.*)'", text)
    monkeypatch.setenv("LASTGOOD_NOTIFY_SLACK", address.replace("TokenA/TokenB/TokenC", "T1JJ3T3L2/A1BRTD4JD/TIiajkd"))
    shutil.copy(CONTRIB / "slack" / "lastgood.toml", "lastgood.toml")
    assert file.read(Path("lastgood.toml")).problems == ()
    outcome = lastgood("notify")
    assert outcome.status == 0, outcome.out + outcome.err
    assert tomllib.loads(text)["notifications"]["targets"][0]["name"] == "slack"


def test_the_systemd_units_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for unit in UNITS:
        # The programs are not installed where systemd looks for them.
        text = re.sub(r"(?m)^(Exec\w+=)(?:lastgood|/usr/local/bin/\S+)", r"\1/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text.replace("Documentation=man:lastgood(1)\n", ""))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in found.stderr.splitlines() if "lastgood" in line]
    assert (found.returncode, ours) == (0, [])
    assert {unit.stem for unit in UNITS if unit.suffix == ".timer"} == {unit.stem for unit in UNITS}


def test_the_services_make_a_backup_and_a_drill(run: Callable[[str], Outcome]) -> None:
    def lines(unit: str, key: str) -> list[str]:
        return re.findall(rf"(?m)^{key}=(.*)$", (CONTRIB / "systemd" / unit).read_text())

    (backup,) = lines("lastgood-backup.service", "ExecStart")
    done(run, backup)
    (condition,), (drill,) = (lines("lastgood-drill.service", key) for key in ("ExecCondition", "ExecStart"))
    done(run, condition)  # no drill has passed yet
    done(run, drill)
    assert run(condition).status == 1  # systemd then skips the service


def scripts(step: dict[str, Any]) -> Iterator[str]:
    """The script of a step of an action, with its environment."""
    values = {"inputs.label": "0ff1ce", "inputs.run": "./migrate", "inputs.package": "lastgood"}
    for name, value in step.get("env", {}).items():
        (given,) = re.findall(r"\$\{\{ (.+) \}\}", value)
        yield f"export {name}={values[given]}"
    yield step["run"]


@pytest.fixture
def migrate(shell: Shell) -> None:
    """A migration in the repository; and a python that does not install lastgood over the one that is tested."""
    for path, text in (
        (Path("migrate"), 'psql --quiet -c "DELETE FROM public.deals WHERE id = 2"'),
        (shell.bin / "python", 'echo "$@"'),
    ):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@pytest.mark.usefixtures("migrate")
def test_the_github_action(run: Callable[[str], Outcome], server: EmbeddedServer, database: str) -> None:
    action = yaml.safe_load((CONTRIB / "github" / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    out = "".join(done(run, "\n".join(scripts(step))) for step in action["runs"]["steps"])
    assert out.startswith("-m pip install lastgood\n")
    assert deals(server, database) == 1


@pytest.mark.usefixtures("migrate")
def test_the_gitlab_template(
    run: Callable[[str], Outcome], server: EmbeddedServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = yaml.safe_load((CONTRIB / "gitlab" / "lastgood.gitlab-ci.yml").read_text())
    for name, value in {
        "LASTGOOD_PACKAGE": "lastgood",
        "CI_COMMIT_SHORT_SHA": "0ff1ce",
        "MIGRATION": "./migrate",
    }.items():
        monkeypatch.setenv(name, value)
    for name in (".lastgood-deploy", ".lastgood-backup"):
        job = {**template[template[name]["extends"]], **template[name]}
        for each in (*job["before_script"], *job["script"], *job.get("after_script", [])):
            done(run, each)
    assert deals(server, database) == 1
    assert [path.name for path in Path("backups").glob("*nightly.sql")]


def deals(server: EmbeddedServer, database: str) -> object:
    with server.target(database).connect() as connection:
        return (connection.execute("SELECT count(*) FROM public.deals").fetchone() or (None,))[0]


def test_each_folder_is_described() -> None:
    rows = re.findall(r"^\| \[(\w+)\]", (CONTRIB / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in CONTRIB.iterdir() if path.is_dir())
