"""How a validation behaves on a server that others use: bounded, harmless, and honest about what it did not see."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from psycopg import sql

from lastgood.command.validate.crew import snapshot
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.validate import validate
from lastgood.config.tables import Validate
from lastgood.errors import Failed, Interrupted, Refused, UsageError
from lastgood.events import Caution, Event, Progress, StageDone, StageStarted
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection, Target
from tests.command.validate.conftest import Stage
from tests.postgres.test_pressure import standby
from tests.support.pooler import PORT, PgBouncer
from tests.support.waiting import until

TABLES = (
    "CREATE TABLE contacts (id int PRIMARY KEY, name text NOT NULL CHECK (name <> ''))",
    "CREATE TABLE deals (id serial PRIMARY KEY, contact_id int REFERENCES contacts)",
    "INSERT INTO contacts SELECT i, 'x' FROM generate_series(1, 1000) i",
    "INSERT INTO deals (contact_id) SELECT i FROM generate_series(1, 1000) i",
)


@pytest.fixture(autouse=True)
def tables(stage: Stage) -> None:
    stage.run(*TABLES)


@pytest.fixture
def role_without_rights(stage: Stage) -> Iterator[str]:
    """A role that may read nothing yet."""
    name = f"{stage.name}_reader"
    stage.run(f"CREATE ROLE {name} LOGIN")
    yield name
    stage.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_names_choose_rules(stage: Stage) -> None:
    names = [each.name for each in stage.verdict("full").rules]
    assert names == sorted(names, key=names.index)
    assert [each.name for each in stage.verdict("quick", "unique:public.d*").rules] == [
        "unique:public.deals.deals_pkey"
    ]
    assert [each.name for each in stage.verdict("quick", "check").rules] == [
        "check:public.contacts.contacts_name_check"
    ]
    ignored = stage.verdict("quick", ignore=["unique", "required:public.contacts"])
    assert not {each.name for each in ignored.rules} & {"unique:public.deals.deals_pkey", "required:public.contacts"}
    assert "check:public.contacts.contacts_name_check" in {each.name for each in ignored.rules}
    with pytest.raises(UsageError) as caught:
        stage.verdict("quick", "uniqe")
    assert (str(caught.value), caught.value.hint) == (
        'cannot validate: there is no rule "uniqe"',
        'Did you mean "unique"?',
    )
    with pytest.raises(UsageError) as caught:
        stage.verdict("quick", "own", "polymorphic", ignore=["check"])
    assert (str(caught.value), caught.value.hint) == (
        'cannot validate: this database has no rule of kind own or polymorphic, or "ignore" disables it',
        "Define them under [[validate.rules]] in lastgood.toml; lastgood config shows which file is used.",
    )
    events: list[Event] = []
    stage.verdict("full", emit=events.append, ignore=["nothing:like.this"])
    assert Caution('"nothing:like.this" in "ignore" of [validate] matches no rule of this database') in events


def test_what_became_worse_since_an_earlier_verdict(stage: Stage) -> None:
    stage.run("INSERT INTO deals (contact_id) VALUES (5000)", behind_its_back=True)
    before = stage.verdict("full")
    assert before.verdict == "NO-GO"
    assert stage.verdict("full").worse_than(before) == ()
    stage.run("INSERT INTO deals (contact_id) VALUES (5001)", "SELECT setval('deals_id_seq', 1)", behind_its_back=True)
    after = stage.verdict("full")
    assert [each.name for each in after.worse_than(before)] == [
        "foreign_key:public.deals.deals_contact_id_fkey",
        "sequence:public.deals.id",
    ]


def test_it_reports_progress(stage: Stage) -> None:
    events: list[Event] = []
    verdict = stage.verdict("full", emit=events.append)
    assert events[0] == StageStarted("validate", f'validate "{stage.name}"')
    steps = [each for each in events if isinstance(each, Progress)]
    assert steps[-1].done == steps[-1].total == len(verdict.rules)
    assert {each.detail for each in steps} <= {each.name for each in verdict.rules}
    assert events[-1] == StageDone("validate", verdict.seconds, f"GO, {len(verdict.rules)} rules")


@pytest.mark.postgres(15, 18)
def test_missing_privileges_are_reported_with_the_grant(stage: Stage, role_without_rights: str) -> None:
    verdict = stage.verdict("quick", user=role_without_rights)
    assert (verdict.verdict, verdict.complete) == ("NO-GO", False)
    assert verdict.remarks[-1] == "only the catalogue could be checked, but no rows, so the verdict is NO-GO"
    skipped = {each.name: each for each in verdict.rules if each.outcome == "SKIPPED"}
    key = skipped["foreign_key:public.deals.deals_contact_id_fkey"]
    assert (key.skipped_for, key.message) == ("privilege", "permission denied for table deals")
    assert key.hint == (
        f'As the owner or a superuser, run: GRANT SELECT ON TABLE "public"."contacts" TO "{role_without_rights}"; '
        f'GRANT SELECT ON TABLE "public"."deals" TO "{role_without_rights}"'
    )
    assert skipped["sequence:public.deals.id"].hint == (
        f'As the owner or a superuser, run: GRANT SELECT ON TABLE "public"."deals" TO "{role_without_rights}"; '
        f'GRANT SELECT ON SEQUENCE "public"."deals_id_seq" TO "{role_without_rights}"'
    )
    assert f"{len(skipped)} of {len(verdict.rules)} rules need a privilege that the role lacks" in verdict.remarks
    stage.run(
        f"GRANT SELECT (id) ON contacts TO {role_without_rights}; "
        f"GRANT SELECT ON deals, deals_id_seq TO {role_without_rights}"
    )
    partly = stage.verdict("quick", user=role_without_rights)
    assert (partly.verdict, partly.complete) == ("GO", False)
    found = {each.name: each.outcome for each in partly.rules}
    assert found["foreign_key:public.deals.deals_contact_id_fkey"] == "PASS"
    assert found["check:public.contacts.contacts_name_check"] == "SKIPPED"
    nothing = stage.verdict("quick", "check", user=role_without_rights)
    assert (nothing.verdict, nothing.remarks[-1]) == ("NO-GO", "no rule could be checked, so the verdict is NO-GO")


@pytest.mark.postgres(15, 18)
def test_hidden_rows_are_no_clean_rows(stage: Stage, role_without_rights: str) -> None:
    stage.run(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role_without_rights}",
        "ALTER TABLE contacts ENABLE ROW LEVEL SECURITY",
    )
    found = {each.name: each for each in stage.verdict("quick", user=role_without_rights).rules}
    key = found["foreign_key:public.deals.deals_contact_id_fkey"]
    assert (key.outcome, key.message) == (
        "SKIPPED",
        'query would be affected by row-level security policy for table "contacts"',
    )
    assert key.hint == f'As the owner or a superuser, run: ALTER ROLE "{role_without_rights}" BYPASSRLS'


@pytest.mark.postgres(18, also=(15,))
def test_a_table_that_is_locked_is_not_waited_for(stage: Stage) -> None:
    with stage.target.connect(autocommit=False) as other:
        other.execute("LOCK TABLE public.contacts IN ACCESS EXCLUSIVE MODE")
        verdict = stage.verdict("full")
        other.rollback()
    skipped = {each.name: each for each in verdict.rules if each.outcome == "SKIPPED"}
    one = skipped["readable:public.contacts"]
    assert (one.skipped_for, one.message) == (
        "locked",
        "another session holds a lock on it (ALTER TABLE, VACUUM FULL, …)",
    )
    assert "sequence:public.deals.id" not in skipped
    assert (verdict.verdict, verdict.complete) == ("GO", False)


def test_rules_beyond_the_time_limit_are_reported(stage: Stage) -> None:
    rules = [{"name": "slow", "query": "SELECT pg_sleep(60)"}, {"name": "fast", "query": "SELECT 1", "expect": 1}]
    verdict = stage.verdict("quick", time_limit=2.0, rules=rules)
    assert verdict.seconds < 20
    skipped = [each for each in verdict.rules if each.outcome == "SKIPPED"]
    assert [(each.name, each.skipped_for, each.message) for each in skipped] == [("slow", "time", "time limit reached")]
    assert (verdict.verdict, verdict.complete, verdict.skipped) == ("GO", False, ("slow",))
    assert f"1 of {len(verdict.rules)} rules were skipped because of the time limit" in verdict.remarks
    none = stage.verdict("quick", time_limit=0.0)
    assert (none.verdict, {each.outcome for each in none.rules}) == ("NO-GO", {"SKIPPED"})


def answered(connection: Connection, query: str, *parameters: object) -> None:
    """Waits until the query finds something."""
    until(lambda: connection.execute(query.encode(), parameters).fetchone() is not None, query)


def in_background(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Run a function in a thread; its exceptions are added to the list."""
    caught: list[BaseException] = []

    def catching() -> None:
        try:
            work()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=catching)
    thread.start()
    return thread, caught


