"""The commands of docs/explaining.md do what it says: each one is run."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from tests.cli.conftest import Lastgood, command
from tests.cli.page import blocks, commands

JOURNAL = (
    '{"at": "2026-11-22T03:15:00.000+00:00", "event": "begun", "kind": "rollback", "plan": {"live": "crm"}}\n'
    '{"at": "2026-11-22T03:15:01.000+00:00", "event": "doing", "step": "fence"}\n'
)


def test_each_command_of_the_page(lastgood: Lastgood, tmp_path: Path, child_environment: dict[str, str]) -> None:
    Path("restore.log").write_text('SET\nERROR:  relation "contacts" does not exist\ninvalid command \\N\n')
    runs = tmp_path / "state" / "runs"
    runs.mkdir(parents=True)
    (runs / "20261122-031500-9f3c1a70.jsonl").write_text(JOURNAL)
    block, _ = blocks("explaining", "sh")
    lines = commands(block)
    assert len(lines) == 6
    for line in lines:
        piped = line.removeprefix("cat restore.log | ")
        program, *arguments = shlex.split(piped)
        assert program == "lastgood"
        if piped == line:
            outcome = lastgood(*arguments)
            assert outcome.status == 0, f"{line}: {outcome.err}"
        else:
            with Path("restore.log").open("rb") as stdin:
                subprocess.run(command(*arguments), stdin=stdin, env=child_environment, check=True, capture_output=True)
