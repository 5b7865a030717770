"""Where to search for restore points and traces when the usual ones are missing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lastgood.config.tables.kinds import Folder, Table


class Audit(Table):
    """The application's audit table, which shows the scope of a loss when there is no backup."""

    table: str = Field(description="The audit table, with its schema.")
    time_column: str | None = Field(
        default=None, description="The column with the time of a change; guessed by default."
    )
    table_column: str | None = Field(default=None, description="The column with the changed table; guessed by default.")
    operation_column: str | None = Field(default=None, description="The column with the operation; guessed by default.")


class Recover(Table):
    """Where ``lastgood recover`` searches."""

    folders: tuple[Folder, ...] = Field(
        default=(), description="Other folders with dumps: a mounted disk, a colleague's copy."
    )
    physical: tuple[Folder, ...] = Field(
        default=(), description="Folders with physical backups (pg_basebackup, pgBackRest, …)."
    )
    wal: tuple[Folder, ...] = Field(default=(), description="Folders with archived WAL.")
    platform: Literal["supabase", "rds", "cloudsql", "neon", "heroku"] | None = Field(
        default=None, description="The platform that hosts the server; guessed from the host's name by default."
    )
    audit: Audit | None = Field(default=None, description="The application's own audit table; guessed by default.")
