"""Small dumps, loaded into empty databases of real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from lastgood.context import Context
from lastgood.dump.files.formats import open_dump
from lastgood.dump.reader import read
from lastgood.errors import Failed
from lastgood.events import Caution, Event
from lastgood.load.crew import load
from lastgood.load.loaded import Loaded
from lastgood.load.options import Options
from lastgood.load.repairs import Rules
from lastgood.load.supply import supply_for
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.pressure.capacity import capacity
from lastgood.postgres.pressure.monitor import Pressure
from lastgood.postgres.pressure.rules import Limits
from lastgood.postgres.server import Connection

PROLOGUE = """\
--
-- PostgreSQL database dump
--

-- Dumped from database version 15.18
-- Dumped by pg_dump version 15.18

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;

"""
EPILOGUE = """
--
-- PostgreSQL database dump complete
--

"""


@dataclass(frozen=True)
class Text:
    """A dump of a few lines."""

    text: str

    def chunks(self) -> Iterator[bytes]:
        yield self.text.encode()


@dataclass
class Stage:
    """An empty database, and the events of loading into it."""

    server: EmbeddedServer
    database: str
    folder: Path
    events: list[Event] = field(default_factory=list)

    @property
    def cautions(self) -> list[Caution]:
        """What the operator should look at."""
        return [event for event in self.events if isinstance(event, Caution)]

    def connect(self, user: str = "postgres") -> Connection:
        return self.server.target(self.database, user=user).connect()

    def execute(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def load(self, text: str, rules: Rules | None = None, *, user: str = "postgres") -> Loaded:
        file = self.folder / "good.sql"
        file.write_text(PROLOGUE + text + EPILOGUE)
        source = open_dump(file)
        reading = read(source)
        summary = reading.summary
        for _ in summary.script.recording(reading):
            pass
        with (
            closing(supply_for(source, summary.script, database=None, in_place=True)) as supply,
            self.connect() as connection,
            Pressure(self.connect, Limits(), self.events.append) as pressure,
        ):
            room = capacity(connection, jobs=2, others=0)
            options = Options("good.sql", room, pressure, rules or Rules(), context=Context(self.events.append))
            return load(lambda purpose: self.connect(user), summary.script, summary, supply, options)

    def fails(self, text: str, rules: Rules | None = None, *, user: str = "postgres") -> tuple[str, str]:
        """Loads what must fail; returns the message and the hint."""
        try:
            self.load(text, rules, user=user)
        except Failed as error:
            return error.message, error.hint
        raise AssertionError("it was loaded")


def repaired(loaded: Loaded) -> list[tuple[str, str]]:
    """What was repaired and why, without the lines."""
    return [(each.what, each.why) for each in loaded.repaired]


New = Callable[..., str]
