"""Where to look for what is left."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lastgood.config.tables.kinds import Folder, Table


class Audit(Table):
    """Where the application writes down who changed what: the scope of a loss when there is no backup."""

    table: str = Field(description="The audit table, with its schema.")
    time_column: str | None = Field(default=None, description="When it happened; guessed when left out.")
    table_column: str | None = Field(default=None, description="Which table was changed; guessed when left out.")
    operation_column: str | None = Field(default=None, description="What was done; guessed when left out.")


class Recover(Table):
    """Where ``lastgood recover`` looks for what is left."""

    folders: tuple[Folder, ...] = Field(
        default=(), description="Other folders with dumps: a mounted disk, a colleague's copy."
    )
    physical: tuple[Folder, ...] = Field(
        default=(), description="Folders with physical backups (pg_basebackup, pgBackRest, …)."
    )
    wal: tuple[Folder, ...] = Field(default=(), description="Folders with archived WAL.")
    platform: Literal["supabase", "rds", "cloudsql", "neon", "heroku"] | None = Field(
        default=None, description="The platform that hosts the server; guessed from the host's name when left out."
    )
    audit: Audit | None = Field(default=None, description="The application's own audit table; guessed when left out.")
