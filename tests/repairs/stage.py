"""Small dumps, loaded into empty databases of real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lastgood.dump.reader import read
from lastgood.errors import Failed
from lastgood.events import Event
from lastgood.load import Loaded, Loader
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from lastgood.repairs import Rules

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
    """An empty database, and what loading into it said."""

    server: EmbeddedServer
    database: str
    said: list[Event] = field(default_factory=list)

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
        source = Text(PROLOGUE + text + EPILOGUE)
        with self.connect(user) as connection:
            loader = Loader(
                connection,
                name="good.sql",
                position=lambda: 0,
                size=0,
                rules=rules or Rules(),
                emit=self.said.append,
                cancelled=lambda: False,
            )
            return loader.load(iter(read(source)))

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
