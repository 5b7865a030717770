"""The command that takes a database from a ``.env`` file, executed by a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lastgood.config import nearby
from lastgood.text.address import as_libpq

URL = "postgres://u:p@h/crm?a=b&c=d"


@pytest.mark.parametrize(
    ("text", "variable", "named"),
    [
        (f"A=1\nDATABASE_URL={URL}\n", "DATABASE_URL", "DATABASE_URL"),
        (f'DATABASE_URL="{URL}"', "DATABASE_URL", "DATABASE_URL"),
        (f"A=1\r\nDATABASE_URL={URL}\r\nB=2\r\n", "DATABASE_URL", "DATABASE_URL"),
        (f"export DATABASE_URL={URL}\n", "DATABASE_URL", "DATABASE_URL"),
        (f'  export  DATABASE_URL="{URL}"\n', "DATABASE_URL", "DATABASE_URL"),
        (f"DATABASE_URL = '{URL}' # production\n", "DATABASE_URL", "DATABASE_URL"),
        (f"POSTGRES_URL=x\nDIRECT_URL={URL}\n", "LASTGOOD_DB", "DIRECT_URL"),
        (f"LASTGOOD_DB={URL}\nDIRECT_URL=postgres://h/other\n", "LASTGOOD_DB", "LASTGOOD_DB"),
        (f"A_URL=postgres://h/other\nB_URL={URL}\n", "LASTGOOD_DB", "B_URL"),
        (f"SQL=postgresql+asyncpg{URL.removeprefix('postgres')}\n", "LASTGOOD_DB", "SQL"),
    ],
)
def test_the_command_exports_the_url(tmp_path: Path, text: str, variable: str, named: str) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    found, command = nearby.databases(tmp_path)
    assert found == f'".env" has {named}. To use it:'
    line = f'{command}; printf %s "${variable}"'
    exported = subprocess.run(["sh", "-c", line], cwd=tmp_path, env={}, check=True, capture_output=True).stdout
    assert as_libpq(exported.decode()).removeprefix("postgresql").removeprefix("postgres") == URL[8:]


@pytest.mark.parametrize("text", ["", "DATABASE_URL=\n", "# DATABASE_URL=postgres://h/x\n", "SITE_URL=https://h/x\n"])
def test_files_without_a_database(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text)
    assert nearby.databases(tmp_path) == []
