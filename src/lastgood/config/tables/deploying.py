"""How a deployment is guarded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lastgood.config.tables.kinds import Duration, Table


def _variables(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f'"{name}" is no name of a variable')
        if name.startswith(("PG", "LASTGOOD_")):
            raise ValueError(f'"{name}" is set anyway: leave it out')
    return names


class Deploy(Table):
    """What ``lastgood deploy`` goes by."""

    time_limit: Duration = Field(
        default=3600.0, gt=0, description="How long the migration may take; then it is ended, and taken back."
    )
    check: Literal["quick", "full", "none"] = Field(
        default="quick",
        description="How the data is looked at before the migration and after it: what is worse afterwards is taken "
        "back.",
    )
    stop: bool = Field(
        default=False,
        description="Whether the hooks stop the application before the restore point is made, and start it when the "
        "deployment has ended: then nothing is written that going back would take away.",
    )
    application: bool = Field(
        default=True,
        description="Whether [health] and the hook smoke are asked after the migration too, where the file has them.",
    )
    only_rows: Literal["rollback", "keep"] = Field(
        default="rollback",
        description="What to do when a migration failed and the schema is as it was, but not all rows are: nobody can "
        "tell whether the migration wrote them or the application. Go back, or keep them.",
    )
    url_variables: Annotated[tuple[str, ...], AfterValidator(_variables)] = Field(
        default=("DATABASE_URL",),
        description="Variables in which the migration finds the URL of the database, besides LASTGOOD_DB.",
    )
    wait_for_server: Duration = Field(
        default=300.0, description="How long a server that went away is waited for, before going back is given up."
    )
