"""`lastgood init` finds out what it needs to know, and writes no secret."""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.command.init.survey import survey
from lastgood.config import example
from lastgood.config.settings import resolve
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.cli.conftest import Lastgood

FILE = Path("lastgood.toml")


@pytest.fixture
def application_role(server: EmbeddedServer, database: str) -> str:
    """A role that may read the contacts, and log in."""
    role = f"{database}_app"
    with server.target(database).connect() as connection:
        name = sql.Identifier(role)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        connection.execute(sql.SQL("GRANT SELECT ON public.contacts TO {}").format(name))
    return role


@pytest.fixture(autouse=True)
def roles_are_dropped(server: EmbeddedServer) -> object:
    yield
    with server.target("postgres").connect() as connection:
        rows = connection.execute(r"SELECT rolname FROM pg_roles WHERE rolname ~ '^crm_.*_(app|oper)$'").fetchall()
    for (role,) in rows:
        with server.target("postgres").connect() as connection:
            databases = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")]
        for each in databases:
            with server.target(each).connect() as connection:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        with server.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.postgres(15, 16, 17, 18)
def test_it_writes_what_it_found(
    lastgood: Lastgood, server: EmbeddedServer, database: str, application_role: str
) -> None:
    outcome = lastgood("init")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f'Wrote "lastgood.toml" for the database "{database}".\n')
    assert f"  Server      PostgreSQL {server.major}." in outcome.out
    assert "  Role        postgres: superuser\n" in outcome.out
    assert "  Migrations  supabase_migrations.schema_migrations (schema_migrations)\n" in outcome.out
    assert f"  {application_role}       1             0\n" in outcome.out
    assert outcome.out.endswith("\nNext: lastgood backup\n")
    text = FILE.read_text()
    assert f'# Application role "{application_role}": privileges on 1 table.\n' in text
    assert "# Migrations: supabase_migrations.schema_migrations (schema_migrations)\n" in text
    written = tomllib.loads(text)
    assert (sorted(written), written["store"]) == (["db", "store"], "backups")
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o644
    assert Target.parse(resolve({}, {}, Path.cwd()).db) == server.target(database)


def test_the_file_has_fifteen_lines(lastgood: Lastgood, database: str) -> None:
    lastgood("init")
    lines = FILE.read_text().splitlines()
    assert len(lines) <= 15, lines
    FILE.write_text(
        "\n".join(line.removeprefix("# ") if re.match(r"# (\[|keep|kept)", line) else line for line in lines)
    )
    outcome = lastgood("config", "check")
    assert (outcome.status, outcome.err) == (0, "")
    assert "Tables: [retention]" in outcome.out


def test_every_key_of_the_example_is_valid(lastgood: Lastgood) -> None:
    options, _, _ = lastgood("config", "example").out.partition("# Tables:")
    keys = [line.removeprefix("# ") for line in options.splitlines() if re.match(r"# \w+ = ", line)]
    FILE.write_text("\n".join(keys))
    settings = resolve({}, {}, Path.cwd())
    assert {key.partition(" ")[0] for key in keys} == {
        "db",
        "store",
        "state",
        "key_file",
        "format",
        "fence",
        "reopen_when",
        "on_failure",
        "strict",
        "build_as",
        "jobs",
        "max_wal_lag",
        "throttle",
    }
    assert (settings.format, settings.fence) == ("plain", "now")
    assert (settings.jobs, settings.max_wal_lag, settings.throttle) == (4, 1 << 30, 50 << 20)


def test_one_table_of_the_example_can_be_appended(lastgood: Lastgood) -> None:
    outcome = lastgood("config", "example", "retention")
    assert tomllib.loads(outcome.out)["retention"]["keep"]["daily"] == 7
    unknown = lastgood("config", "example", "retentoin")
    assert (unknown.status, unknown.out) == (2, "")
    assert unknown.err == (
        'error: cannot print an example: there is no table "retentoin"\n'
        "state: Nothing was read or changed.\n"
        "next:  List them: lastgood config example\n"
    )


