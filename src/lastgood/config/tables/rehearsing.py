"""How often the procedure is rehearsed, and where."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.kinds import Duration, Folder, Table


class Drill(Table):
    """Rehearsals of the whole procedure on a scratch server: ``lastgood drill``."""

    every: Duration = Field(
        default=90 * 86400.0,
        description="How long after one drill the next is due; lastgood check, status and drill --due go by it.",
    )
    folder: Folder | None = Field(
        default=None,
        description="Where the scratch server's data lie while it runs, on a disk with room for two copies of the "
        "database; the folder for temporary files when left out.",
    )
