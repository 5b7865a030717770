"""pg_dump's round trip: what is dumped, restored and dumped again is the same text, in every version and form.

What may differ between the two texts is listed in ``tests/support/same_database.py``. The databases have been through
pg_dump and psql once before: PostgreSQL writes some expressions otherwise once they were read back (``v IN ('a')`` of a
varchar).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from psycopg import sql

from demo import crm
from lastgood.plan.plan import CONFINED, CodePolicy
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.conftest import NEWEST
from tests.support.real_dumps import run
from tests.support.same_database import assert_same_text, dump

ENDS = pytest.mark.postgres(15, 18, also=(16, 17))
FIXTURES = Path(__file__).parent.parent / "fixtures"
FORMS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "inserts": ("--inserts",),
    "rows-per-insert": ("--column-inserts", "--rows-per-insert=50"),
    "quoted": ("--quote-all-identifiers", "--verbose"),
    "created": ("--create", "--clean", "--if-exists"),
    "custom": ("--format=custom",),
    "custom-uncompressed": ("--format=custom", "--compress=0"),
    "directory": ("--format=directory",),
    "tar": ("--format=tar",),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.ZstdCompressor(level=1).compress,
}
_made: dict[tuple[Path, str], str] = {}


def _run(server: EmbeddedServer, database: str, file: Path) -> None:
    run(server, "psql", "-qXo", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", server.url(database), "-f", file)


def _fill(server: EmbeddedServer, name: str, database: str) -> None:
    if name == "crm":
        with server.target(database).connect() as connection:
            crm.create(connection, 0.01)
        return
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'rich_app'").fetchone() is None:
            connection.execute("CREATE ROLE rich_app")
    _run(server, database, FIXTURES / f"{name}.sql")
    if name == "several_statements" and server.major >= NEWEST:
        _run(server, database, FIXTURES / "several_statements_18.sql")


def source(server: EmbeddedServer, name: str) -> str:
    """One of the databases, made once for each server."""
    key = (server.folder, name)
    if key not in _made:
        settled, fresh = f"trip_{name}", f"trip_{name}_fresh"
        with server.target("postgres").connect() as connection:
            for database in (settled, fresh):
                connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))
            _fill(server, name, fresh)
            _run(server, settled, dump(server, fresh, server.folder / f"{name}.sql"))
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(fresh)))
        _made[key] = settled
    return _made[key]


def goes_round(server: EmbeddedServer, database: str, point: Path, folder: Path, policy: CodePolicy = CONFINED) -> None:
    into = "trip_again"
    try:
        report = restore(server.target("postgres"), point.parent, point.name, into, policy=policy)
        assert {each.what for each in report.skipped} <= {"database", "drop"}
        assert_same_text(server, database, into, folder)
    finally:
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(into)))


@ENDS
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["kinds_of_objects", "crm"])
def test_a_dump_of_what_was_restored_is_the_dump(
    server: EmbeddedServer, store: Path, tmp_path: Path, name: str, form: str
) -> None:
    database = source(server, name)
    goes_round(server, database, dump(server, database, store / "point", *FORMS[form]), tmp_path)


@ENDS
@pytest.mark.parametrize("form", ["plain", "inserts", "custom"])
def test_a_dump_of_what_was_restored_of_unusual_objects_is_the_dump(
    server: EmbeddedServer, store: Path, tmp_path: Path, form: str
) -> None:
    database = source(server, "several_statements")
    point = dump(server, database, store / "point", *FORMS[form])
    # Only a superuser may create its transform.
    goes_round(server, database, point, tmp_path, CodePolicy(trusted="needs rights"))


@pytest.mark.parametrize("form", ["plain", "custom", "tar"])
@pytest.mark.parametrize("packing", PACKED)
def test_a_dump_of_what_was_restored_of_packed_data_is_the_dump(
    server: EmbeddedServer, store: Path, tmp_path: Path, form: str, packing: str
) -> None:
    database = source(server, "kinds_of_objects")
    point = dump(server, database, store / "point", *FORMS[form])
    point.write_bytes(PACKED[packing](point.read_bytes()))
    goes_round(server, database, point, tmp_path)


@pytest.mark.postgres(17)
@pytest.mark.parametrize("form", ["custom", "directory"])
@pytest.mark.parametrize("method", ["lz4", "zstd"])
def test_a_dump_of_what_was_restored_of_data_packed_by_pg_dump_is_the_dump(
    server: EmbeddedServer, store: Path, tmp_path: Path, form: str, method: str
) -> None:
    database = source(server, "kinds_of_objects")
    point = dump(server, database, store / "point", *FORMS[form], f"--compress={method}")
    goes_round(server, database, point, tmp_path)
