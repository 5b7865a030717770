"""Every odd object that a catalogue can hold, each in a database of its own (fixtures/catalogue_objects.sql)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target

_FILE = Path(__file__).parents[1] / "fixtures" / "catalogue_objects.sql"
_LINE = re.compile(r"-- (from|to|needs) (\S+)\n")
ROLE = "odd_role"


@dataclass(frozen=True, slots=True)
class Odd:
    """SQL that makes something odd in an empty database whose search path is public. ``first`` and ``last``: the major
    versions that take it. ``needs``: an extension, or "icu"."""

    name: str
    text: str
    first: int = 15
    last: int = 99
    needs: str = ""

    @property
    def machine_code(self) -> str:
        """The language of functions that no dump may bring along: "c", "internal"; empty where there are none."""
        found = re.search(r"LANGUAGE (c|internal)\b", self.text)
        return found[1] if found is not None else ""

    def fits(self, server: EmbeddedServer) -> bool:
        """Does the server take it?"""
        if not self.first <= server.major <= self.last:
            return False
        with server.target("postgres").connect() as connection:
            if self.needs == "icu":
                query = "SELECT FROM pg_collation WHERE collname = 'und-x-icu'"
            else:
                query = "SELECT FROM pg_available_extensions WHERE name = %(name)s OR %(name)s = ''"
            return connection.execute(query.encode(), {"name": self.needs}).fetchone() is not None


def _cases() -> Iterator[Odd]:
    for piece in _FILE.read_text().split("-- == ")[1:]:
        name, _, text = piece.partition("\n")
        given: dict[str, str] = {}
        while (found := _LINE.match(text)) is not None:
            given[found[1]] = found[2]
            text = text[found.end() :]
        yield Odd(name, text, int(given.get("from", 15)), int(given.get("to", 99)), given.get("needs", ""))


CASES = tuple(_cases())


def make(server: EmbeddedServer, odd: Odd, name: str) -> Target:
    """The database ``name``, new, with that in it."""
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(ROLE)))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    done = subprocess.run(
        [server.bin / "psql", "-qXo", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", server.url(name)],
        input="SET search_path = public;\nSET check_function_bodies = off;\n" + odd.text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return server.target(name)
