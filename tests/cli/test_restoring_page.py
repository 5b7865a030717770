"""The commands of docs/restoring.md do what it says: each one is run, in its order."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command
from tests.cli.page import blocks, commands


def test_each_command_of_the_page(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    with server.target(database).connect() as connection:
        connection.execute("CREATE TABLE public.wide AS SELECT i, repeat('x', 900) t FROM generate_series(1, 2000) i")
    dump = tmp_path / "nightly.sql"
    subprocess.run([server.bin / "pg_dump", f"--file={dump}", server.url(database)], check=True)
    (block,) = blocks("restoring", "sh")
    lines = commands(block)
    assert len(lines) == 8
    for line in lines:
        piped = line.removeprefix("cat nightly.sql | ")
        program, *arguments = shlex.split(piped)
        assert program == "lastgood"
        copy = arguments.index("--into") + 1
        arguments[copy] = f"{database}_{arguments[copy]}"
        if piped == line:
            outcome = lastgood(*arguments)
            assert outcome.status == 0, f"{line}: {outcome.err}"
        else:
            with dump.open("rb") as stdin:
                subprocess.run(command(*arguments), stdin=stdin, env=child_environment, check=True, capture_output=True)
        with server.target(arguments[copy]).connect() as connection:
            assert connection.execute("SELECT count(*) FROM public.wide").fetchone() == (2000,)
