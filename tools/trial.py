"""Tries what a user installs, without the source tree: ``python -m tools.trial [--python PROGRAM]… FILE…``.

A wheel or a source distribution is installed into a new virtual environment by each interpreter, a bundle (``.pyz``) is
copied into an empty folder. Then the first quarter of an hour of a user is run there, against a server of its own: a
restore point, a mistake, the rollback, its undo, a notification. As many run at a time as there are processors. Ends
with 1 if a command failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from lastgood import __version__, playground
from lastgood.postgres import embedded
from lastgood.postgres.embedded import EmbeddedServer

OLDEST, NEWEST = 11, 14
RESULT = ("psql", "-Atc", "SELECT count(*) FROM opportunities")


class Failed(Exception):
    """A command of the trial failed; the text has its output."""


def interpreters() -> list[Path]:
    """Return one program for each version of Python that lastgood supports and this machine has, the oldest first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for minor in range(OLDEST, NEWEST + 1):
        name = f"python3.{minor}"
        # A pyenv shim exists for versions that are not selected, too, and then only prints an error.
        places = [shutil.which(name), *sorted(map(str, pyenv.glob(f"3.{minor}.*/bin/{name}")), reverse=True)]
        found += [Path(each) for each in places if each and _starts(each)][:1]
    return found


def _starts(program: str) -> bool:
    done = subprocess.run([program, "-c", "import ssl, venv"], capture_output=True, check=False)
    return done.returncode == 0


def fitting(artifact: Path, found: list[Path]) -> list[Path]:
    """Return the interpreters to try ``artifact`` with: a bundle is for one version of Python, named in its name; a
    source distribution becomes the same wheel everywhere, so the oldest is enough."""
    if artifact.suffix == ".gz":
        return found[:1]
    version = re.search(r"-py(3\.\d+)\.pyz$", artifact.name)
    return found if version is None else [each for each in found if each.name == f"python{version[1]}"]


def _run(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def installed(artifact: Path, python: Path, folder: Path) -> list[str]:
    """Install ``artifact`` into a new environment in ``folder``; return the arguments that start lastgood there."""
    if artifact.suffix == ".pyz":
        bare = folder / artifact.name
        shutil.copy(artifact, bare)
        return [str(python), str(bare)]
    # What pip itself reads (an index, a proxy, a certificate) is kept, except the source tree.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    _run([str(python), "-m", "venv", "venv"], folder, environment)
    program = str(folder / "venv" / "bin" / "python")
    _run([program, "-m", "pip", "install", "--quiet", str(artifact.absolute())], folder, environment)
    return [str(folder / "venv" / "bin" / "lastgood")]


class _Accepting(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def _accepting() -> Iterator[int]:
    """The port of a web server that accepts every message."""
    with HTTPServer(("127.0.0.1", 0), _Accepting) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield web.server_port
        finally:
            web.shutdown()
            thread.join()


def first_minutes(start: list[str], server: EmbeddedServer, folder: Path) -> None:
    """Run what a new user runs, in ``folder``. Raises Failed."""
    environment = {
        **playground.environment(server),
        "PATH": f"{server.bin}:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
    }

    def lastgood(*arguments: str) -> str:
        return _run([*start, *arguments], folder, environment)

    def expect(found: str, expected: str) -> None:
        if found.strip() != expected:
            raise Failed(f"expected {expected!r}, found {found!r}")

    expect(lastgood("--version"), f"lastgood {__version__}")
    for arguments in (["--help"], ["init"], ["backup", "--label", "before-release"], ["points", "verify"]):
        lastgood(*arguments)
    before = _run(list(RESULT), folder, environment).strip()
    _run(["psql", "-qc", "DELETE FROM opportunities WHERE amount > 5000"], folder, environment)
    after = _run(list(RESULT), folder, environment).strip()
    for arguments in (["status"], ["check"], ["rollback", "--dry-run"], ["rollback", "--yes"], ["validate"]):
        lastgood(*arguments)
    expect(_run(list(RESULT), folder, environment), before)
    for arguments in (["report"], ["report", "--output", "report.html"], ["undo", "--yes"], ["explain", "40P01"]):
        lastgood(*arguments)
    expect(_run(list(RESULT), folder, environment), after)
    with _accepting() as port:
        with (folder / "lastgood.toml").open("a", encoding="utf-8") as file:
            file.write('\n[[notifications.targets]]\nname = "team"\nurl_variable = "LASTGOOD_NOTIFY_TEAM"\n')
        environment["LASTGOOD_NOTIFY_TEAM"] = f"json://127.0.0.1:{port}"
        lastgood("notify", "--test")


def main(arguments: list[str]) -> int:
    """Try each file with each interpreter; 1 if a command fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.trial")
    parser.add_argument("--python", action="append", type=Path, help="an interpreter; by default all that are found")
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    found = interpreters()
    trials = [(artifact, each) for artifact in options.artifacts for each in options.python or fitting(artifact, found)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return 0 if all(list(pool.map(_tried, *zip(*trials, strict=True)))) else 1


def _tried(artifact: Path, python: Path) -> bool:
    """Whether all commands of the trial succeed."""
    version = _run([str(python), "--version"], Path(), dict(os.environ)).strip()
    with (
        tempfile.TemporaryDirectory(prefix="lastgood-trial-") as name,
        EmbeddedServer(max(embedded.available())) as server,
    ):
        playground.fill(server.target("postgres"))
        try:
            first_minutes(installed(artifact, python, Path(name)), server, Path(name))
        except Failed as failure:
            sys.stderr.write(f"{artifact.name} with {version}: {failure}\n")
            return False
    print(f"{artifact.name} works with {version}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
