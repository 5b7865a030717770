"""Dumps of a part of a database, by each option of pg_dump that leaves something out: the commands agree about each.

- ``points verify`` and ``facts`` use the same word; ``rollback --dry-run`` reports GO only for valid files;
- ``restore`` makes what psql makes of the file, exactly, or refuses it before anything is built: it does the first
  where psql meets no error, the second where it does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.dump.files.formats import open_dump
from lastgood.points.point import pg_restore_for
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.conftest import NEWEST
from tests.support.same_database import dump, normalised

SOURCE = Path(__file__).parents[1] / "fixtures" / "options_of_pg_dump.sql"
NAME, COPY, REFERENCE = "whole_of_parts", "whole_of_parts_copy", "whole_of_parts_by_psql"
DATA = "it has no data, only definitions: a database restored from it would be empty"
TABLES = "it has no tables, only rows: no table exists to load them into"


@dataclass(frozen=True)
class Case:
    """Options of pg_dump, and the expected message about the file; empty for a valid one."""

    options: tuple[str, ...]
    message: str = ""
    refused: bool = False
    since: int = 15


def case(options: str, message: str = "", *, more: int = 0, refused: bool = False, since: int = 15) -> Case:
    return Case(tuple(options.split()), message + f", and {more} more" * bool(more), refused, since)


def needs(name: str, by: str) -> str:
    return f"no definition of {name}, which {by} needs"


CASES = (
    case(""),
    case("-n app", needs("public.b", "materialized view app.counted"), more=1, refused=True),
    case("-n public", needs("app.touch", "trigger touched on public.a"), refused=True),
    case("-n public -n app"),
    case("-n other"),
    case("-N other"),
    case("--exclude-schema=app", needs("app.touch", "trigger touched on public.a"), refused=True),
    case("-T public.alone"),
    case("-T public.a", needs("public.a", "view app.named"), refused=True),
    case("-t public.alone"),
    case("--strict-names -t public.alone"),
    case("-t public.numbers"),
    case("-t public.b", needs("public.a", "foreign key b_a_fkey on public.b"), refused=True),
    case("-t public.a", needs("public.mood", "table public.a"), more=1, refused=True),
    case("-t app.cache", needs("schema app", "table app.cache"), refused=True),
    case("-t app.named", needs("schema app", "view app.named"), more=1, refused=True),
    case("--schema-only", DATA),
    case("--data-only", TABLES, refused=True),
    case("--data-only --disable-triggers", TABLES, refused=True),
    case("--section=pre-data", DATA),
    case("--section=data", TABLES, refused=True),
    case("--section=post-data", needs("app.cache", "primary key cache_pkey on app.cache"), more=8, refused=True),
    case("--section=pre-data --section=data"),
    case("--section=pre-data --section=post-data", DATA),
    case("--section=data --section=post-data", TABLES, refused=True),
    case("--section=pre-data --section=data --section=post-data"),
    case("--exclude-table-data=public.alone", "no rows for public.alone"),
    case("--exclude-table-data=public.a", "no rows for public.a; 10 rows of public.b refer to public.a", refused=True),
    case("--exclude-table-data=app.part_25", "no rows for app.part_25"),
    case("--exclude-table-data=app.*", "no rows for app.cache, app.empty, app.part_25, app.part_26"),
    case("--no-unlogged-table-data", "no rows for app.cache"),
    case("--no-blobs"),
    case("--no-large-objects", since=16),
    case("--inserts"),
    case("--column-inserts"),
    case("--inserts --rows-per-insert=3 --on-conflict-do-nothing"),
    case("--inserts --exclude-table-data=public.alone", "no rows for public.alone"),
    case("--inserts --schema-only", DATA),
    case("--no-comments"),
    case("--no-publications"),
    case("--no-subscriptions"),
    case("--no-security-labels"),
    case("--no-table-access-method", since=16),
    case("--no-toast-compression"),
    case("--no-tablespaces"),
    case("--no-owner --no-acl"),
    case("--quote-all-identifiers"),
    case("--quote-all-identifiers -t public.b", needs("public.a", "foreign key b_a_fkey on public.b"), refused=True),
    case("--serializable-deferrable"),
    case("--clean"),
    case("--clean --if-exists"),
    case("--create"),
    case("--load-via-partition-root"),
    case("--load-via-partition-root --exclude-table-data=app.part_25", "no rows for app.part_25"),
    case("--encoding=LATIN1"),
    case("--extension=plpgsql -n public -n app"),
    case("--exclude-extension=plpgsql", since=17),
    case("--statistics", since=18),
    case("--no-statistics", since=18),
    case("--statistics-only", "it has no tables and no rows, only statistics", refused=True, since=18),
    case("--no-policies", since=18),
    case("--no-data", DATA, since=18),
    case("--no-schema", TABLES, refused=True, since=18),
    case("--schema-only --sequence-data", DATA, since=18),
)
FORMATS = ("plain", "custom", "directory", "tar")
IN_FORMATS = ("", "--schema-only", "--data-only", "-t public.b", "--exclude-table-data=public.a", "--section=post-data")


def _all() -> Iterator[tuple[Case, str]]:
    for each in CASES:
        yield each, "plain"
        if " ".join(each.options) in IN_FORMATS:
            yield from ((each, form) for form in FORMATS[1:])


@pytest.fixture
def server_with_all_kinds(server: EmbeddedServer) -> EmbeddedServer:
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(NAME)))
            with server.target(NAME).connect() as inside:
                inside.execute(SOURCE.read_bytes())
    return server


@pytest.fixture
def dropped(server_with_all_kinds: EmbeddedServer) -> Iterator[Callable[[str], None]]:
    def drop(name: str) -> None:
        with server_with_all_kinds.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    drop(COPY)
    drop(REFERENCE)
    yield drop
    drop(COPY)
    drop(REFERENCE)


def by_psql(server: EmbeddedServer, path: Path) -> list[str]:
    """Load the dump with psql, and return its errors."""
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(REFERENCE)))
    text = b"".join(open_dump(path, pg_restore=pg_restore_for).chunks())
    # What --clean drops is not there, and --create makes a database of its own.
    started = (b"DROP ", b"CREATE DATABASE ", b"CREATE SCHEMA public;", b"\\connect ")
    kept = [line for line in text.split(b"\n") if not line.startswith(started)]
    kept = [line for line in kept if not (line[:6] == b"ALTER " and b" DROP " in line) and b"lo_unlink" not in line]
    done = subprocess.run(
        [server.bin / "psql", "-XqAt", "-d", server.url(REFERENCE), "-f", "-"],
        input=b"\n".join(kept),
        capture_output=True,
        check=True,
    )
    return [line for line in done.stderr.decode().splitlines() if "ERROR" in line]


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize(
    ("case", "form"),
    [
        pytest.param(
            *each,
            id=f"{' '.join(each[0].options)}-{each[1]}",
            marks=pytest.mark.postgres(*range(each[0].since, NEWEST + 1)),
        )
        for each in _all()
    ],
)
def test_the_commands_agree_about_a_dump_of_a_part(
    server_with_all_kinds: EmbeddedServer,
    dropped: Callable[[str], None],
    lastgood: Lastgood,
    store: Path,
    tmp_path: Path,
    case: Case,
    form: str,
) -> None:
    path = dump(server_with_all_kinds, NAME, store / "part", f"--format={form}", *case.options)
    base = ("--db", server_with_all_kinds.url(NAME), "--store", str(store))
    word = "partial" if case.message else "valid"

    verdict = lastgood(*base, "points", "verify", str(path), "--json")
    (point,) = verdict.document["points"]
    assert (point["verdict"], point["message"]) == (word, case.message)
    assert verdict.status == (4 if case.message else 0)

    facts = lastgood(*base, "facts", str(path))
    assert facts.status == 0
    notes = [line for line in " ".join(facts.err.split()).split("note ") if line.startswith("partial: ")]
    assert notes == ([f"partial: {case.message}"] if case.message else [])

    plan = lastgood(*base, "rollback", str(path), "--dry-run", "--json")
    assert plan.status == (3 if case.message else 0), plan.out
    codes = [each["code"] for each in plan.document["findings"] if each["level"] == "refusal"]
    assert codes == (["partial_point"] if case.message else [])

    restored = lastgood(*base, "restore", str(path), "--into", COPY, "--json")
    errors = by_psql(server_with_all_kinds, path)
    assert bool(errors) == case.refused, errors
    if case.refused:
        assert restored.status == 4
        assert restored.document["error"]["code"] == "partial_point"
        with server_with_all_kinds.target("postgres").connect() as connection:
            assert connection.execute("SELECT FROM pg_database WHERE datname = %s", [COPY]).fetchone() is None
        return
    assert restored.status == 0, restored.out
    texts = [normalised(dump(server_with_all_kinds, name, tmp_path / name).read_bytes()) for name in (COPY, REFERENCE)]
    assert texts[0] == texts[1]