def test_every_table_of_the_example_can_be_used_as_it_is(lastgood: Lastgood) -> None:
    _, _, tables = lastgood("config", "example").out.partition("# Tables:")
    lines = [line.removeprefix("# ") for line in tables.splitlines() if re.match(r"# (\[|\w+ = )", line)]
    starts = [number for number, line in enumerate(lines) if line.startswith("[")]
    blocks = ["\n".join(lines[a:b]) for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    assert {block.partition("\n")[0].strip("[]") for block in blocks} == {name for name, *_ in example.tables()}
    # One by one, where a table does not need the one around it, and all together.
    for text in (*(block for block in blocks if "." not in block.partition("\n")[0]), "\n".join(blocks)):
        FILE.write_text(text)
        outcome = lastgood("config", "check")
        assert (outcome.status, outcome.err) == (0, ""), text
    written = resolve({}, {}, Path.cwd()).tables
    for name, model, _ in example.tables():
        found: Any = written.model_dump(by_alias=True, exclude_unset=True)
        for part in name.split("."):
            found = found[part]
        tables_of_it = found if isinstance(found, list | tuple) else [found]
        # Every key is shown with a value.
        assert {key for each in tables_of_it for key in each} == set(example.model_fields(model)), name


def test_it_does_not_overwrite(lastgood: Lastgood, database: str) -> None:
    FILE.write_text("# mine\n")
    outcome = lastgood("init")
    assert (outcome.status, outcome.out) == (3, "")
    assert outcome.err == (
        'error: cannot write "lastgood.toml": it already exists\n'
        "state: Nothing was read or changed.\n"
        "next:  Edit it, or overwrite it: lastgood init --force\n"
    )
    assert FILE.read_text() == "# mine\n"
    assert lastgood("init", "--force").status == 0
    assert FILE.read_text() != "# mine\n"


def test_a_password_is_not_written(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    url = server.url(database).replace("postgres@", "postgres:s3cr%40t@")
    outcome = lastgood("init", "--db", url)
    assert outcome.status == 0
    assert "The password was not written. Put it in ~/.pgpass or the variable PGPASSWORD.\n" in outcome.out
    for secret in ("s3cr%40t", "s3cr@t", "s3cr"):
        assert secret not in FILE.read_text() + outcome.out + outcome.err
    document = lastgood("init", "--force", "--json", "--db", url).document
    assert document["password_left_out"] is True
    assert document["file"] == str(FILE.resolve())


def test_it_lists_obstacles(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    role = f"{database}_oper"
    owner = f"{database}_owner"
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(owner)))
    url = server.url(database, user=role)
    superuser_owns_it = lastgood("init", "--json", "--db", url).document["survey"]["grants"]
    assert superuser_owns_it[1] == '-- Give the database to a role that is no superuser, or connect as "postgres".'
    alter = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(owner))
    with server.target("postgres").connect() as connection:
        connection.execute(alter)
    with server.target(database).connect() as connection:
        connection.execute("ALTER TABLE public.deals ENABLE ROW LEVEL SECURITY")
        for clause in ("DATABASE {0}", "ROLE {1} IN DATABASE {0}"):
            setting = f"ALTER {clause} SET app.tenant = '7'"
            connection.execute(sql.SQL(setting).format(sql.Identifier(database), sql.Identifier(owner)))
    survey = lastgood("init", "--force", "--json", "--db", url).document["survey"]
    assert survey["obstacles"] == [
        f'Role "{role}" cannot create databases, so no shadow database can be built.',
        f'Role "{role}" is not a member of the owner "{owner}", so it cannot rename the database.',
        f'Role "{role}" cannot terminate sessions of other roles.',
        f'Row-level security hides rows from role "{role}" in "public"."deals": backups and proofs of these tables are '
        "refused.",
    ]
    for text in survey["obstacles"]:
        assert f"# To fix before a rollback: {text}\n" in FILE.read_text()
    # The same block to copy from each command, and it is all that was missing.
    block = (
        "\nFor a rollback by name, a superuser runs this once, in psql\n"
        f'  ALTER ROLE "{role}" CREATEDB BYPASSRLS;\n'
        f'  GRANT "{owner}", pg_signal_backend, pg_monitor, pg_read_all_data TO "{role}";\n'
        f'  GRANT SET ON PARAMETER "app.tenant" TO "{role}";\n'
        "  -- To load the code of restore points as a role without rights:\n"
        + (
            f'  ALTER ROLE "{role}" CREATEROLE;\n'
            f"  -- To repeat the settings of {owner} in the restored database:\n"
            f'  GRANT {owner} TO "{role}" WITH ADMIN OPTION;\n'
            if server.major >= 16
            else "  CREATE ROLE lastgood_builder LOGIN;\n"
            f'  GRANT lastgood_builder TO "{role}";\n'
            "  -- Then give lastgood_builder a password, and its URL to lastgood as build_as.\n"
            f"  -- To repeat the settings of {owner} in the restored database:\n"
            f'  ALTER ROLE "{role}" CREATEROLE;\n'
        )
    )
    assert block in lastgood("init", "--force", "--db", url).out
    assert block in lastgood("check", "--db", url).out
    assert block in lastgood("check", "--capabilities", "--db", url).out
    with server.target("postgres").connect() as connection:
        for statement in survey["grants"]:
            connection.execute(statement.encode())
    survey = lastgood("init", "--force", "--json", "--db", url).document["survey"]
    assert (survey["obstacles"], survey["grants"]) == ([], [])
    with server.target("postgres").connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(database)))
        connection.execute(sql.SQL("REVOKE ALL ON PARAMETER app.tenant FROM {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}, {}").format(sql.Identifier(role), sql.Identifier(owner)))
        connection.execute("DROP ROLE IF EXISTS lastgood_builder")


def test_sessions_of_a_pooler_are_seen(server: EmbeddedServer, database: str) -> None:
    with server.target(database).connect(application_name="PgBouncer - 10.0.0.7:5432"):
        found = survey(server.target(database))
    assert found.poolers == ("PgBouncer - 10.0.0.7:5432",)
    assert found.pooled is False


def test_a_name_cannot_break_out_of_its_comment(
    lastgood: Lastgood, server: EmbeddedServer, new_database: Callable[..., str]
) -> None:
    name = new_database('odd"\nstore = "/etc')
    assert lastgood("init", "--db", str(server.target(name))).status == 0
    assert tomllib.loads(FILE.read_text())["store"] == "backups"
