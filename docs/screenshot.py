"""Draw docs/rollback.svg: a real rollback and its undo, as a terminal of 88 columns shows them.

Run it from the top folder after a change of the output: ``python -m docs.screenshot``.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from demo import crm, migration
from lastgood.postgres.embedded import EmbeddedServer

COLUMNS = 88
SCALE = 0.05


def shown(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    """The output of ``lastgood`` on a terminal, without the transient progress."""
    master, slave = pty.openpty()
    with tempfile.TemporaryFile() as progress:
        process = subprocess.Popen(
            [sys.executable, "-m", "lastgood", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=progress,
            cwd=folder,
            env=environment,
        )
        os.close(slave)
        text = b""
        while True:
            try:
                text += os.read(master, 65536)
            except OSError:  # the child closed its end
                break
        os.close(master)
        if process.wait() != 0:
            progress.seek(0)
            raise SystemExit(progress.read().decode())
    return text.decode().replace("\r\n", "\n")


def main() -> None:
    """Break a small CRM, roll it back, undo the rollback, and draw the output."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with EmbeddedServer(18) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE DATABASE crm")
        with server.target("crm").connect() as connection:
            crm.create(connection, SCALE)
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path("src").resolve()),
            "LASTGOOD_DB": server.url("crm"),
            "LASTGOOD_STATE": str(folder / "state"),
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
        }
        shown(["backup", "--label", "before-release", "--quiet"], folder, environment)
        with server.target("crm").connect() as connection:
            migration.apply(connection)
        for arguments in (["rollback", "--yes"], ["undo", "--yes", "--quiet"]):
            console.print(Text(f"$ lastgood {' '.join(arguments)}", style="bold cyan"))
            console.print(Text.from_ansi(shown(arguments, folder, environment)))
    # Rich loads its font from a server elsewhere; this page must work without a network.
    local = re.sub(r",\s*url\([^)]*\)\s*format\([^)]*\)", "", console.export_svg(title="lastgood"))
    Path("docs/rollback.svg").write_text(local, encoding="utf-8")


if __name__ == "__main__":
    main()
