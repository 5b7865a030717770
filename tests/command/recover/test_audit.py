"""Audit tables are recognised, the best known first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lastgood.command.recover.audit import Columns, count_changes, recognise
from lastgood.command.recover.live import open_inspection
from lastgood.command.recover.server import connect
from lastgood.config.tables import Audit
from lastgood.postgres.embedded import EmbeddedServer

SUPA = ("audit", "record_version", ["id", "table_name", "op", "ts"], ["ts"])
WIKI = ("audit", "logged_actions", ["table_name", "action_tstamp_tx", "action"], ["action_tstamp_tx"])
OWN = ("public", "audit_log", ["id", "entity", "action", "created_at", "who"], ["created_at"])
OTHER: tuple[str, str, list[str], list[str]] = ("public", "audit", ["id", "name"], [])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([OWN, SUPA], Columns("audit", "record_version", "ts", "table_name", "op", "made by supa_audit")),
        (
            [WIKI],
            Columns(
                "audit",
                "logged_actions",
                "action_tstamp_tx",
                "table_name",
                "action",
                "made by the PostgreSQL wiki's audit trigger",
            ),
        ),
        (
            [OTHER, OWN],
            Columns("public", "audit_log", "created_at", "entity", "action", "recognised by its name and columns"),
        ),
        ([OTHER], None),
        ([], None),
    ],
)
def test_guessed(rows: list[tuple[str, str, list[str], list[str]]], expected: Columns | None) -> None:
    assert recognise(rows, None) == expected


def test_configured() -> None:
    table = ("crm", "history", ["what", "did", "when_it_was"], ["when_it_was"])
    configured = Audit(table="crm.history", table_column="what", operation_column="did")
    assert recognise([SUPA, table], configured) == Columns(
        "crm", "history", "when_it_was", "what", "did", "named in [recover.audit]"
    )
    assert recognise([SUPA], configured) is None


CASTS = """
CREATE TYPE public.en AS ENUM ('a', 'b');
CREATE FUNCTION public.a_text(public.en) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''code''; END';
CREATE FUNCTION public.a_time(public.en) RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''code''; END';
CREATE CAST (public.en AS text) WITH FUNCTION public.a_text(public.en);
CREATE CAST (public.en AS timestamptz) WITH FUNCTION public.a_time(public.en) AS IMPLICIT;
CREATE TABLE public.audit_log (at timestamptz DEFAULT now(), entity public.en, action public.en, e public.en);
INSERT INTO public.audit_log (entity, action) VALUES ('a', 'b');
"""


def test_casts_of_columns_are_not_used(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    """Their functions would run with the rights of the session."""
    name = new_database()
    with server.target(name).connect() as connection:
        connection.execute(CASTS)
    inspection = open_inspection(lambda: connect(server.target(name), name))
    with inspection.connection:
        found = count_changes(inspection, None, None, 5.0)
        assert found is not None
        assert [(each.table, each.operation, each.count) for each in found.changes] == [("a", "B", 1)]
        count_changes(inspection, Audit(table="public.audit_log", time_column="e"), None, 5.0)
    assert inspection.unseen == [
        "the audit table public.audit_log: its definition calls functions, which would run with the rights of role "
        '"postgres"'
    ]
