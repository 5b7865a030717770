"""The bad migration: it ends without an error, and what it did to the data is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from demo import crm
from lastgood.postgres.server import Connection

VERSION = "20260112093000"


def steps() -> list[tuple[str, bytes]]:
    """What it does, in order: a few words, and the statement."""
    return list(crm.chunks("migration.sql").items())


def apply(connection: Connection, *, until: str | None = None) -> list[str]:
    """Runs it as the owner of the CRM, each statement in a transaction of its own, and returns the steps done.

    ``until`` ends it before the step of that name: a migration that failed half-way. Raises psycopg.Error.
    """
    done: list[str] = []
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(crm.OWNER)))
    try:
        for words, statement in steps():
            if words == until:
                break
            connection.execute(statement)
            done.append(words)
    finally:
        connection.execute("RESET ROLE")
    return done


@dataclass(frozen=True, slots=True)
class Damage:
    """What of the migration is to be seen in a database; all false and zero means: nothing."""

    new_table: bool
    new_view: bool
    new_column: bool
    column_gone: bool
    contacts_overwritten: int
    orphans: int
    opportunities: int
    recorded: bool

    @property
    def none(self) -> bool:
        """Whether nothing of the migration is there (the number of opportunities is for the caller to judge)."""
        return not (
            self.new_table
            or self.new_view
            or self.new_column
            or self.column_gone
            or self.contacts_overwritten
            or self.orphans
            or self.recorded
        )


def damage(connection: Connection) -> Damage:
    """Looks for the migration's traces in the database; ``connection`` must see all rows (a superuser's)."""
    row = connection.execute(
        """
        SELECT to_regclass('public.lead_scores') IS NOT NULL,
               to_regclass('api.hot_leads') IS NOT NULL,
               EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('public.contacts')
                       AND attname = 'lifecycle' AND NOT attisdropped),
               NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('public.organizations')
                           AND attname = 'notes' AND NOT attisdropped),
               (SELECT count(*) FROM public.contacts WHERE notes = 'normalized'),
               (SELECT count(*) FROM public.opportunities o WHERE contact_id IS NOT NULL
                AND NOT EXISTS (SELECT FROM public.contacts c WHERE c.id = o.contact_id)),
               (SELECT count(*) FROM public.opportunities),
               EXISTS (SELECT FROM supabase_migrations.schema_migrations WHERE version = %s)
        """,
        [VERSION],
    ).fetchone()
    assert row is not None
    return Damage(*row)
