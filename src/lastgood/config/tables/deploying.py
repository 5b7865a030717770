"""The settings of a guarded deployment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lastgood.config.tables.kinds import Duration, Table


def _variables(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f'"{name}" is not a valid variable name')
        if name.startswith(("PG", "LASTGOOD_")):
            raise ValueError(f'"{name}" is always set by lastgood: remove it')
    return names


class Deploy(Table):
    """Settings of ``lastgood deploy``."""

    time_limit: Duration = Field(
        default=3600.0,
        gt=0,
        description="The time limit of the migration; after it the migration is stopped and rolled back.",
    )
    check: Literal["quick", "full", "none"] = Field(
        default="quick",
        description="How the data is validated before and after the migration: a worse result is rolled back.",
    )
    stop: bool = Field(
        default=False,
        description="Whether the hooks stop the application before the restore point is made, and start it after the "
        "deployment: then a rollback loses no writes.",
    )
    application: bool = Field(
        default=True,
        description="Whether the health check and the smoke hook, if configured, also run after the migration.",
    )
    only_rows: Literal["rollback", "keep"] = Field(
        default="rollback",
        description="What to do when a migration failed and changed rows, but not the schema: either the migration or "
        "the application wrote these rows. Roll back, or keep them.",
    )
    url_variables: Annotated[tuple[str, ...], AfterValidator(_variables)] = Field(
        default=("DATABASE_URL",),
        description="Variables that pass the URL of the database to the migration, in addition to LASTGOOD_DB.",
    )
    wait_for_server: Duration = Field(
        default=300.0, description="How long to wait for a server that went away before the rollback is given up."
    )