def test_it_can_be_stopped(stage: Stage) -> None:
    rules = [{"name": "slow", "query": "SELECT pg_sleep(600)"}]
    stopping = threading.Event()
    thread, caught = in_background(lambda: stage.verdict("full", "own", cancelled=stopping.is_set, rules=rules))
    with stage.server.target("postgres").connect() as other:
        answered(other, "SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'", stage.name)
        stopping.set()
        thread.join(60)
    assert not thread.is_alive()
    assert [(type(error), str(error)) for error in caught] == [(Interrupted, "interrupted during the validation")]


@pytest.mark.postgres(15, 18)
def test_it_sees_one_moment_holds_no_lock_and_writes_nothing(stage: Stage) -> None:
    """Rows that come while it works are of no concern, and a migration that comes meanwhile does not wait for it."""
    rules = [{"name": "slow", "query": "SELECT FROM pg_sleep_for('1 hour') WHERE pg_sleep_for('1 hour') IS NULL"}]
    verdicts: list[object] = []

    def work() -> None:
        verdicts.append(stage.verdict("full", rules=rules))

    thread = threading.Thread(target=work)
    with stage.target.connect() as other:
        before = other.execute("SELECT count(*) FROM pg_class").fetchone()
        thread.start()
        asleep = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'"
        answered(other, asleep, stage.name)
        other.execute("SET lock_timeout = '10s'")
        other.execute("ALTER TABLE public.contacts ADD extra int")
        held = other.execute(
            "SELECT DISTINCT mode FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE a.application_name LIKE 'lastgood validate%' AND locktype = 'relation'"
        ).fetchall()
        assert set(held) <= {("AccessShareLock",)}
        states = other.execute(
            "SELECT bool_and(backend_xid IS NULL) FROM pg_stat_activity"
            " WHERE application_name LIKE 'lastgood validate%'"
        ).fetchone()
        assert states == (True,)
        answered(other, f"WITH it AS MATERIALIZED ({asleep}) SELECT FROM it WHERE pg_cancel_backend(pid)", stage.name)
        thread.join(60)
        assert other.execute("SELECT count(*) FROM pg_class").fetchone() == before
    assert not thread.is_alive()
    (verdict,) = verdicts
    (slow,) = [each for each in verdict.rules if each.name == "slow"]  # type: ignore[attr-defined]  # the thread put a Verdict there
    assert (slow.outcome, slow.message) == (
        "SKIPPED",
        "the server cancelled the check: canceling statement due to user request",
    )


