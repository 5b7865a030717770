"""The stage for the traps: a CRM, the old procedure's dump of it, and an exact account of what it held then."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import crm, evidence, naive
from demo.command import Answer, Lastgood
from demo.evidence import Evidence
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support import forked_cli

SCALE = 0.02
SCRIPTS = Path(__file__).parent


class Quick(Lastgood):
    """The command line, started without loading it again each time; ``start`` still starts the real program."""

    def __call__(
        self, *arguments: str | Path, as_json: bool = True, environment: Mapping[str, str] | None = None
    ) -> Answer:
        began = time.monotonic()
        environment = {**os.environ, **self.environment, **(environment or {})}
        done = forked_cli.run(*map(str, arguments), *(["--json"] if as_json else []), environment=environment)
        document = json.loads(done.stdout) if as_json and done.stdout.strip() else {}
        return Answer(done.returncode, document, done.stderr, time.monotonic() - began, done.stdout)


@dataclass(frozen=True)
class Stage:
    """A live database with the CRM; ``before`` is what it held when ``dump`` was made, the old way."""

    server: EmbeddedServer
    database: str
    size: crm.Size
    before: Evidence
    dump: Path
    backups: Path
    lastgood: Lastgood

    @classmethod
    def made(cls, server: EmbeddedServer, database: str, backups: Path, state: Path) -> Stage:
        """The CRM in an empty database, and a backup that the old deployment made of it."""
        backups.mkdir(parents=True)
        with server.target(database).connect() as connection:
            size = crm.create(connection, SCALE)
            before = evidence.take(connection)
        dump = backups / "cloud_backup_20260112_093000.sql"
        naive.backup(server.bin, server.url(database), dump)
        command = Quick(server.url(database), store=backups, state=state)
        return cls(server, database, size, before, dump, backups, command)

    @property
    def target(self) -> Target:
        return self.server.target(self.database)

    @property
    def url(self) -> str:
        return self.server.url(self.database)

    def now(self) -> Evidence:
        """What the live database holds at this moment."""
        with self.target.connect() as connection:
            return evidence.take(connection)

    def explained(self, outcome: naive.Outcome) -> dict[str, Any]:
        """The explanation of psql's output by lastgood explain."""
        log = self.backups.parent / "psql.log"
        log.write_text(outcome.stderr)
        answer = self.lastgood("explain", log)
        assert answer.status == 0, answer.stderr
        return answer.document

    def script(self, name: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Starts one of the old shell scripts, as the deployment did."""
        return subprocess.Popen(
            ["/bin/sh", str(SCRIPTS / name)],
            env={"PATH": f"{self.server.bin}:{os.environ['PATH']}", "BACKUPS": str(self.backups), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
