"""Extensions that can be created only in the database that the server's configuration names (pg_cron).

A restored database has another name until the switch. The extension's script compares the two names, and nothing else
prevents its creation: so in the transaction of CREATE EXTENSION the setting returns the present database's name, which
only superusers can arrange.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

REFUSAL = "P0001"  # raise_exception
DATABASE_SETTINGS = {"pg_cron": "cron.database_name"}
"""Extension → the setting that names its database."""


def is_refused(name: str, error: psycopg.Error) -> bool:
    """Whether an extension was refused because of the database's name."""
    return name in DATABASE_SETTINGS and error.sqlstate == REFUSAL and "database" in (error.diag.message_primary or "")


def around_creation(name: str) -> tuple[Sequence[sql.Composed | sql.SQL], Sequence[sql.Composed | sql.SQL]]:
    """The statements before and after CREATE EXTENSION, for one transaction: no other session sees their effect."""
    before = (
        sql.SQL("ALTER FUNCTION pg_catalog.current_setting(text) RENAME TO lastgood_current_setting"),
        sql.SQL(
            "CREATE FUNCTION pg_catalog.current_setting(text) RETURNS text LANGUAGE sql STABLE AS $$"
            " SELECT CASE $1 WHEN {} THEN pg_catalog.current_database()::text"
            " ELSE pg_catalog.lastgood_current_setting($1) END $$"
        ).format(sql.Literal(DATABASE_SETTINGS[name])),
    )
    after = (
        sql.SQL("DROP FUNCTION pg_catalog.current_setting(text)"),
        sql.SQL("ALTER FUNCTION pg_catalog.lastgood_current_setting(text) RENAME TO current_setting"),
    )
    return before, after