def test_sampling_of_a_large_table_is_reported(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastgood.command.validate.budget.LEAST_PAGES", 8)
    stage.run(
        "INSERT INTO deals (contact_id) SELECT 1 FROM generate_series(1, 20000)",
        "ANALYZE",
    )
    stage.run("INSERT INTO deals (contact_id) SELECT 5000 FROM generate_series(1, 20000)", behind_its_back=True)
    verdict = stage.verdict("quick", time_limit=10.0)
    assert verdict.remarks[0].startswith("--full reads")
    monkeypatch.setattr("lastgood.command.validate.budget.PAGES_A_SECOND", 1)
    verdict = stage.verdict("quick", time_limit=60.0)
    (key,) = [each for each in verdict.rules if each.kind == "foreign_key"]
    assert key.outcome == "FAIL"
    assert key.sampled is not None
    assert 1 < key.sampled < 50
    assert 0 < key.violations < 20000
    assert "rules read only a sample of a large table" in verdict.remarks[0]
    assert all(each.sampled is None for each in stage.verdict("full").rules)


@pytest.mark.postgres(15, 18)
def test_a_standby_is_validated_on_several_connections(stage: Stage) -> None:
    with standby(stage.server) as there:
        there_too = Target({**stage.target.keywords, "port": str(there.info.port)})
        with there_too.connect() as connection:
            answered(connection, "SELECT FROM pg_catalog.pg_class WHERE relname = 'deals'")
        verdict = validate(there_too, Validate(), "full", jobs=2)
    assert (verdict.verdict, verdict.complete, verdict.connections) == ("GO", True, 2)


def test_a_closed_database_is_an_error_with_its_state(stage: Stage) -> None:
    with stage.server.target("postgres").connect() as connection:
        close = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(close.format(sql.Identifier(stage.name), sql.SQL("false")))
        with pytest.raises(Failed) as caught:
            stage.verdict("quick")
        connection.execute(close.format(sql.Identifier(stage.name), sql.SQL("true")))
    assert str(caught.value) == f'cannot validate the database: "{stage.name}" is closed to connections'
    assert caught.value.hint == f'Open it: ALTER DATABASE "{stage.name}" ALLOW_CONNECTIONS true'
    assert caught.value.state == "Nothing was changed."


def test_a_server_that_goes_away_is_an_error(stage: Stage) -> None:
    rules = [{"name": "slow", "query": "SELECT pg_sleep(600)"}]
    thread, caught = in_background(lambda: stage.verdict("full", "own", rules=rules))
    with stage.server.target("postgres").connect() as other:
        answered(other, "SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'", stage.name)
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [stage.name])
        thread.join(60)
    (error,) = caught
    assert isinstance(error, Failed)
    assert str(error) == (
        'cannot continue the validation: the connection was lost during rule "slow": '
        "terminating connection due to administrator command"
    )
    assert error.state == "Nothing was changed."


