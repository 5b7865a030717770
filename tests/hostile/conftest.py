"""Restore points whose code attacks the server that they are restored on, and what shows that an attack succeeded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from tests.support.memory import place
from tests.support.real_dumps import run

HERE = Path(__file__).parent
PARAGRAPH = re.compile(r"^-- == (.+)\n((?:-- .+\n)*)((?:(?!-- ==).*\n?)*)", re.MULTILINE)
ROLES = ("hostile_role", "hostile_reset")
APPLICATION = "hostile_app"
OPERATOR = "the_operator"
# Tables of a construct without a time of writing.
UNDATED = """
SELECT c.oid::regclass::text FROM pg_class c WHERE relkind IN ('r', 'p') AND NOT relispartition
AND relnamespace = 'public'::regnamespace AND relname <> 'honest_table'
AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'created_at')
"""


@dataclass(frozen=True)
class Construct:
    """A paragraph of constructs.sql: ``since`` is the first major version that takes it, ``needs`` an extension."""

    name: str
    statements: str
    since: int
    needs: str


def read_constructs() -> list[Construct]:
    """All of them, in the order of the file."""
    found = []
    for name, notes, statements in PARAGRAPH.findall((HERE / "constructs.sql").read_text()):
        since = re.search(r"^-- from (\d+)$", notes, re.MULTILINE)
        needs = re.search(r"^-- needs (\w+)$", notes, re.MULTILINE)
        found.append(Construct(name, statements, int(since[1]) if since is not None else 15, needs[1] if needs else ""))
    return found


CONSTRUCTS = read_constructs()


class Field:
    """A server with a live database, and a folder that shows which attack succeeded."""

    def __init__(self, server: EmbeddedServer, live: str, folder: Path) -> None:
        self.server = server
        self.live = live
        self.folder = folder
        with self.maintenance() as connection:
            for role in (*ROLES, APPLICATION):
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        self.settings = self._settings()

    def maintenance(self) -> Connection:
        """A session of the superuser outside of all databases of the test."""
        return self.server.target("postgres").connect()

    def _settings(self) -> object:
        with self.maintenance() as connection:
            return connection.execute(
                "SELECT json_agg(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
                " WHERE d.datname = %s",
                [self.live],
            ).fetchone()

    def can_run(self, construct: Construct) -> bool:
        """Whether the server has what the construct needs."""
        if self.server.major < construct.since:
            return False
        with self.maintenance() as connection:
            found = connection.execute("SELECT FROM pg_available_extensions WHERE name = %s", [construct.needs])
            return not construct.needs or found.fetchone() is not None

    def operator(self) -> str:
        """A role without superuser privileges that may restore."""
        with self.maintenance() as connection:
            connection.execute(f"CREATE ROLE {OPERATOR} LOGIN CREATEDB CREATEROLE".encode())
            connection.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(self.live), sql.Identifier(OPERATOR))
            )
        return OPERATOR

    def dump(self, construct: Construct, store: Path, *options: str) -> Path:
        """The dump of a database with the construct, written by the server's own pg_dump."""
        source = f"source_{self.live}"
        text = (HERE / "probes.sql").read_text() + construct.statements
        text = text.replace("{folder}", str(self.folder)).replace("{live}", self.live)
        with self.maintenance() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(source)))
        try:
            with self.server.target(source).connect() as connection:
                connection.execute("SET search_path = public")
                connection.execute(text.encode())
            path = store / "hostile.sql"
            run(self.server, "pg_dump", "-d", self.server.url(source), "-f", path, *options)
            for file in self.folder.iterdir():
                file.unlink()  # a program of a foreign table runs in the source, too
        finally:
            with self.maintenance() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(source)))
        return path

    def plant(self, construct: Construct, store: Path, *, user: str = "postgres") -> Path:
        """Make the construct in the live database, as its code would be there after a restore that trusts it, and dump
        it; returns the dump. No attack is tried meanwhile."""
        text = (HERE / "probes.sql").read_text() + construct.statements
        text = text.replace("{folder}", str(self.folder)).replace("{live}", self.live)
        with self.server.target(self.live, user=user).connect() as connection:
            connection.execute("SET lastgood_test.quiet = on")
            connection.execute("SET search_path = public")
            connection.execute(text.encode())
            for (table,) in connection.execute(UNDATED).fetchall():  # commands look for the newest rows
                connection.execute(
                    f"ALTER TABLE {table} ADD IF NOT EXISTS created_at timestamptz DEFAULT now()".encode()
                )
        self.settings = self._settings()
        path = store / "planted.sql"
        options = "-c lastgood_test.quiet=on"
        url = f"{self.server.url(self.live, user=user)}&options={quote(options)}"
        run(self.server, "pg_dump", "-d", url, "-f", path)
        for file in self.folder.iterdir():
            file.unlink()
        return path

    def successes(self, *databases: str) -> list[str]:
        """The attacks that succeeded: outside of databases, and in these, as far as they exist."""
        found = [file.name for file in self.folder.iterdir()]
        with self.maintenance() as connection:
            rows = connection.execute(
                """
                SELECT rolname || ' is a superuser' FROM pg_roles WHERE rolname LIKE 'hostile%' AND rolsuper
                UNION ALL SELECT 'hostile_made was made' FROM pg_roles WHERE rolname = 'hostile_made'
                UNION ALL SELECT m.member::regrole || ' is a member of ' || m.roleid::regrole
                FROM pg_auth_members m WHERE m.member::regrole::text LIKE 'hostile%'
                UNION ALL SELECT 'comment on ' || datname FROM pg_database
                WHERE shobj_description(oid, 'pg_database') = 'forged'
                UNION ALL SELECT 'role ' || rolname || ' was left' FROM pg_roles WHERE rolname LIKE 'lastgood%'
                """
            ).fetchall()
            found += [text for (text,) in rows]
            names = {name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")}
        if self._settings() != self.settings:
            found.append("settings of the live database")
        for name in databases:
            if name in names:
                found += [f"{name}: {text}" for text in self._inside(name)]
        return found

    def _inside(self, name: str) -> Iterator[str]:
        target = self.server.target(name)
        if self.server.major >= 17:
            target = target.without_event_triggers()
        with target.connect() as connection:
            connection.execute("SET lastgood_test.quiet = on")
            rows = connection.execute(
                """
                SELECT 'a function was given to ' || proowner::regrole FROM pg_proc
                WHERE proname = 'gift' AND proowner::regrole::text = 'postgres'
                UNION ALL SELECT 'honest() was replaced' FROM pg_proc
                WHERE proname = 'honest' AND prosrc NOT LIKE '%''honest''%'
                UNION ALL SELECT 'honest_view was replaced' WHERE
                  pg_get_viewdef(to_regclass('public.honest_view')) LIKE '%pg_authid%'
                UNION ALL SELECT 'a trigger was added' FROM pg_trigger WHERE tgname = 'added'
                UNION ALL SELECT 'a rule was added' FROM pg_rewrite WHERE rulename = 'added'
                UNION ALL SELECT 'a policy was added' FROM pg_policy WHERE polname = 'added'
                UNION ALL SELECT 'a default was added' FROM pg_attrdef
                WHERE adrelid = to_regclass('public.honest_table')
                UNION ALL SELECT relname || ' was made' FROM pg_class WHERE relname IN ('read_file', 'by_dblink')
                UNION ALL SELECT 'honest_table was granted to PUBLIC' FROM pg_class
                WHERE oid = to_regclass('public.honest_table') AND relacl::text ~ '[{,]=a'
                """
            )
            yield from (text for (text,) in rows.fetchall())

    def names(self) -> list[str]:
        """The live database, its kept ones and shadows."""
        with self.maintenance() as connection:
            rows = connection.execute(
                "SELECT datname::text FROM pg_database WHERE starts_with(datname, %s)", [self.live]
            )
            return [name for (name,) in rows]

    def clear(self) -> None:
        """Remove the roles, and what attacks made."""
        with self.maintenance() as connection:
            for role in (*ROLES, APPLICATION, "hostile_made", OPERATOR):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()


@pytest.fixture
def field(server: EmbeddedServer, new_database: Callable[..., str]) -> Iterator[Field]:
    """A server with a live database, and nothing that an attack made."""
    folder = Path(tempfile.mkdtemp(prefix="lgh", dir=place()))
    folder.chmod(0o777)
    live = new_database("app")
    made = Field(server, live, folder)
    yield made
    with made.maintenance() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall():
            if name.startswith(live):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    made.clear()
