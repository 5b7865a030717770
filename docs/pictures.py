"""Draw docs/assets/report.png and evidence.png: the pages of a real rollback and a real drill, as a browser shows them.

Run it from the top folder after a change of the pages, on a machine with Chromium: ``python -m docs.pictures``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lastgood import playground
from lastgood.postgres import embedded
from lastgood.postgres.embedded import EmbeddedServer

ASSETS = Path(__file__).parent / "assets"
WIDTH = 900
BROKEN = (
    "DELETE FROM opportunities WHERE amount > 5000; UPDATE organizations SET name = upper(name); "
    "INSERT INTO contacts (organization_id, name, email) VALUES (1, 'Ada', 'ada@example.org')"
)


def photograph(page: Path, picture: Path, height: int) -> None:
    """Save the top of ``page`` as ``picture``. Raises CalledProcessError."""
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--window-size={WIDTH},{height}", f"--screenshot={picture}", page.absolute().as_uri()),
        ],
        check=True,
        capture_output=True,
    )


def main() -> None:
    """Roll back a small CRM, run a drill with its restore point, and draw both."""
    with EmbeddedServer(max(embedded.available())) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        playground.fill(server.target("postgres"))
        environment = {**os.environ, **playground.environment(server), "LASTGOOD_STATE": str(folder / "state")}

        def run(*arguments: str) -> None:
            subprocess.run(arguments, cwd=folder, env=environment, check=True, capture_output=True)

        def lastgood(*arguments: str) -> None:
            run(sys.executable, "-m", "lastgood", *arguments)

        lastgood("backup", "--label", "before-release")
        run("psql", "-qc", BROKEN)
        lastgood("rollback", "--yes")
        lastgood("report", "--output", "report.html")
        photograph(folder / "report.html", ASSETS / "report.png", 1000)
        lastgood("drill", "--signed-off-by", "Ann Lee")
        (evidence,) = (folder / "state" / "drills").glob("*/evidence.html")
        photograph(evidence, ASSETS / "evidence.png", 1450)


if __name__ == "__main__":
    main()