def test_a_missing_database_is_reported(server: EmbeddedServer) -> None:
    with pytest.raises(Refused) as caught:
        validate(server.target("no such database"), Validate(), "quick")
    assert (str(caught.value), caught.value.hint) == (
        'cannot find the database "no such database": the server has no database of that name',
        "Run psql --list to see the names; they are case-sensitive.",
    )


def test_nothing_is_left_in_a_session_that_a_pooler_reuses(stage: Stage) -> None:
    """What is set, is set for the transaction: a pooler would hand the rest to the application."""
    with snapshot(stage.target) as shared:
        inside: dict[str, str] = dict(shared.first.execute("SELECT name, setting FROM pg_settings").fetchall())
        assert (inside["transaction_read_only"], inside["lock_timeout"], inside["row_security"]) == (
            "on",
            "2000",
            "off",
        )
        role_without_rights = RuleReader(shared.first, time.monotonic() + 60, lambda: False)
        with role_without_rights.task():
            assert role_without_rights.row(
                sql.SQL("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
            ) > (0,)
        shared.first.rollback()
        shared.first.autocommit = True
        after: dict[str, str] = dict(shared.first.execute("SELECT name, setting FROM pg_settings").fetchall())
    with stage.target.connect_unchanged() as fresh:
        before: dict[str, str] = dict(fresh.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert {name for name in before if before[name] != after[name]} == {"application_name"}


def test_it_works_through_a_pooler_and_leaves_its_sessions_alone(
    stage: Stage, new_pooler: Callable[..., PgBouncer]
) -> None:
    pooler = new_pooler({stage.name: f"host={stage.server.folder} port=5432"}, ("postgres",), default_pool_size="4")
    with ExitStack() as stack:
        # The application's sessions exist already, and take turns.
        clients = [stack.enter_context(pooler.connect(stage.name)) for _ in range(4)]
        for client in clients:
            client.execute("BEGIN")
        for client in clients:
            client.execute("COMMIT")
        through = Target.parse(f"host={pooler.folder} port={PORT} user=postgres dbname={stage.name}")
        verdict = validate(through, Validate(), "full", jobs=2)
        assert (verdict.verdict, verdict.complete) == ("GO", True)
        paths = []
        for client in clients:
            client.execute("BEGIN")
            paths += client.execute(
                "SELECT current_setting('search_path'), current_setting('default_transaction_read_only'),"
                " current_setting('row_security'), current_setting('lock_timeout')"
            ).fetchall()
        assert set(paths) == {('"$user", public', "off", "on", "0")}
        for client in clients:
            client.execute("COMMIT")
