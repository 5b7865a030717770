"""The bad migration: it ends without an error and leaves wrong data."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from demo import crm
from lastgood.postgres.server import Connection

VERSION = "20260112093000"


def steps() -> list[tuple[str, bytes]]:
    """Its steps in order: a few words, and the statement."""
    return list(crm.chunks("migration.sql").items())


def apply(connection: Connection, *, until: str | None = None) -> list[str]:
    """Run it as the owner of the CRM, each statement in a transaction of its own, and return the steps done.

    ``until`` ends it before the step of that name, like a migration that failed half-way. Raises psycopg.Error.
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
    """The traces of the migration in a database; all false and zero means none."""

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
        """Whether the database has no trace of the migration; the caller judges the number of opportunities."""
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
    """Find the migration's traces in the database; ``connection`` must see all rows (a superuser's)."""
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
