"""Guides of databases that make it hard: hostile names, five hundred tables, a role that is no superuser."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.command.guide import show as present
from lastgood.command.guide.guide import ROLLBACK, UNDO, executable
from lastgood.command.guide.subject import subject_of
from lastgood.command.guide.writing import expected
from lastgood.config.tables import Tables
from lastgood.errors import Refused
from lastgood.facts import Facts
from lastgood.points.dump_point import take
from lastgood.postgres.access import privileges
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from lastgood.postgres.state import DatabaseState
from lastgood.process import run
from lastgood.screen import page
from tests.command.guide.by_hand import ByHand

NewDatabase = Callable[..., str]
HOSTILE = (
    "it's",
    'two "words"',
    "$HOME `id` $(id)",
    "back\\slash",
    "-n",
    "line\nend\n",
    "SQL\nJSON\n```\n( exit 1 )",
    "{{privileges}} :live :'live'",
    "größe 🐘 | <b>*x*</b>",
    "\r\t",
)


def made(server: EmbeddedServer, database: str, folder: Path, tables: Tables | None = None) -> Path:
    """The guide of a database, with the store in ``folder``."""
    subject = subject_of(server.target(database), folder / "store", tables=tables)
    place = folder / "guide.md"
    place.write_text(present.document(subject), encoding="utf-8")
    return place


def grants(server: EmbeddedServer, database: str) -> tuple[object, ...]:
    with server.target(database).connect() as connection:
        found = privileges.read(connection)
        state = DatabaseState.read(connection, database)
    return found.objects, found.defaults, state


@pytest.mark.parametrize("bare", [False, True], ids=["with grants", "without grants"])
def test_hostile_names_of_everything(
    server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path, bare: bool
) -> None:
    database = new_database("cr\"m \\ $x\n'" if bare else "-crm '{{live}}' `id`")
    roles = [f"{name} {database}"[:60] for name in HOSTILE[:3]]
    with server.target(database).connect() as connection:
        try:
            _fill(connection, roles)
            if bare:
                _dump_without_grants(server, database, tmp_path / "store")
            else:
                take(server.target(database), tmp_path / "store")
            before = grants(server, database)
            guide = made(server, database, tmp_path)
            hand = ByHand(guide, server, tmp_path)
            written = executable(subject_of(server.target(database), tmp_path / "store"))
            assert [(each.id, each.text) for each in hand.blocks] == [(each.id, each.text) for each in written]
            assert "<b>" not in page.page("guide", guide.read_text(encoding="utf-8"))
            for name in HOSTILE:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name, name)))
            if bare:
                # As after DROP SCHEMA … CASCADE, which takes every grant with it: the guide still knows them.
                connection.execute(
                    sql.SQL("DROP OWNED BY {}").format(sql.SQL(", ").join(map(sql.Identifier, roles[1:])))
                )
                hand.variables["CARRY"] = "guide"
            connection.close()
            hand.does(*(each for each in ROLLBACK if not each.startswith("hook-")))
            assert grants(server, database) == before
            with server.target(database).connect() as restored:
                for number, name in enumerate(HOSTILE):
                    query = sql.SQL("SELECT array_agg({}) FROM {}").format(
                        sql.Identifier(name), sql.Identifier(name, name)
                    )
                    assert restored.execute(query).fetchone() == ([number],)
            hand.does(*UNDO)
        finally:
            _forget(server, database, roles)


def _fill(connection: Connection, roles: list[str]) -> None:
    for role in roles:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    owner, reader, caller = map(sql.Identifier, roles)
    for number, name in enumerate(HOSTILE):
        table, schema, column = sql.Identifier(name, name), sql.Identifier(name), sql.Identifier(name)
        kind = sql.Identifier(name, name + " kind")
        routine = sql.Identifier(name, name + " f")
        for statement in (
            sql.SQL("CREATE SCHEMA {}").format(schema),
            sql.SQL("CREATE TYPE {} AS ENUM ('a')").format(kind),
            sql.SQL("CREATE TABLE {} ({} int, at timestamptz, k {})").format(table, column, kind),
            sql.SQL("INSERT INTO {} VALUES ({}, '2025-05-05 12:00+02', 'a')").format(table, number),
            sql.SQL("CREATE FUNCTION {} (x {}) RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'").format(
                routine, kind
            ),
            sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(routine),
            sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(routine, caller),
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, reader),
            sql.SQL("GRANT SELECT ({}) ON {} TO {} WITH GRANT OPTION").format(column, table, reader),
            sql.SQL("GRANT INSERT ON {} TO {}").format(table, caller),
            sql.SQL("CREATE SEQUENCE {}").format(sql.Identifier(name, name + " s")),
            sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, owner),
            sql.SQL("ALTER FUNCTION {} OWNER TO {}").format(routine, owner),
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT SELECT ON TABLES TO {}").format(
                owner, schema, reader
            ),
        ):
            connection.execute(statement)
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} SET app.it TO {}").format(database, sql.Literal(HOSTILE[4])))
    connection.execute(sql.SQL("ALTER DATABASE {} SET search_path TO {}, ''").format(database, sql.Literal(HOSTILE[1])))
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(HOSTILE[6])))


def _dump_without_grants(server: EmbeddedServer, database: str, store: Path) -> None:
    store.mkdir()
    conninfo, _ = server.target(database).child()
    options = ["--no-owner", "--no-acl", "--clean", "--if-exists"]
    run.run([server.bin / "pg_dump", *options, f"--file={store / 'old.sql'}", f"--dbname={conninfo}"])


def _forget(server: EmbeddedServer, database: str, roles: list[str]) -> None:
    """Roles belong to the cluster, and what they own must go first."""
    with server.target("postgres").connect() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall():
            if name.startswith(database):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_five_hundred_tables(server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path) -> None:
    database = new_database("wide")
    with server.target(database).connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute(
            "DO $$ BEGIN FOR i IN 1..500 LOOP EXECUTE format("
            "'CREATE TABLE t%s (id int, name text, created_at timestamptz DEFAULT now());"
            " INSERT INTO t%s VALUES (1)', i, i); END LOOP; END $$"
        )
        connection.execute("CREATE TABLE empty (a int)")
    take(server.target(database), tmp_path / "store")
    began = time.perf_counter()
    subject = subject_of(server.target(database), tmp_path / "store")
    text = present.document(subject)
    seconds = time.perf_counter() - began
    assert seconds < 4, "it takes a fifth of that where nothing else runs"
    prose = text.split("```sh")
    assert len(text) < 250_000
    assert sum(len(part.split("\n```\n", 1)[-1]) for part in prose) < 40_000, "what people read stays short"
    assert "481 more tables, in the block `expected`" in text
    guide = tmp_path / "guide.md"
    guide.write_text(text, encoding="utf-8")
    output = ByHand(guide, server, tmp_path).does(*(each for each in ROLLBACK if not each.startswith("hook-")))
    assert "    501 |  500" in output


def test_no_secret_and_no_value_of_a_setting(server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path) -> None:
    database = new_database("crm")
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET app.token = 'tok-123'").format(sql.Identifier(database)))
    target = server.target(database)
    take(target, tmp_path / "store")
    secret = type(target)({**target.keywords, "password": "pass-123", "sslmode": "prefer", "keepalives": "1"})
    subject = subject_of(secret, tmp_path / "store")
    text = present.document(subject)
    assert "pass-123" not in text and "tok-123" not in text
    assert "`app.token`" in text
    assert "export PGSSLMODE=prefer\n" in text
    service = replace(subject, target=type(target)({"service": "crm prod", "dbname": database}))
    assert "\nunset PGDATABASE PGHOSTADDR\nexport PGSERVICE='crm prod'\n" in present.document(service)
    assert f"export TO_LIVE='keepalives=1 dbname={database}'\n" in text


def test_a_role_that_can_connect_can_write_it(
    server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path
) -> None:
    """No rights but to connect: not even to make temporary objects."""
    database = new_database("crm")
    take(server.target(database), tmp_path / "store")
    role = sql.Identifier(f"{database}_visitor")
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        try:
            superuser = subject_of(server.target(database), tmp_path / "store")
            visitor = subject_of(server.target(database, user=f"{database}_visitor"), tmp_path / "store")
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
    assert visitor.privileges == superuser.privileges
    assert not visitor.superuser


def test_hosted_platforms_say_what_differs(server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path) -> None:
    database = new_database("crm")
    take(server.target(database), tmp_path / "store")
    for name in ("supabase", "rds", "cloudsql", "neon", "heroku"):
        tables = Tables.model_validate({"recover": {"platform": name}})
        text = present.document(subject_of(server.target(database), tmp_path / "store", tables=tables))
        assert text.count("### On ") == 1


def test_a_restore_point_that_makes_databases_is_refused(
    server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path
) -> None:
    database = new_database("crm")
    with server.target(database).connect() as connection:
        connection.execute("CREATE TABLE public.t AS SELECT 1 AS x")
    (tmp_path / "store").mkdir()
    file = tmp_path / "store" / "whole.sql"
    run.run([server.bin / "pg_dump", "--create", f"--file={file}", server.url(database)])
    with pytest.raises(Refused) as raised:
        subject_of(server.target(database), tmp_path / "store")
    assert str(raised.value) == (
        f'cannot write the guide: restore point "{file}" creates databases itself, which is not safe by hand'
    )


@pytest.mark.postgres(17, 18)  # the psql of our 16 does not know \\restrict
def test_commands_of_psql_in_a_dump_are_not_run(
    server: EmbeddedServer, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Neither in one of an old pg_dump, which does not forbid them itself."""
    database = new_database("crm")
    with server.target(database).connect() as connection:
        connection.execute("CREATE TABLE public.t AS SELECT 1 AS x")
    store = tmp_path / "store"
    take(server.target(database), store)
    hand = ByHand(made(server, database, tmp_path), server, tmp_path)
    (point,) = store.glob("*.sql")
    lines = [line for line in point.read_text().splitlines(keepends=True) if "restrict " not in line]
    old = tmp_path / "old.sql"
    old.write_text("".join(lines))
    hand.variables["OTHER_POINT"] = str(old)
    hand.does("start", "point", "backup", "create", "state", "restore", "remove")
    lines.insert(
        next(n for n, line in enumerate(lines) if line.startswith("COPY ")), f"\\! touch {tmp_path / 'pwned'}\n"
    )
    old.write_text("".join(lines))
    hand.variables["RUN"] = "2"
    hand.does("start", "point", "backup", "create")
    assert "backslash commands are restricted" in hand.fails("restore")
    assert not (tmp_path / "pwned").exists()


def test_figures_of_an_empty_restore_point_are_none() -> None:
    assert "INSERT" not in expected(Facts(origin="dump"))
