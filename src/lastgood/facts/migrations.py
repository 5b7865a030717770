"""The tables with a database's migration version: one line for each known tool.

Used for dumps and databases: both provide the rows of ``Tool.columns`` as text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lastgood.facts import MigrationFacts

Row = Sequence[str | None]

# Schemas of hosted platforms in which their services keep their own migration tables.
_OF_PLATFORMS = frozenset(
    {"auth", "storage", "realtime", "_realtime", "supabase_functions", "graphql", "vault", "cron"}
)
_PREFERRED = ("supabase_migrations", "public")


@dataclass(frozen=True, slots=True)
class Tool:
    """A migration tool. ``table`` has one row for each applied migration: ``version`` names it, the greatest ``order``
    is the newest.

    ``applied``: columns, and the values with which a row counts (None is NULL); empty if every row counts.
    """

    name: str
    table: str
    version: str
    order: str
    applied: tuple[tuple[str, frozenset[str | None]], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that ``newest`` needs, in its order."""
        return tuple(dict.fromkeys((self.version, self.order, *(column for column, _ in self.applied))))

    def newest(self, rows: Iterable[Row]) -> tuple[str | None, int]:
        """The newest version, and the number of applied migrations. Numbers are compared as numbers."""
        places = {column: place for place, column in enumerate(self.columns)}
        count = 0
        best: tuple[tuple[int, str], str] | None = None
        for row in rows:
            if any(row[places[column]] not in values for column, values in self.applied):
                continue
            count += 1
            version, order = row[places[self.version]], row[places[self.order]]
            if version is not None and order is not None:
                candidate = (_key(order), version)
                best = candidate if best is None or candidate > best else best
        return (best[1] if best else None), count


def _key(text: str) -> tuple[int, str]:
    return (int(text) if text.isascii() and text.isdigit() else -1, text)


_TRUE: frozenset[str | None] = frozenset({"t", "true"})
_NULL: frozenset[str | None] = frozenset({None})

TOOLS = (
    Tool("golang-migrate", "schema_migrations", "version", "version", (("dirty", frozenset({"f", "false"})),)),
    # Rails, Supabase, dbmate, Ecto and others: they have only the column "version" in common.
    Tool("schema_migrations", "schema_migrations", "version", "version"),
    Tool("Django", "django_migrations", "name", "id"),
    Tool("Flyway", "flyway_schema_history", "version", "installed_rank", (("success", _TRUE),)),
    Tool("Alembic", "alembic_version", "version_num", "version_num"),
    Tool("Prisma", "_prisma_migrations", "migration_name", "migration_name", (("rolled_back_at", _NULL),)),
    Tool("Sqitch", "changes", "change", "committed_at"),
    Tool("Liquibase", "databasechangelog", "id", "orderexecuted"),
    Tool("Knex", "knex_migrations", "name", "id"),
    Tool("node-pg-migrate", "pgmigrations", "name", "id"),
    Tool("Sequelize", "SequelizeMeta", "name", "name"),
    Tool("TypeORM", "migrations", "name", "timestamp"),
    Tool("Laravel", "migrations", "migration", "id"),
    Tool("Drizzle", "__drizzle_migrations", "created_at", "id"),
    Tool("Goose", "goose_db_version", "version_id", "id", (("is_applied", _TRUE),)),
    Tool("Entity Framework", "__EFMigrationsHistory", "MigrationId", "MigrationId"),
    Tool("Diesel", "__diesel_schema_migrations", "version", "version"),
    Tool("SQLx", "_sqlx_migrations", "version", "version", (("success", _TRUE),)),
    Tool("Refinery", "refinery_schema_history", "version", "version"),
    Tool("Phinx", "phinxlog", "version", "version"),
    Tool("Doctrine", "doctrine_migration_versions", "version", "executed_at"),
    Tool("Kysely", "kysely_migration", "name", "timestamp"),
    Tool("MikroORM", "mikro_orm_migrations", "name", "id"),
)


def recognise(schema: str, table: str, columns: Collection[str]) -> Tool | None:
    """The tool that keeps its migrations in this table; None for other tables, and for those of platforms."""
    if schema in _OF_PLATFORMS or (table == "changes" and schema != "sqitch"):
        return None
    for tool in TOOLS:
        if tool.table == table and all(column in columns for column in tool.columns):
            return tool
    return None


def preference(schema: str, table: str) -> tuple[int, str, str]:
    """A sort key for several tables with a version: the most relevant one comes first."""
    rank = _PREFERRED.index(schema) if schema in _PREFERRED else len(_PREFERRED)
    return rank, schema, table


def facts(tool: Tool, schema: str, table: str, rows: Iterable[Row]) -> MigrationFacts:
    """The facts from the table's rows. ``tool`` is the product's name, except for tables that several products
    share."""
    version, applied = tool.newest(rows)
    name = "Supabase" if schema == "supabase_migrations" else tool.name
    return MigrationFacts(tool=name, table=f"{schema}.{table}", version=version, applied=applied)
