r"""Is a restored database the twin of the one that its dump was made of? Judged by two accounts of it, made apart:

- facts: rows, large objects, sequences and the definitions of schema objects, from the catalogues;
- pg_dump's own text of both, which has what facts leave out: owners, privileges, comments, settings of a table …

``normalised`` takes out of such a text what may differ between twins, and nothing else:

- ``\restrict`` and ``\unrestrict``: their key is made up for each dump;
- ``-- Dumped from``, ``-- Dumped by``, ``-- Started on``, ``-- Completed on``: versions and moments;
- the order of the rows of one table, and which hash partition they are in where pg_dump itself documents that it may
  differ (``-- load via partition root``): rows are sorted, and those of one COPY command put together.
"""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

from lastgood.dump.files.formats import open_dump
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import facts_of_dump
from lastgood.points.point import pg_restore_for
from lastgood.postgres.embedded import EmbeddedServer
from tests.dump.reference_lexer import reference

_MADE_UP = (b"-- Dumped from ", b"-- Dumped by ", b"-- Started on ", b"-- Completed on ")


def dump(server: EmbeddedServer, database: str, to: Path, *options: str) -> Path:
    """A dump by the server's own pg_dump."""
    done = subprocess.run(
        [server.bin / "pg_dump", *options, "-d", server.url(database), "-f", to], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return to


def normalised(text: bytes) -> list[str]:
    """The lines of a plain dump that twins have in common, in order."""
    pieces, how = reference(text)
    assert how == "", how
    found: list[list[bytes]] = []
    rows: dict[bytes, list[bytes]] = {}
    copying = b""
    for kind, piece, _ in pieces:
        if kind == "meta" or (kind == "comment" and (piece == b"--" or piece.startswith(_MADE_UP))):
            continue
        if kind == "copy" and piece in rows:
            copying = piece
        elif kind == "copy":
            copying, rows[piece] = piece, []
            found += [piece.splitlines(), rows[piece]]
        elif kind == "rows":
            rows[copying] += piece.splitlines()
        elif kind != "end":
            found.append(piece.splitlines())
    for some in rows.values():
        some.sort()
    return [line.decode() for some in found for line in some]


def assert_same_facts(server: EmbeddedServer, one: str, other: str, like: Facts) -> None:
    """``like`` decides which relations have the rows: a partition root that a dump loads through, or its leaves."""
    facts = []
    for name in (one, other):
        with server.target(name).connect() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            facts.append(facts_of_database(connection, like=like, beyond_like=True))
    comparison = compare(*facts)
    assert comparison.differences == (), comparison.differences
    assert comparison.not_compared == (), comparison.not_compared
    assert comparison.exact


def assert_same_text(server: EmbeddedServer, one: str, other: str, folder: Path) -> None:
    """pg_dump writes the same of both."""
    texts = [dump(server, name, folder / f"of_{number}") for number, name in enumerate((one, other))]
    first, second = [normalised(path.read_bytes()) for path in texts]
    different = "\n".join(difflib.unified_diff(first, second, one, other, n=2, lineterm=""))
    assert different == "", different


def assert_same_database(server: EmbeddedServer, one: str, other: str, point: Path, folder: Path) -> None:
    """By both accounts; ``point`` is the dump that lies between the two."""
    like, _ = facts_of_dump(open_dump(point, pg_restore=pg_restore_for))
    assert_same_facts(server, one, other, like)
    assert_same_text(server, one, other, folder)
