"""A real, tiny application: an HTTP server in a thread that reads the live database, and is stopped by a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.support.web import Web


class Site:
    """``/health`` returns ``{"status": "ok", "contacts": N}`` when the table of contacts has what ``needs`` asks for.

    While the file ``stopped`` is there it is down (503). ``asked`` are the paths that were asked for, with the value of
    the header Authorization.
    """

    def __init__(self, server: EmbeddedServer, database: str, folder: Path) -> None:
        self.folder = folder
        self.needs = "SELECT count(*) FROM public.contacts"

        def answer(path: str) -> tuple[int, bytes, dict[str, str]]:
            status, body = self.answer(server, database, path)
            return status, json.dumps(body).encode(), {"Location": "/health"} if status == 302 else {}

        self._web = Web(answer)
        self.url, self.asked = self._web.url, self._web.asked

    def answer(self, server: EmbeddedServer, database: str, path: str) -> tuple[int, Any]:
        if path == "/moved":
            return 302, {}
        if self.is_stopped():
            return 503, {"status": "maintenance"}
        try:
            with server.target(database).connect(application_name="site") as connection:
                row = connection.execute(self.needs.encode()).fetchone()
        except psycopg.Error as error:
            return 500, {"status": "error", "why": str(error).splitlines()[0], "token": "s3cret-token"}
        assert row is not None
        return 200, {"status": "ok", "contacts": row[0], "checks": {"database": True, "queue": [1, 2]}}

    def is_stopped(self) -> bool:
        return (self.folder / "stopped").exists()

    def close(self) -> None:
        self._web.close()

    def configure(self, *lines: str, hooks: bool = True) -> None:
        """Writes lastgood.toml: the hooks that stop and start this site and log their calls, then ``lines``."""
        text = []
        if hooks:
            for name in ("maintenance_on", "stop", "start", "maintenance_off"):
                (self.folder / f"{name}.py").write_text(_HOOK.format(name=name))
            text = [
                "[hooks]",
                *(
                    f'{name} = ["{sys.executable}", "{name}.py"]'
                    for name in ("maintenance_on", "stop", "start", "maintenance_off")
                ),
            ]
        (self.folder / "lastgood.toml").write_text("\n".join([*text, *lines]) + "\n")

    def health(self, *lines: str) -> list[str]:
        return [
            "[health]",
            f'url = "{self.url}/health"',
            'json = { status = "ok" }',
            'time_limit = "2s"',
            *(lines or ('deadline = "0.2s"',)),
        ]

    def calls(self) -> list[dict[str, str]]:
        """What the hooks were called with, in their order."""
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def called(self) -> list[str]:
        return [each["hook"] for each in self.calls()]


_HOOK = """
import json, os, pathlib
facts = {{name: value for name, value in os.environ.items() if name.startswith("LASTGOOD_")}}
with open("calls.jsonl", "a") as log:
    log.write(json.dumps({{"hook": "{name}", **facts}}) + "\\n")
if "{name}" == "stop":
    pathlib.Path("stopped").touch()
if "{name}" == "start":
    pathlib.Path("stopped").unlink(missing_ok=True)
print("{name} done")
"""


@pytest.fixture
def site(server: EmbeddedServer, database: str, tmp_path: Path) -> Iterator[Site]:
    """The application of ``database``; its folder is the one that lastgood runs in."""
    made = Site(server, database, tmp_path)
    yield made
    made.close()


@pytest.fixture
def broken(server: EmbeddedServer, database: str, lastgood: Callable[..., Any]) -> str:
    """A restore point of the live database; a bad deployment then deleted contacts and added a column."""
    name: str = lastgood("backup", "--label", "good", "--json").document["point"]["name"]
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
        connection.execute("DELETE FROM public.contacts WHERE id > 1")
        connection.execute("ALTER TABLE public.contacts ADD COLUMN phone text")
    return name
