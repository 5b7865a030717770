"""The settings of rehearsals: their interval and their place."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.kinds import Duration, Folder, Table


class Drill(Table):
    """Rehearsals of the whole procedure on a scratch server: ``lastgood drill``."""

    every: Duration = Field(
        default=90 * 86400.0,
        description="The interval between drills, used by lastgood check, status and drill --due.",
    )
    folder: Folder | None = Field(
        default=None,
        description="The folder for the scratch server's data, on a disk with room for two copies of the database; by "
        "default the folder for temporary files.",
    )
