"""``python -m bench.costs --output FILE``: the cost of each piece of a restore of the CRM on one core.

The pieces are measured one after the other on a separate server, without parallel workers: the rows of each table (COPY
FREEZE from a file of the server), each index, each foreign key on analyzed tables, reading the plain dump, and the
proof. The last two use lastgood's own functions. Memory and disk are those of this machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from psycopg import IsolationLevel, sql
from pydantic import BaseModel, ConfigDict

from bench import data, host, measure
from bench.data import dumps
from lastgood.dump.files.formats import open_dump
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import facts_of_dump
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection

DATA = "crm"
# As a restore sets them, but for one core.
SETTINGS = {
    "maintenance_work_mem": "256MB",
    "synchronous_commit": "off",
    "max_parallel_maintenance_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
TABLES = """
SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1
"""
KEYS = """
SELECT conname, conrelid::regclass::text, confrelid::regclass::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'f' ORDER BY conrelid::regclass::text, conname
"""
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = %s::regclass ORDER BY indexrelid::regclass::text
"""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Index(_Frozen):
    """``seconds``: the time to build it."""

    name: str
    seconds: float


class Table(_Frozen):
    """``bytes``: the size of its rows in COPY's text form. ``load``, ``analyze`` and ``proof``: the seconds for loading
    them, for ANALYZE, and for reading and digesting them in the database; ``lines``: for digesting each line of the
    dump, where several sessions load the table."""

    name: str
    bytes: int
    rows: int
    load: float
    analyze: float
    proof: float
    lines: float = 0.0
    indexes: tuple[Index, ...]

    def sorting(self, factor: float) -> float:
        """The ratio of the sort costs of a row with ``factor`` times as many rows and now: a ratio of logarithms."""
        rows = max(2, self.rows)
        return math.log(max(2.0, rows * factor)) / math.log(rows)


class ForeignKey(_Frozen):
    """``seconds``: the time to add and check it."""

    name: str
    table: str
    references: str
    seconds: float


class Costs(_Frozen):
    """The costs of one restore. ``reading``: the seconds that one process takes to find the beginnings and ends of rows
    in the plain dump; ``definitions``: that dump without its rows."""

    major: int
    plain_bytes: int
    definitions: str
    reading: float
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]


def measured(folder: Path, scale: float, major: int) -> Costs:
    """Measure once. Dumps are kept in ``folder``. Raises ProgramFailed, RuntimeError, psycopg.Error."""
    dump = dumps.kept(folder, DATA, scale, major).plain
    began = time.monotonic()
    facts_of_dump(open_dump(dump), skim=True)
    reading = time.monotonic() - began
    facts_of_dump(open_dump(dump))
    lines = time.monotonic() - began - 2 * reading
    with EmbeddedServer(major, settings={**host.SETTINGS, **SETTINGS}) as server:
        for name in ("source", "copy"):
            host.create(server, name)
        with server.target("source").connect() as source, server.target("copy").connect() as copy:
            data.make(source, DATA, scale)
            schema = Path(server.folder) / "schema"
            measure.run([server.bin / "pg_dump", "--section=pre-data", "--file", schema, server.url("source")])
            measure.run([server.bin / "psql", "-X", "-q", "-f", schema, server.url("copy")])
            tables = tuple(_tables(source, copy, Path(server.folder)))
            keys = tuple(_keys(source, copy))
            proof = _proof(copy)
    total = sum(table.bytes for table in tables)
    return Costs(
        major=major,
        plain_bytes=dump.stat().st_size,
        definitions=_without_rows(dump),
        reading=reading,
        tables=tuple(
            table.model_copy(update={"proof": proof * table.bytes / total, "lines": lines * table.bytes / total})
            for table in tables
        ),
        foreign_keys=keys,
    )


def _without_rows(dump: Path) -> str:
    kept: list[str] = []
    with dump.open(encoding="utf-8") as file:
        inside = False
        for line in file:
            inside = inside and line != "\\.\n"
            if not inside:
                kept.append(line)
                inside = line.startswith("COPY ") and line.endswith(" FROM stdin;\n")
    return "".join(kept)


def _tables(source: Connection, copy: Connection, folder: Path) -> Iterator[Table]:
    for (name,) in source.execute(TABLES).fetchall():
        table, file = sql.SQL(name), sql.Literal(str(folder / "rows"))
        rows = source.execute(sql.SQL("COPY {} TO {}").format(table, file)).rowcount
        size = (folder / "rows").stat().st_size
        with copy.transaction():
            copy.execute(sql.SQL("TRUNCATE {}").format(table))
            load = _seconds(copy, sql.SQL("COPY {} FROM {} WITH (FREEZE)").format(table, file))
        indexes = tuple(
            Index(name=index, seconds=_seconds(copy, sql.SQL(definition)))
            for index, definition in source.execute(INDEXES, [name]).fetchall()
        )
        analyze = _seconds(copy, sql.SQL("ANALYZE {}").format(table))
        yield Table(name=name, bytes=size, rows=rows, load=load, analyze=analyze, proof=0.0, indexes=indexes)


def _keys(source: Connection, copy: Connection) -> Iterator[ForeignKey]:
    for name, table, references, definition in source.execute(KEYS).fetchall():
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            sql.SQL(table), sql.Identifier(name), sql.SQL(definition)
        )
        yield ForeignKey(name=name, table=table, references=references, seconds=_seconds(copy, add))


def _proof(connection: Connection) -> float:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    began = time.monotonic()
    with connection.transaction():
        facts_of_database(connection)
    return time.monotonic() - began


def _seconds(connection: Connection, command: sql.SQL | sql.Composed) -> float:
    began = time.monotonic()
    connection.execute(command)
    return time.monotonic() - began


def main() -> int:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    parser.add_argument("--major", type=int, default=18, help="version of PostgreSQL (default 18)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the CRM; 1 is 1.2 GB (default)")
    parser.add_argument("--dumps", type=Path, help="a folder where the dump is kept for later runs")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        costs = measured(given.dumps or Path(folder), given.scale, given.major)
    given.output.write_text(costs.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
