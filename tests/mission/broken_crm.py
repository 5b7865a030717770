"""The demo's CRM with one damage of each kind, planted as it happens in life: behind the server's back."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from demo import crm
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection

SCALE = 0.02

# Every rule that must not pass, and how it ends. All others must pass.
QUICK = {
    "foreign_key:public.contact_tags.contact_tags_contact_id_fkey": "FAIL",
    "foreign_key:public.activities.activities_contact_id_fkey": "FAIL",
    "foreign_key:public.opportunities.opportunities_owner": "WARN",
    "guessed_key:public.notes.contact_id": "WARN",
    "guessed_polymorphic:public.notes.subject_id": "WARN",
    "required:public.tags": "FAIL",
    "check:public.opportunities.opportunities_amount_check": "FAIL",
    "check:public.opportunities.short_name": "WARN",
    "domain:public.contacts.email.email_address_check": "FAIL",
    "unique:public.contacts.contacts_email": "FAIL",
    "unique:public.organizations.organizations_name": "FAIL",
    "index:public.organizations_name": "WARN",
    "sequence:public.opportunities.id": "FAIL",
    "view:api.unfinished": "FAIL",
    "view:api.unfilled": "WARN",
}
FULL = {
    **QUICK,
    "index_content:public.contacts_email": "FAIL",
    "readable:public.organizations": "FAIL",
}


def healthy(server: EmbeddedServer, new_database: Callable[..., str]) -> str:
    """The CRM as it should be."""
    name = new_database("crm")
    with server.target(name).connect() as connection:
        crm.create(connection, SCALE)
    return name


def broken(server: EmbeddedServer, new_database: Callable[..., str]) -> str:
    """The CRM with every damage."""
    name = healthy(server, new_database)
    with server.target(name).connect() as connection:
        connection.execute("SET search_path = public")
        _load_without_triggers(connection)
        _keys(connection)
        _hide_from_the_catalogue(connection)
        _indexes(connection)
        _bytes(connection)
        connection.execute("SELECT setval('public.opportunities_id_seq', 1)")
        connection.execute("CREATE VIEW api.unfinished AS SELECT NULL::bigint AS id, NULL::text AS name")
        connection.execute("CREATE MATERIALIZED VIEW api.unfilled AS SELECT 1 AS x WITH NO DATA")
    return name


def _load_without_triggers(connection: Connection) -> None:
    """A data-only restore in replica mode skips foreign keys; the catalogue still marks them as validated."""
    connection.execute("SET session_replication_role = replica")
    connection.execute("INSERT INTO contact_tags VALUES (900001, 1), (900002, 2)")
    connection.execute(
        "INSERT INTO activities (contact_id, kind, subject, occurred_at) VALUES (900003, 'call', 'x', '2025-05-05')"
    )
    connection.execute("SET session_replication_role = origin")


def _keys(connection: Connection) -> None:
    """A key that was never validated, an undeclared one, and a pair that no key can be declared for."""
    connection.execute("ALTER TABLE opportunities ADD owner_id bigint")
    connection.execute("UPDATE opportunities SET owner_id = CASE WHEN id = 3 THEN 900004 ELSE 1 END WHERE id < 10")
    connection.execute(
        "ALTER TABLE opportunities ADD CONSTRAINT opportunities_owner FOREIGN KEY (owner_id) REFERENCES contacts"
        " NOT VALID"
    )
    connection.execute(
        "CREATE TABLE notes (id int PRIMARY KEY, contact_id bigint, subject_type text, subject_id bigint)"
    )
    connection.execute("INSERT INTO notes SELECT i, i, 'Opportunity', i FROM generate_series(1, 5) i")
    connection.execute("INSERT INTO notes VALUES (6, 900005, 'Opportunity', 900006), (7, NULL, NULL, NULL)")


def _hide_from_the_catalogue(connection: Connection) -> None:
    """What a catalogue claims of rows it was never shown: a superuser's UPDATE, or a bug, or pg_upgrade."""
    required = "UPDATE pg_attribute SET attnotnull = {} WHERE attrelid = 'tags'::regclass AND attname = 'color'"
    connection.execute(sql.SQL(required).format(sql.Literal(False)))
    connection.execute("UPDATE tags SET color = NULL WHERE id = 2")
    connection.execute(sql.SQL(required).format(sql.Literal(True)))
    for drop, damage, add in (
        (
            "ALTER TABLE opportunities DROP CONSTRAINT opportunities_amount_check",
            "UPDATE opportunities SET amount = -1 WHERE id = 4",
            "ALTER TABLE opportunities ADD CONSTRAINT opportunities_amount_check CHECK (amount >= 0) NOT VALID",
        ),
        (
            "ALTER DOMAIN email_address DROP CONSTRAINT email_address_check",
            "UPDATE contacts SET email = 'nobody' WHERE id = 5",
            "ALTER DOMAIN email_address ADD CONSTRAINT email_address_check CHECK (VALUE ~ '@') NOT VALID",
        ),
    ):
        for statement in (drop, damage, add):
            connection.execute(statement.encode())
    connection.execute(
        "UPDATE pg_constraint SET convalidated = true"
        " WHERE conname IN ('opportunities_amount_check', 'email_address_check')"
    )
    connection.execute(
        "ALTER TABLE opportunities ADD CONSTRAINT short_name CHECK (length(name) < 5 OR id > 1) NOT VALID"
    )


def _indexes(connection: Connection) -> None:
    """An index that was not kept while rows were written, and one that could not be built."""
    ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'contacts_email'::regclass"
    connection.execute(sql.SQL(ready).format(sql.Literal(False)))
    connection.execute("ALTER TABLE contacts DISABLE TRIGGER USER")
    connection.execute(
        "INSERT INTO contacts (id, tenant, first_name, last_name, email)"
        " SELECT 800000 + id, tenant, 'twin', 'twin', upper(email) FROM contacts WHERE id = 7"
    )
    connection.execute("ALTER TABLE contacts ENABLE TRIGGER USER")
    connection.execute(sql.SQL(ready).format(sql.Literal(True)))
    connection.execute("SELECT setval(pg_get_serial_sequence('contacts', 'id'), 900000)")
    connection.execute("UPDATE organizations SET name = 'The same' WHERE id IN (1, 2, 3)")
    try:
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY organizations_name ON organizations (name)")
    except Exception as error:
        assert "could not create unique index" in str(error)


def _bytes(connection: Connection) -> None:
    """COPY in SQL_ASCII stores bytes that are no text in the database's encoding, and users do not notice."""
    connection.execute("SET client_encoding = 'SQL_ASCII'")
    with connection.cursor().copy("COPY public.organizations (tenant, name, notes) FROM STDIN") as copy:
        copy.write(b"acme\tCaf\xe9\tx\n")
    connection.execute("SET client_encoding = 'UTF8'")


def with_amcheck(server: EmbeddedServer, name: str) -> bool:
    """Adds the extension, where the server has it."""
    with server.target(name).connect() as connection:
        query = "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"
        if connection.execute(query).fetchone() is None:
            return False
        connection.execute("CREATE EXTENSION amcheck SCHEMA public")
    return True
