"""Audit tables are recognised, the best known first."""

from __future__ import annotations

import pytest

from lastgood.command.recover.audit import Columns, recognise
from lastgood.config.tables import Audit

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
