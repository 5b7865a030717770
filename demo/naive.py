"""The rollback of the old procedure: pg_dump, then ``psql "$URL" < backup.sql``, trusting the exit status."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ERROR = re.compile(r"^psql:[^\n]*?(?:ERROR|FATAL):\s+(.*)$|^(?:ERROR|FATAL):\s+(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of psql. ``errors``: the server's messages in order, which psql itself may ignore. ``stderr``: its
    whole text."""

    status: int
    errors: tuple[str, ...]
    seconds: float
    stderr: str

    def most_frequent(self, count: int) -> list[tuple[str, int]]:
        """The most frequent error messages and their counts, without names and numbers."""
        alike = Counter(re.sub(r'"[^"]*"|\d+', "…", message) for message in self.errors)
        return alike.most_common(count)


def backup(programs: Path, url: str, file: Path, *options: str) -> None:
    """Run ``pg_dump --no-owner --no-acl --clean --if-exists``, as the old backup script does, with further ``options``.

    Raises subprocess.CalledProcessError with pg_dump's output.
    """
    subprocess.run(
        [programs / "pg_dump", "--no-owner", "--no-acl", "--clean", "--if-exists", *options, "--file", file, url],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def restore(programs: Path, url: str, file: Path, options: Sequence[str] = ()) -> Outcome:
    """Run ``psql "$URL" < backup.sql`` and record its output. Errors of the server raise nothing."""
    started = time.monotonic()
    with file.open("rb") as source:
        done = subprocess.run(
            [programs / "psql", "--no-psqlrc", *options, url],
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    stderr = done.stderr.decode("utf-8", "replace")
    errors = tuple(first or second for first, second in _ERROR.findall(stderr))
    return Outcome(done.returncode, errors, time.monotonic() - started, stderr)
