"""Restore points whose code attacks the server that they are restored on, and what shows that an attack succeeded."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from tests.support.hosted import ADMIN, Project
from tests.support.memory import place
from tests.support.real_dumps import run

HERE = Path(__file__).parent
PARAGRAPH = re.compile(r"^-- == (.+)\n((?:-- .+\n)*)((?:(?!-- ==).*\n?)*)", re.MULTILINE)
ROLES = ("hostile_role",)
APPLICATION = "hostile_app"
CREATOR = "the_operator"
# Every construct by itself, to find which of them disturbs another.
EACH = os.environ.get("LASTGOOD_HOSTILE") == "each"
LONG = EACH or os.environ.get("LASTGOOD_HOSTILE") == "long"
# Tables of constructs without a time of writing.
UNDATED = """
SELECT c.oid::regclass::text FROM pg_class c WHERE relkind IN ('r', 'p') AND NOT relispartition
AND relnamespace::regnamespace::text ~ '^c[0-9]+$'
AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'created_at')
"""


@dataclass(frozen=True)
class Construct:
    """A paragraph of constructs.sql. ``id`` is part of what its attacks leave."""

    id: str
    name: str
    statements: str
    notes: frozenset[str]

    @property
    def home(self) -> str:
        """The schema of its objects."""
        return "public" if "public" in self.notes else self.id

    def note(self, word: str) -> str:
        """What follows a word in its notes."""
        return next((each.removeprefix(f"{word} ") for each in self.notes if each.startswith(f"{word} ")), "")


@dataclass(frozen=True)
class Battery:
    """Constructs in one database."""

    name: str
    constructs: tuple[Construct, ...]


def read_constructs() -> list[Construct]:
    """All of them, in the order of the file."""
    found = []
    for number, (name, notes, statements) in enumerate(PARAGRAPH.findall((HERE / "constructs.sql").read_text()), 1):
        words = frozenset(line.removeprefix("-- ") for line in notes.splitlines())
        found.append(Construct(f"c{number:02}", name, statements, words))
    return found


CONSTRUCTS = read_constructs()
TOGETHER = Battery("together", tuple(each for each in CONSTRUCTS if "alone" not in each.notes))
ALONE = [Battery(each.name, (each,)) for each in CONSTRUCTS if EACH or "alone" in each.notes]


class Field:
    """A server with a live database, and a folder that shows which attack succeeded. ``admin`` is a superuser, ``user``
    the operator."""

    def __init__(self, server: EmbeddedServer, live: str, folder: Path, *, admin: str, user: str) -> None:
        self.server = server
        self.live = live
        self.folder = folder
        self.admin = admin
        self.user = user
        self.in_place_only = user == "postgres" != admin
        with self.maintenance() as connection:
            for role in (*ROLES, APPLICATION, *((CREATOR,) if user == CREATOR else ())):
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
            if user == CREATOR:
                connection.execute(f"ALTER ROLE {CREATOR} LOGIN CREATEDB CREATEROLE".encode())
            connection.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(live), sql.Identifier(user))
            )
        self.settings = self._settings()

    def maintenance(self) -> Connection:
        """A session of the superuser outside of all databases of the test."""
        return self.server.target("postgres", user=self.admin).connect()

    def at_rest(self, database: str, *, user: str | None = None) -> Connection:
        """A session in a database, in which no attack is tried."""
        target = self.server.target(database, user=user or self.admin)
        return target.with_settings({"lastgood_test.quiet": "on"}).connect()

    def _settings(self) -> object:
        with self.maintenance() as connection:
            return connection.execute(
                "SELECT json_agg(s.setconfig ORDER BY s.setrole, s.setconfig) FROM pg_db_role_setting s"
                " LEFT JOIN pg_database d ON d.oid = s.setdatabase"
                " WHERE d.datname = %s OR s.setrole::regrole::text = %s",
                [self.live, self.user],
            ).fetchone()

    def can_run(self, battery: Battery, *, in_place: bool = False) -> list[Construct]:
        """The constructs that the operator could have made, and for which the server has what they need."""
        with self.maintenance() as connection:
            rows = connection.execute("SELECT name::text FROM pg_available_extensions")
            extensions = {"", *(name for (name,) in rows)}
        superuser = self.user == self.admin
        return [
            each
            for each in battery.constructs
            if int(each.note("from") or 0) <= self.server.major
            and each.note("needs") in extensions
            and (superuser or "by superuser" not in each.notes)
            and not (in_place and "not in place" in each.notes)
            and not (in_place and not superuser and "in place by superuser" in each.notes)
        ]

    def text(self, text: str, construct: Construct | None = None) -> bytes:
        """A text with the names of this field, and those of a construct."""
        values = {"folder": str(self.folder), "live": self.live, "user": self.user, "server": str(self.server.folder)}
        if construct is not None:
            values |= {"home": construct.home, "id": construct.id}
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text).encode()

    def make(self, database: str, battery: Battery, *, loud: bool = False, in_place: bool = False) -> None:
        """Make the constructs in a database. ``loud``: they attack its own objects, too."""
        inside = (HERE / "inside.sql").read_text() if loud else ""
        probes = (HERE / "probes.sql").read_text().replace("{inside}", inside)
        with self.at_rest(database, user=self.user) as connection:
            connection.execute(self.text((HERE / "honest.sql").read_text()))
            done = set()
            for construct in self.can_run(battery, in_place=in_place):
                home = sql.Identifier(construct.home)
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(home))
                connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(home))  # as on public
                connection.execute(sql.SQL("SET search_path = {}, public").format(home))
                if construct.home not in done:
                    connection.execute(self.text(probes, construct))
                    done.add(construct.home)
                connection.execute(self.text(construct.statements, construct))

    def _dump(self, database: str, path: Path, *options: str) -> Path:
        target = self.server.target(database, user=self.admin).with_settings({"lastgood_test.quiet": "on"})
        run(self.server, "pg_dump", "-d", str(target), "-f", path, *options)
        for file in self.folder.iterdir():
            file.unlink()  # a program of a foreign table runs in the source, too
        return path

    def dump(self, battery: Battery, store: Path, *options: str, loud: bool = False, in_place: bool = False) -> Path:
        """The dump of a database with the constructs, written by the server's own pg_dump. ``in_place``: without those
        that cannot be restored in place."""
        source = f"source_{self.live}"
        with self.maintenance() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(
                    sql.Identifier(source), sql.Identifier(self.user)
                )
            )
        try:
            self.make(source, battery, loud=loud, in_place=in_place)
            return self._dump(source, store / "hostile.sql", *options)
        finally:
            with self.maintenance() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(source)))

    def plant(self, battery: Battery, store: Path, *, in_place: bool = False) -> Path:
        """Make the constructs in the live database, as their code would be there after a restore that trusts it, and
        dump it; returns the dump. No attack is tried meanwhile."""
        self.make(self.live, battery, in_place=in_place)
        with self.at_rest(self.live) as connection:
            for (table,) in connection.execute(UNDATED).fetchall():  # commands look for the newest rows
                connection.execute(
                    f"ALTER TABLE {table} ADD IF NOT EXISTS created_at timestamptz DEFAULT now()".encode()
                )
        self.settings = self._settings()
        return self._dump(self.live, store / "planted.sql")

    def successes(self, *databases: str) -> list[str]:
        """The attacks that succeeded: outside of databases, and in these, as far as they exist."""
        found = [file.name for file in self.folder.iterdir()]
        with self.maintenance() as connection:
            rows = connection.execute(
                """
                SELECT rolname || ' is a superuser' FROM pg_roles WHERE rolname LIKE 'hostile%' AND rolsuper
                UNION ALL SELECT rolname || ' was made' FROM pg_roles WHERE rolname ~ '^hostile_(made|reset)'
                UNION ALL SELECT m.member::regrole || ' is a member of ' || m.roleid::regrole
                FROM pg_auth_members m WHERE m.member::regrole::text LIKE 'hostile%'
                UNION ALL SELECT 'comment on ' || datname FROM pg_database
                WHERE shobj_description(oid, 'pg_database') LIKE 'forged%'
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
        with self.at_rest(name) as connection:
            rows = connection.execute(
                """
                SELECT 'a function was given to ' || proowner::regrole FROM pg_proc
                WHERE proname = 'gift' AND proowner IN (SELECT oid FROM pg_roles WHERE rolname = %(user)s)
                UNION ALL SELECT 'honest() was replaced' FROM pg_proc
                WHERE proname = 'honest' AND prosrc NOT LIKE '%%''honest''%%'
                UNION ALL SELECT 'honest_view was replaced' WHERE
                  pg_get_viewdef(to_regclass('public.honest_view')) LIKE '%%pg_authid%%'
                UNION ALL SELECT 'a trigger was added' FROM pg_trigger WHERE tgname LIKE 'added%%'
                UNION ALL SELECT 'a rule was added' FROM pg_rewrite WHERE rulename LIKE 'added%%'
                UNION ALL SELECT 'a policy was added' FROM pg_policy WHERE polname LIKE 'added%%'
                UNION ALL SELECT 'a default was added' FROM pg_attrdef
                WHERE adrelid = to_regclass('public.honest_table')
                UNION ALL SELECT 'schema ' || nspname || ' has a mark' FROM pg_namespace
                WHERE obj_description(oid, 'pg_namespace') LIKE '{"tool"%%' AND nspname !~ '^lastgood_'
                UNION ALL SELECT relname || ' was made' FROM pg_class WHERE relname ~ '^(read_file|by_dblink)'
                UNION ALL SELECT 'honest_table was granted to PUBLIC' FROM pg_class
                WHERE oid = to_regclass('public.honest_table') AND relacl::text ~ '[{,]=a'
                """,
                {"user": self.user},
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
            made = connection.execute("SELECT rolname::text FROM pg_roles WHERE rolname ~ '^hostile_(made|reset)'")
            for role in (*ROLES, APPLICATION, CREATOR, *(name for (name,) in made.fetchall())):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Batteries, and the operators that a test names: a superuser, one who may create databases and roles, and that of
    a hosted platform."""
    if "operator" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("operators")
    operators = marker.args if marker is not None else ("superuser",)
    if "battery" not in metafunc.fixturenames:
        metafunc.parametrize("operator", operators)
        return
    batteries = ALONE if EACH else [TOGETHER, *ALONE] if LONG else [TOGETHER]
    pairs = [
        pytest.param(operator, each, id=f"{operator}-{each.name}")
        for operator in operators
        for each in batteries
        if operator == "superuser" or any("by superuser" not in construct.notes for construct in each.constructs)
    ]
    metafunc.parametrize(("operator", "battery"), pairs)


@pytest.fixture
def field(server: EmbeddedServer, operator: str, request: pytest.FixtureRequest) -> Iterator[Field]:
    """A server with a live database, and nothing that an attack made."""
    folder = Path(tempfile.mkdtemp(prefix="lgh", dir=place()))
    folder.chmod(0o777)
    admin, user = "postgres", "postgres" if operator == "superuser" else CREATOR
    if operator == "hosted":
        project: Project = request.getfixturevalue("projects")(server.major)
        server, admin, user = project.server, ADMIN, "postgres"
        live = project.copy()
    else:
        live = request.getfixturevalue("new_database")("app")
    made = Field(server, live, folder, admin=admin, user=user)
    yield made
    with made.maintenance() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall():
            if re.search(rf"{live}(?!\d)", name):
                connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    made.clear()
