"""The lock of a live database, and the marks on ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres import clock, database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.lock import lock_key, lock_live, read_nothing
from lastgood.postgres.mark import Mark, can_act, forget_marks, marked, read_mark, unbelieved

New = Callable[..., str]

MARK = Mark(
    role="kept",
    run="20260101T000000-1f",
    live='Sales "EU"',
    live_oid=16401,
    point="/backups/cloud_backup_20260101_000000.sql",
    host="bastion",
    pid=4711,
    user="alice",
    started=datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC),
    original_comment="the CRM — it's ours",
    options={"fence": "at-swap"},
)


def test_the_key_never_changes() -> None:
    # Another version of lastgood must meet us in the same lock.
    assert (lock_key("app"), lock_key("büro")) == (-6575578831278164247, -975987098078363081)


@pytest.mark.postgres(15, 18)
def test_one_run_at_a_time(server: EmbeddedServer) -> None:
    target = server.target("postgres")
    with target.connect(application_name="lastgood run 7") as first:
        lock_live(first, "app", read_nothing)
        lock_live(first, "app", read_nothing)
        lock_live(first, "another", read_nothing)
        (since,) = first.execute(
            "SELECT to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"') FROM pg_stat_activity"
            " WHERE pid = pg_backend_pid()"
        ).fetchone() or ("",)
        with target.connect() as second:
            with pytest.raises(Refused) as refused:
                lock_live(second, "app", read_nothing)
            assert refused.value.message == (
                'cannot work on the database "app": another run holds its lock ("lastgood run 7", as "postgres", '
                f"through a local socket, since {since}, server process {first.info.backend_pid})"
            )
            assert refused.value.hint == "Wait for that run, or run lastgood status to see its progress."
    with target.connect() as third:
        lock_live(third, "app", read_nothing)


@pytest.mark.postgres(15, 18)
def test_who_holds_it_as_far_as_we_may_know(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
        lock_live(connection, "app", read_nothing)
        with server.target("postgres", user="stranger").connect() as second, pytest.raises(Refused) as refused:
            lock_live(second, "app", read_nothing)
        assert refused.value.message == (
            'cannot work on the database "app": another run holds its lock ("lastgood", as "postgres", server process '
            f"{connection.info.backend_pid})"
        )
        connection.execute("DROP ROLE stranger")


@pytest.mark.parametrize(
    "comment", [None, "", "the CRM", "{}", "[1]", '{"tool":"other"}', '{"tool":"lastgood","v":1}', "{broken"]
)
def test_a_foreign_comment_is_no_mark(comment: str | None) -> None:
    assert read_mark(comment) is None


def test_a_newer_versions_mark_is_recognised() -> None:
    text = MARK.text().replace('"v":1', '"v":9,"stage":"prove"')
    found = read_mark(text)
    assert found is not None and (found.v, found.run) == (9, MARK.run)


@pytest.mark.postgres(15, 18)
def test_marked_databases_are_found_on_the_server(server: EmbeddedServer, new_database: New) -> None:
    live = new_database("app")
    with server.target("postgres").connect() as connection:
        model = database.describe(connection, live)
        mark = MARK.model_copy(update={"started": clock.now(connection), "live_oid": model.oid})
        shadow = database.create_like(connection, f"{live}_shadow", model, mark.text())
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS 'the CRM'").format(sql.Identifier(live)))
        found = [(each, m) for each, m in marked(connection) if each.name.startswith(live)]
        assert found == [(shadow, mark)] and shadow.size_bytes


@pytest.mark.parametrize("run", ["x; rm -rf /", "$(id)", "../../x", "--yes", "a b", ""])
def test_a_run_is_a_name_that_a_shell_and_a_file_system_can_have(run: str) -> None:
    assert read_mark(MARK.model_dump_json().replace(MARK.run, run)) is None


def test_a_mark_that_another_owner_could_have_written_is_not_believed(
    server: EmbeddedServer, new_database: New
) -> None:
    """It would make the database the one that an undo puts into service."""
    live, theirs = new_database("crm"), new_database("theirs")
    role, owner = sql.Identifier(f"{live}_role"), sql.Identifier(f"{live}_owner")
    theirs_name, live_name = sql.Identifier(theirs), sql.Identifier(live)
    mark = MARK.model_copy(update={"live": live})
    with server.target("postgres").connect() as connection:

        def owned(name: sql.Identifier, by: sql.Identifier) -> list[str]:
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, by))
            return [each.name for each, _ in marked(connection)]

        database.comment(connection, theirs, mark.text())
        connection.execute(sql.SQL("CREATE ROLE {}; CREATE ROLE {}").format(role, owner))
        try:
            assert owned(theirs_name, role) == []
            assert unbelieved(connection, live) == (
                f'The mark of "{theirs}" is ignored, because its owner "{live}_role" could have written it. To use it, '
                f'run: ALTER DATABASE "{theirs}" OWNER TO "postgres"'
            )
            assert (unbelieved(connection, "another"), can_act(connection, f"{live}_role")) == ("", False)
            assert owned(live_name, owner) == []
            assert owned(theirs_name, owner) == [theirs]  # who owns the live database can rename both
            assert owned(theirs_name, sql.Identifier("postgres")) == [theirs]
            assert can_act(connection, "postgres")
        finally:
            owned(live_name, sql.Identifier("postgres"))
            owned(theirs_name, sql.Identifier("postgres"))
            connection.execute(sql.SQL("DROP ROLE {}; DROP ROLE {}").format(role, owner))


def test_marks_of_schemas_are_removed_from_what_was_restored(server: EmbeddedServer, new_database: New) -> None:
    with server.target(new_database()).connect() as connection:
        connection.execute("CREATE SCHEMA a; CREATE SCHEMA b; COMMENT ON SCHEMA b IS 'ours'")
        connection.execute(sql.SQL("COMMENT ON SCHEMA a IS {}").format(sql.Literal(MARK.text())))
        forget_marks(connection)
        rows = connection.execute(
            "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname IN ('a', 'b')"
        )
        assert dict(rows.fetchall()) == {"a": None, "b": "ours"}
