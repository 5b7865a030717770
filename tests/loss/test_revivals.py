"""What a rollback brings back to life and what other systems know of the lost rows, on a real server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from lastgood import rollback
from lastgood.config.tables import CheckSettings, Loss
from lastgood.plan.loss import Compare, OutsideReference, Revival
from lastgood.plan.plan import Plan, Request
from lastgood.points import dump_point
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, email text);
INSERT INTO users SELECT i, 'u' || i FROM generate_series(1, 100) i;
CREATE TABLE marketing_consents (user_id int PRIMARY KEY, given boolean);
INSERT INTO marketing_consents SELECT i, true FROM generate_series(1, 10) i;
CREATE TABLE user_sessions (token text);
INSERT INTO user_sessions VALUES ('a'), ('b');
CREATE TABLE outbox (id int PRIMARY KEY, sent boolean);
INSERT INTO outbox SELECT i, false FROM generate_series(1, 5) i;
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid int PRIMARY KEY, schedule text);
INSERT INTO cron.job VALUES (1, '0 * * * *'), (2, '5 * * * *');
CREATE TABLE payments (id int PRIMARY KEY, stripe_id text, cents int);
INSERT INTO payments SELECT i, 'ch_' || i, 5 FROM generate_series(1, 10) i;
INSERT INTO payments SELECT i, NULL, 5 FROM generate_series(11, 20) i;
CREATE TABLE mails (body text, message_id text);
INSERT INTO mails SELECT 'hello', 'm' || i FROM generate_series(1, 5) i;
CREATE TABLE quiet_sessions (id int);
"""
LATER = """
DELETE FROM users WHERE id <= 3;
UPDATE users SET email = 'x' WHERE id > 90;
UPDATE marketing_consents SET given = false WHERE user_id < 5;
DELETE FROM user_sessions WHERE token = 'a';
DELETE FROM outbox WHERE id = 1;
UPDATE outbox SET sent = true WHERE id > 3;
DELETE FROM cron.job WHERE jobid = 2;
INSERT INTO payments VALUES (21, 'ch_21', 1), (22, NULL, 1), (23, '', 1), (24, 'ch_24', 1);
UPDATE payments SET cents = 6 WHERE id <= 2;
UPDATE payments SET stripe_id = 'ch_' || id WHERE id = 11;
DELETE FROM payments WHERE id = 5;
INSERT INTO mails VALUES ('hi', 'm6'), ('hi', NULL), ('hello', 'm1');
CREATE TABLE refunds (id int, payment_intent text);
INSERT INTO refunds VALUES (1, 'pi_1'), (2, NULL);
"""


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str], store: Path) -> Target:
    """A database with a restore point, and later changes."""
    target = server.target(new_database("app"))
    with target.connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute(SCHEMA)
        dump_point.take(target, store)
        connection.execute(LATER)
    return target


def planned(target: Target, store: Path, compare: Compare = "count", rules: Loss | None = None) -> Plan:
    request = Request(target=target, store=store, state=store.parent / "state", compare=compare, loss=rules or Loss())
    return rollback.plan(request, lambda event: None).plan


@pytest.mark.postgres(15, 18)
def test_a_plan_counts_what_comes_back_to_life(target: Target, store: Path) -> None:
    plan = planned(target, store)
    assert plan.revivals == (
        Revival(kind="schedule", what="cron.job", returns=1, changed=0),
        Revival(kind="consent", what="public.marketing_consents", returns=0, changed=4),
        Revival(kind="queue", what="public.outbox", returns=1, changed=2),
        Revival(kind="access", what="public.user_sessions", returns=1, changed=0),
        Revival(kind="person", what="public.users", returns=3, changed=0),
    )
    assert plan.outside == (
        OutsideReference(table="public.mails", columns=("message_id",), rows=2),
        OutsideReference(table="public.payments", columns=("stripe_id",), rows=3),
        OutsideReference(table="public.refunds", columns=("payment_intent",), rows=1),
    )


def test_what_was_not_counted_is_named_and_not_left_out(target: Target, store: Path) -> None:
    plan = planned(target, store, "digest")
    assert [(each.what, each.returns) for each in plan.revivals] == [
        ("cron.job", None),
        ("public.marketing_consents", None),
        ("public.outbox", None),
        ("public.user_sessions", None),
        ("public.users", None),
    ]
    assert [(each.table, each.rows) for each in plan.outside] == [
        ("public.mails", None),
        ("public.payments", None),
        ("public.refunds", None),
    ]


