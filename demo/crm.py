"""A realistic CRM in a database of its own, for the demo, the tests and the benchmarks.

It has features that are hard to restore: circular foreign keys, a view grouped by a primary key, a view in a circle
with a function, partitions, generated and identity columns, a materialized view, triggers that write an audit log,
policies that depend on a database setting, grants on columns, default privileges, a function revoked from PUBLIC, and
the properties of the database that pg_dump leaves out (owner, settings, connection limit, comment).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from lastgood.postgres.server import Connection

SQL = Path(__file__).parent / "sql"

OWNER = "crm_owner"
APPLICATION = "crm_app"
READER = "crm_readonly"
ANONYMOUS = "crm_anon"
ROLES = (OWNER, APPLICATION, READER, ANONYMOUS)

TENANT = "acme"
CONNECTION_LIMIT = 60
COMMENT = "The CRM of record"
LAST_MIGRATION = "20251203120000"


@dataclass(frozen=True, slots=True)
class Size:
    """The number of rows in each of the CRM's tables."""

    organizations: int
    contacts: int
    opportunities: int
    activities: int
    contact_tags: int

    @classmethod
    def of(cls, scale: float) -> Size:
        """Scale 1 is about 280 000 rows, 65 MB; 0.02 is enough for tests; 25 has tables of 0.1 to 3 million rows."""
        return cls(
            organizations=max(60, round(4_000 * scale)),
            contacts=max(60, round(40_000 * scale)),
            opportunities=max(60, round(30_000 * scale)),
            activities=max(60, round(120_000 * scale)),
            contact_tags=max(60, round(60_000 * scale)),
        )


def create(connection: Connection, scale: float = 1.0, *, seed: int = 1) -> Size:
    """Create the CRM in the empty database of ``connection``, which must be a superuser's and in autocommit mode.

    The same seed and scale give the same rows on every server. Missing roles are created; existing ones are left alone,
    since they belong to the cluster. Raises psycopg.Error.
    """
    size = Size.of(scale)
    make_roles(connection)
    name = connection.info.dbname
    connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(OWNER)))
    fill(connection, size, owner=OWNER, seed=seed)
    _settle(connection, name)
    return size


def fill(connection: Connection, size: Size, *, owner: str, seed: int = 1) -> None:
    """Create schemas, tables and rows, owned by ``owner``, who must be allowed to create schemas and own ``public``.

    ``connection`` must be a superuser's and in autocommit mode. Raises psycopg.Error.
    """
    connection.execute("SELECT set_config('app.tenant', %s, false)", [TENANT])
    connection.execute("SET search_path = ''")
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
    with connection.transaction():
        connection.execute((SQL / "tables.sql").read_bytes())
        _load(connection, size, seed)
        connection.execute((SQL / "rest.sql").read_bytes())
    connection.execute("RESET ROLE")
    connection.execute("ANALYZE")


def make_roles(connection: Connection) -> None:
    """Create those of the CRM's four roles that are missing: the owner, the application, the readers, the anonymous."""
    existing = {
        row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [[*ROLES]])
    }
    for role in ROLES:
        if role not in existing:
            rights = sql.SQL("LOGIN CREATEDB" if role == OWNER else "LOGIN")
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(role), rights))


def chunks(file: str) -> dict[str, bytes]:
    """The statements of a file of SQL next to this module, by the words in the ``-- chunk:`` line above each."""
    parts = (SQL / file).read_bytes().split(b"\n-- chunk: ")[1:]
    return {words.decode(): statement for words, _, statement in (part.partition(b"\n") for part in parts)}


def _load(connection: Connection, size: Size, seed: int) -> None:
    # draw(i, salt, n) is the same number below n on every server: PostgreSQL's extended hashes are stable, because
    # hash partitions depend on them. Both functions are inlined, so this is as fast as an expression.
    connection.execute(
        sql.SQL(
            "CREATE FUNCTION pg_temp.draw(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS "
            "'SELECT mod(hashint8extended(i, {} + salt) & 9223372036854775807, n)'"
        ).format(sql.Literal(seed * 1000))
    )
    connection.execute(
        "CREATE FUNCTION pg_temp.moment(i bigint, salt int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$"
        "SELECT timestamptz '2025-01-06 08:00:00+00' + pg_temp.draw(i, salt, 31000000000) * interval '1 millisecond'$$"
    )
    numbers = {
        "seed": seed,
        "organizations": size.organizations,
        "contacts": size.contacts,
        "opportunities": size.opportunities,
        "activities": size.activities,
        "contact_tags": size.contact_tags,
    }
    for statement in chunks("rows.sql").values():
        used = {name: number for name, number in numbers.items() if b"%%(%s)s" % name.encode() in statement}
        connection.execute(statement, used or None)
    connection.execute("DROP FUNCTION pg_temp.moment(bigint, int), pg_temp.draw(bigint, int, bigint)")


def _settle(connection: Connection, name: str) -> None:
    """Set the properties of the database itself, which no dump without ``--create`` holds."""
    database = sql.Identifier(name)
    for statement in (
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
        sql.SQL("GRANT CONNECT ON DATABASE {} TO crm_app, crm_readonly, crm_anon").format(database),
        sql.SQL("GRANT TEMPORARY ON DATABASE {} TO crm_app").format(database),
        sql.SQL("ALTER DATABASE {} SET search_path = public, api").format(database),
        sql.SQL("ALTER DATABASE {} SET app.tenant = {}").format(database, sql.Literal(TENANT)),
        sql.SQL("ALTER ROLE crm_app IN DATABASE {} SET statement_timeout = '30s'").format(database),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, sql.Literal(CONNECTION_LIMIT)),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(COMMENT)),
    ):
        connection.execute(statement)
