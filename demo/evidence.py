"""The content of a database, read with the demo's own SQL: it judges lastgood, so it does not use lastgood.

Two accounts of a database are compared line by line: content (rows and a hash of every table, positions of sequences),
structure (definitions, owners, grants), and the database's own properties (owner, grants, settings, comment).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from demo import crm
from lastgood.postgres.server import Connection, Target


@dataclass(frozen=True, slots=True)
class Evidence:
    """``content``: relation → "rows, hash"; ``structure`` and ``settings``: one line for each object or property."""

    content: dict[str, str]
    structure: frozenset[str]
    settings: frozenset[str]

    def differences(self, other: Evidence) -> list[str]:
        """The differences from another account, as ``- line`` (only here) and ``+ line`` (only there)."""
        here = {f"{name}: {value}" for name, value in self.content.items()} | self.structure | self.settings
        there = {f"{name}: {value}" for name, value in other.content.items()} | other.structure | other.settings
        return [f"- {line}" for line in sorted(here - there)] + [f"+ {line}" for line in sorted(there - here)]

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(int(value.split(" ")[0]) for value in self.content.values() if " rows" in value)


def take(connection: Connection) -> Evidence:
    """Read everything in one snapshot. ``connection`` must be a superuser's.

    Activities with a reference are left out, and so is the position of their sequence: the application writes them
    continuously, also right after a swap.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        connection.execute("SET LOCAL search_path = ''")
        return Evidence(_content(connection), _lines(connection, "structure.sql"), _lines(connection, "settings.sql"))


@contextmanager
def opened(server: Target, database: str) -> Iterator[Connection]:
    """Connect to a database that is closed to connections (a kept one), and close it again afterwards."""
    with server.at("postgres").connect() as admin:
        (was_open,) = admin.execute(
            "SELECT datallowconn FROM pg_database WHERE datname = %s", [database]
        ).fetchone() or (False,)
        name = sql.Identifier(database)
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        try:
            with server.at(database).connect() as connection:
                yield connection
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, sql.Literal(was_open)))


def _content(connection: Connection) -> dict[str, str]:
    found: dict[str, str] = {}
    relations = connection.execute(
        "SELECT n.nspname, c.relname, c.relkind, c.relispopulated "
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1, 2"
    ).fetchall()
    for schema, name, kind, populated in relations:
        relation = sql.Identifier(schema, name)
        if kind == "S":
            if name != "activities_id_seq":
                row = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(relation)).fetchone()
                found[f"{schema}.{name}"] = f"at {row}"
            continue
        if not populated:
            found[f"{schema}.{name}"] = "not populated"
            continue
        ours = sql.SQL("WHERE reference IS NULL") if name.startswith("activities") else sql.SQL("")
        rows, digest = connection.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 1)::numeric), 0) FROM ONLY {} AS t {}"
            ).format(relation, ours)
        ).fetchone() or (0, 0)
        found[f"{schema}.{name}"] = f"{rows} rows, hash {digest}"
    return found


def _lines(connection: Connection, file: str) -> frozenset[str]:
    return frozenset(str(row[0]) for query in crm.chunks(file).values() for row in connection.execute(query))
