"""What SQLSTATEs mean, and our errors made of a server's."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from lastgood.cli.commands import ORDER
from lastgood.errors import Failed
from lastgood.postgres.database import connect_maintenance
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.errors import RULES, Context, ErrorPolicy, explain, failed, policy, policy_of
from lastgood.postgres.server import Connection, Target

New = Callable[..., str]

POLICIES: list[tuple[str | None, Context, ErrorPolicy]] = [
    ("42704", "optional", ErrorPolicy.IGNORE),
    ("42704", "any", ErrorPolicy.STOP),
    ("42883", "statistics", ErrorPolicy.IGNORE),
    ("42501", "optional", ErrorPolicy.IGNORE),
    ("42501", "privileges", ErrorPolicy.IGNORE),
    ("42501", "any", ErrorPolicy.STOP),
    ("42P06", "any", ErrorPolicy.IGNORE),
    ("42710", "extension", ErrorPolicy.IGNORE),
    ("42710", "any", ErrorPolicy.STOP),
    ("40P01", "any", ErrorPolicy.RETRY),
    ("40001", "swap", ErrorPolicy.RETRY),
    ("55P03", "any", ErrorPolicy.RETRY),
    ("XX000", "any", ErrorPolicy.RETRY),
    ("23505", "catalogue", ErrorPolicy.RETRY),
    ("23505", "extension", ErrorPolicy.REPAIR),
    ("23505", "any", ErrorPolicy.STOP),
    ("57014", "own timeout", ErrorPolicy.RETRY),
    ("57014", "swap", ErrorPolicy.RETRY),
    ("57014", "any", ErrorPolicy.STOP),
    ("57P01", "any", ErrorPolicy.RECONNECT),
    ("57P02", "copy", ErrorPolicy.RECONNECT),
    ("57P03", "connect", ErrorPolicy.RECONNECT),
    ("08006", "any", ErrorPolicy.RECONNECT),
    ("08P01", "copy", ErrorPolicy.RECONNECT),
    (None, "any", ErrorPolicy.RECONNECT),
    ("3D000", "connect", ErrorPolicy.RECONNECT),
    ("3D000", "any", ErrorPolicy.STOP),
    ("53300", "any", ErrorPolicy.RECONNECT),
    ("55000", "refresh", ErrorPolicy.REQUEUE),
    ("55000", "any", ErrorPolicy.STOP),
    ("42P01", "function", ErrorPolicy.REQUEUE),
    ("42P01", "copy", ErrorPolicy.REPAIR),
    ("23514", "copy", ErrorPolicy.REPAIR),
    ("23503", "constraint", ErrorPolicy.STOP),
    ("22021", "copy", ErrorPolicy.STOP),
    ("22P04", "copy", ErrorPolicy.STOP),
    ("22P02", "copy", ErrorPolicy.STOP),
    ("22P05", "copy", ErrorPolicy.STOP),
    ("42601", "any", ErrorPolicy.STOP),
    ("0A000", "any", ErrorPolicy.STOP),
    ("53100", "any", ErrorPolicy.STOP),
    ("53200", "any", ErrorPolicy.STOP),
    ("53400", "any", ErrorPolicy.STOP),
    ("54000", "any", ErrorPolicy.STOP),
    ("54023", "any", ErrorPolicy.STOP),
    ("XX001", "any", ErrorPolicy.STOP),
    ("XX002", "any", ErrorPolicy.STOP),
    ("55006", "swap", ErrorPolicy.RETRY),
    ("25P03", "swap", ErrorPolicy.RETRY),
    ("55006", "drop", ErrorPolicy.STOP),
    ("ZZ999", "any", ErrorPolicy.STOP),
]


@pytest.mark.parametrize(("sqlstate", "context", "expected"), POLICIES)
def test_policy(sqlstate: str | None, context: Context, expected: ErrorPolicy) -> None:
    assert policy(sqlstate, context) is expected


def test_the_table_is_sound() -> None:
    keys = [(rule.state, rule.context) for rule in RULES]
    assert len(keys) == len(set(keys))
    for rule in RULES:
        assert re.fullmatch(r"[0-9A-Z]{5}|[0-9A-Z]{2}", rule.state), rule
        assert re.fullmatch(r"[A-Z].*[^.]\.", rule.cause) and re.fullmatch(r"[A-Z].*[^.]\.", rule.next_command), rule
        if len(rule.state) == 5:
            assert psycopg.errors.lookup(rule.state), rule


def test_explain() -> None:
    found = explain("53100", 'could not extend file "base/1/2": No space left on device')
    assert found.cause == (
        'The server\'s disk is full. Message of the server: "could not extend file "base/1/2": No space left on '
        'device".'
    )
    assert found.effect == (
        "The statement had no effect; the shadow database is kept, and the live database is unchanged."
    )
    assert found.next_command == "Free space on it, then run lastgood abort to drop the shadow."
    assert explain("ZZ999").cause == "The server rejected it, for a reason that lastgood does not know."


def test_a_servers_error_becomes_ours(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection:
        with pytest.raises(psycopg.Error) as raised:
            connection.execute("SELECT * FROM nowhere")
        error = failed(raised.value, 'read the table "nowhere"')
        assert isinstance(error, Failed)
        assert error.message == 'cannot read the table "nowhere": relation "nowhere" does not exist'
        assert error.hint == (
            "A table or view that the command needs does not exist."
            " Run lastgood points to choose another restore point."
        )
        assert error.state == ""


def test_rows_do_not_get_into_messages_but_holders_do(server: EmbeddedServer, new_database: New) -> None:
    name = new_database("app")
    with server.target("postgres").connect() as connection, server.target(name).connect() as inside:
        inside.execute("CREATE TABLE public.t (email text UNIQUE)")
        inside.execute("INSERT INTO public.t VALUES ('alice@example.org')")
        with pytest.raises(psycopg.Error) as raised:
            inside.execute("INSERT INTO public.t VALUES ('alice@example.org')")
        assert failed(raised.value, "load rows").message == (
            'cannot load rows: duplicate key value violates unique constraint "t_email_key"'
        )
        connection.execute("SET statement_timeout = '20s'")
        with pytest.raises(psycopg.Error) as raised:
            connection.execute(f"ALTER DATABASE {name} RENAME TO {name}_x".encode())
        assert failed(raised.value, "swap", context="swap").message == (
            f'cannot swap: database "{name}" is being accessed by other users'
            " (There is 1 other session using the database.)"
        )
        assert policy_of(raised.value, "swap") is ErrorPolicy.RETRY


def test_a_password_never_shows() -> None:
    with pytest.raises(psycopg.Error) as raised:
        Target.parse("postgresql://alice:s3cr%zzet@db/app")
    error = failed(raised.value, "read the connection's URL")
    assert "s3cr" not in error.message + error.hint
    assert (
        error.message == "cannot read the connection's URL: the client library rejected the request (ProgrammingError)"
    )


def test_a_server_without_a_listener(server: EmbeddedServer) -> None:
    target = Target({"host": str(server.folder), "port": "1", "user": "alice", "password": "s3cret", "dbname": "app"})
    with pytest.raises(psycopg.Error) as raised:
        target.connect()
    assert policy_of(raised.value) is ErrorPolicy.RECONNECT
    error = failed(raised.value, "connect")
    assert error.message == (
        f'cannot connect: connection is bad: connection to server on socket "{server.folder}/.s.PGSQL.1" failed:'
        " No such file or directory; Is the server running locally and accepting connections on that socket?"
    )


def test_two_that_make_the_same_schema_are_no_damage(server: EmbeddedServer, new_database: New) -> None:
    """The loser waits for the winner's commit, and gets 23505 on a catalogue's index."""
    name = new_database("app")
    raised: list[psycopg.Error] = []

    def lose(connection: Connection) -> None:
        try:
            connection.execute("CREATE SCHEMA twice")
        except psycopg.Error as error:
            raised.append(error)

    with server.target(name).connect() as first, server.target(name).connect() as second:
        with server.target("postgres").connect() as third, first.transaction():
            first.execute("CREATE SCHEMA twice")
            thread = threading.Thread(target=lose, args=(second,))
            thread.start()
            waits = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
            while not third.execute(waits, [second.info.backend_pid]).rowcount:
                assert thread.is_alive()
        thread.join()
    (error,) = raised
    assert (error.sqlstate, policy_of(error)) == ("23505", ErrorPolicy.RETRY)


def test_hints_name_commands_and_options_that_exist() -> None:
    text = " ".join(each.next_command for each in RULES)
    assert set(re.findall(r"lastgood ([a-z]+)", text)) <= set(ORDER)
    assert set(re.findall(r"--[a-z-]+", text)) <= {"--dry-run", "--list"}  # psql --list


def test_a_connection_that_did_not_come_about_does_not_claim_to_know_the_database(server: EmbeddedServer) -> None:
    target = server.target("postgres", user="nobody_of_that_name")
    with pytest.raises(Failed) as caught:
        connect_maintenance(target, "crm")
    assert caught.value.state == "Nothing was changed."
    assert caught.value.hint == (
        'Connect as a role that the server has, not as "nobody_of_that_name": the user of the URL, or PGUSER. Without '
        "one, the name of your account is used."
    )


@pytest.mark.postgres(15, 17, 18)
def test_settings_of_a_role_and_of_a_database_do_not_reach_our_sessions(
    server: EmbeddedServer, new_database: New
) -> None:
    name = new_database("crm")
    settings = {"statement_timeout": "1ms", "DateStyle": "German", "standard_conforming_strings": "off"}
    settings |= {"default_transaction_read_only": "on", "IntervalStyle": "sql_standard", "search_path": "evil"}
    if server.major >= 17:
        settings["transaction_timeout"] = "50ms"
    with server.target("postgres").connect() as connection:
        for key, value in settings.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(name), sql.Identifier(key), sql.Literal(value)
                )
            )
    with server.target(name).connect() as connection:
        assert connection.execute("SELECT timestamptz 'epoch', pg_sleep(0.1)::text").fetchone() == (
            datetime(1970, 1, 1, tzinfo=UTC),
            "",
        )
        connection.execute("CREATE TABLE public.t (i int)")


def test_the_name_of_a_database_is_found_without_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATABASE", "a b")
    assert Target({"host": "/nowhere"}).dbname == "a b"