@pytest.mark.parametrize(
    ("compare", "seconds", "contents"),
    [
        ("digest", 60.0, {("changed", "counting is turned off")}),
        ("count", 1e-9, {("changed", "time limit of 0 ms reached")}),
        ("none", 60.0, {("not compared", "content comparison is turned off"), ("changed", "")}),
        ("count", 0.0, {("not compared", "content comparison is turned off"), ("changed", "")}),
    ],
)
def test_a_table_that_differs_is_never_equal(
    target: Target, store: Path, compare: Compare, seconds: float, contents: set[tuple[str, str]]
) -> None:
    request = Request(target=target, store=store, state=store.parent / "state", compare=compare)
    request = replace(request, check=CheckSettings(compare_limit=seconds))
    plan = rollback.plan(request, lambda event: None).plan
    by_name = {each.name: each for each in plan.loss}
    assert (by_name["quiet_sessions"].content, by_name["quiet_sessions"].lost) == ("equal", 0)
    # The number of their rows is the same on both sides.
    assert {(by_name[name].content, by_name[name].why) for name in ("marketing_consents", "payments")} == contents
    assert not any(each.counted for each in plan.loss if each.content in ("changed", "not compared"))


def test_the_rules_of_the_configuration_replace_the_defaults(target: Target, store: Path) -> None:
    rules = Loss(
        people=("PUBLIC.mark*",), consents=(), access=(), queues=(), schedules=(), references=("payments.cents",)
    )
    plan = planned(target, store, rules=rules)
    assert plan.revivals == ()  # no consent was deleted
    assert plan.outside == (OutsideReference(table="public.payments", columns=("cents",), rows=6),)


@pytest.mark.postgres(15, 18)
def test_grants_that_were_revoked_since_come_back(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path
) -> None:
    target = server.target(new_database("app"))
    with target.connect() as connection:
        connection.execute('DROP ROLE IF EXISTS "audit\'s team"')
        connection.execute('CREATE ROLE "audit\'s team"')
        role = sql.Identifier("audit's team")
        for text in (
            'CREATE TABLE "Odd. name" (id int, "secret, one" text, plain text)',
            "CREATE VIEW seen AS SELECT 1 AS one",
            "CREATE FUNCTION open_to_all(a integer, VARIADIC b text[]) RETURNS int LANGUAGE sql RETURN 1",
            "CREATE FUNCTION closed(a integer) RETURNS int LANGUAGE sql RETURN 1",
            "REVOKE EXECUTE ON FUNCTION closed(integer) FROM PUBLIC",
            "CREATE SEQUENCE numbers",
            'GRANT ALL ON "Odd. name" TO {role}',
            'GRANT SELECT (plain), UPDATE ("secret, one") ON "Odd. name" TO PUBLIC',
            "GRANT SELECT ON seen TO {role} WITH GRANT OPTION",
            "GRANT EXECUTE ON FUNCTION closed(integer) TO {role}",
            "GRANT USAGE ON SEQUENCE numbers TO {role}",
            "GRANT USAGE, CREATE ON SCHEMA public TO {role}",
        ):
            connection.execute("SET search_path = public")
            connection.execute(sql.SQL(text).format(role=role))
        dump_point.take(target, store)
        assert planned(target, store).revivals == ()
        for text in (
            'REVOKE UPDATE, DELETE ON "Odd. name" FROM {role}',
            'REVOKE SELECT (plain) ON "Odd. name" FROM PUBLIC',
            "REVOKE SELECT ON seen FROM {role}",
            "REVOKE EXECUTE ON FUNCTION open_to_all(integer, text[]) FROM PUBLIC",
            "REVOKE EXECUTE ON FUNCTION closed(integer) FROM {role}",
            "REVOKE CREATE ON SCHEMA public FROM {role}",
            "DROP SEQUENCE numbers",
        ):
            connection.execute(sql.SQL(text).format(role=role))
    try:
        found = [each.what for each in planned(target, store).revivals if each.kind == "grant"]
    finally:
        with target.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))
    assert found == [
        'EXECUTE on function public.closed(a integer) to "audit\'s team"',
        "EXECUTE on function public.open_to_all(a integer, VARIADIC b text[]) to PUBLIC",
        'CREATE on schema public to "audit\'s team"',
        'DELETE, UPDATE on table public."Odd. name" to "audit\'s team"',
        'SELECT (plain) on table public."Odd. name" to PUBLIC',
        'SELECT on table public.seen to "audit\'s team"',
    ]
